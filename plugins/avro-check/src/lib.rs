//! `avro-check`: a validator that accepts payloads that are Avro 1.11 of a schema.
//!
//! ```toml
//! [stage.config]
//! schema = """{"type": "record", "name": "Order", "fields": [
//!   {"name": "id", "type": "long"},
//!   {"name": "note", "type": ["null", "string"], "default": null}
//! ]}"""
//! framing = "bare"                     # or { registry = { id = 7 } }: a zero and four bytes of id come first
//! ```
//!
//! or `schema-name`, as for `avro-to-json`.
//!
//! `0e 02 04 68 69` is accepted. `0e 06 04 68 69` is rejected with the code `not-avro`, the path `byte 2` and the message
//! `there is no branch 3: the schema has 2, counted from 0`. The codes are those of `avro-to-json`.

use avro_value::{Config, Framing, Source};
use wharf_plugin::{Failure, Message, Plugin, Problem, Stage, Validator};

/// The plugin.
#[derive(Debug)]
pub struct AvroCheck {
    source: Source,
    framing: Framing,
}

impl Plugin for AvroCheck {
    type Config = Config;
    const SUMMARY: &'static str = "accepts the Avro that a schema describes";
    const CONFIG_SCHEMA: Option<&'static str> = Some(avro_value::CONFIG_SCHEMA);

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        Ok(Self { source: config.source()?, framing: config.framing })
    }
}

impl Validator for AvroCheck {
    fn validate(&self, message: &Message<'_>) -> Result<(), Failure> {
        let schema = self.source.schema(message)?;
        schema.read(self.framing.unwrap(message.payload())?)?;
        Ok(())
    }
}

wharf_plugin::export!(AvroCheck as validator);
