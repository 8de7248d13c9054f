//! What is said between a plugin's tests and its component: a JSON object a line.
//!
//! The plugin SDK's tests speak to `wharf plugin harness FILE.wasm`: a [`Request`] on its standard input, the
//! [`Response`] to it on its standard output. Bytes are base64.
//!
//! ```json
//! {"config":{},"outputs":["eu"],"messages":[{"topic":"orders","headers":[["region","ZXU="]],"payload":"e30="}]}
//! {"ran":{"results":[{"passed":[{"to":"eu","headers":[["region","ZXU="]],"payload":"e30="}]}],
//!         "log":[],"time_us":41,"memory_bytes":1114112,"fuel":2171}}
//! ```

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use wharf_protocol::{HeadersBuilder, Kept, Topic};

use super::place;
use crate::{FailureKind, Fault, Grant, Item, Kind, Level, PrepareError, Problem, Processed, Recall};

/// A batch to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The stage's configuration, an object.
    #[serde(default)]
    pub config: serde_json::Map<String, serde_json::Value>,
    /// The names of the declared outputs.
    #[serde(default)]
    pub outputs: Vec<String>,
    /// The batch; empty to try the configuration alone.
    #[serde(default)]
    pub messages: Vec<Message>,
    /// As what to use a plugin that is several; the first of its kinds where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// What to grant; everything where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<Grant>>,
    /// What is lent, in place of what the request before lent.
    #[serde(default)]
    pub lent: Lent,
    /// The time that the plugin sees, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now_ms: Option<u64>,
    /// How long a call may take, in place of the broker's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// What the pipeline remembers before the batch.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kv: BTreeMap<String, Remembered>,
    /// Whether every instance is forgotten first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub renew: bool,
}

/// What is lent to the plugin by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lent {
    /// Tables: keys and values.
    pub tables: BTreeMap<String, BTreeMap<String, String>>,
    /// Schemas.
    pub schemas: BTreeMap<String, String>,
    /// Secrets.
    pub secrets: BTreeMap<String, String>,
    /// What is there and cannot be read, as it is granted: `lookup:prices`, `schema:order`.
    pub unavailable: Vec<String>,
}

/// A value that the pipeline remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    /// The value, in base64.
    pub base64: String,
    /// When it is there no more, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
}

/// A message to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Where it was published.
    pub topic: String,
    /// The key, in base64.
    #[serde(default)]
    pub key: Option<String>,
    /// The publisher's id.
    #[serde(default)]
    pub message_id: Option<String>,
    /// Where an answer goes.
    #[serde(default)]
    pub reply_to: Option<String>,
    /// Names, and values in base64.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The body, in base64.
    #[serde(default)]
    pub payload: String,
    /// How often it was delivered before.
    #[serde(default)]
    pub attempt: u32,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// The plugin refuses the configuration.
    Refused(Problem),
    /// The request is no request, or does not fit the plugin.
    Error(String),
    /// It ran.
    Ran(Ran),
}

/// A batch that ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// One a message, in order.
    pub results: Vec<Outcome>,
    /// What each message left in what the pipeline remembers, in order; `None` under a key: it removed it. Empty where
    /// none changed anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kv: Vec<BTreeMap<String, Option<Remembered>>>,
    /// The lines that the plugin wrote.
    pub log: Vec<(Level, String)>,
    /// How long the calls took.
    pub time_us: u64,
    /// The most linear memory that an instance had.
    pub memory_bytes: u64,
    /// Instructions, about; exact and the same in each run.
    pub fuel: Option<u64>,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// These go on.
    Passed(Vec<Output>),
    /// Nothing does.
    Dropped,
    /// The plugin rejects it.
    Rejected(Problem),
    /// The plugin asks for it again, not before so many milliseconds.
    Retry(Problem, Option<u64>),
    /// The plugin broke.
    Fault(Problem),
}

/// A message that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The declared output; absent: on to where it was going.
    pub to: Option<String>,
    /// Names, and values in base64.
    pub headers: Vec<(String, String)>,
    /// The body, in base64.
    pub payload: String,
}

/// What a message left in what its pipeline remembers.
pub(super) fn left(recall: &Recall) -> BTreeMap<String, Option<Remembered>> {
    let remembered = |kept: &Kept| Remembered {
        base64: STANDARD.encode(&kept.value),
        expires_ms: kept.expires.map(|expires| expires.0),
    };
    recall.changes.iter().map(|(key, kept)| (key.to_string(), kept.as_ref().map(remembered))).collect()
}

