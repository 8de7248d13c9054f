//! The attributes and the derive of `wharf-plugin`, which documents them and re-exports them.
//!
//! ```text
//! #[validator] fn f ─▶ function ─┬─ arguments   what stands in the attribute's brackets
//!                                ├─ parameters  which value each parameter gets, by its type
//!                                └─ reads       which fields of the message the body names
//! #[derive(Config)] ─▶ config ──── serde        what serde makes of the type's attributes
//! ```

mod arguments;
mod config;
mod function;
mod kind;
mod parameters;
mod reads;
mod serde;

use proc_macro::TokenStream;

use kind::Kind;

/// Makes a validator of a function.
#[proc_macro_attribute]
pub fn validator(arguments: TokenStream, function: TokenStream) -> TokenStream {
    function::plugin(Kind::Validator, arguments.into(), function.into()).into()
}

/// Makes a router of a function.
#[proc_macro_attribute]
pub fn router(arguments: TokenStream, function: TokenStream) -> TokenStream {
    function::plugin(Kind::Router, arguments.into(), function.into()).into()
}

/// Makes a transformer of a function.
#[proc_macro_attribute]
pub fn transformer(arguments: TokenStream, function: TokenStream) -> TokenStream {
    function::plugin(Kind::Transformer, arguments.into(), function.into()).into()
}

/// Makes an enricher of a function.
#[proc_macro_attribute]
pub fn enricher(arguments: TokenStream, function: TokenStream) -> TokenStream {
    function::plugin(Kind::Enricher, arguments.into(), function.into()).into()
}

/// Derives the shape of a configuration, from which its JSON Schema is made.
#[proc_macro_derive(Config, attributes(config, serde))]
pub fn derive_config(item: TokenStream) -> TokenStream {
    config::derive(item.into()).into()
}
