//! Where a stage has its schema from: its configuration, or the broker.

use std::rc::Rc;

use json_value::Bytes;
use serde::Deserialize;
use wharf_plugin::schema::Compiled;
use wharf_plugin::{Failure, Message, Problem};

use crate::{Schema, Unknown};

/// What an operator writes; the JSON Schema of each stage says which of it is that stage's.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The text of one `.proto` file.
    pub schema: Option<String>,
    /// In its place, a set of descriptors in base64.
    pub descriptors: Option<String>,
    /// In its place, the name of a text or a set that is uploaded to the broker.
    pub schema_name: Option<String>,
    /// Which of its messages a payload is; the first where none is named.
    pub message: Option<String>,
    /// What becomes of fields that the schema does not have.
    pub unknown: Option<Unknown>,
    /// Whether a field that is not there and stands for a zero has a member all the same.
    pub zeros: bool,
}

/// A schema, from wherever it is.
#[derive(Debug)]
pub enum Source {
    /// It stands in the configuration.
    Own(Rc<Schema>),
    /// It is lent, and may be another one tomorrow.
    Lent {
        /// The document's.
        schema: Compiled<Schema>,
        /// Which of its messages a payload is.
        message: Option<String>,
    },
}

impl Config {
    /// Where the schema is.
    ///
    /// # Errors
    /// `bad-config`: there is none or several, or it is no schema.
    pub fn source(&self) -> Result<Source, Problem> {
        let message = self.message.as_deref();
        let refused = |at: &'static str| {
            move |problem: Problem| {
                let place = problem.path.map_or_else(String::new, |path| format!(" (in it, {path})"));
                let message = format!("this is no schema of Protocol Buffers: {}{place}", problem.message);
                Problem::new("bad-config", message).at(at)
            }
        };
        match (&self.schema, &self.descriptors, &self.schema_name) {
            (Some(text), None, None) => {
                let schema = Schema::of_text(text, message).map_err(refused("/schema"))?;
                Ok(Source::Own(Rc::new(schema)))
            }
            (None, Some(base64), None) => {
                let set = Bytes::Base64.decode(base64).ok_or_else(|| {
                    Problem::new("bad-config", "the set of descriptors is to be in base64").at("/descriptors")
                })?;
                let schema = Schema::of_descriptors(&set, message).map_err(refused("/descriptors"))?;
                Ok(Source::Own(Rc::new(schema)))
            }
            (None, None, Some(name)) => {
                Ok(Source::Lent { schema: Compiled::new(name), message: self.message.clone() })
            }
            _ => {
                let message = "give one of `schema` (the text of a .proto file), `descriptors` (a set of descriptors in \
                               base64) and `schema-name` (the name of either, uploaded)";
                Err(Problem::new("bad-config", message))
            }
        }
    }
}

impl Source {
    /// The schema to read or write `message` with.
    ///
    /// # Errors
    /// Asks for a retry while the broker has none, or one that is none of Protocol Buffers.
    pub fn schema(&self, message: &Message<'_>) -> Result<Rc<Schema>, Failure> {
        match self {
            Self::Own(schema) => Ok(Rc::clone(schema)),
            Self::Lent { schema, message: name } => {
                schema.get(message, |document| Schema::of_document(document, name.as_deref()))
            }
        }
    }
}

impl Schema {
    /// Of a document that is either: a set of descriptors has bytes in it that no text has, such as the one before the
    /// number of each field.
    fn of_document(document: &[u8], message: Option<&str>) -> Result<Self, Problem> {
        let is_text =
            |text: &&str| !text.chars().any(|each| each.is_control() && !each.is_ascii_whitespace());
        match std::str::from_utf8(document).ok().filter(is_text) {
            Some(text) => Self::of_text(text, message),
            None => Self::of_descriptors(document, message),
        }
    }
}
