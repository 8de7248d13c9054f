//! What a consumer gets, and what it answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Message, MessageId, Timestamp};

/// A message on its way to one consumer, leased to it until it is settled or the lease runs out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// By which this consumer settles it: 1, 2, 3… within its subscription.
    pub tag: u64,
    /// Its id in the broker: the same at every delivery.
    pub id: MessageId,
    /// Its place in the queue, or in its partition of a stream: 0, 1, 2…
    pub offset: u64,
    /// 1 at the first delivery; only grows.
    pub attempt: u32,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// When the broker stored it.
    pub stored_at: Timestamp,
    /// Which partition of a stream it comes from; 0 from a queue.
    pub partition: u16,
    /// Why it was dead-lettered, when it comes from a dead-letter queue.
    pub death: Option<Box<Death>>,
    /// The message.
    pub message: Message,
}

/// Why and from where a message came to a dead-letter queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// The queue it was in or on its way to.
    pub queue: String,
    /// What kind of reason.
    pub cause: DeathCause,
    /// One sentence for a person.
    pub reason: String,
    /// The stage that refused it, as `pipeline/stage`.
    pub stage: Option<String>,
    /// The SHA-256 of that stage's plugin, in hexadecimal.
    pub plugin: Option<String>,
    /// Deliveries before it was given up.
    pub attempts: u32,
    /// When it was first stored.
    pub first_at: Timestamp,
    /// When it was dead-lettered.
    pub last_at: Timestamp,
    /// Its id where it died.
    pub original: MessageId,
}

/// What kind of reason lay a message in a dead-letter queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeathCause {
    /// Delivered as often as the queue allows.
    MaxAttempts,
    /// A consumer said so.
    Rejected,
    /// A pipeline stage refused it.
    Stage,
    /// A pipeline stage broke: a trap, a deadline, a limit.
    StageFault,
    /// Its time to live ran out.
    Expired,
    /// The queue was full, and its policy lays what is oldest here.
    Overflow,
}

/// What a consumer says of deliveries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done: never deliver it again.
    Ack,
    /// Deliver it again, at the earliest after `delay`; `None` leaves that to the queue's retry policy.
    Nack {
        /// How long to wait.
        delay: Option<Duration>,
    },
    /// Lay it in the dead-letter queue.
    DeadLetter {
        /// One sentence for a person.
        reason: String,
    },
}

/// One outcome for the deliveries `first..=last` of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// The first tag.
    pub first: u64,
    /// The last tag.
    pub last: u64,
    /// What became of them.
    pub outcome: Outcome,
}
