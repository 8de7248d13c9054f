//! `enrich`: a transformer that adds members to a JSON payload, and headers, from a table: one in its configuration, or
//! one that is uploaded.
//!
//! ```toml
//! [stage.config]
//! key = { json = "/customer/id" }      # or { header = "customer" }
//! into = "/customer"                   # the object that takes the new members; "" for the outermost
//! missing = "skip"                     # or "reject", or { default = { members = { tier = "none" } } }
//!
//! [stage.config.table.c-17]
//! members = { tier = "gold", country = "NL" }
//! headers = { tier = "gold" }
//! ```
//!
//! ```json
//! {"customer":{"id":"c-17"},"total":12}
//! ```
//! becomes, with the header `tier: gold`,
//! ```json
//! {"customer":{"id":"c-17","tier":"gold","country":"NL"},"total":12}
//! ```
//!
//! The same from a reference table, which may be replaced while messages flow (`wharf lookup put customers
//! customers.json`):
//!
//! ```toml
//! [stage]
//! grants = ["config", "lookup:customers"]
//!
//! [stage.config]
//! key = { json = "/customer/id" }
//! into = "/customer"
//! lookup = "customers"                 # a message waits (`retry`) while the table is missing or cannot be read
//! value = "members"                    # what its values are: JSON objects of members; or "entry", as above; or texts:
//!                                      # { member = "tier" }, { header = "tier" }
//! ```
//!
//! A member that is there already is replaced. A value that is not what `value` says rejects (`lookup-not-json`,
//! `lookup-not-utf8`). Where an entry has headers alone, the payload is not touched, and not
//! even read when the key is a header.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use wharf_plugin::{Emit, Failure, Message, Out, Plugin, Problem, Stage, Transformed, Transformer, lookup};

/// What an operator writes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the key is.
    pub key: Key,
    /// A JSON pointer to the object that takes the new members.
    #[serde(default)]
    pub into: String,
    /// What becomes of messages whose key is missing or not in the table.
    #[serde(default)]
    pub missing: Missing,
    /// What each key adds.
    pub table: Option<BTreeMap<String, Entry>>,
    /// In its place, the name of a reference table.
    pub lookup: Option<String>,
    /// What the reference table's values are.
    #[serde(default)]
    pub value: Form,
}

/// What the values of a reference table are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// The members that are added, as a JSON object.
    #[default]
    Members,
    /// An [`Entry`], as JSON.
    Entry,
    /// A text, for the member of this name.
    Member(String),
    /// A text, for the header of this name.
    Header(String),
}

/// Where the key is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Key {
    /// The value of a header.
    Header(String),
    /// The member of a JSON payload at this pointer: a string, a number or a boolean.
    Json(String),
}

/// What becomes of messages whose key is missing or not in the table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// They go on unchanged.
    #[default]
    Skip,
    /// They are rejected, with the code `unknown-key` or `no-key`.
    Reject,
    /// They get this.
    Default(Entry),
}

/// What is added.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Entry {
    /// Into the payload.
    pub members: Map<String, Value>,
    /// Beside it.
    pub headers: BTreeMap<String, String>,
}

/// The plugin.
#[derive(Debug)]
pub struct Enrich {
    config: Config,
    table: Table,
}

/// Where entries are.
#[derive(Debug)]
enum Table {
    Own(BTreeMap<String, Entry>),
    /// In the reference table of this name, whose values are in this form.
    Lent(String, Form),
}

impl Plugin for Enrich {
    type Config = Config;
    const SUMMARY: &'static str = "adds members and headers from a table";
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(mut config: Config, _stage: &Stage) -> Result<Self, Problem> {
        pointer(&config.into, "/into")?;
        if let Key::Json(key) = &config.key {
            pointer(key, "/key/json")?;
        }
        let table = match (config.table.take(), config.lookup.take()) {
            (Some(entries), None) => Table::Own(entries),
            (None, Some(name)) => Table::Lent(name, config.value.clone()),
            _ => {
                let message =
                    "give one of `table` (the entries) and `lookup` (the name of a reference table)";
                return Err(Problem::new("bad-config", message));
            }
        };
        Ok(Self { config, table })
    }
}

fn pointer(text: &str, path: &str) -> Result<(), Problem> {
    if text.is_empty() || text.starts_with('/') {
        return Ok(());
    }
    let message = format!("`{text}` is not a JSON pointer: it begins with `/`, as in `/customer/id`");
    Err(Problem::new("bad-config", message).at(path))
}

impl Transformer for Enrich {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let mut payload: Option<Value> = None;
        let key = match &self.config.key {
            Key::Header(name) => message.header_text(name)?.map(str::to_owned),
            Key::Json(at) => match payload.insert(message.json()?).pointer(at) {
                Some(Value::String(key)) => Some(key.clone()),
                Some(key @ (Value::Number(_) | Value::Bool(_))) => Some(key.to_string()),
                _ => None,
            },
        };
        let found = key.as_deref().map(|key| self.table.find(key)).transpose()?.flatten();
        let entry = match (found, &self.config.missing) {
            (Some(entry), _) => entry,
            (None, Missing::Default(entry)) => Cow::Borrowed(entry),
            (None, Missing::Skip) => return Ok(Transformed::Keep),
            (None, Missing::Reject) => return Err(self.missing(key.as_deref()).into()),
        };
        let headers: Vec<(&str, &[u8])> =
            entry.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        if entry.members.is_empty() {
            return out.emit(Emit::same().set_headers(&headers));
        }
        let mut payload = match payload {
            Some(payload) => payload,
            None => message.json()?,
        };
        let Some(Value::Object(object)) = payload.pointer_mut(&self.config.into) else {
            let message = "the payload has no object here to take the new members";
            return Err(Problem::new("no-object", message).at(self.config.into.clone()).into());
        };
        for (name, value) in &entry.members {
            object.insert(name.clone(), value.clone());
        }
        out.emit(Emit::bytes(payload.to_string().as_bytes()).set_headers(&headers))
    }
}

impl Table {
    fn find(&self, key: &str) -> Result<Option<Cow<'_, Entry>>, Failure> {
        let (name, form) = match self {
            Self::Own(entries) => return Ok(entries.get(key).map(Cow::Borrowed)),
            Self::Lent(name, form) => (name, form),
        };
        let entry = match form {
            Form::Entry => lookup::json(name, key)?,
            Form::Members => lookup::json(name, key)?.map(|members| Entry { members, ..Entry::default() }),
            Form::Member(member) => lookup::text(name, key)?.map(|text| {
                let members = Map::from_iter([(member.clone(), Value::String(text))]);
                Entry { members, ..Entry::default() }
            }),
            Form::Header(header) => lookup::text(name, key)?
                .map(|text| Entry { headers: BTreeMap::from([(header.clone(), text)]), ..Entry::default() }),
        };
        Ok(entry.map(Cow::Owned))
    }
}

impl Enrich {
    fn missing(&self, key: Option<&str>) -> Problem {
        let (place, path) = match &self.config.key {
            Key::Header(name) => (format!("header `{name}`"), None),
            Key::Json(pointer) => ("the payload".to_owned(), Some(pointer.clone())),
        };
        let problem = match key {
            Some(key) => Problem::new("unknown-key", format!("`{key}`, from {place}, is not in the table")),
            None => Problem::new("no-key", format!("{place} has no key to look up")),
        };
        Problem { path, ..problem }
    }
}

wharf_plugin::export!(Enrich as transformer);
