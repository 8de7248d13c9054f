//! `json-to-msgpack`: a transformer that makes MessagePack of JSON.
//!
//! ```json
//! {"id":18446744073709551615,"total":19.9}
//! ```
//! ```text
//! 82 a2 69 64 cf ff ff ff ff ff ff ff ff a5 74 6f 74 61 6c cb 40 33 e6 66 66 66 66 66
//! ```
//!
//! ```toml
//! [stage.config]
//! large-integers = "reject"            # of more than 64 bits; or "text", or "float": the nearest double
//! bytes = ["/raw", "/files/*/data"]    # texts in base64 there become bytes
//! ```
//!
//! Integers take the shortest form that holds them, and are never silently rounded; numbers with a fraction or exponent
//! become doubles, and one past all doubles is rejected (`number-too-large`).

mod write;

use json_value::{Pattern, decode_bytes};
use serde::Deserialize;
use wharf_plugin::{Emit, Failure, Message, Out, Plugin, Problem, Stage, Transformed, Transformer};

pub use write::write;

/// How JSON becomes MessagePack.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// What becomes of integers of more than 64 bits.
    pub large_integers: LargeIntegers,
    /// Where texts are bytes in base64.
    pub bytes: Vec<Pattern>,
}

/// What becomes of integers of more than 64 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LargeIntegers {
    /// The message is rejected, with the code `number-too-large`.
    #[default]
    Reject,
    /// They become their digits, as text.
    Text,
    /// They become the nearest double.
    Float,
}

/// The plugin.
#[derive(Debug)]
pub struct JsonToMsgpack {
    config: Config,
}

impl Plugin for JsonToMsgpack {
    type Config = Config;
    const SUMMARY: &'static str = "makes MessagePack of JSON";
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        Ok(Self { config })
    }
}

impl Transformer for JsonToMsgpack {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let mut value = json_value::read(message.payload())?;
        decode_bytes(&mut value, &self.config.bytes)?;
        let msgpack = write(&value, self.config.large_integers)?;
        out.emit(Emit::bytes(&msgpack).set_headers(&[("content-type", b"application/msgpack")]))
    }
}

wharf_plugin::export!(JsonToMsgpack as transformer);
