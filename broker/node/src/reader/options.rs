//! How a stream is read, and which of its ways do not go together.

use bytes::Bytes;
use wharf_protocol::{Name, Start};

use crate::NodeError;

/// How a stream is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// As a member of this group, made when there is none; a group has its place at the broker.
    pub group: Option<Name>,
    /// Where to begin; a group that is there goes on where it is.
    pub start: Start,
    /// How many messages may come before the first credit.
    pub credit: u32,
    /// Of these partitions alone; none: of all. Not for a group.
    pub partitions: Vec<u16>,
    /// Where to begin in some partitions instead. Not for a group.
    pub resume: Vec<(u16, u64)>,
    /// Tell with [`Event::Empty`](crate::Event::Empty) when all that was there at the beginning is delivered. Not for a group.
    pub until_end: bool,
    /// Deliver with the pauses with which the messages were stored. Not for a group.
    pub original_pace: bool,
    /// Nothing but the last message of this key, then [`Event::Empty`](crate::Event::Empty).
    pub last_of: Option<Bytes>,
}

impl ReadOptions {
    /// Whether they go together, for a stream of so many `partitions`.
    pub(super) fn check(&self, partitions: u16) -> Result<(), NodeError> {
        let alone =
            !self.partitions.is_empty() || !self.resume.is_empty() || self.until_end || self.original_pace;
        if self.group.is_some() && (alone || self.last_of.is_some()) {
            let reason =
                "a member of a group is given its partitions and has no end; read without a group for that";
            return Err(NodeError::Invalid(reason.into()));
        }
        let named = self.partitions.iter().chain(self.resume.iter().map(|(partition, _)| partition));
        match named.copied().find(|partition| *partition >= partitions) {
            Some(partition) => {
                let reason =
                    format!("there is no partition {partition}: the stream has {partitions}, from 0");
                Err(NodeError::Invalid(reason))
            }
            None => Ok(()),
        }
    }
}
