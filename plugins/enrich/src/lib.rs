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
//! grants = ["lookup:customers"]
//!
//! [stage.config]
//! key = { json = "/customer/id" }
//! into = "/customer"
//! lookup = "customers"                 # a message waits (`retry`) while the table is missing or cannot be read
//! value = "members"                    # what its values are: JSON objects of members; or "entry", as above; or texts:
//!                                      # { member = "tier" }, { header = "tier" }
//! ```
//!
//! A member that is there already is replaced; all else stays as it was written: numbers with all their digits, members in
//! their order. A value that is not what `value` says rejects (`lookup-not-json`, `lookup-not-utf8`). Where an entry has
//! headers alone, the payload is not touched, and not even read when the key is a header.

use std::borrow::Cow;
use std::collections::BTreeMap;

use json_value::{Pointer, Value};
use serde::Deserialize;
use wharf_plugin::{Emit, Failure, Message, Out, Plugin, Problem, Stage, Transformed, Transformer, lookup};

/// What an operator writes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the key is.
    pub key: Key,
    /// The object that takes the new members.
    #[serde(default)]
    pub into: Pointer,
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
    #[serde(deserialize_with = "members")]
    pub members: Vec<(Cow<'static, str>, Value<'static>)>,
    /// Beside it.
    pub headers: BTreeMap<String, String>,
}

/// The plugin.
#[derive(Debug)]
pub struct Enrich {
    config: Config,
    /// Where the key is, in a payload.
    key_at: Pointer,
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
        let key_at = match &config.key {
            Key::Header(_) => Pointer::default(),
            Key::Json(pointer) => pointer.parse().map_err(|problem: Problem| problem.at("/key/json"))?,
        };
        let table = match (config.table.take(), config.lookup.take()) {
            (Some(entries), None) => Table::Own(entries),
            (None, Some(name)) => Table::Lent(name, config.value.clone()),
            _ => {
                let message =
                    "give one of `table` (the entries) and `lookup` (the name of a reference table)";
                return Err(Problem::new("bad-config", message));
            }
        };
        Ok(Self { config, key_at, table })
    }
}

impl Transformer for Enrich {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let mut payload: Option<Value<'_>> = None;
        let key = match &self.config.key {
            Key::Header(name) => message.header_text(name)?.map(str::to_owned),
            Key::Json(_) => {
                let payload = payload.insert(json_value::read(message.payload())?);
                self.key_at.find(payload).and_then(Value::plain).map(str::to_owned)
            }
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
            None => json_value::read(message.payload())?,
        };
        let object =
            self.config.into.find_mut(&mut payload).filter(|value| matches!(value, Value::Object(_)));
        let Some(object) = object else {
            let message = "the payload has no object here to take the new members";
            return Err(Problem::new("no-object", message).at(self.config.into.as_str()).into());
        };
        for (name, value) in &entry.members {
            object.set(name.clone(), value.clone());
        }
        out.emit(Emit::bytes(&payload.to_json()).set_headers(&headers))
    }
}

impl Table {
    fn find(&self, key: &str) -> Result<Option<Cow<'_, Entry>>, Failure> {
        let (name, form) = match self {
            Self::Own(entries) => return Ok(entries.get(key).map(Cow::Borrowed)),
            Self::Lent(name, form) => (name, form),
        };
        let entry = match form {
            Form::Entry => Self::json(name, key)?.map(Entry::of).transpose(),
            Form::Members => Self::json(name, key)?.map(Entry::of_members).transpose(),
            Form::Member(member) => Ok(lookup::text(name, key)?.map(|text| {
                let members = vec![(member.clone().into(), Value::String(text.into()))];
                Entry { members, ..Entry::default() }
            })),
            Form::Header(header) => Ok(lookup::text(name, key)?
                .map(|text| Entry { headers: BTreeMap::from([(header.clone(), text)]), ..Entry::default() })),
        };
        Ok(entry.map_err(|what| not_json(name, key, &what))?.map(Cow::Owned))
    }

    /// What the reference table has for `key`, with numbers as they are written there.
    fn json(table: &str, key: &str) -> Result<Option<Value<'static>>, Failure> {
        let Some(text) = lookup::get(table, key)? else { return Ok(None) };
        let value = json_value::read(&text).map_err(|problem| not_json(table, key, &problem.message))?;
        Ok(Some(value.into_owned()))
    }
}

fn not_json(table: &str, key: &str, what: &str) -> Problem {
    let message = format!("`{key}` in table `{table}` is not the JSON that was expected: {what}");
    Problem::new("lookup-not-json", message)
}

/// The members of an object in a configuration.
fn members<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(Cow<'static, str>, Value<'static>)>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Object(members) => Ok(members),
        other => {
            Err(serde::de::Error::custom(format!("an object is to be here, and there is {}", other.kind())))
        }
    }
}

impl Entry {
    /// The entry that a value of a reference table is.
    fn of(value: Value<'static>) -> Result<Self, String> {
        let Value::Object(parts) = value else { return Err(no_object(&value)) };
        let mut entry = Self::default();
        for (name, value) in parts {
            match (name.as_ref(), value) {
                ("members", members) => entry.members = Self::of_members(members)?.members,
                ("headers", Value::Object(headers)) => {
                    for (name, value) in headers {
                        let Value::String(text) = value else {
                            return Err(format!("header `{name}` is {}, and not a string", value.kind()));
                        };
                        entry.headers.insert(name.into_owned(), text.into_owned());
                    }
                }
                ("headers", other) => return Err(no_object(&other)),
                (name, _) => return Err(format!("an entry has `members` and `headers`, and no `{name}`")),
            }
        }
        Ok(entry)
    }

    fn of_members(value: Value<'static>) -> Result<Self, String> {
        match value {
            Value::Object(members) => Ok(Self { members, ..Self::default() }),
            other => Err(no_object(&other)),
        }
    }
}

fn no_object(value: &Value<'_>) -> String {
    format!("an object is to be here, and there is {}", value.kind())
}

impl Enrich {
    fn missing(&self, key: Option<&str>) -> Problem {
        let (place, path) = match &self.config.key {
            Key::Header(name) => (format!("header `{name}`"), None),
            Key::Json(pointer) => ("the payload".to_owned(), Some(pointer.to_string())),
        };
        let problem = match key {
            Some(key) => Problem::new("unknown-key", format!("`{key}`, from {place}, is not in the table")),
            None => Problem::new("no-key", format!("{place} has no key to look up")),
        };
        Problem { path, ..problem }
    }
}

wharf_plugin::export!(Enrich as transformer);
