//! `msgpack-to-json`: a transformer that makes JSON of MessagePack.
//!
//! ```text
//! 82 a2 69 64 cf ff ff ff ff ff ff ff ff a3 72 61 77 c4 02 fb ff
//! ```
//! ```json
//! {"id":18446744073709551615,"raw":"+/8="}
//! ```
//!
//! ```toml
//! [stage.config]
//! bytes = "base64"                     # what bytes become: "base64", "base64url", "hex"
//! not-finite = "reject"                # what NaN and the infinities become: "reject", "null"
//! ```
//!
//! Integers keep all their digits, and a float is written with the fewest digits that read back as the same number.
//! A timestamp (extension -1) becomes RFC 3339 text. Keys of maps are texts, integers or booleans, as text. What JSON
//! has no place for is rejected with the offset of its byte: other extensions (`extension`), other keys (`bad-key`),
//! two keys of one name (`duplicate-member`). So is what is no MessagePack: `truncated`, `trailing-bytes`,
//! `not-msgpack`, `not-utf8`, `too-deep`.

mod read;

use json_value::Bytes;
use serde::Deserialize;
use wharf_plugin::{Emit, Failure, Message, Out, Plugin, Problem, Stage, Transformed, Transformer};

pub use read::read;

/// How MessagePack becomes JSON.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// What bytes become.
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

/// The plugin: [`read()`] on each message.
#[derive(Debug)]
pub struct MsgpackToJson {
    config: Config,
}

impl Plugin for MsgpackToJson {
    type Config = Config;
    const SUMMARY: &'static str = "makes JSON of MessagePack";
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        Ok(Self { config })
    }
}

impl Transformer for MsgpackToJson {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let json = read(message.payload(), self.config)?.to_json();
        out.emit(Emit::bytes(&json).set_headers(&[("content-type", b"application/json")]))
    }
}

wharf_plugin::export!(MsgpackToJson as transformer);
