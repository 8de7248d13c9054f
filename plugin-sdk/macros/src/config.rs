//! `#[derive(Config)]`: the shape of a type as a constant, from which the JSON Schema is made when the plugin is
//! compiled.

use proc_macro2::TokenStream;
use quote::{ToTokens as _, quote};
use syn::spanned::Spanned as _;
use syn::{Data, DataEnum, DeriveInput, Error, Expr, Fields, Lit, Result, Type, Variant};

use crate::function::doc_lines;
use crate::serde::{Case, Container, Field};

/// The impl of `Configuration`.
pub(crate) fn derive(item: TokenStream) -> TokenStream {
    expand(item).unwrap_or_else(Error::into_compile_error)
}

fn expand(item: TokenStream) -> Result<TokenStream> {
    let item: DeriveInput = syn::parse2(item)?;
    let container = Container::of(&item.attrs)?;
    let shape = match &item.data {
        Data::Struct(data) => of_struct(&container, &data.fields, item.ident.span())?,
        Data::Enum(data) => of_enum(&container, data)?,
        Data::Union(_) => return Err(Error::new(item.ident.span(), "serde reads no unions")),
    };
    let name = &item.ident;
    let (generics, types, bounds) = item.generics.split_for_impl();
    Ok(quote! {
        impl #generics ::wharf_plugin::Configuration for #name #types #bounds {
            const SHAPE: ::wharf_plugin::Shape = #shape;
        }
    })
}

fn of_struct(container: &Container, fields: &Fields, span: proc_macro2::Span) -> Result<TokenStream> {
    match fields {
        Fields::Named(named) if container.transparent && named.named.len() == 1 => {
            Ok(of_type(&named.named[0].ty))
        }
        Fields::Unnamed(unnamed) if unnamed.unnamed.len() == 1 => Ok(of_type(&unnamed.unnamed[0].ty)),
        Fields::Named(_) => {
            closed_on_purpose(container, fields, span)?;
            object(container, fields, container.rename_all, None)
        }
        Fields::Unnamed(_) | Fields::Unit => {
            Err(Error::new(span, "a configuration is a struct with named fields, an enum, or a newtype"))
        }
    }
}

/// A misspelt key that nobody notices is the commonest mistake in a configuration.
fn closed_on_purpose(container: &Container, fields: &Fields, span: proc_macro2::Span) -> Result<()> {
    if container.deny_unknown_fields || container.open || fields.is_empty() {
        return Ok(());
    }
    let message = "a misspelt key would be ignored: add #[serde(deny_unknown_fields)], or #[config(open)] where \
                   unknown keys are meant to be there";
    Err(Error::new(span, message))
}

