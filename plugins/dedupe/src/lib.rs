//! `dedupe`: a router that lets the first of equal messages pass, and drops the others for a while.
//!
//! ```toml
//! [stage]
//! grants = ["kv"]
//!
//! [stage.config]
//! by = ["/order/id", "/order/version"]   # JSON pointers into the payload; or
//! headers = ["order-id"]                 # headers; without both: the whole payload
//! topic = true                           # whether messages on different topics are different
//! window-s = 3600                        # for how long a message is remembered, by the broker's time
//! missing = "pass"                       # what becomes of messages without a field: "pass", "reject"
//! duplicate = "drop"                     # what becomes of duplicates: "drop", "reject", or { to = "duplicates" }
//! ```
//!
//! `{"order":{"id":7,"version":1}}` passes; the same again within an hour, whatever else it holds, is settled without a
//! delivery. A message is remembered in its own record: what is rejected later, or lost with a crash, was not seen.
//! Texts and numbers are different (`"7"` and `7`), and so are `7` and `7.0`.

use std::time::Duration;

use json_value::{Bytes, Pointer, Value};
use serde::Deserialize;
use wharf_plugin::{Failure, Message, Output, Plugin, Problem, Reads, Route, Router, Stage, kv};

/// For how long a message can be remembered: 30 days.
const WINDOW_S_MAX: u64 = 30 * 24 * 3600;

/// What an operator writes.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Values in the payload that make messages equal.
    pub by: Vec<Pointer>,
    /// Headers that make messages equal.
    pub headers: Vec<String>,
    /// Whether messages on different topics are different.
    pub topic: bool,
    /// For how long a message is remembered.
    pub window_s: u64,
    /// What becomes of messages without a field.
    pub missing: Missing,
    /// What becomes of duplicates.
    pub duplicate: Duplicate,
}

/// What becomes of messages without a field.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// They pass, and are not remembered.
    #[default]
    Pass,
    /// They are rejected, with the code `no-field`.
    Reject,
}

/// What becomes of duplicates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Duplicate {
    /// They are settled here.
    #[default]
    Drop,
    /// They are rejected, with the code `duplicate`.
    Reject,
    /// They go to a declared output.
    To(String),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            by: Vec::new(),
            headers: Vec::new(),
            topic: true,
            window_s: 3600,
            missing: Missing::default(),
            duplicate: Duplicate::default(),
        }
    }
}

/// The plugin.
#[derive(Debug)]
pub struct Dedupe {
    config: Config,
    /// Where duplicates go, if anywhere.
    output: Option<Output>,
}

impl Plugin for Dedupe {
    type Config = Config;
    const SUMMARY: &'static str = "lets the first of equal messages pass";
    const READS: Reads = Reads::PAYLOAD.with_topic();
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, stage: &Stage) -> Result<Self, Problem> {
        if !(1..=WINDOW_S_MAX).contains(&config.window_s) {
            let message = format!("{} is not a number of seconds from 1 to {WINDOW_S_MAX}", config.window_s);
            return Err(Problem::new("bad-config", message).at("/window-s"));
        }
        let output = match &config.duplicate {
            Duplicate::To(name) => Some(stage.output(name).map_err(|problem| problem.at("/duplicate/to"))?),
            Duplicate::Drop | Duplicate::Reject => None,
        };
        Ok(Self { config, output })
    }
}

impl Router for Dedupe {
    fn route(&self, message: &Message<'_>) -> Result<Route, Failure> {
        let Some(fingerprint) = self.fingerprint(message)? else { return Ok(Route::Pass) };
        let window = Duration::from_secs(self.config.window_s);
        if kv::add_for(&fingerprint, 1, window)? == 1 {
            return Ok(Route::Pass);
        }
        match (&self.config.duplicate, self.output) {
            (_, Some(output)) => Ok(Route::to(output)),
            (Duplicate::Reject, _) => {
                let message = format!("an equal message came within the last {} s", self.config.window_s);
                Err(Problem::new("duplicate", message).into())
            }
            _ => Ok(Route::Drop),
        }
    }
}

impl Dedupe {
    /// What equal messages have in common; `None` for one without a field, which passes.
    fn fingerprint(&self, message: &Message<'_>) -> Result<Option<String>, Failure> {
        let mut hash = hmac_sha256::Hash::new();
        // Each part with its length before it, so that no two lists of parts look the same.
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        if self.config.topic {
            part(message.topic().as_bytes());
        }
        for name in &self.config.headers {
            match (message.header(name), self.config.missing) {
                (Some(value), _) => part(value),
                (None, Missing::Pass) => return Ok(None),
                (None, Missing::Reject) => {
                    return Err(Problem::new("no-field", format!("header `{name}` is missing")).into());
                }
            }
        }
        if self.config.by.is_empty() {
            if self.config.headers.is_empty() {
                part(message.payload());
            }
        } else {
            let payload = json_value::read(message.payload())?;
            for at in &self.config.by {
                match (at.find(&payload).filter(|value| **value != Value::Null), self.config.missing) {
                    (Some(value), _) => part(&value.to_json()),
                    (None, Missing::Pass) => return Ok(None),
                    (None, Missing::Reject) => {
                        let message = "the payload has nothing here that tells messages apart";
                        return Err(Problem::new("no-field", message).at(at.as_str()).into());
                    }
                }
            }
        }
        Ok(Some(format!("dedupe/{}", Bytes::Base64url.encode(&hash.finalize()))))
    }
}

wharf_plugin::export!(Dedupe as router);
