//! What is to be done about a record, by whoever applied it.

use wharf_protocol::{Death, ErrorCode, MessageId, Name, Receipt, Stored, Timestamp, TransactionReceipt};

use crate::{ConsumerId, QueueId};

/// How many stale tags are told of at most: as many as a consumer can hold deliveries.
pub const STALE_TAGS_MAX: usize = crate::consumer::WINDOW_TAGS_MAX;

/// One thing to carry out, once the record that caused it is as durable as it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The answer to this record's publish.
    Receipt(Receipt),
    /// A message is leased to a consumer: send it.
    Deliver(Deliver),
    /// The answer to this record's settlements.
    Settled {
        /// Whose.
        consumer: ConsumerId,
        /// How many deliveries they settled.
        accepted: u64,
        /// The tags that named no delivery that this consumer holds: settled before, lapsed, never given. The
        /// first [`STALE_TAGS_MAX`] of them.
        stale: Vec<u64>,
    },
    /// A consumer that asked for it has credit, and its queue has nothing ready.
    Empty {
        /// Who.
        consumer: ConsumerId,
    },
    /// A consumer's queue was deleted, by a change or by itself, and the consumer with it.
    Cancelled {
        /// Who.
        consumer: ConsumerId,
    },
    /// [`State::topology`](crate::State::topology) is another one now.
    TopologyChanged,
    /// The answer to a purge.
    Purged {
        /// The queue.
        queue: Name,
        /// How many messages were settled.
        messages: u64,
    },
    /// The answer to a redrive.
    Redriven {
        /// How many dead letters are on their way again.
        moved: u64,
        /// How many of those selected stay: not found, held by a consumer, or their queue is gone.
        kept: u64,
    },
    /// The answer to a renewal.
    Renewed {
        /// Whose.
        consumer: ConsumerId,
        /// How many leases started anew.
        renewed: u64,
        /// The tags that named no delivery that this consumer holds; the first [`STALE_TAGS_MAX`] of them.
        stale: Vec<u64>,
    },
    /// The answer to a move.
    Moved {
        /// How many messages lie in the other queue now.
        moved: u64,
        /// How many of those selected stay: not found, held by a consumer, or the other queue is full.
        kept: u64,
    },
    /// The record could not be done, and changed nothing.
    Refused(Refusal),
    /// The answer to a transaction.
    Transacted(Box<TransactionReceipt>),
    /// The answer to a claim: the producer's new life.
    Claimed {
        /// Its epoch: what is published under an older one is refused from now on.
        epoch: u32,
        /// The highest sequence that any of its lives has stored; 0 when none.
        last_sequence: u64,
    },
    /// A partition of a stream has more messages: all below `next`.
    Appended {
        /// The stream.
        stream: QueueId,
        /// Which of its partitions.
        partition: u16,
        /// The offset that the next message gets.
        next: u64,
    },
    /// A member of a group has these partitions now, and no other.
    Assigned {
        /// Who.
        member: ConsumerId,
        /// All that it has, by partition.
        assignments: Vec<Assignment>,
    },
    /// The answer to a commit.
    Committed {
        /// Whose.
        member: ConsumerId,
        /// Which of the commit's ranges, from 0, and then of its failures, were refused: the partition went to
        /// another member, or was set back, or the range is past what a group may settle. Rising.
        stale: Vec<u32>,
        /// Which of its failures, numbered so, were one too many: these messages are settled. Rising.
        given_up: Vec<u32>,
    },
    /// The answer to an edit.
    Edited {
        /// The dead letter's new id.
        id: MessageId,
    },
    /// The answer to a resolve: where what the letter became is stored; no entries when nothing is.
    Resolved(Stored),
    /// A stream was deleted: nothing of it can be read any more.
    StreamDeleted {
        /// Its number.
        stream: QueueId,
    },
}

/// A partition of a stream that a member of a group has, and where it is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The partition.
    pub partition: u16,
    /// By which commits for it are known; another one than before: begin again at `floor`.
    pub generation: u64,
    /// The first offset that is not settled.
    pub floor: u64,
    /// What is settled above the floor, first and last, rising: not to be delivered.
    pub settled: Vec<(u64, u64)>,
    /// Offsets below this one may have been delivered before.
    pub seen: u64,
    /// How often members failed with what is not settled: offset and number, rising.
    pub failures: Vec<(u64, u32)>,
}

/// A message on its way to a consumer; the log has its body at `id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deliver {
    /// To whom.
    pub consumer: ConsumerId,
    /// 1, 2, 3… for each consumer.
    pub tag: u64,
    /// Where the message lies.
    pub id: MessageId,
    /// Its place in its queue.
    pub offset: u64,
    /// 1 at the first delivery; only grows, also through dead letters.
    pub attempt: u32,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// When it was first stored.
    pub stored_at: Timestamp,
    /// Why it was dead-lettered, when it was.
    pub death: Option<Box<Death>>,
}

/// Why a record could not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// What kind of reason.
    pub code: ErrorCode,
    /// One sentence for a person.
    pub reason: String,
}

impl Refusal {
    pub(crate) fn not_found(what: &str, name: &dyn std::fmt::Display) -> Self {
        Self { code: ErrorCode::NotFound, reason: format!("there is no {what} {name}") }
    }

    pub(crate) fn conflict(reason: impl Into<String>) -> Self {
        Self { code: ErrorCode::Conflict, reason: reason.into() }
    }

    /// A policy is not the one any more that its change was made from.
    pub(crate) fn changed_meanwhile(what: &str, name: &dyn std::fmt::Display) -> Self {
        Self::conflict(format!("somebody else has changed the policy of {what} {name} meanwhile"))
    }

    pub(crate) fn malformed(reason: impl Into<String>) -> Self {
        Self { code: ErrorCode::Malformed, reason: reason.into() }
    }

    pub(crate) fn full(what: &str, bound: usize) -> Self {
        let reason = format!("there are {bound} {what}, and that is the most; remove some first");
        Self { code: ErrorCode::Unavailable, reason }
    }
}
