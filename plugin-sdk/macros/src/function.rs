//! A function, made into a plugin.

use proc_macro2::TokenStream;
use quote::{ToTokens as _, quote};
use syn::{Attribute, Error, Expr, ExprLit, Ident, ItemFn, Lit, Meta, Result};

use crate::arguments::{Arguments, Reads};
use crate::kind::Kind;
use crate::parameters::Parameters;
use crate::reads;

/// The function as it is, the type of the plugin, and its exports.
pub(crate) fn plugin(kind: Kind, arguments: TokenStream, function: TokenStream) -> TokenStream {
    expand(kind, arguments, function.clone()).unwrap_or_else(|error| {
        // The function stays, so that the mistake is the only one that is told.
        let error = error.into_compile_error();
        quote!(#function #error)
    })
}

fn expand(kind: Kind, arguments: TokenStream, function: TokenStream) -> Result<TokenStream> {
    let arguments: Arguments = syn::parse2(arguments)?;
    let function: ItemFn = syn::parse2(function)?;
    refuse_generics(&function)?;
    let parameters = Parameters::of(kind, &function.sig)?;

    let word = kind.word();
    let (name, visibility) = (&function.sig.ident, &function.vis);
    let plugin = Ident::new(&type_name(&name.to_string()), name.span());
    let about = format!("The plugin that the function `{name}` is: a {word}.");
    let summary = summary(&arguments, &function)?;
    let reads = reads_constant(&arguments, &parameters, &function);
    let (config, schema) = configuration(&arguments, &parameters);
    let fields = fields(&arguments, &parameters)?;
    let (declared, made) = (&fields.declared, &fields.made);
    let check = arguments.check.as_ref().map(|check| quote!(#check(&config)?;));
    let (interface, method, call) = (kind.interface(), kind.method(), &parameters.call);

    Ok(quote! {
        #function

        #[doc = #about]
        #visibility struct #plugin { #declared }

        impl ::wharf_plugin::Plugin for #plugin {
            type Config = #config;
            const SUMMARY: &'static str = #summary;
            const READS: ::wharf_plugin::Reads = #reads;
            const CONFIG_SCHEMA: ::core::option::Option<&'static str> = ::core::option::Option::Some(#schema);

            fn init(config: #config, stage: &::wharf_plugin::Stage)
                -> ::core::result::Result<Self, ::wharf_plugin::Problem>
            {
                let _ = (&config, stage);
                #check
                ::core::result::Result::Ok(Self { #made })
            }
        }

        impl #interface for #plugin {
            #method {
                ::core::result::Result::map_err(#name(#(#call),*), ::core::convert::From::from)
            }
        }

        ::wharf_plugin::export!(#plugin as #word);
    })
}

fn refuse_generics(function: &ItemFn) -> Result<()> {
    let signature = &function.sig;
    if let Some(asyncness) = &signature.asyncness {
        return Err(Error::new(
            asyncness.span,
            "a plugin's function is not async: nothing that it calls waits",
        ));
    }
    if signature.generics.type_params().next().is_some() || signature.generics.const_params().next().is_some()
    {
        return Err(Error::new_spanned(&signature.generics, "a plugin's function has no type parameters"));
    }
    Ok(())
}

/// `strip_pii` is `StripPii`.
fn type_name(function: &str) -> String {
    let function = function.strip_prefix("r#").unwrap_or(function);
    let words = function.split('_').filter(|word| !word.is_empty());
    words
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
        })
        .collect()
}

/// The argument, or the first line of the function's docs.
fn summary(arguments: &Arguments, function: &ItemFn) -> Result<TokenStream> {
    if let Some(summary) = &arguments.summary {
        return Ok(summary.to_token_stream());
    }
    let line = doc_lines(&function.attrs).find(|line| !line.is_empty());
    let line = line.ok_or_else(|| {
        let message =
            "say in a line above what the plugin does: `/// …`, or summary = \"…\"; listings show it";
        Error::new(function.sig.ident.span(), message)
    })?;
    let line = line.strip_suffix('.').unwrap_or(&line);
    Ok(quote!(#line))
}

/// The lines of a doc comment, trimmed.
pub(crate) fn doc_lines(attributes: &[Attribute]) -> impl Iterator<Item = String> + '_ {
    attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(doc) if doc.path.is_ident("doc") => match &doc.value {
            Expr::Lit(ExprLit { lit: Lit::Str(line), .. }) => Some(line.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    })
}

fn reads_constant(arguments: &Arguments, parameters: &Parameters, function: &ItemFn) -> TokenStream {
    let inferred;
    let Reads { topic, key, payload, headers } = match (&arguments.reads, &parameters.message) {
        (Some(reads), _) => reads,
        (None, Some(message)) => {
            inferred = reads::inferred(function.block.to_token_stream(), message);
            &inferred
        }
        (None, None) => &Reads::default(),
    };
    quote! {
        ::wharf_plugin::Reads { topic: #topic, key: #key, payload: #payload, headers: &[#(#headers),*] }
    }
}

/// The configuration's type, and its schema.
fn configuration(arguments: &Arguments, parameters: &Parameters) -> (TokenStream, TokenStream) {
    let config = match &parameters.config {
        Some(config) => config.to_token_stream(),
        None => quote!(::wharf_plugin::NoConfig),
    };
    let schema = match &arguments.schema {
        Some(schema) => schema.to_token_stream(),
        None => quote!(::wharf_plugin::config_schema!(#config)),
    };
    (config, schema)
}

/// The fields of the plugin's type: what the function takes beside the message.
struct Fields {
    declared: TokenStream,
    made: TokenStream,
}

fn fields(arguments: &Arguments, parameters: &Parameters) -> Result<Fields> {
    let names = &arguments.outputs;
    match (parameters.outputs, names.first()) {
        (Some(span), None) => {
            return Err(Error::new(span, "which outputs? Name them: outputs(\"europe\", \"america\")"));
        }
        (None, Some(first)) if !parameters.stage => {
            let message =
                format!("nobody takes the outputs; add a parameter `[a, b]: [Output; {}]`", names.len());
            return Err(Error::new(first.span(), message));
        }
        _ => {}
    }
    let count = proc_macro2::Literal::usize_suffixed(names.len());
    let mut fields = Fields { declared: TokenStream::new(), made: TokenStream::new() };
    let mut add = |declared: TokenStream, made: TokenStream| {
        fields.declared.extend(declared);
        fields.made.extend(made);
    };
    if let Some(config) = &parameters.config {
        add(quote!(config: #config,), quote!(config,));
    }
    if !names.is_empty() {
        let resolved = quote!([#(stage.output(#names)?),*]);
        if parameters.outputs.is_some() {
            add(quote!(outputs: [::wharf_plugin::Output; #count],), quote!(outputs: #resolved,));
        } else {
            // They are had from the stage, which was asked for all of them before the first message.
            add(
                quote!(#[allow(dead_code, reason = "checked when it is made")] outputs: [::wharf_plugin::Output; #count],),
                quote!(outputs: #resolved,),
            );
        }
    }
    if parameters.stage {
        add(quote!(stage: ::wharf_plugin::Stage,), quote!(stage: ::core::clone::Clone::clone(stage),));
    }
    Ok(fields)
}
