//! How one stream keeps its messages.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wharf_protocol::Name;

use crate::Durability;
use crate::seeded::{self, Fault};

/// The most partitions of a stream.
pub const PARTITIONS_MAX: u16 = 256;

/// The most messages that retention takes together.
const BLOCK_MESSAGES_MAX: u64 = 256;
/// A block is at most this share of what a limit keeps: so much more than the limit may be kept.
const BLOCKS_A_LIMIT: u64 = 4;

/// How one stream keeps its messages. Partitions, compaction and the index of keys stay as they were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamPolicy {
    /// What a publish into it waits for.
    pub durability: Durability,
    /// Into how many runs it is split; messages of one key stay in one.
    pub partitions: u16,
    /// Messages older than this go; 0: age does not matter.
    pub max_age_ms: u64,
    /// At least so many bytes of the newest messages of each partition are kept; 0: all.
    pub max_bytes: u64,
    /// At least so many of the newest messages of each partition are kept; 0: all.
    pub max_messages: u64,
    /// Of each key only the last message is kept; one with an empty payload takes the key away.
    pub compact: bool,
    /// Knows the last message of each key. Compaction implies it; memory follows the number of keys.
    pub index_keys: bool,
    /// How long an empty message stays that took its key away.
    pub tombstone_ms: u64,
    /// Where messages go that a group's member gives up; `None`: to [`DEAD_LETTERS`](crate::DEAD_LETTERS).
    pub dead_letter: Option<Name>,
    /// When its groups give up a message that their members fail with.
    #[serde(skip_serializing_if = "GiveUp::is_default")]
    pub give_up: GiveUp,
}

/// When a group gives up a message that its members fail with, so that it does not hold its partition for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GiveUp {
    /// After this many nacks in one group; 0: never.
    pub max_attempts: u32,
    /// Where the message goes then.
    pub to: GiveUpTo,
}

/// Where a message goes that a group gives up by itself. It stays in the stream, for everybody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GiveUpTo {
    /// The stream's dead-letter queue.
    #[default]
    DeadLetter,
    /// Nowhere: the group passes over it.
    Skip,
}

impl Default for GiveUp {
    fn default() -> Self {
        Self { max_attempts: 20, to: GiveUpTo::DeadLetter }
    }
}

impl GiveUp {
    /// Whether so many failures are enough.
    pub(crate) fn is_due(self, failures: u32) -> bool {
        let failures = failures.saturating_sub(u32::from(seeded::is(Fault::GroupGivesUpLate)));
        self.max_attempts > 0 && failures >= self.max_attempts
    }

    /// Left out where it is written, so that what was written before it was there has the hash that it had.
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for StreamPolicy {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            partitions: 1,
            max_age_ms: 0,
            max_bytes: 0,
            max_messages: 0,
            compact: false,
            index_keys: false,
            tombstone_ms: 86_400_000,
            dead_letter: None,
            give_up: GiveUp::default(),
        }
    }
}

impl StreamPolicy {
    /// Whether the last message of each key is known.
    pub fn knows_keys(&self) -> bool {
        self.compact || self.index_keys
    }

    /// What makes this policy impossible, for the person who wrote it.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        if self.partitions == 0 {
            return Some("a stream of 0 partitions would hold nothing");
        }
        if self.partitions > PARTITIONS_MAX {
            return Some("a stream has at most 256 partitions");
        }
        None
    }

    /// What keeps a stream of this policy from getting the `next` one.
    pub(crate) fn fixed(&self, next: &Self) -> Option<&'static str> {
        if self.partitions != next.partitions {
            return Some("the partitions of a stream stay as many as it was made with: keys would move");
        }
        if (self.compact, self.knows_keys()) != (next.compact, next.knows_keys()) {
            return Some("whether a stream is compacted or indexes its keys stays as it was made");
        }
        None
    }

    pub(crate) fn max_age(&self) -> Option<Duration> {
        (self.max_age_ms > 0).then(|| Duration::from_millis(self.max_age_ms))
    }

    pub(crate) fn tombstone(&self) -> Duration {
        Duration::from_millis(self.tombstone_ms)
    }

    /// When a block of `messages` and `bytes` whose first is `age` old takes no more.
    pub(crate) fn block_is_full(&self, messages: u64, bytes: u64, age: Duration) -> bool {
        let share = |limit: u64| if limit == 0 { u64::MAX } else { (limit / BLOCKS_A_LIMIT).max(1) };
        messages >= share(self.max_messages).min(BLOCK_MESSAGES_MAX)
            || bytes >= share(self.max_bytes)
            || age >= Duration::from_millis(share(self.max_age_ms))
    }
}
