//! What each stage was given, said and changed.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharf_protocol::Name;

use crate::{Kind, PluginRef, Problem, Processed};

/// How many bytes of a payload or header value a trace shows.
pub const EXCERPT_BYTES_MAX: usize = 4096;

/// A run with its account.
#[derive(Clone, Debug)]
pub struct Traced {
    /// What came of it.
    pub processed: Processed,
    /// One step a message a stage, in order.
    pub steps: Vec<Step>,
}

/// One message at one stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The stage.
    pub stage: Name,
    /// Its plugin, as the pipeline names it.
    pub plugin: PluginRef,
    /// The SHA-256 of the plugin, in hexadecimal.
    pub digest: String,
    /// As what it is used.
    pub kind: Kind,
    /// What the stage was given.
    pub given: Snapshot,
    /// What it said.
    pub verdict: Verdict,
    /// Why, when it refused the message or broke on it.
    pub problem: Option<Problem>,
    /// What came out of it.
    pub outputs: Vec<Change>,
    /// What it wrote to its log.
    pub log: Vec<LogLine>,
    /// Log lines over the limit, which were dropped.
    pub log_lines_dropped: u64,
    /// How long the call took, in microseconds.
    pub took_us: u64,
    /// The most memory that the instance has had, in bytes.
    pub memory_peak_bytes: usize,
    /// Fuel used, where the engine counts it.
    pub fuel: Option<u64>,
}

/// What a stage said of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// On, as it was.
    Passed,
    /// On, changed.
    Changed,
    /// To declared outputs.
    Routed,
    /// Nowhere, on purpose.
    Dropped,
    /// Refused.
    Rejected,
    /// Again later.
    Retry,
    /// The plugin broke.
    Fault,
    /// It failed, and the stage's policy lets it pass.
    Bypassed,
}

/// A message, cut to what a person reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its topic.
    pub topic: String,
    /// Its headers.
    pub headers: BTreeMap<String, Excerpt>,
    /// Its payload.
    pub payload: Excerpt,
}

/// How one output differs from what the stage was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Where a stage sent it, as `topic:…` or `queue:…`.
    pub to: Option<String>,
    /// Headers that are new or have a new value.
    pub headers_set: BTreeMap<String, Excerpt>,
    /// Headers that are gone.
    pub headers_removed: Vec<String>,
    /// The payload, when it is another.
    pub payload: Option<Excerpt>,
}

/// The beginning of some bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// How many bytes there are in all.
    pub bytes: usize,
    /// The first [`EXCERPT_BYTES_MAX`] of them: text where they are UTF-8, else hexadecimal.
    #[serde(flatten)]
    pub shown: Shown,
}

/// The two ways to show bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    /// UTF-8.
    Text(String),
    /// Not UTF-8, in hexadecimal.
    Hex(String),
}

/// A line that a plugin wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// How serious.
    pub level: Level,
    /// The text; control characters are escaped.
    pub text: String,
}

/// How serious a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// For the plugin's author.
    Debug,
    /// Worth knowing.
    Info,
    /// Worth looking at.
    Warn,
    /// Worth acting on.
    Error,
}
