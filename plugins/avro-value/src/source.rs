//! Where a stage has its schema from: its configuration, or the broker.

use std::rc::Rc;

use serde::Deserialize;
use wharf_plugin::schema::Compiled;
use wharf_plugin::{Failure, Message, Problem};

use crate::{Framing, Schema};

/// What an operator writes for each of the stages.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The schema, as JSON.
    pub schema: Option<String>,
    /// In its place, the name of one that is uploaded to the broker.
    pub schema_name: Option<String>,
    /// What stands before the datum.
    #[serde(default)]
    pub framing: Framing,
}

/// A schema, from wherever it is.
#[derive(Debug)]
pub enum Source {
    /// It stands in the configuration.
    Own(Rc<Schema>),
    /// It is lent, and may be another one tomorrow.
    Lent(Compiled<Schema>),
}

impl Config {
    /// Where the schema is.
    ///
    /// # Errors
    /// `bad-config`: there is none or two, or it is no schema.
    pub fn source(&self) -> Result<Source, Problem> {
        match (&self.schema, &self.schema_name) {
            (Some(schema), None) => {
                let schema =
                    parse(schema).map_err(|message| Problem::new("bad-config", message).at("/schema"))?;
                Ok(Source::Own(Rc::new(schema)))
            }
            (None, Some(name)) => Ok(Source::Lent(Compiled::new(name))),
            (None, None) => {
                let message = "there is no schema: give it as `schema`, or the name of an uploaded one as `schema-name`";
                Err(Problem::new("bad-config", message))
            }
            (Some(_), Some(_)) => {
                let message = "there are two schemas: give `schema` or `schema-name`";
                Err(Problem::new("bad-config", message).at("/schema-name"))
            }
        }
    }
}

/// The schema that stands in a configuration, or a sentence why there is none.
pub(crate) fn parse(schema: &str) -> Result<Schema, String> {
    Schema::parse(schema.as_bytes()).map_err(|problem| {
        let place = problem.path.as_deref().filter(|place| !place.is_empty());
        let place = place.map(|place| format!(" (in it, at `{place}`)")).unwrap_or_default();
        format!("this is no schema of Avro: {}{place}", problem.message)
    })
}

impl Source {
    /// The schema to read or write `message` with.
    ///
    /// # Errors
    /// Asks for a retry while the broker has none, or one that is none of Avro.
    pub fn schema(&self, message: &Message<'_>) -> Result<Rc<Schema>, Failure> {
        match self {
            Self::Own(schema) => Ok(Rc::clone(schema)),
            Self::Lent(schema) => schema.get(message, Schema::parse),
        }
    }
}
