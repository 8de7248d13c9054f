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
//! Messages that another schema wrote are read as this one has it, by the rules of Avro's schema resolution: fields by
//! name or alias, in this schema's order, with its defaults for what was not written; wider numbers; an enum's default for
//! symbols that it does not have. Which schema wrote a message, its id tells, as registries of Kafka have it:
//!
//! ```toml
//! [stage]
//! grants = ["schema:order", "schema:order-v2"]
//!
//! [stage.config]
//! schema-name = "order"                # what all are read as
//! framing = { registry = { id = 9 } }  # its own id
//! writers = { 7 = '{"type": "record", "name": "Order", "fields": [{"name": "id", "type": "int"}]}' }
//! writer-names = { 8 = "order-v2" }    # uploaded ones
//! ```
//!
//! With another id a message is rejected (`other-schema`), and so is one whose schema this one cannot read
//! (`schemas-differ`, which refuses the pipeline where both stand in the configuration), or that holds a symbol or branch
//! which this one does not have (`not-in-schema`).
//!
//! A union is the value itself; bytes and fixed are texts in base64; a logical type is the number or bytes beneath it.
//! What is not of the schema is rejected with the offset of its byte: `not-avro`, `truncated`, `trailing-bytes`,
//! `not-utf8`, `not-finite`, `duplicate-member`; and what is too much: `too-many-items` (a million), `too-deep` (128).

use std::collections::BTreeMap;

use avro_value::{Framing, Source, Writers};
use serde::Deserialize;
use wharf_plugin::{Emit, Failure, Message, Out, Plugin, Problem, Stage, Transformed, Transformer};

/// What an operator writes.
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
    /// Other schemas that messages are written with, by their ids.
    #[serde(default)]
    pub writers: BTreeMap<u32, String>,
    /// The names of such schemas that are uploaded to the broker, by their ids.
    #[serde(default)]
    pub writer_names: BTreeMap<u32, String>,
}

/// The plugin.
#[derive(Debug)]
pub struct AvroToJson {
    source: Source,
    framing: Framing,
    writers: Writers,
}

impl Plugin for AvroToJson {
    type Config = Config;
    const SUMMARY: &'static str = "makes JSON of Avro";
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        let Config { schema, schema_name, framing, writers, writer_names } = config;
        if framing == Framing::Bare && !(writers.is_empty() && writer_names.is_empty()) {
            let message =
                "writers are told apart by their ids: `framing` is to say what the id of `schema` is";
            return Err(Problem::new("bad-config", message).at("/framing"));
        }
        let source = avro_value::Config { schema, schema_name, framing }.source()?;
        let writers = Writers::new(&writers, &writer_names, &source)?;
        Ok(Self { source, framing, writers })
    }
}

impl Transformer for AvroToJson {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let json = self.json(message)?;
        out.emit(Emit::bytes(&json).set_headers(&[("content-type", b"application/json")]))
    }
}

impl AvroToJson {
    fn json(&self, message: &Message<'_>) -> Result<Vec<u8>, Failure> {
        if message.begins_call() {
            self.writers.begin_call();
        }
        let schema = self.source.schema(message)?;
        if let Framing::Registry { id } = self.framing {
            let (writer, datum) = Framing::split(message.payload())?;
            if writer != id
                && let Some(resolution) = self.writers.resolution(writer, &schema, message)?
            {
                return Ok(resolution.read(datum)?.to_json());
            }
        }
        Ok(schema.read(self.framing.unwrap(message.payload())?)?.to_json())
    }
}

wharf_plugin::export!(AvroToJson as transformer);
