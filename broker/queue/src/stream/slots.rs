//! What a compacted partition keeps: the messages that no later one of their key has superseded.

use std::collections::{BTreeMap, VecDeque};

use wharf_protocol::Timestamp;

use super::block::Place;
use super::partition::Oldest;

/// A slot for each message that is kept: memory follows the number of keys.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    pub(crate) by_offset: BTreeMap<u64, Slot>,
    /// Those that take a key away, oldest first. Some may be gone.
    tombstones: VecDeque<(Timestamp, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) place: Place,
    pub(crate) bytes: u64,
    pub(crate) key: Option<u128>,
    pub(crate) tombstone: bool,
}

impl Slots {
    /// Adds a message, at an offset over all before it.
    pub(crate) fn insert(&mut self, offset: u64, slot: Slot) {
        if slot.tombstone {
            self.tombstones.push_back((slot.place.at, offset));
        }
        self.by_offset.insert(offset, slot);
    }

    pub(crate) fn remove(&mut self, offset: u64) -> Option<Slot> {
        let removed = self.by_offset.remove(&offset)?;
        // Superseded ones in front would make the timer fire for nothing, again and again.
        while let Some((_, front)) = self.tombstones.front()
            && !self.by_offset.contains_key(front)
        {
            self.tombstones.pop_front();
        }
        Some(removed)
    }

    pub(crate) fn first(&self) -> Option<u64> {
        self.by_offset.first_key_value().map(|(offset, _)| *offset)
    }

    pub(crate) fn oldest(&self) -> Option<Oldest> {
        let (_, slot) = self.by_offset.first_key_value()?;
        Some(Oldest { messages: 1, bytes: slot.bytes, newest: slot.place.at })
    }

    pub(crate) fn read(&self, from: u64) -> impl Iterator<Item = (u64, Place)> {
        self.by_offset.range(from..).map(|(offset, slot)| (*offset, slot.place))
    }

    /// The first message stored at `at` or later. Times rise with offsets, but a map is not searched by them.
    pub(crate) fn offset_at(&self, at: Timestamp) -> Option<u64> {
        self.read(0).find(|(_, place)| place.at >= at).map(|(offset, _)| offset)
    }

    /// When the oldest message that takes a key away was stored.
    pub(crate) fn next_tombstone(&self) -> Option<Timestamp> {
        self.tombstones.front().map(|(at, _)| *at)
    }

    /// The oldest message that takes a key away, if it is due.
    pub(crate) fn take_tombstone(&mut self, due: impl Fn(Timestamp) -> bool) -> Option<u64> {
        let (_, offset) = *self.tombstones.front().filter(|(at, _)| due(*at))?;
        self.tombstones.pop_front();
        Some(offset)
    }
}
