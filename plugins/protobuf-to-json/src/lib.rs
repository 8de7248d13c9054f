//! `protobuf-to-json`: a transformer that makes JSON of Protocol Buffers.
//!
//! ```toml
//! [stage.config]
//! schema = """
//! syntax = "proto3";
//! message Order { int64 id = 1; string note = 2; repeated Line lines = 3; }
//! message Line { string sku = 1; uint32 qty = 2; }
//! """
//! message = "Order"                    # the first one where none is named
//! unknown = "ignore"                   # fields that the schema does not have; or "reject"
//! zeros = false                        # whether a field that is not there and stands for a zero has a member
//! ```
//!
//! In place of `schema`, `descriptors` is what `protoc --include_imports --descriptor_set_out=FILE` writes, in base64;
//! or, for a schema that is uploaded (`wharf schema put order FILE`: the text or the set) and may be replaced while
//! messages flow,
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
//! 08 07 12 02 68 69 1a 05 0a 01 41 10 02
//! ```
//! ```json
//! {"id":"7","note":"hi","lines":[{"sku":"A","qty":2}]}
//! ```
//!
//! The JSON is that of proto3: names in lowerCamelCase, integers of 64 bits as text, enums by name, bytes in base64. The
//! well-known types (`google.protobuf.Timestamp` and its like) are messages as any other. A text is one file of proto2 or
//! proto3 without imports, groups and extensions; a set of descriptors may have imports. What is not of the schema is
//! rejected with the path of the field: `truncated`, `not-protobuf`, `wrong-wire-type`, `unknown-field`,
//! `missing-field`, `not-utf8`, `too-deep` (128).

use proto_value::{Config, Reading, Source, Unknown};
use wharf_plugin::{Emit, Failure, Message, Out, Plugin, Problem, Stage, Transformed, Transformer};

/// The plugin.
#[derive(Debug)]
pub struct ProtobufToJson {
    source: Source,
    how: Reading,
}

impl Plugin for ProtobufToJson {
    type Config = Config;
    const SUMMARY: &'static str = "makes JSON of Protocol Buffers";
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        let unknown = config.unknown.unwrap_or(Unknown::Ignore);
        Ok(Self { source: config.source()?, how: Reading { unknown, zeros: config.zeros } })
    }
}

impl Transformer for ProtobufToJson {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let schema = self.source.schema(message)?;
        let json = schema.read(message.payload(), self.how)?.to_json();
        out.emit(Emit::bytes(&json).set_headers(&[("content-type", b"application/json")]))
    }
}

wharf_plugin::export!(ProtobufToJson as transformer);
