//! `protobuf-check`: a validator that accepts payloads that are Protocol Buffers of a schema.
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
//! ```
//!
//! In place of `schema`, `descriptors` or `schema-name`, as for `protobuf-to-json`.
//!
//! `08 07 1a 03 0a 01 41` is accepted. `08 07 1a 03 0a 01 ff` is rejected with the code `not-utf8` and the path
//! `/lines/0/sku`. The codes are those of `protobuf-to-json`. Much that is not meant as the message is bytes of it all the
//! same: with `unknown = "reject"`, less is.

use proto_value::{Config, Reading, Source, Unknown};
use wharf_plugin::{Failure, Message, Plugin, Problem, Stage, Validator};

/// The plugin.
#[derive(Debug)]
pub struct ProtobufCheck {
    source: Source,
    how: Reading,
}

impl Plugin for ProtobufCheck {
    type Config = Config;
    const SUMMARY: &'static str = "accepts the Protocol Buffers that a schema describes";
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        let unknown = config.unknown.unwrap_or(Unknown::Ignore);
        Ok(Self { source: config.source()?, how: Reading { unknown, zeros: false } })
    }
}

impl Validator for ProtobufCheck {
    fn validate(&self, message: &Message<'_>) -> Result<(), Failure> {
        let schema = self.source.schema(message)?;
        schema.read(message.payload(), self.how)?;
        Ok(())
    }
}

wharf_plugin::export!(ProtobufCheck as validator);