/// An object of `fields`, with `tag` as one more member where an enum is told apart by one.
fn object(
    container: &Container,
    fields: &Fields,
    case: Option<Case>,
    tag: Option<(&str, &str)>,
) -> Result<TokenStream> {
    let mut members = Vec::new();
    if let Some((tag, name)) = tag {
        members.push(member(tag, &quote!(::wharf_plugin::Shape::Word(#name)), "", true));
    }
    let mut open = !container.deny_unknown_fields || container.open;
    for field in fields {
        let attributes = Field::of(&field.attrs)?;
        if attributes.flatten {
            open = true;
            continue;
        }
        if attributes.skip {
            continue;
        }
        let own = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
        let own = own.strip_prefix("r#").unwrap_or(&own).to_owned();
        let name = match &attributes.rename {
            Some(name) => name.value(),
            None => case.map_or_else(|| own.clone(), |case| case.field(&own)),
        };
        let optional = attributes.default || container.default || is_option(&field.ty);
        let about = paragraph(doc_lines(&field.attrs));
        let shape = bounded(&attributes, field_shape(&attributes, &field.ty))?;
        let required = !optional && attributes.aliases.is_empty();
        members.push(member(&name, &shape, &about, required));
        for alias in &attributes.aliases {
            members.push(member(&alias.value(), &shape, &format!("The same as `{name}`."), false));
        }
    }
    Ok(quote!(::wharf_plugin::Shape::Object { members: &[#(#members),*], open: #open }))
}

fn member(name: &str, shape: &TokenStream, about: &str, required: bool) -> TokenStream {
    quote! {
        ::wharf_plugin::Member { name: #name, shape: &#shape, about: #about, required: #required }
    }
}

fn field_shape(attributes: &Field, ty: &Type) -> TokenStream {
    if attributes.foreign { quote!(::wharf_plugin::Shape::Any) } else { of_type(ty) }
}

/// The shape of a type that derives it, or of the standard library.
fn of_type(ty: &Type) -> TokenStream {
    quote!(<#ty as ::wharf_plugin::Configuration>::SHAPE)
}

fn bounded(attributes: &Field, shape: TokenStream) -> Result<TokenStream> {
    if attributes.min.is_none() && attributes.max.is_none() {
        return Ok(shape);
    }
    let bound = |bound: &Option<Expr>| -> Result<TokenStream> {
        Ok(match bound {
            None => quote!(::core::option::Option::None),
            Some(value) => {
                let value = bound_of(value)?;
                quote!(::core::option::Option::Some(#value))
            }
        })
    };
    let (min, max) = (bound(&attributes.min)?, bound(&attributes.max)?);
    Ok(quote!(::wharf_plugin::Shape::Bounded { shape: &#shape, min: #min, max: #max }))
}

/// A whole number, which any constant can be, or a decimal, which is taken as it is written.
fn bound_of(value: &Expr) -> Result<TokenStream> {
    let literal = match value {
        Expr::Unary(unary) => &*unary.expr,
        value => value,
    };
    if let Expr::Lit(literal) = literal {
        match &literal.lit {
            Lit::Float(_) => {
                let text = value.to_token_stream().to_string().replace([' ', '_'], "");
                return Ok(quote!(::wharf_plugin::Bound::Decimal(#text)));
            }
            Lit::Int(_) => {}
            _ => return Err(Error::new(value.span(), "a bound is a number")),
        }
    }
    Ok(quote!(::wharf_plugin::Bound::Whole((#value) as i128)))
}

fn of_enum(container: &Container, data: &DataEnum) -> Result<TokenStream> {
    let mut words = Vec::new();
    let mut choices = Vec::new();
    for variant in &data.variants {
        let attributes = Field::of(&variant.attrs)?;
        if attributes.skip {
            continue;
        }
        let own = variant.ident.to_string();
        let name = match &attributes.rename {
            Some(name) => name.value(),
            None => container.rename_all.map_or_else(|| own.clone(), |case| case.variant(&own)),
        };
        let case = attributes.rename_all.or(container.rename_all_fields);
        let plain = container.tag.is_none() && !container.untagged;
        if plain && variant.fields.is_empty() {
            words.push(name);
            words.extend(attributes.aliases.iter().map(syn::LitStr::value));
            continue;
        }
        choices.push(choice(container, variant, &name, case)?);
    }
    if !words.is_empty() {
        choices.insert(0, quote!(::wharf_plugin::Shape::Words(&[#(#words),*])));
    }
    Ok(match choices.as_slice() {
        [only] => only.clone(),
        choices => quote!(::wharf_plugin::Shape::Choice(&[#(#choices),*])),
    })
}

/// One variant, as the enum's representation has it.
fn choice(container: &Container, variant: &Variant, name: &str, case: Option<Case>) -> Result<TokenStream> {
    let content = |tag: Option<(&str, &str)>| match &variant.fields {
        Fields::Unnamed(unnamed) if unnamed.unnamed.len() == 1 && tag.is_none() => {
            let field = &unnamed.unnamed[0];
            Ok(field_shape(&Field::of(&field.attrs)?, &field.ty))
        }
        Fields::Unnamed(_) => {
            Err(Error::new(variant.span(), "a variant has one value, named fields, or nothing"))
        }
        Fields::Unit if tag.is_none() => Ok(quote!(::wharf_plugin::Shape::Null)),
        fields => {
            closed_on_purpose(container, fields, variant.ident.span())?;
            object(container, fields, case, tag)
        }
    };
    let about = paragraph(doc_lines(&variant.attrs));
    match (&container.tag, &container.content) {
        _ if container.untagged => content(None),
        (Some(tag), None) => content(Some((&tag.value(), name))),
        (Some(tag), Some(inside)) => {
            let mut members =
                vec![member(&tag.value(), &quote!(::wharf_plugin::Shape::Word(#name)), &about, true)];
            if !matches!(variant.fields, Fields::Unit) {
                members.push(member(&inside.value(), &content(None)?, "", true));
            }
            let open = !container.deny_unknown_fields;
            Ok(quote!(::wharf_plugin::Shape::Object { members: &[#(#members),*], open: #open }))
        }
        (None, _) => {
            let member = member(name, &content(None)?, &about, true);
            // Serde takes an object of one member here, whatever the type says of unknown ones.
            Ok(quote!(::wharf_plugin::Shape::Object { members: &[#member], open: false }))
        }
    }
}

fn is_option(ty: &Type) -> bool {
    let Type::Path(path) = ty else { return false };
    path.path.segments.last().is_some_and(|segment| segment.ident == "Option")
}

/// The first paragraph of a doc comment, on one line.
fn paragraph(lines: impl Iterator<Item = String>) -> String {
    let lines: Vec<String> = lines.skip_while(String::is_empty).take_while(|line| !line.is_empty()).collect();
    lines.join(" ")
}
