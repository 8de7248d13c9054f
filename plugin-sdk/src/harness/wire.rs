//! What is said between a plugin's tests and `wharf plugin harness FILE.wasm`: a JSON object a line, a [`Request`] on
//! standard input and its [`Response`] on standard output. Bytes are base64.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A batch to run. The instance is made anew when the stage or its configuration changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The stage's configuration.
    pub config: Value,
    /// The names of the declared outputs.
    pub outputs: Vec<String>,
    /// The batch; empty to try the configuration alone.
    pub messages: Vec<Message>,
}

/// A message to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Where it was published.
    pub topic: String,
    /// The key, in base64.
    pub key: Option<String>,
    /// The publisher's id.
    pub message_id: Option<String>,
    /// Where an answer goes.
    pub reply_to: Option<String>,
    /// Names, and values in base64.
    pub headers: Vec<(String, String)>,
    /// The body, in base64.
    pub payload: String,
    /// How often it was delivered before.
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
    pub path: Option<String>,
}
