//! What a publish stores: its messages, and where each goes.

use wharf_protocol::{Death, Message, Session};

use super::QueueId;
use crate::KvPart;

/// What one published message became: stored as a whole, or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// Whose run it belongs to; a sequence already seen is a duplicate.
    pub session: Option<Session>,
    /// A hash of topic and message id; the same one within the window is a duplicate.
    pub dedup: Option<u128>,
    /// [`Topology::revision`](crate::Topology::revision) by which it was routed and processed.
    pub topology: u64,
    /// It is refused when none of its queues has a consumer: a request that nobody would answer.
    pub needs_consumer: bool,
    /// What its pipelines read and changed of what they remember.
    pub kv: Option<Box<KvPart>>,
    /// The messages it became; at most 65,535. None: nothing is bound to its topic.
    pub entries: Vec<Entry>,
}

impl Publish {
    /// The message under number `entry`.
    pub(crate) fn message(&self, entry: u16) -> Option<&Message> {
        self.entries.get(usize::from(entry)).map(|entry| &entry.message)
    }

    /// The bytes of all its payloads.
    pub fn payload_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.message.payload.len()).sum()
    }
}

impl From<Entry> for Publish {
    fn from(entry: Entry) -> Self {
        Self { entries: vec![entry], ..Self::default() }
    }
}

/// One message, stored once, and all the queues it goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The message as it is stored.
    pub message: Message,
    /// Where it goes; at most 65,535. A queue that is gone by now is passed over.
    pub destinations: Vec<Destination>,
}

/// One way for a message to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The queue.
    pub queue: QueueId,
    /// Given up on its way there: it goes to that queue's dead-letter queue instead, in the same record.
    /// `queue`, `original`, `attempts` and both times are filled in when it is applied.
    pub death: Option<Box<Death>>,
}

impl From<QueueId> for Destination {
    fn from(queue: QueueId) -> Self {
        Self { queue, death: None }
    }
}
