//! The four kinds of plugin, and what is said differently for each.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;

/// A kind of plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Validator,
    Router,
    Transformer,
    Enricher,
}

impl Kind {
    /// The attribute's name, and what `export!` calls it.
    pub(crate) fn word(self) -> Ident {
        let word = match self {
            Self::Validator => "validator",
            Self::Router => "router",
            Self::Transformer => "transformer",
            Self::Enricher => "enricher",
        };
        Ident::new(word, Span::call_site())
    }

    /// The head of the trait's method, with the trait's own names for what it gives.
    pub(crate) fn method(self) -> TokenStream {
        match self {
            Self::Validator => quote! {
                fn validate(&self, message: &::wharf_plugin::Message<'_>)
                    -> ::core::result::Result<(), ::wharf_plugin::Failure>
            },
            Self::Router => quote! {
                fn route(&self, message: &::wharf_plugin::Message<'_>)
                    -> ::core::result::Result<::wharf_plugin::Route, ::wharf_plugin::Failure>
            },
            Self::Transformer => quote! {
                fn transform(&mut self, message: &::wharf_plugin::Message<'_>, out: &mut ::wharf_plugin::Out<'_>)
                    -> ::core::result::Result<::wharf_plugin::Transformed, ::wharf_plugin::Failure>
            },
            Self::Enricher => quote! {
                fn enrich(&self, message: &::wharf_plugin::Message<'_>, headers: &mut ::wharf_plugin::Headers)
                    -> ::core::result::Result<(), ::wharf_plugin::Failure>
            },
        }
    }

    /// The trait.
    pub(crate) fn interface(self) -> TokenStream {
        match self {
            Self::Validator => quote!(::wharf_plugin::Validator),
            Self::Router => quote!(::wharf_plugin::Router),
            Self::Transformer => quote!(::wharf_plugin::Transformer),
            Self::Enricher => quote!(::wharf_plugin::Enricher),
        }
    }
}
