//! `json-to-avro`: a transformer that makes Avro 1.11 of JSON.
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
//! ```json
//! {"id":7,"note":"hi"}
//! ```
//! ```text
//! 0e 02 04 68 69
//! ```
//!
//! Of a union, the first branch that the value fits is taken; a field that is missing has its default; bytes and fixed
//! are texts in base64. `7.0` and `7e0` are integers as `7` is, by their digits; in a union with a float or double they are
//! that. Nothing is changed silently: an integer that a float or double would round is rejected
//! (`not-exact`), as is one that an int or long does not hold (`number-too-large`), a member that is no field
//! (`unknown-field`), a field without value and default (`missing-field`), and what is of another type (`wrong-type`);
//! each with its JSON pointer.

use avro_value::{Config, Framing, Source};
use wharf_plugin::{Emit, Failure, Message, Out, Plugin, Problem, Stage, Transformed, Transformer};

/// The plugin.
#[derive(Debug)]
pub struct JsonToAvro {
    source: Source,
    framing: Framing,
}

impl Plugin for JsonToAvro {
    type Config = Config;
    const SUMMARY: &'static str = "makes Avro of JSON";
    const CONFIG_SCHEMA: Option<&'static str> = Some(avro_value::CONFIG_SCHEMA);

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        Ok(Self { source: config.source()?, framing: config.framing })
    }
}

impl Transformer for JsonToAvro {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let schema = self.source.schema(message)?;
        let mut avro = self.framing.head();
        avro.extend_from_slice(&schema.write(&json_value::read(message.payload())?)?);
        out.emit(Emit::bytes(&avro).set_headers(&[("content-type", b"application/avro")]))
    }
}

wharf_plugin::export!(JsonToAvro as transformer);
