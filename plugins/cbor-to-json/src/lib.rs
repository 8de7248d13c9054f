//! `cbor-to-json`: a transformer that makes JSON of CBOR (RFC 8949).
//!
//! ```text
//! a2 62 69 64 c2 49 01 00 00 00 00 00 00 00 00 63 72 61 77 42 fb ff
//! ```
//! ```json
//! {"id":18446744073709551616,"raw":"-_8"}
//! ```
//!
//! ```toml
//! [stage.config]
//! bytes = "base64url"                  # what bytes become: "base64url", "base64", "hex"
//! not-finite = "reject"                # what NaN and the infinities become: "reject", "null"
//! ```
//!
//! The conversion is that of RFC 8949 §6.1: `undefined` is `null`, tags are left out but for those that mean something
//! here, which are large integers (2 and 3; up to 1,024 bits, with all their digits) and the expected text of bytes
//! (21 to 23). Keys of maps are texts, integers or booleans, as text. What JSON has no place for is rejected with the
//! offset of its byte: other keys (`bad-key`), two keys of one name (`duplicate-member`), other simple values
//! (`simple-value`). So is what is no CBOR: `truncated`, `trailing-bytes`, `not-cbor`, `not-utf8`, `too-deep`.

mod digits;
mod read;

use json_value::Bytes;
use serde::Deserialize;
use wharf_plugin::{Emit, Failure, Message, Out, Plugin, Problem, Stage, Transformed, Transformer};

pub use read::read;

/// How CBOR becomes JSON.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// What bytes become, where no tag says it.
    pub bytes: Bytes,
    /// What becomes of NaN and the infinities.
    pub not_finite: NotFinite,
}

/// What becomes of NaN and the infinities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotFinite {
    /// The message is rejected, with the code `not-finite`.
    #[default]
    Reject,
    /// They become `null`.
    Null,
}

impl Default for Config {
    fn default() -> Self {
        Self { bytes: Bytes::Base64url, not_finite: NotFinite::default() }
    }
}

/// The plugin: [`read()`] on each message.
#[derive(Debug)]
pub struct CborToJson {
    config: Config,
}

impl Plugin for CborToJson {
    type Config = Config;
    const SUMMARY: &'static str = "makes JSON of CBOR";
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        Ok(Self { config })
    }
}

impl Transformer for CborToJson {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let json = read(message.payload(), self.config)?.to_json();
        out.emit(Emit::bytes(&json).set_headers(&[("content-type", b"application/json")]))
    }
}

wharf_plugin::export!(CborToJson as transformer);
