//! What is declared rather than delivered: queues, bindings, plugins, pipelines and their histories, schedules, what
//! is lent to plugins.
//!
//! Readers hold an `Arc` of it. A change makes the next one and leaves theirs as it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharf_protocol::{Name, Pattern, Timestamp, Topic};

use crate::bindings::Matcher;
use crate::{Deduplication, QueueId, QueuePolicy};

mod change;
mod lent;
mod owner;
mod pipeline;
mod schedule;
mod stream;

pub use lent::{LENT_MAX, Lent, LentKind};
pub(crate) use owner::Ownership;
pub use pipeline::{
    CanaryBounds, Pipeline, PipelineEvent, PipelineEventKind, PipelineVersion, SHARE_WHOLE_PPM, Trial,
    TrialKind,
};
pub use stream::StreamInfo;

pub use schedule::{SCHEDULED_MESSAGE_BYTES_MAX, SCHEDULES_MAX, Schedule};

/// All that is declared, as of one record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The index of the record that changed it last.
    revision: u64,
    /// The number that the next queue gets.
    next_queue: u32,
    queues: BTreeMap<Name, QueueInfo>,
    /// In order of pattern, then queue; no two with both the same.
    bindings: Vec<Binding>,
    /// By name, then version.
    plugins: BTreeMap<Name, BTreeMap<Name, Plugin>>,
    pipelines: BTreeMap<Name, Pipeline>,
    schedules: BTreeMap<Name, Schedule>,
    #[serde(default)]
    deduplication: Deduplication,
    streams: BTreeMap<Name, StreamInfo>,
    /// Left out while there is nothing, as it was before there could be: so keep it last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    lent: lent::Shelves,
    /// Who made what. In a snapshot it has a section of its own, which is left out while there is nothing.
    #[serde(skip)]
    pub(crate) ownership: Ownership,
    /// Finds bindings by topic; follows from `bindings`.
    #[serde(skip)]
    matcher: Matcher,
}

/// One declared queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueInfo {
    /// Its number.
    pub id: QueueId,
    /// How it treats its messages.
    pub policy: QueuePolicy,
}

/// Topics, and the queue that their messages go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Which topics.
    pub pattern: Pattern,
    /// The queue's name, or the stream's.
    pub queue: Name,
    /// The queue's number, or the stream's.
    pub queue_id: QueueId,
    /// The pipeline that messages pass on this way.
    pub pipeline: Option<Name>,
}

/// One registered version of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugin {
    /// The SHA-256 of the component.
    pub digest: [u8; 32],
    /// The component's size.
    pub bytes: u64,
    /// The kinds it exports.
    pub kinds: Vec<String>,
    /// One line for listings.
    pub summary: String,
    /// Who registered it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

impl Topology {
    /// The index of the record that changed it last; 0 before any.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The queue `name`.
    pub fn queue(&self, name: &str) -> Option<&QueueInfo> {
        self.queues.get(name)
    }

    /// All queues, by name.
    pub fn queues(&self) -> impl ExactSizeIterator<Item = (&Name, &QueueInfo)> {
        self.queues.iter()
    }

    /// All bindings, by pattern, then queue.
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// One version of a plugin.
    pub fn plugin(&self, name: &str, version: &str) -> Option<&Plugin> {
        self.plugins.get(name)?.get(version)
    }

    /// All versions of all plugins, by name, then version.
    pub fn plugins(&self) -> impl Iterator<Item = (&Name, &Name, &Plugin)> {
        self.plugins.iter().flat_map(|(name, versions)| versions.iter().map(move |(v, p)| (name, v, p)))
    }

    /// The pipeline `name`.
    pub fn pipeline(&self, name: &str) -> Option<&Pipeline> {
        self.pipelines.get(name)
    }

    /// All pipelines, by name.
    pub fn pipelines(&self) -> impl ExactSizeIterator<Item = (&Name, &Pipeline)> {
        self.pipelines.iter()
    }

    /// How long message ids are remembered, and how many.
    pub fn deduplication(&self) -> &Deduplication {
        &self.deduplication
    }

    /// The bindings whose pattern matches `topic`, by pattern, then queue. Where several would bring the
    /// message to one queue in one way (the same pipeline or none), the first stands for all: it is
    /// stored there once. What comes out for a topic holds for a [`revision`](Self::revision).
    pub fn resolve(&self, topic: &Topic) -> Vec<&Binding> {
        self.matcher.resolve(&self.bindings, topic)
    }

    /// The pipelines that messages of `topic` pass on their way in, by name.
    pub fn ingress(&self, topic: &Topic) -> impl Iterator<Item = (&Name, &Pipeline)> {
        self.pipelines.iter().filter(|(_, pipeline)| {
            pipeline.active_version().ingress.as_ref().is_some_and(|pattern| pattern.matches(topic))
        })
    }

    /// The pipelines that deliveries of the queue or stream `backlog` pass on their way out, by name.
    pub fn delivery(&self, backlog: &str) -> impl Iterator<Item = (&Name, &Pipeline)> {
        self.pipelines.iter().filter(move |(_, pipeline)| {
            pipeline.active_version().delivery.iter().any(|pattern| pattern.matches_text(backlog))
        })
    }
}
