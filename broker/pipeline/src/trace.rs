//! What each stage was given, said and changed: for trying a pipeline, and for the people who read it.

use std::collections::BTreeMap;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wharf_protocol::{Headers, Message, Name};

use crate::host::Unit;
use crate::instance::Report;
use crate::stage::Stage;
use crate::{Circumstances, Failure, FailureKind, Kind, PluginRef, Problem, Processed, Target};

/// How many bytes of a payload or header value a trace shows.
pub const EXCERPT_BYTES_MAX: usize = 4096;

/// A run with its account.
#[derive(Clone, Debug)]
pub struct Traced {
    /// What came of it.
    pub processed: Processed,
    /// One step a message a stage, in order.
    pub steps: Vec<Step>,
    /// What it hung on: for [`Pipeline::run_again`](crate::Pipeline::run_again).
    pub circumstances: Circumstances,
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
    /// Fuel used: only where it is counted, as a rerun does; messages under way are not metered.
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
    /// The SHA-256 of the whole message as it is encoded, and of where it goes, in hexadecimal: by it, two runs made
    /// the same bytes. Older accounts have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
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

impl Step {
    pub(crate) fn new(
        stage: &Stage,
        given: &Unit,
        verdict: Verdict,
        problem: Option<Problem>,
        outputs: &[Unit],
        report: Report,
    ) -> Self {
        let given = &given.item.message;
        Self {
            stage: stage.name.clone(),
            plugin: stage.plugin_ref.clone(),
            digest: stage.plugin.digest().to_owned(),
            kind: stage.kind,
            given: Snapshot::of(given),
            verdict,
            problem,
            outputs: outputs.iter().map(|unit| Change::between(given, unit)).collect(),
            log: report.written.lines,
            log_lines_dropped: report.written.dropped,
            took_us: u64::try_from(report.took.as_micros()).unwrap_or(u64::MAX),
            memory_peak_bytes: report.memory_peak_bytes,
            fuel: report.fuel,
        }
    }

    /// The step on which a message failed that nobody traced.
    pub(crate) fn failed(stage: &Stage, given: &Unit, failure: &Failure) -> Self {
        let verdict = match failure.kind {
            FailureKind::Rejected => Verdict::Rejected,
            FailureKind::Retry { .. } => Verdict::Retry,
            FailureKind::Fault(_) => Verdict::Fault,
        };
        Self::new(stage, given, verdict, Some(failure.problem.clone()), &[], Report::default())
    }

    /// Leaves at most so many bytes of each payload and header.
    pub fn cut_to(&mut self, bytes: usize) {
        self.given.cut_to(bytes);
        for change in &mut self.outputs {
            change.headers_set.values_mut().chain(&mut change.payload).for_each(|each| each.cut_to(bytes));
        }
    }

    /// Adds what the call took and wrote.
    pub(crate) fn note(&mut self, report: &Report) {
        self.log.clone_from(&report.written.lines);
        self.log_lines_dropped = report.written.dropped;
        self.took_us = u64::try_from(report.took.as_micros()).unwrap_or(u64::MAX);
        self.memory_peak_bytes = report.memory_peak_bytes;
        self.fuel = report.fuel;
    }
}

impl Verdict {
    /// Its word, as it is serialised.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Changed => "changed",
            Self::Routed => "routed",
            Self::Dropped => "dropped",
            Self::Rejected => "rejected",
            Self::Retry => "retry",
            Self::Fault => "fault",
            Self::Bypassed => "bypassed",
        }
    }
}

impl Snapshot {
    /// What of `message` a trace shows.
    pub fn of(message: &Message) -> Self {
        Self {
            topic: message.topic.to_string(),
            headers: excerpts(message.headers.iter()),
            payload: Excerpt::of(&message.payload),
        }
    }

    /// Leaves at most so many bytes of the payload and each header.
    pub fn cut_to(&mut self, bytes: usize) {
        self.headers.values_mut().chain([&mut self.payload]).for_each(|each| each.cut_to(bytes));
    }
}

impl Change {
    fn between(given: &Message, unit: &Unit) -> Self {
        let made = &unit.item.message;
        let differs = |(name, value): &(&str, &[u8])| given.headers.get(name) != Some(value);
        let gone = |headers: &Headers, name: &str| headers.get(name).is_none();
        Self {
            to: unit.to.as_ref().map(Target::to_string),
            headers_set: excerpts(made.headers.iter().filter(differs)),
            headers_removed: given
                .headers
                .iter()
                .map(|(name, _)| name)
                .filter(|name| gone(&made.headers, name))
                .map(str::to_owned)
                .collect(),
            payload: (made.payload != given.payload).then(|| Excerpt::of(&made.payload)),
            sha256: Some(digest(made, unit.to.as_ref())),
        }
    }
}

fn digest(message: &Message, to: Option<&Target>) -> String {
    let mut encoded = BytesMut::with_capacity(message.encoded_bytes());
    message.encode(&mut encoded);
    let mut hasher = Sha256::new_with_prefix(&encoded);
    hasher.update(to.map_or_else(String::new, Target::to_string));
    hex::encode(hasher.finalize())
}

impl Excerpt {
    /// The beginning of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let beginning = &bytes[..bytes.len().min(EXCERPT_BYTES_MAX)];
        let shown = match std::str::from_utf8(beginning) {
            Ok(text) => Shown::Text(text.to_owned()),
            // Cut within a character, as the end of a longer text may be.
            Err(error) if error.error_len().is_none() && beginning.len() < bytes.len() => {
                Shown::Text(String::from_utf8_lossy(&beginning[..error.valid_up_to()]).into_owned())
            }
            Err(_) => Shown::Hex(hex::encode(beginning)),
        };
        Self { bytes: bytes.len(), shown }
    }

    /// Leaves at most so many bytes.
    pub fn cut_to(&mut self, bytes: usize) {
        match &mut self.shown {
            Shown::Text(text) => text.truncate(text.floor_char_boundary(bytes)),
            Shown::Hex(hex) => hex.truncate(2 * bytes),
        }
    }
}

fn excerpts<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> BTreeMap<String, Excerpt> {
    headers.map(|(name, value)| (name.to_owned(), Excerpt::of(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_s_word_is_how_it_is_serialised() {
        for word in ["passed", "changed", "routed", "dropped", "rejected", "retry", "fault", "bypassed"] {
            let verdict: Verdict = serde_json::from_value(word.into()).expect("a verdict");
            assert_eq!(verdict.as_str(), word);
        }
    }

    #[test]
    fn an_excerpt_is_text_where_it_can_be() {
        assert_eq!(Excerpt::of(b"abc").shown, Shown::Text("abc".to_owned()));
        assert_eq!(Excerpt::of(&[0xff, 0]).shown, Shown::Hex("ff00".to_owned()));
        let long = "é".repeat(EXCERPT_BYTES_MAX);
        let cut = Excerpt::of(&long.as_bytes()[1..]);
        assert!(matches!(cut.shown, Shown::Hex(_)), "it does not begin with a character");
        let cut = Excerpt::of(format!("a{long}").as_bytes());
        assert!(matches!(&cut.shown, Shown::Text(text) if text.len() == EXCERPT_BYTES_MAX - 1));
        assert_eq!(cut.bytes, 2 * EXCERPT_BYTES_MAX + 1);
    }
}
