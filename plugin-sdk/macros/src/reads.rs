//! Which fields of the message a body reads: what is not read is not copied into the plugin.
//!
//! Only an order of magnitude hangs on it: a field that is read and was not packed is fetched from the host. So a
//! body whose message goes elsewhere, into a function or a closure's helper, is taken to read the payload.

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::{Expr, parse_quote};

use crate::arguments::Reads;

/// What `body` reads of the parameter `message`.
pub(crate) fn inferred(body: TokenStream, message: &Ident) -> Reads {
    let mut found = Found::default();
    walk(body, message, &mut found);
    let mut reads = found.reads;
    reads.payload |= found.goes_elsewhere;
    reads
}

#[derive(Default)]
struct Found {
    reads: Reads,
    names: Vec<String>,
    goes_elsewhere: bool,
}

fn walk(tokens: TokenStream, message: &Ident, found: &mut Found) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (i, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => walk(group.stream(), message, found),
            // `order.message` is another's field.
            TokenTree::Ident(name)
                if name == message && !is_dot(i.checked_sub(1).and_then(|i| tokens.get(i))) =>
            {
                found.note(&tokens[i + 1..]);
            }
            _ => {}
        }
    }
}

impl Found {
    /// What follows the message's name.
    fn note(&mut self, rest: &[TokenTree]) {
        let [dot, TokenTree::Ident(method), rest @ ..] = rest else {
            self.goes_elsewhere = true;
            return;
        };
        if !is_dot(Some(dot)) {
            self.goes_elsewhere = true;
            return;
        }
        match method.to_string().as_str() {
            "topic" => self.reads.topic = true,
            "key" => self.reads.key = true,
            "payload" | "text" | "json" => self.reads.payload = true,
            "header" | "header_text" | "require_header" => self.header(rest),
            _ => {}
        }
    }

    /// A header that is named by a literal. Of another the name is not known before the message is there.
    fn header(&mut self, rest: &[TokenTree]) {
        let Some(TokenTree::Group(group)) = rest.first() else { return };
        let Ok(name) = syn::parse2::<syn::LitStr>(group.stream()) else { return };
        if !self.names.contains(&name.value()) {
            self.names.push(name.value());
            let name: Expr = parse_quote!(#name);
            self.reads.headers.push(name);
        }
    }
}

fn is_dot(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Punct(dot)) if dot.as_char() == '.')
}

#[cfg(test)]
mod tests {
    use quote::{ToTokens as _, quote};
    use syn::parse_quote;

    use super::*;

    fn said(body: TokenStream) -> String {
        let reads = inferred(body, &parse_quote!(message));
        let fields = [(reads.topic, "topic"), (reads.key, "key"), (reads.payload, "payload")];
        let fields = fields.into_iter().filter(|(read, _)| *read).map(|(_, name)| name.to_owned());
        let headers = reads.headers.iter().map(|header| header.to_token_stream().to_string());
        fields.chain(headers).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_named_is_read() {
        assert_eq!(
            said(quote!({ message.topic().len() + message.key().map_or(0, <[u8]>::len) })),
            "topic key"
        );
        assert_eq!(
            said(quote!({
                let order = message.json::<Order>()?;
            })),
            "payload"
        );
        let twice = quote!({ f(message.header("region"), |_| { message.header_text("region") }) });
        assert_eq!(said(twice), "\"region\"");
        assert_eq!(said(quote!({ message.header(&config.name) })), "");
        assert_eq!(said(quote!({ message.attempt() > 3 })), "");
    }

    #[test]
    fn a_message_that_goes_elsewhere_is_read_there() {
        assert_eq!(said(quote!({ check(message) })), "payload");
        assert_eq!(
            said(quote!({
                let it = message;
                it.topic()
            })),
            "payload"
        );
    }

    #[test]
    fn another_s_field_of_that_name_is_another_s() {
        assert_eq!(said(quote!({ problem.message.payload() })), "");
    }
}
