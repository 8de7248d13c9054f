//! `redact`: a transformer that masks, hashes and removes what is not to travel on.
//!
//! ```json
//! {"customer":{"name":"Ada","card":"4111111111111111","email":"ada@example.org"},"notes":[{"text":"call"}]}
//! ```
//! becomes, with the configuration below,
//! ```json
//! {"customer":{"card":"************1111","email":"c2e8108b5aa5b2b023707b8ab3ab9480"},"notes":[{"text":null}]}
//! ```
//!
//! ```toml
//! [stage.config]
//! salt = "9f2c"                       # of "hash"; whoever has it can find out what was hashed
//! headers = ["authorization"]          # these are removed, in any case of letters
//! rules = [
//!   { at = "/customer/name", drop = true },
//!   { at = "/**/card", mask = { with = "*", keep-last = 4 } },
//!   { at = "/**/email", hash = 16 },            # so many bytes of HMAC-SHA-256, in hex: equal values stay equal
//!   { at = "/notes/*/text", set = "null" },      # another value, as JSON
//! ]
//! missing = "ignore"                   # or "reject" (`nothing-to-redact`): a rule that finds nothing is a mistake
//! ```
//!
//! In `at`, `*` stands for any member or item and `**` for any depth. Rules are followed in order. Masks and hashes are
//! of texts; of numbers and booleans, of their JSON; of arrays and objects they reject (`not-text`).
//! All else stays as it was written: numbers with all their digits, members in their order.

mod config;

use std::borrow::Cow;

use json_value::{Bytes, Edit, Value};
use wharf_plugin::{Emit, Failure, Message, Out, Plugin, Problem, Stage, Transformed, Transformer};

pub use config::{Config, Mask, Missing, Rule};

/// The plugin.
#[derive(Debug)]
pub struct Redact {
    config: Config,
    /// What each rule does, checked.
    actions: Vec<Action>,
}

#[derive(Debug, Clone)]
enum Action {
    Drop,
    Mask(Mask),
    Hash(usize),
    Set(Value<'static>),
}

impl Plugin for Redact {
    type Config = Config;
    const SUMMARY: &'static str = "masks, hashes and removes fields and headers";
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        let actions = config.check()?;
        Ok(Self { config, actions })
    }
}

impl Transformer for Redact {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let all = if self.config.headers.is_empty() { Vec::new() } else { message.headers() };
        let headers: Vec<&str> =
            all.iter().map(|(name, _)| name.as_str()).filter(|name| self.removes(name)).collect();
        if self.actions.is_empty() {
            return out.emit(Emit::same().remove_headers(&headers));
        }
        let mut payload = json_value::read(message.payload())?;
        let mut redacted = 0;
        for (rule, action) in self.config.rules.iter().zip(&self.actions) {
            let count = rule.at.edit(&mut payload, &mut |value| self.redact(rule, action, value))?;
            if count == 0 && self.config.missing == Missing::Reject {
                let message = "a rule finds nothing here to redact";
                return Err(Problem::new("nothing-to-redact", message).at(rule.at.as_str()).into());
            }
            redacted += count;
        }
        match redacted {
            0 => out.emit(Emit::same().remove_headers(&headers)),
            _ => out.emit(Emit::bytes(&payload.to_json()).remove_headers(&headers)),
        }
    }
}

impl Redact {
    /// In any case of letters: whoever hides `authorization` does not mean to show `Authorization`.
    fn removes(&self, header: &str) -> bool {
        self.config.headers.iter().any(|name| name.eq_ignore_ascii_case(header))
    }

    fn redact(&self, rule: &Rule, action: &Action, value: &mut Value<'_>) -> Result<Edit, Problem> {
        let new = match action {
            Action::Drop => return Ok(Edit::Remove),
            Action::Set(new) => new.clone(),
            Action::Mask(mask) => match plain(rule, value)? {
                Some(text) => Value::String(Cow::Owned(mask.apply(text))),
                None => return Ok(Edit::Keep),
            },
            Action::Hash(length) => match plain(rule, value)? {
                Some(text) => {
                    let hash = hmac_sha256::HMAC::mac(text.as_bytes(), self.config.salt.as_bytes());
                    Value::String(Cow::Owned(Bytes::Hex.encode(&hash[..*length])))
                }
                None => return Ok(Edit::Keep),
            },
        };
        *value = new;
        Ok(Edit::Keep)
    }
}

/// The text to mask or hash; `None` for `null`, which says nothing.
fn plain<'v>(rule: &Rule, value: &'v Value<'_>) -> Result<Option<&'v str>, Problem> {
    match value.plain() {
        None if *value != Value::Null => {
            let message =
                format!("this is {}: its parts can be redacted, or the whole dropped", value.kind());
            Err(Problem::new("not-text", message).at(rule.at.as_str()))
        }
        plain => Ok(plain),
    }
}

wharf_plugin::export!(Redact as transformer);
