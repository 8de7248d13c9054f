//! What a stage of a pipeline did with a message, and the way through all of them, as `try` tells it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wharf_node::TryReport;

/// A message's way through a pipeline. Nothing was stored or delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Trace {
    /// The pipeline.
    pub pipeline: String,
    /// The version that ran.
    pub version: u32,
    /// One step for each message at each stage, in order.
    pub steps: Vec<Step>,
    /// What came of it: `passed`, `dropped` or `failed`.
    pub result: String,
    /// Where each resulting message would have been stored.
    pub destinations: Vec<Destination>,
}

/// A message that would go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Destination {
    /// Its topic.
    pub topic: String,
    /// Queues that would store it; none when nothing is bound.
    pub queues: Vec<String>,
    /// Queues whose binding has a pipeline of its own, which comes next and may refuse it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub through: Vec<Through>,
}

/// A queue behind another pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DestinationThrough)]
pub struct Through {
    /// The queue.
    pub queue: String,
    /// The pipeline of its binding.
    pub pipeline: String,
}

/// One message at one stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// The stage.
    pub stage: String,
    /// Its plugin, as the pipeline names it.
    pub plugin: String,
    /// The SHA-256 of the plugin.
    pub digest: String,
    /// As what it is used: `validator`, `router`, `transformer`, `enricher`.
    pub kind: String,
    /// What the stage was given.
    pub given: Snapshot,
    /// What it said: `passed`, `changed`, `routed`, `dropped`, `rejected`, `retry`, `fault` or `bypassed`.
    pub verdict: String,
    /// Why, when it refused the message or broke on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<StageProblem>,
    /// What came out of it.
    pub outputs: Vec<OutputChange>,
    /// What it wrote to its log.
    pub log: Vec<LogLine>,
    /// Log lines over the limit, which were dropped.
    pub log_lines_dropped: u64,
    /// How long the call took, in microseconds.
    pub took_us: u64,
    /// The most memory that the instance has had.
    pub memory_peak_bytes: u64,
    /// Fuel used: only where it is counted, as a rerun does; messages under way are not metered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
}

/// What is wrong with a message, in a plugin's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StageProblem {
    /// A short constant.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// Where in the payload or configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A message, cut to what a person reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Its topic.
    pub topic: String,
    /// Its headers.
    pub headers: BTreeMap<String, Excerpt>,
    /// Its payload.
    pub payload: Excerpt,
}

/// How an output differs from what the stage was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutputChange {
    /// Where the stage sent it, as `topic:…` or `queue:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Headers that are new or have a new value.
    pub headers_set: BTreeMap<String, Excerpt>,
    /// Headers that are gone.
    pub headers_removed: Vec<String>,
    /// The payload, when it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Excerpt>,
    /// The SHA-256 of the whole message and of where it goes, in hexadecimal: what a rerun is held against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// The beginning of some bytes: `text` where they are UTF-8, else `hex`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Excerpt {
    /// How many bytes there are in all.
    pub bytes: u64,
    /// The first of them as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The first of them in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
}

/// A line that a plugin wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// The text; control characters are escaped.
    pub text: String,
}

impl From<TryReport> for Trace {
    fn from(report: TryReport) -> Self {
        let destinations = report.destinations.into_iter().map(|destination| Destination {
            topic: destination.topic,
            queues: destination.queues.iter().map(ToString::to_string).collect(),
            through: destination
                .through
                .into_iter()
                .map(|(queue, pipeline)| Through { queue: queue.to_string(), pipeline: pipeline.to_string() })
                .collect(),
        });
        Self {
            pipeline: report.pipeline.to_string(),
            version: report.number,
            steps: report.steps.into_iter().map(Step::from).collect(),
            result: word(&report.result),
            destinations: destinations.collect(),
        }
    }
}

impl From<wharf_node::Step> for Step {
    fn from(step: wharf_node::Step) -> Self {
        let problem = step.problem.map(|problem| StageProblem {
            code: problem.code,
            message: problem.message,
            path: problem.path,
        });
        let outputs = step.outputs.into_iter().map(|change| OutputChange {
            to: change.to,
            headers_set: excerpts(change.headers_set),
            headers_removed: change.headers_removed,
            payload: change.payload.map(Excerpt::from),
            sha256: change.sha256,
        });
        let log = step.log.into_iter().map(|line| LogLine { level: word(&line.level), text: line.text });
        Self {
            stage: step.stage.to_string(),
            plugin: step.plugin.to_string(),
            digest: step.digest,
            kind: step.kind.to_string(),
            given: Snapshot {
                topic: step.given.topic,
                headers: excerpts(step.given.headers),
                payload: step.given.payload.into(),
            },
            fuel: step.fuel,
            verdict: word(&step.verdict),
            problem,
            outputs: outputs.collect(),
            log: log.collect(),
            log_lines_dropped: step.log_lines_dropped,
            took_us: step.took_us,
            memory_peak_bytes: step.memory_peak_bytes as u64,
        }
    }
}

impl From<wharf_node::Excerpt> for Excerpt {
    fn from(excerpt: wharf_node::Excerpt) -> Self {
        let (text, hex) = match excerpt.shown {
            wharf_node::Shown::Text(text) => (Some(text), None),
            wharf_node::Shown::Hex(hex) => (None, Some(hex)),
        };
        Self { bytes: excerpt.bytes as u64, text, hex }
    }
}

pub(crate) fn excerpts(headers: BTreeMap<String, wharf_node::Excerpt>) -> BTreeMap<String, Excerpt> {
    headers.into_iter().map(|(name, value)| (name, value.into())).collect()
}

/// The word by which a value without fields is serialised.
pub(crate) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
