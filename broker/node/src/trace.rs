//! Traces: what became of one message on its way in, stage by stage, kept for a while.
//!
//! A message is traced when its publisher asks for it (the header [`TRACE`]), when it falls in a sample, or, with the
//! failing stage alone, when a pipeline makes it a dead letter. Its account ([`account`]) is written while it travels and
//! ends with its receipt; a thread of its own ([`keeper`]) then lays it in [`shelf`], whose size is bounded: the
//! oldest go. The way of a message never waits for that: a full channel loses the trace, and counts it. What becomes of
//! the message after that ([`sequel`]) is added to its trace, up to a bound.
//!
//! A trace's id is that of the W3C trace context in the message's headers ([`context`]), where there is one, so that
//! several messages may be one trace. Nothing of a message or of what a stage is given is changed by tracing it.

mod account;
mod context;
mod given;
mod keeper;
mod rerun;
mod sequel;
mod shelf;
mod wishes;

use serde::{Deserialize, Serialize};
use wharf_pipeline::{Circumstances, Snapshot, Step};
use wharf_protocol::{MessageId, Name, Timestamp};

pub(crate) use account::{Account, Accounts, name_of};
pub use context::{ParseTraceIdError, SpanId, TraceId};
pub use given::{GIVEN_BYTES_MAX, Given};
pub use keeper::TraceFeed;
pub(crate) use keeper::Tracing;
pub use rerun::{Again, PassAgain, Rerun, RerunOptions, RunDifference};
pub(crate) use sequel::{Followed, Later};
pub use sequel::{SEQUELS_MAX, Sequel, SequelKind};
pub(crate) use wishes::Wishes;

/// The header by which a publisher asks for a trace. Its value is the trace's id, 32 hexadecimal digits, or anything
/// else: then the broker chooses one.
pub use wharf_protocol::TRACE;

/// The largest trace that is kept, encoded: a larger one loses the ends of its payloads, and then its last steps.
pub const TRACE_BYTES_MAX: usize = 256 * 1024;

/// Which messages are traced without being asked, and how much is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceConfig {
    /// The share of all messages that is traced, 0 to 1; a pipeline may name a share of its own.
    pub sample: f64,
    /// Whether a message is traced whose `traceparent` says that its trace is sampled.
    pub follow_sampled: bool,
    /// How many traces begin in a second at most, asked for or not.
    pub per_second: u32,
    /// How many traces are kept.
    pub traces_max: usize,
    /// How many bytes of traces are kept.
    pub bytes_max: u64,
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self {
            sample: 0.0,
            follow_sampled: false,
            per_second: 100,
            traces_max: 10_000,
            bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// What became of one publication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// By which it is found; several messages may share it.
    pub id: TraceId,
    /// The span of the publish in it.
    pub span: SpanId,
    /// The span that the publisher named.
    pub parent: Option<SpanId>,
    /// The publisher's `tracestate`, as it came.
    pub state: Option<String>,
    /// Why it was traced.
    pub why: Why,
    /// When the broker took it.
    pub at: Timestamp,
    /// Who published it.
    pub by: String,
    /// What came.
    pub given: Snapshot,
    /// The pipelines that it passed, in order.
    pub passes: Vec<Pass>,
    /// What became of it.
    pub verdict: TraceVerdict,
    /// The ids under which it is stored.
    pub messages: Vec<MessageId>,
    /// Where it went.
    pub landings: Vec<Landing>,
    /// The stage that decided, as `pipeline/stage`, when it was refused or dead-lettered.
    pub stage: Option<String>,
    /// Why, in that case.
    pub reason: Option<String>,
    /// From its coming until its publisher was told, in microseconds.
    pub took_us: u64,
    /// It was too large to be kept whole.
    pub cut: bool,
    /// What became of its messages after its publisher was told, in order; at most [`SEQUELS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sequels: Vec<Sequel>,
    /// How much more became of them that is not told.
    #[serde(default)]
    pub sequels_left_out: u64,
}

/// Why a message was traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Its publisher asked for it.
    Asked,
    /// It fell in a sample.
    Sampled,
    /// A pipeline made it a dead letter: only the failing stage's step is there.
    DeadLetter,
}

