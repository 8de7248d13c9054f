//! Which value each parameter of a plugin's function gets: its type says it.

use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned as _;
use syn::{Error, FnArg, Ident, Pat, Result, Signature, Type, TypeReference};

use crate::kind::Kind;

/// The parameters, understood.
#[derive(Default)]
pub(crate) struct Parameters {
    /// The arguments of the call, in order.
    pub(crate) call: Vec<TokenStream>,
    /// By which name the body knows the message.
    pub(crate) message: Option<Ident>,
    /// The configuration's type.
    pub(crate) config: Option<Type>,
    /// Whether the stage is wanted.
    pub(crate) stage: bool,
    /// Where the outputs are wanted, for a mistake in their number.
    pub(crate) outputs: Option<proc_macro2::Span>,
}

const WHAT_THERE_IS: &str = "a plugin's function takes `&Message`, and where it wants them `&Stage`, `[Output; N]`, \
                             `&mut Out` (a transformer), `&mut Headers` (an enricher), and its configuration as `&T`";

impl Parameters {
    pub(crate) fn of(kind: Kind, signature: &Signature) -> Result<Self> {
        let mut parameters = Self::default();
        for input in &signature.inputs {
            let FnArg::Typed(input) = input else {
                return Err(Error::new(input.span(), "a plugin's function has no self"));
            };
            parameters.add(kind, &input.pat, &input.ty)?;
        }
        if parameters.message.is_none() {
            return Err(Error::new(
                signature.paren_token.span.join(),
                format!("the message is missing: {WHAT_THERE_IS}"),
            ));
        }
        Ok(parameters)
    }

    fn add(&mut self, kind: Kind, pattern: &Pat, ty: &Type) -> Result<()> {
        if let Some(by_reference) = array_of_outputs(ty) {
            once(self.outputs.is_some(), ty)?;
            self.outputs = Some(ty.span());
            self.call.push(if by_reference { quote!(&self.outputs) } else { quote!(self.outputs) });
            return Ok(());
        }
        let Type::Reference(TypeReference { mutability, elem, .. }) = ty else {
            return Err(Error::new(ty.span(), WHAT_THERE_IS));
        };
        match (last_name(elem).as_deref(), mutability.is_some()) {
            (Some("Message"), false) => {
                once(self.message.is_some(), ty)?;
                self.message = Some(match pattern {
                    Pat::Ident(name) => name.ident.clone(),
                    // A name that no body can use: nothing is read of it.
                    _ => Ident::new("_", pattern.span()),
                });
                self.call.push(quote!(message));
            }
            (Some("Stage"), false) => {
                self.stage = true;
                self.call.push(quote!(&self.stage));
            }
            (Some("Out"), true) if kind == Kind::Transformer => self.call.push(quote!(out)),
            (Some("Headers"), true) if kind == Kind::Enricher => self.call.push(quote!(headers)),
            (_, false) => {
                once(self.config.is_some(), ty)?;
                self.config = Some((**elem).clone());
                self.call.push(quote!(&self.config));
            }
            (_, true) => {
                let word = kind.word();
                return Err(Error::new(ty.span(), format!("a {word} is not given this; {WHAT_THERE_IS}")));
            }
        }
        Ok(())
    }
}

fn once(there: bool, ty: &Type) -> Result<()> {
    if there {
        return Err(Error::new(ty.span(), format!("a second parameter of this kind; {WHAT_THERE_IS}")));
    }
    Ok(())
}

/// Whether `ty` is `[Output; N]`; `Some(true)` by reference.
fn array_of_outputs(ty: &Type) -> Option<bool> {
    match ty {
        Type::Array(array) if last_name(&array.elem).as_deref() == Some("Output") => Some(false),
        Type::Reference(reference) => array_of_outputs(&reference.elem).map(|_| true),
        _ => None,
    }
}

/// `Message` of `wharf_plugin::Message<'_>`.
fn last_name(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        _ => None,
    }
}
