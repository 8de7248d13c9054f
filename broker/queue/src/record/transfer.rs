//! Messages that go from one queue to another: which of them, and where to.

use serde::{Deserialize, Serialize};
use wharf_protocol::{MessageId, Name};

/// Sends dead letters on their way again: with a fresh count of failures, and without their death.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redrive {
    /// The queue where they lie.
    pub queue: Name,
    /// Which of them.
    pub select: Selection,
    /// Where to; `None`: each to the queue where it died. One whose queue is gone stays.
    pub to: Option<Name>,
    /// One that was redriven as often before stays: it would die again. `None`: however often.
    #[serde(default)]
    pub redriven_max: Option<u32>,
}

/// Takes messages that wait, ready or delayed, from one queue to another. They keep their priority, delay,
/// time to live, attempts and death, and begin anew in the count of failures. Those for which the other queue
/// has no room stay, and so does what consumers hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Where they lie.
    pub queue: Name,
    /// Which of them; at most [`MOVED_MAX`] in one record.
    pub select: Selection,
    /// Where to: another queue.
    pub to: Name,
}

/// The most messages that one [`Move`] looks at: whoever wants more asks again.
pub const MOVED_MAX: usize = 65_536;

/// Which messages: of the dead letters for a [`Redrive`], of all for a [`Move`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selection {
    /// Those with these ids.
    Ids(Vec<MessageId>),
    /// The oldest, at most so many.
    Oldest(u32),
    /// Those whose offset is at least `from` and less than `to`.
    Offsets {
        /// The first offset.
        from: u64,
        /// The offset after the last.
        to: u64,
    },
    /// Those with these offsets.
    At(Vec<u64>),
}
