//! `json-to-cbor`: a transformer that makes CBOR (RFC 8949) of JSON.
//!
//! ```json
//! {"id":18446744073709551616,"total":1.5}
//! ```
//! ```text
//! a2 62 69 64 c2 49 01 00 00 00 00 00 00 00 00 65 74 6f 74 61 6c f9 3e 00
//! ```
//!
//! ```toml
//! [stage.config]
//! deterministic = false                # sort the members of maps by their bytes (RFC 8949 §4.2.1)
//! bytes = ["/raw", "/files/*/data"]    # texts in base64 there become bytes
//! ```
//!
//! Each value has its preferred form (RFC 8949 §4.1): integers and floats are as short as they can be without becoming
//! another number. Integers of more than 64 bits are large integers (tags 2 and 3), up to 308 digits; a number with a
//! fraction or exponent is the nearest double, and one past all doubles is rejected (`number-too-large`).

mod binary;
mod write;

use json_value::{Pattern, decode_bytes};
use serde::Deserialize;
use wharf_plugin::{Emit, Failure, Message, Out, Plugin, Problem, Stage, Transformed, Transformer};

pub use write::write;

/// How JSON becomes CBOR.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Whether the members of maps are sorted, so that equal values are equal bytes.
    pub deterministic: bool,
    /// Where texts are bytes in base64.
    pub bytes: Vec<Pattern>,
}

/// The plugin.
#[derive(Debug)]
pub struct JsonToCbor {
    config: Config,
}

impl Plugin for JsonToCbor {
    type Config = Config;
    const SUMMARY: &'static str = "makes CBOR of JSON";
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        Ok(Self { config })
    }
}

impl Transformer for JsonToCbor {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let mut value = json_value::read(message.payload())?;
        decode_bytes(&mut value, &self.config.bytes)?;
        let cbor = write(&value, self.config.deterministic)?;
        out.emit(Emit::bytes(&cbor).set_headers(&[("content-type", b"application/cbor")]))
    }
}

wharf_plugin::export!(JsonToCbor as transformer);