/// One pipeline that a message passed, at one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// The pipeline.
    pub pipeline: Name,
    /// The number of the version; 0: it was removed meanwhile.
    pub number: u32,
    /// The queue on whose binding it is; `None`: at ingress, or on the way out.
    pub on_way_to: Option<Name>,
    /// The queue or stream on whose way to a consumer it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_way_from: Option<Name>,
    /// When it began, in microseconds after the message came.
    pub begun_us: u64,
    /// The time that its plugins saw.
    pub now: Timestamp,
    /// What each stage was given, said and changed.
    pub steps: Vec<Step>,
    /// The message that came to it, whole; `None`: it was too large to be kept, or the message was not traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<Given>,
    /// What the run hung on beside the message: with both, it is had again ([`Node::rerun`](crate::Node::rerun)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circumstances: Option<Circumstances>,
}

/// What became of a traced message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceVerdict {
    /// Stored in every queue it was meant for.
    Stored,
    /// Stored before, under the same sequence or id.
    Duplicate,
    /// A stage dropped it on purpose.
    Dropped,
    /// Nothing is bound to its topic.
    Unrouted,
    /// In at least one queue's dead letters.
    DeadLettered,
    /// Its publisher was told no.
    Rejected,
}

/// A queue or stream in which a traced message was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landing {
    /// Which; of a dead letter, the queue on whose way it died.
    pub queue: Name,
    /// Which of the messages that it became, from 0.
    pub entry: u16,
    /// As a dead letter.
    pub dead: bool,
}

/// A trace in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSummary {
    /// By which it is found.
    pub id: TraceId,
    /// Its place among those that are kept: what a next page begins after.
    pub place: u128,
    /// When.
    pub at: Timestamp,
    /// Where it was published.
    pub topic: String,
    /// The pipelines that it passed, as `name/number`.
    pub pipelines: Vec<String>,
    /// What became of it.
    pub verdict: TraceVerdict,
    /// The ids under which it is stored.
    pub messages: Vec<MessageId>,
    /// The stage that decided, when it was refused or dead-lettered.
    pub stage: Option<String>,
    /// Why, in that case.
    pub reason: Option<String>,
    /// From its coming until its publisher was told, in microseconds.
    pub took_us: u64,
}

/// Which traces are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceFilter {
    /// Only those that passed this pipeline.
    pub pipeline: Option<Name>,
    /// Only those that ended so.
    pub verdict: Option<TraceVerdict>,
    /// Only those from then on.
    pub since: Option<Timestamp>,
    /// Only those before then.
    pub until: Option<Timestamp>,
    /// Only those after the [`TraceSummary::place`] of an earlier page: older ones.
    pub after: Option<u128>,
}

/// By what a trace is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceKey {
    /// The trace's id.
    Trace(TraceId),
    /// The id of a stored message.
    Message(MessageId),
}

/// How many traces were kept and lost since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceCounts {
    /// Laid on the shelf.
    pub kept: u64,
    /// Begun and lost: the keeper or a feed was behind.
    pub lost: u64,
    /// Asked for and not begun: over the bound of a second.
    pub refused: u64,
}

impl Trace {
    pub(crate) fn summary(&self, place: u128) -> TraceSummary {
        TraceSummary {
            id: self.id,
            place,
            at: self.at,
            topic: self.given.topic.clone(),
            pipelines: self.passes.iter().map(|pass| format!("{}/{}", pass.pipeline, pass.number)).collect(),
            verdict: self.verdict,
            messages: self.messages.clone(),
            stage: self.stage.clone(),
            reason: self.reason.clone(),
            took_us: self.took_us,
        }
    }
}

impl std::str::FromStr for TraceKey {
    type Err = ParseTraceIdError;

    /// A trace id, or the id of a message.
    fn from_str(text: &str) -> Result<Self, ParseTraceIdError> {
        match text.parse() {
            Ok(message) => Ok(Self::Message(message)),
            Err(_) => text.parse().map(Self::Trace),
        }
    }
}
