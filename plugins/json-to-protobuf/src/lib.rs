//! `json-to-protobuf`: a transformer that makes Protocol Buffers of JSON.
//!
//! ```toml
//! [stage.config]
//! schema = """
//! syntax = "proto3";
//! message Order { int64 id = 1; string note = 2; repeated Line lines = 3; }
//! message Line { string sku = 1; uint32 qty = 2; }
//! """
//! message = "Order"                    # the first one where none is named
//! unknown = "reject"                   # members that are no fields; or "ignore"
//! ```
//!
//! In place of `schema`, `descriptors` or `schema-name`, as for `protobuf-to-json`.
//!
//! ```json
//! {"id":"7","note":"hi","lines":[{"sku":"A","qty":2}]}
//! ```
//! ```text
//! 08 07 12 02 68 69 1a 05 0a 01 41 10 02
//! ```
//!
//! Members are named as in JSON or as in the schema; integers are numbers or their digits as text, and `7.0` and
//! `7e0` are integers as `7` is, by their digits, however many; `null` is not there.
//! Nothing is changed silently: an integer that its type does not hold (`number-too-large`) or that a float would round
//! (`not-exact`), a member that is no field (`unknown-field`), two of one `oneof` (`two-of-one`), a required field that
//! is missing (`missing-field`) and what is of another type (`wrong-type`) are rejected with their JSON pointer.

use proto_value::{Config, Source, Unknown};
use wharf_plugin::{Emit, Failure, Message, Out, Plugin, Problem, Stage, Transformed, Transformer};

/// The plugin.
#[derive(Debug)]
pub struct JsonToProtobuf {
    source: Source,
    unknown: Unknown,
}

impl Plugin for JsonToProtobuf {
    type Config = Config;
    const SUMMARY: &'static str = "makes Protocol Buffers of JSON";
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        Ok(Self { source: config.source()?, unknown: config.unknown.unwrap_or(Unknown::Reject) })
    }
}

impl Transformer for JsonToProtobuf {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let schema = self.source.schema(message)?;
        let bytes = schema.write(&json_value::read(message.payload())?, self.unknown)?;
        out.emit(Emit::bytes(&bytes).set_headers(&[("content-type", b"application/protobuf")]))
    }
}

wharf_plugin::export!(JsonToProtobuf as transformer);
