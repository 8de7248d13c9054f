//! Publishes and settlements that happen together or not at all, and the answer to them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Rejection, Stored};

/// The most messages of one transaction or batch.
pub const TRANSACTION_MESSAGES_MAX: usize = 4_096;

/// The most ranges of settlements, and of moved cursors, of one transaction.
pub const TRANSACTION_RANGES_MAX: usize = 4_096;

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionReceipt {
    /// All of it happened, in one record.
    Committed(Committed),
    /// It happened before, under the same sequence; where, if that is still known. Nothing was done again.
    Duplicate(Option<Stored>),
    /// Nothing of it happened, and why.
    Refused {
        /// Which part stands in the way.
        part: Part,
        /// The reason.
        rejection: Rejection,
    },
}

/// A transaction that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The one record that holds it, and how many messages all that was published became.
    pub stored: Stored,
    /// The messages, from 0, that were not stored because their message id was, within its window.
    pub duplicates: Vec<u32>,
    /// The messages, from 0, to whose topics nothing is bound.
    pub unrouted: Vec<u32>,
}

/// A part of a transaction, counted from 0 in the order in which it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// The transaction itself: its session, its size, or the broker's state.
    Whole,
    /// A message to publish.
    Message(u32),
    /// A settlement.
    Settlement(u32),
    /// A cursor to move.
    Cursor(u32),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("the transaction"),
            Self::Message(n) => write!(f, "message {n}"),
            Self::Settlement(n) => write!(f, "settlement {n}"),
            Self::Cursor(n) => write!(f, "cursor {n}"),
        }
    }
}
