//! What opens a stream of a reader.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Name, Start};

/// Makes a stream a reader's: of a stream of messages, alone or as a member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenReader {
    /// From where.
    pub stream: Name,
    /// As a member of this group, which has its place at the broker; made when there is none.
    #[serde(default)]
    pub group: Option<Name>,
    /// Where to begin; a group that is there goes on where it is.
    #[serde(default)]
    pub start: Start,
    /// How many messages may be delivered at first.
    pub credit: u32,
    /// Of these partitions alone; none: of all. Not of a group, which is given its partitions.
    #[serde(default)]
    pub partitions: Vec<u16>,
    /// Where to begin in some partitions instead: after a lost connection.
    #[serde(default)]
    pub resume: Vec<(u16, u64)>,
    /// Send `Empty` after the last message that was there when the reader opened. Not of a group.
    #[serde(default)]
    pub until_end: bool,
    /// Deliver with the pauses with which the messages were stored. Not of a group.
    #[serde(default)]
    pub original_pace: bool,
    /// Nothing but the last message of this key, then `Empty`.
    #[serde(default)]
    pub last_of: Option<Bytes>,
}

impl OpenReader {
    /// Reads all of `stream` from its oldest message on.
    pub fn new(stream: Name, credit: u32) -> Self {
        Self {
            stream,
            group: None,
            start: Start::First,
            credit,
            partitions: Vec::new(),
            resume: Vec::new(),
            until_end: false,
            original_pace: false,
            last_of: None,
        }
    }
}

/// The answer to [`OpenReader`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderOpened {
    /// How many partitions the stream has.
    pub partitions: u16,
    /// Where a reader without a group begins in each of its partitions.
    #[serde(default)]
    pub positions: Vec<(u16, u64)>,
    /// By which a [`Transact`](super::Transact) on this connection names a group's member.
    #[serde(default)]
    pub consumer: u64,
}
