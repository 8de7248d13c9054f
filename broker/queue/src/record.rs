//! What is written to the log: every change of the state, with all that is needed to make it again.

use std::fmt;

use serde::{Deserialize, Serialize};
use wharf_protocol::{DeathCause, Message, MessageId, Name, ProducerId, Settlement, Timestamp};

use crate::{KvChange, Transaction};

mod change;
mod publish;
mod stream;
mod transfer;

pub use change::Change;
pub use publish::{Destination, Entry, Publish};
pub use stream::{Commit, Failed, JoinGroup, Passed, ResetGroup};
pub use transfer::{MOVED_MAX, Move, Redrive, Selection};
pub use wharf_protocol::Start;

/// A record and the moment it is about. A log's stamps never go back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// When the log's owner took it: the only time that the state knows.
    pub at: Timestamp,
    /// What happened.
    pub record: Record,
}

/// One change of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Messages come in.
    Publish(Publish),
    /// A consumer says what became of deliveries.
    Settle {
        /// Who.
        consumer: ConsumerId,
        /// Which deliveries, and what became of them.
        settlements: Vec<Settlement>,
    },
    /// A consumer comes.
    Attach(Attach),
    /// A consumer can take more.
    Credit {
        /// Who.
        consumer: ConsumerId,
        /// How many messages more.
        add: u32,
        /// How many bytes of messages more; nothing to a consumer whose bytes are unbounded.
        bytes: u64,
    },
    /// A consumer leaves; what it holds goes back.
    Detach {
        /// Who.
        consumer: ConsumerId,
    },
    /// Time passes.
    Tick,
    /// The broker started again: all consumers are gone, and what they held goes back.
    Restart,
    /// Queues, bindings, plugins or pipelines change.
    Topology(Change),
    /// Dead letters are sent on their way again.
    Redrive(Redrive),
    /// A consumer needs longer: the leases of deliveries start anew.
    Renew {
        /// Who.
        consumer: ConsumerId,
        /// Which deliveries, as first and last tags.
        tags: Vec<(u64, u64)>,
    },
    /// Waiting messages go to another queue.
    Move(Move),
    /// A member comes to a group of a stream.
    JoinGroup(JoinGroup),
    /// A member leaves its group; others take over its partitions.
    LeaveGroup {
        /// Who.
        member: ConsumerId,
    },
    /// A member of a group says what it is done with.
    Commit(Commit),
    /// A group is set to another place.
    ResetGroup(ResetGroup),
    /// A group is forgotten; its members are told.
    DeleteGroup {
        /// The stream.
        stream: Name,
        /// The group.
        group: Name,
    },
    /// Publishes and settlements that happen together or not at all.
    Transaction(Box<Transaction>),
    /// A new life of a producer begins; older ones are fenced off.
    ClaimProducer(ProducerId),
    /// What pipelines remember is changed by hand.
    ChangeKv(Vec<KvChange>),
    /// A pipeline on the way to a consumer gave up deliveries of its: they are dead letters.
    Refuse {
        /// The consumer that holds them.
        consumer: ConsumerId,
        /// Which, and why.
        refused: Vec<Refused>,
    },
    /// A dead letter is mended.
    Edit(Box<Edit>),
    /// A dead letter ends.
    Resolve(Box<Resolve>),
}

impl Record {
    /// The message that this record holds under number `entry` of a [`MessageId`].
    pub fn message(&self, entry: u16) -> Option<&Message> {
        match self {
            Self::Publish(publish) => publish.message(entry),
            Self::Transaction(transaction) => transaction.message(entry),
            Self::Edit(edit) => (entry == 0).then_some(&edit.message),
            Self::Resolve(resolve) => resolve.becomes.as_ref()?.message(entry),
            _ => None,
        }
    }

    /// The bytes of all payloads in this record; `None` when it is of a kind that holds no messages.
    pub fn payload_bytes(&self) -> Option<usize> {
        match self {
            Self::Publish(publish) => Some(publish.payload_bytes()),
            Self::Transaction(transaction) => {
                Some(transaction.publishes.iter().map(Publish::payload_bytes).sum())
            }
            Self::Edit(edit) => Some(edit.message.payload.len()),
            Self::Resolve(resolve) => resolve.becomes.as_ref().map(Publish::payload_bytes),
            _ => None,
        }
    }
}

/// A queue's number: never used again, even when the queue is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QueueId(pub u32);

/// A consumer's number: chosen by the log's owner, never used twice between two restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConsumerId(pub u64);

impl fmt::Display for ConsumerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A consumer comes to a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Its number.
    pub consumer: ConsumerId,
    /// The queue.
    pub queue: Name,
    /// How many messages it can take at once.
    pub credit: u32,
    /// At most once: settled as it is delivered.
    pub auto_settle: bool,
    /// Tell it, once each time, when the queue has nothing ready, not even for later: what waits for the turn of its
    /// key or tenant, or for another consumer's place, is ready.
    pub notify_empty: bool,
    /// How many bytes of messages it can take; 0: unbounded. It gets the next message while any are left, so
    /// it may get one message more than it said; an ack gives nothing back, [`Record::Credit`] does.
    #[serde(default)]
    pub credit_bytes: u64,
}

impl Default for Attach {
    /// A consumer without credit of the default dead-letter queue: all but the flags is to be set.
    fn default() -> Self {
        let queue = crate::DEAD_LETTERS.parse().expect("the constant is a name");
        Self {
            consumer: ConsumerId(0),
            queue,
            credit: 0,
            auto_settle: false,
            notify_empty: false,
            credit_bytes: 0,
        }
    }
}

/// Puts another message in the place of a dead letter: with its death, its attempts and its past, under a new id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The queue where it lies.
    pub queue: Name,
    /// Its place there.
    pub offset: u64,
    /// Its id: it is refused when another lies there by now.
    pub id: MessageId,
    /// What takes its place.
    pub message: Message,
}

/// Ends a dead letter: what it became is stored in the same record, with its past, so that no crash loses or doubles it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// The queue where it lies.
    pub queue: Name,
    /// Its place there.
    pub offset: u64,
    /// Its id: it is refused when another lies there by now.
    pub id: MessageId,
    /// What it became on its way through pipelines; without entries, they dropped it. It belongs to no producer's run
    /// and is no duplicate of anything, whatever it says. `None`: the letter is discarded.
    pub becomes: Option<Publish>,
}

/// A delivery that a stage gave up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Its tag.
    pub tag: u64,
    /// What kind of reason.
    pub cause: DeathCause,
    /// One sentence for a person.
    pub reason: String,
    /// The stage, as `pipeline/stage`.
    pub stage: String,
    /// The SHA-256 of the stage's plugin, in hexadecimal.
    pub plugin: String,
}
