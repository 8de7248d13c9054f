//! `avro-to-json`: a transformer that makes JSON of Avro 1.11.
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
//! or, with a schema that is uploaded (`wharf schema put order order.avsc`) and may be replaced while messages flow,
//!
//! ```toml
//! [stage]
//! grants = ["schema:order"]
//!
//! [stage.config]
//! schema-name = "order"                # a message waits (`retry`) while it is missing or no schema
//! ```
//!
//! ```text
//! 0e 02 04 68 69
//! ```
//! ```json
//! {"id":7,"note":"hi"}
//! ```
//!
//! A union is the value itself; bytes and fixed are texts in base64; a logical type is the number or bytes beneath it.
//! What is not of the schema is rejected with the offset of its byte: `not-avro`, `truncated`, `trailing-bytes`,
//! `not-utf8`, `not-finite`, `duplicate-member`; and what is too much: `too-many-items` (a million), `too-deep` (128).

use avro_value::{Config, Framing, Source};
use wharf_plugin::{Emit, Failure, Message, Out, Plugin, Problem, Stage, Transformed, Transformer};

/// The plugin.
#[derive(Debug)]
pub struct AvroToJson {
    source: Source,
    framing: Framing,
}

impl Plugin for AvroToJson {
    type Config = Config;
    const SUMMARY: &'static str = "makes JSON of Avro";
    const CONFIG_SCHEMA: Option<&'static str> = Some(avro_value::CONFIG_SCHEMA);

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        Ok(Self { source: config.source()?, framing: config.framing })
    }
}

impl Transformer for AvroToJson {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let schema = self.source.schema(message)?;
        let json = schema.read(self.framing.unwrap(message.payload())?)?.to_json();
        out.emit(Emit::bytes(&json).set_headers(&[("content-type", b"application/json")]))
    }
}

wharf_plugin::export!(AvroToJson as transformer);
