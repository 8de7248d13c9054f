//! What stands in the brackets of an attribute.

use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, Ident, LitStr, Path, Result, Token, parenthesized};

/// `#[router(summary = "…", reads(topic, headers("region")), outputs("eu", "us"), check = Config::check)]`
#[derive(Default)]
pub(crate) struct Arguments {
    /// One line for listings, in place of the first line of the function's docs.
    pub(crate) summary: Option<Expr>,
    /// In place of what the body shows.
    pub(crate) reads: Option<Reads>,
    /// Declared by the stage, resolved once.
    pub(crate) outputs: Vec<LitStr>,
    /// What of the configuration its type does not say.
    pub(crate) check: Option<Path>,
    /// A JSON Schema written by hand, for a configuration that derives none.
    pub(crate) schema: Option<Expr>,
}

/// Fields of a message that are packed into each call.
#[derive(Default)]
pub(crate) struct Reads {
    pub(crate) topic: bool,
    pub(crate) key: bool,
    pub(crate) payload: bool,
    pub(crate) headers: Vec<Expr>,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut arguments = Self::default();
        let mut seen: Vec<Ident> = Vec::new();
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            if seen.contains(&name) {
                return Err(Error::new(name.span(), format!("`{name}` is said twice")));
            }
            match name.to_string().as_str() {
                "summary" => arguments.summary = Some(value(input)?),
                "schema" => arguments.schema = Some(value(input)?),
                "check" => {
                    input.parse::<Token![=]>()?;
                    arguments.check = Some(input.parse()?);
                }
                "reads" => {
                    let inside;
                    parenthesized!(inside in input);
                    arguments.reads = Some(inside.parse()?);
                }
                "outputs" => {
                    let inside;
                    parenthesized!(inside in input);
                    let names = Punctuated::<LitStr, Token![,]>::parse_terminated(&inside)?;
                    arguments.outputs = names.into_iter().collect();
                }
                _ => {
                    let known = "reads(…), outputs(\"…\"), check = path, summary = \"…\" and schema = \"…\"";
                    return Err(Error::new(name.span(), format!("`{name}` says nothing; there are {known}")));
                }
            }
            seen.push(name);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(arguments)
    }
}

fn value(input: ParseStream<'_>) -> Result<Expr> {
    input.parse::<Token![=]>()?;
    input.parse()
}

impl Parse for Reads {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut reads = Self::default();
        while !input.is_empty() {
            let field: Ident = input.parse()?;
            match field.to_string().as_str() {
                "topic" => reads.topic = true,
                "key" => reads.key = true,
                "payload" => reads.payload = true,
                "headers" => {
                    let inside;
                    parenthesized!(inside in input);
                    let names = Punctuated::<Expr, Token![,]>::parse_terminated(&inside)?;
                    reads.headers.extend(names);
                }
                "nothing" => {}
                _ => {
                    let known = "topic, key, payload, headers(\"…\") and nothing";
                    return Err(Error::new(
                        field.span(),
                        format!("a message has no `{field}` to read; there are {known}"),
                    ));
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(reads)
    }
}