impl Response {
    /// What is said to `messages` messages of a stage that cannot be prepared.
    ///
    /// Of what a plugin imports and its stage does not grant no pipeline is made; a test that grants less on purpose is
    /// told of each message what a plugin is told that asks for it.
    pub(super) fn unprepared(error: PrepareError, messages: usize) -> Self {
        let lacks = match &error {
            PrepareError::NotGranted { need, .. } => Some((need.to_string(), need.example().to_owned())),
            PrepareError::NotGrantedByName { grant, .. } => {
                Some((format!("\"{grant}\""), format!("\"{grant}\"")))
            }
            _ => None,
        };
        match lacks {
            Some((used, grant)) if messages > 0 => {
                let text = format!(
                    "it uses {used}, which its stage does not grant; add {grant} to the stage's grants"
                );
                let fault = Outcome::Fault(Fault::Grant.problem(text));
                Self::Ran(Ran { results: vec![fault; messages], ..Ran::default() })
            }
            _ => error.into(),
        }
    }
}

impl From<PrepareError> for Response {
    fn from(error: PrepareError) -> Self {
        match error {
            PrepareError::Config { problem, .. } | PrepareError::Init { problem, .. } => {
                Self::Refused(problem)
            }
            error => Self::Error(error.to_string()),
        }
    }
}

impl Message {
    pub(super) fn item(&self) -> Result<Item, String> {
        let bytes = |field: &str, text: &str| {
            STANDARD.decode(text).map(Bytes::from).map_err(|error| format!("{field} is not base64: {error}"))
        };
        let topic = |text: &str| text.parse::<Topic>().map_err(|error| error.to_string());
        let mut headers = HeadersBuilder::default();
        for (name, value) in &self.headers {
            headers.set(name, bytes(name, value)?);
        }
        let mut message = wharf_protocol::Message::new(topic(&self.topic)?, bytes("payload", &self.payload)?);
        message.headers = headers.build().map_err(|error| error.to_string())?;
        message.key = self.key.as_deref().map(|key| bytes("key", key)).transpose()?;
        message.message_id = self.message_id.as_deref().map(ByteString::from);
        message.reply_to = self.reply_to.as_deref().map(topic).transpose()?;
        Ok(Item { attempt: self.attempt, ..Item::new(message) })
    }
}

impl Outcome {
    pub(super) fn of(processed: Processed, outputs: &[String]) -> Self {
        let failure = match processed {
            Processed::Passed(made) => {
                return Self::Passed(made.into_iter().map(|output| Output::of(&output, outputs)).collect());
            }
            Processed::Dropped { .. } => return Self::Dropped,
            Processed::Failed(failure) => failure,
        };
        match failure.kind {
            FailureKind::Rejected => Self::Rejected(failure.problem),
            FailureKind::Retry { after } => {
                let after_ms = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
                Self::Retry(failure.problem, after_ms)
            }
            FailureKind::Fault(_) => Self::Fault(failure.problem),
        }
    }
}

impl Output {
    fn of(output: &crate::Output, outputs: &[String]) -> Self {
        let to = output
            .to
            .as_ref()
            .and_then(|target| (0..outputs.len()).find(|i| place(*i) == *target).map(|i| outputs[i].clone()));
        Self::written(to, &output.message)
    }

    /// `message`, which goes to the declared output `to`.
    pub(crate) fn written(to: Option<String>, message: &wharf_protocol::Message) -> Self {
        Self { to, headers: written(&message.headers), payload: STANDARD.encode(&message.payload) }
    }
}

impl From<&Item> for Message {
    fn from(Item { message, attempt, .. }: &Item) -> Self {
        Self {
            topic: message.topic.to_string(),
            key: message.key.as_ref().map(|key| STANDARD.encode(key)),
            message_id: message.message_id.as_ref().map(ToString::to_string),
            reply_to: message.reply_to.as_ref().map(ToString::to_string),
            headers: written(&message.headers),
            payload: STANDARD.encode(&message.payload),
            attempt: *attempt,
        }
    }
}

fn written(headers: &wharf_protocol::Headers) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.to_owned(), STANDARD.encode(value))).collect()
}
