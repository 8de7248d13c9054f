//! What is said between a plugin's tests and `wharf plugin harness FILE.wasm`: a JSON object a line, a [`Request`] on
//! standard input and its [`Response`] on standard output. Bytes are base64.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::harness::outcome::{self, Emitted};
use crate::harness::{Changes, Input, Memory, Setup};

/// A batch to run. The instance is made anew when the stage or its configuration changes.
///
/// ```
/// use wharf_plugin::harness::wire::Request;
///
/// let line = r#"{"config": {}, "outputs": [], "messages": [{"topic": "orders.new", "payload": "e30="}]}"#;
/// let request: Request = serde_json::from_str(line)?;
/// assert_eq!((request.messages.len(), request.grants), (1, None));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The stage's configuration.
    pub config: Map<String, Value>,
    /// The names of the declared outputs.
    pub outputs: Vec<String>,
    /// The batch; empty to try the configuration alone.
    pub messages: Vec<Message>,
    /// As what to use a plugin that is several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What to grant; everything where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<String>>,
    /// What is lent.
    #[serde(default)]
    pub lent: Lent,
    /// How long a call may take, in place of the broker's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// The time that the plugin sees, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now_ms: Option<u64>,
    /// What the pipeline's `kv` holds before the batch.
    #[serde(default, skip_serializing_if = "Memory::is_empty")]
    pub kv: Memory,
    /// Whether every instance is forgotten first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub renew: bool,
}

/// What is lent to the plugin by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lent {
    /// Tables: keys and values.
    pub tables: BTreeMap<String, BTreeMap<String, String>>,
    /// Schemas.
    pub schemas: BTreeMap<String, String>,
    /// Secrets.
    pub secrets: BTreeMap<String, String>,
    /// What cannot be read, as it is granted: `lookup:prices`.
    pub unavailable: Vec<String>,
}

/// A message to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// The plugin refuses the configuration.
    Refused(Problem),
    /// The component is no plugin, or the request no request.
    Error(String),
    /// It ran.
    Ran(Ran),
}

/// A batch that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// One a message, in order.
    pub results: Vec<Result>,
    /// What each message left in `kv`, in order; empty where none changed anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kv: Vec<Changes>,
    /// The lines that the plugin wrote: level (`debug`, `info`, `warn`, `error`) and text.
    pub log: Vec<(String, String)>,
    /// How long the call took.
    pub time_us: u64,
    /// The most linear memory that the instance had.
    pub memory_bytes: u64,
    /// Instructions, about.
    pub fuel: Option<u64>,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Result {
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The declared output; absent: on to where it was going.
    pub to: Option<String>,
    /// Names, and values in base64.
    pub headers: Vec<(String, String)>,
    /// The body, in base64.
    pub payload: String,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A short constant.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl Request {
    /// No messages, at the stage that `setup` describes.
    pub fn at(setup: &Setup) -> Self {
        Self::new(setup, &[])
    }

    /// `inputs` at the stage that `setup` describes.
    pub(crate) fn new(setup: &Setup, inputs: &[Input]) -> Self {
        let grants = Some(setup.granted());
        let Setup {
            config,
            outputs,
            kind,
            tables,
            schemas,
            secrets,
            unavailable,
            kv,
            deadline_ms,
            now_ms,
            ..
        } = setup.clone();
        let messages = inputs.iter().map(Message::from).collect();
        let lent = Lent { tables, schemas, secrets, unavailable };
        Self { config, outputs, messages, kind, grants, lent, deadline_ms, now_ms, kv, renew: false }
    }
}

impl From<&Input> for Message {
    fn from(input: &Input) -> Self {
        Self {
            topic: input.topic.clone(),
            key: input.key.as_deref().map(to_base64),
            message_id: input.message_id.clone(),
            reply_to: input.reply_to.clone(),
            headers: input.headers.iter().map(|(name, value)| (name.clone(), to_base64(value))).collect(),
            payload: to_base64(&input.payload),
            attempt: input.attempt,
        }
    }
}

impl TryFrom<&Message> for Input {
    type Error = String;

    fn try_from(message: &Message) -> std::result::Result<Self, String> {
        Ok(Self {
            topic: message.topic.clone(),
            key: message.key.as_deref().map(from_base64).transpose()?,
            message_id: message.message_id.clone(),
            reply_to: message.reply_to.clone(),
            headers: decoded(&message.headers)?,
            payload: from_base64(&message.payload)?,
            attempt: message.attempt,
        })
    }
}

impl TryFrom<Result> for outcome::Result {
    type Error = String;

    fn try_from(result: Result) -> std::result::Result<Self, String> {
        Ok(match result {
            Result::Passed(outputs) => {
                let outputs = outputs.into_iter().map(Emitted::try_from);
                Self::Passed(outputs.collect::<std::result::Result<_, _>>()?)
            }
            Result::Dropped => Self::Dropped,
            Result::Rejected(problem) => Self::Rejected(problem.into()),
            Result::Retry(problem, after) => {
                Self::Retry(problem.into(), after.map(std::time::Duration::from_millis))
            }
            Result::Fault(problem) => Self::Fault(problem.into()),
        })
    }
}

impl TryFrom<Output> for Emitted {
    type Error = String;

    fn try_from(output: Output) -> std::result::Result<Self, String> {
        Ok(Self { headers: decoded(&output.headers)?, payload: from_base64(&output.payload)?, to: output.to })
    }
}

impl From<Problem> for crate::Problem {
    fn from(problem: Problem) -> Self {
        Self { code: problem.code.into(), message: problem.message, path: problem.path }
    }
}

fn decoded(headers: &[(String, String)]) -> std::result::Result<Vec<(String, Vec<u8>)>, String> {
    headers.iter().map(|(name, value)| Ok((name.clone(), from_base64(value)?))).collect()
}

pub(crate) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(crate) fn from_base64(text: &str) -> std::result::Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| format!("{text:?} is not base64: {error}"))
}
