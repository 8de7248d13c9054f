//! One partition of a stream: which offsets it keeps, where they lie, and what it gives up.
//!
//! ```text
//! offset    0 … first … … … … … … … … … … … next
//!           gone  │ sealed block │ sealed block │ open │      plain: gives up whole blocks, oldest first
//!           gone  │ slot │  hole  │ slot │ hole │ slot │      compacted: a slot for each message kept
//! ```

use std::ops::Range;

use wharf_protocol::Timestamp;

use super::block::Place;
use super::blocks::Blocks;
use super::keys::Keys;
use super::policy::StreamPolicy;
use super::slots::{Slot, Slots};
use crate::live::LiveRecords;
use crate::purse::Bytes;

/// A message on its way into a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming {
    pub(crate) place: Place,
    pub(crate) bytes: u64,
    /// The hash of its key, where the stream knows keys.
    pub(crate) key: Option<u128>,
    /// It has a key and nothing else: it takes the key away.
    pub(crate) tombstone: bool,
}

/// What goes first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Oldest {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) newest: Timestamp,
}

#[derive(Debug)]
pub(crate) struct Partition {
    /// The offset of the next message.
    pub(crate) next: u64,
    /// How many messages are kept.
    pub(crate) messages: u64,
    /// How many bytes they have.
    pub(crate) bytes: Bytes,
    pub(crate) kept: Kept,
    /// Where the stream knows keys.
    pub(crate) keys: Option<Keys>,
    /// The moment for which its timer is armed: when it next gives something up. Follows from the rest.
    pub(crate) armed: Option<Timestamp>,
}

#[derive(Debug)]
pub(crate) enum Kept {
    Blocks(Blocks),
    Slots(Slots),
}

impl Partition {
    pub(crate) fn new(policy: &StreamPolicy) -> Self {
        let kept =
            if policy.compact { Kept::Slots(Slots::default()) } else { Kept::Blocks(Blocks::default()) };
        let keys = policy.knows_keys().then(Keys::default);
        Self { next: 0, messages: 0, bytes: Bytes::default(), kept, keys, armed: None }
    }

    /// Adds a message at the next offset; in a compacted stream the one before of its key goes.
    pub(crate) fn append(&mut self, message: Incoming, policy: &StreamPolicy, live: &mut LiveRecords) -> u64 {
        let Incoming { place, bytes, key, tombstone } = message;
        let offset = self.next;
        self.next += 1;
        self.messages += 1;
        self.bytes.add(bytes);
        live.add(place.id.index);
        let before = match (&mut self.keys, key) {
            (Some(keys), Some(key)) => keys.put(key, offset),
            _ => None,
        };
        match &mut self.kept {
            Kept::Blocks(blocks) => blocks.push(place, bytes, self.next, policy),
            Kept::Slots(slots) => {
                slots.insert(offset, Slot { place, bytes, key, tombstone });
                if let Some(superseded) = before {
                    self.drop_slot(superseded, live);
                }
            }
        }
        offset
    }

    /// Gives up what its policy does not keep any more at `now`.
    pub(crate) fn retain(&mut self, now: Timestamp, policy: &StreamPolicy, live: &mut LiveRecords) {
        while let Some(oldest) = self.oldest() {
            let old = policy.max_age().is_some_and(|age| oldest.newest.after(age) <= now);
            let many = policy.max_messages > 0 && self.messages - oldest.messages >= policy.max_messages;
            let large = policy.max_bytes > 0 && self.bytes.get() - oldest.bytes >= policy.max_bytes;
            if !(old || many || large) {
                break;
            }
            self.drop_oldest(live);
        }
        while let Some(offset) = self.due_tombstone(now, policy) {
            self.drop_slot(offset, live);
        }
    }

    /// When [`retain`](Self::retain) next gives something up because of time.
    pub(crate) fn next_due(&self, policy: &StreamPolicy) -> Option<Timestamp> {
        let aged = policy.max_age().and_then(|age| Some(self.oldest()?.newest.after(age)));
        let tombstone = match &self.kept {
            Kept::Slots(slots) => slots.next_tombstone().map(|at| at.after(policy.tombstone())),
            Kept::Blocks(_) => None,
        };
        aged.into_iter().chain(tombstone).min()
    }

    /// The first offset that is kept; the next one when none is.
    pub(crate) fn first(&self) -> u64 {
        let first = match &self.kept {
            Kept::Blocks(blocks) => blocks.first(self.next),
            Kept::Slots(slots) => slots.first(),
        };
        first.unwrap_or(self.next)
    }

    /// At most `max` messages, from offset `from` on.
    pub(crate) fn read(&self, from: u64, max: usize) -> Vec<(u64, Place)> {
        match &self.kept {
            Kept::Blocks(blocks) => blocks.read(from, self.next).take(max).collect(),
            Kept::Slots(slots) => slots.read(from).take(max).collect(),
        }
    }

    /// Where the message at `offset` lies, if it is kept.
    pub(crate) fn place(&self, offset: u64) -> Option<Place> {
        let (found, place) = *self.read(offset, 1).first()?;
        (found == offset).then_some(place)
    }

    /// The first message that is kept and was stored at `at` or later; the next offset when none was.
    pub(crate) fn offset_at(&self, at: Timestamp) -> u64 {
        let found = match &self.kept {
            Kept::Blocks(blocks) => blocks.offset_at(at, self.next),
            Kept::Slots(slots) => slots.offset_at(at),
        };
        found.unwrap_or(self.next)
    }

    /// The offset of the last message of a key, if it is kept.
    pub(crate) fn last_of(&self, key: u128) -> Option<u64> {
        self.keys.as_ref()?.last(key, self.first())
    }

    /// When the oldest message was stored.
    pub(crate) fn oldest_at(&self) -> Option<Timestamp> {
        self.read(0, 1).first().map(|(_, place)| place.at)
    }

    /// The messages of the records of `range`, and some beside them.
    pub(crate) fn of_records<'a>(&'a self, range: &Range<u64>) -> Box<dyn Iterator<Item = Place> + 'a> {
        match &self.kept {
            Kept::Blocks(blocks) => Box::new(blocks.of_records(range)),
            Kept::Slots(slots) => Box::new(slots.read(0).map(|(_, place)| place)),
        }
    }

    /// All messages that are kept.
    pub(crate) fn places(&self) -> Box<dyn Iterator<Item = (u64, Place)> + '_> {
        match &self.kept {
            Kept::Blocks(blocks) => Box::new(blocks.read(0, self.next)),
            Kept::Slots(slots) => Box::new(slots.read(0)),
        }
    }

    /// Lets go of all messages: the stream is about to be dropped.
    pub(crate) fn abandon(&self, live: &mut LiveRecords) {
        self.places().for_each(|(_, place)| live.remove(place.id.index));
    }

    fn oldest(&self) -> Option<Oldest> {
        match &self.kept {
            Kept::Blocks(blocks) => blocks.oldest(),
            Kept::Slots(slots) => slots.oldest(),
        }
    }

    fn drop_oldest(&mut self, live: &mut LiveRecords) {
        match &mut self.kept {
            Kept::Blocks(blocks) => {
                let block = blocks.pop(self.next).expect("the caller saw it");
                block.places().for_each(|place| live.remove(place.id.index));
                self.messages -= block.messages;
                self.bytes.sub(block.bytes);
                let first = self.first();
                if let Some(keys) = &mut self.keys {
                    keys.forget(block.messages, first);
                }
            }
            Kept::Slots(slots) => {
                let offset = slots.first().expect("the caller saw it");
                self.drop_slot(offset, live);
            }
        }
    }

    fn due_tombstone(&mut self, now: Timestamp, policy: &StreamPolicy) -> Option<u64> {
        match &mut self.kept {
            Kept::Slots(slots) => slots.take_tombstone(|at| at.after(policy.tombstone()) <= now),
            Kept::Blocks(_) => None,
        }
    }

    /// Gives up one message of a compacted partition.
    fn drop_slot(&mut self, offset: u64, live: &mut LiveRecords) {
        let Kept::Slots(slots) = &mut self.kept else { return };
        let Some(slot) = slots.remove(offset) else { return };
        self.messages -= 1;
        self.bytes.sub(slot.bytes);
        live.remove(slot.place.id.index);
        if let (Some(keys), Some(key)) = (&mut self.keys, slot.key) {
            keys.remove(key, offset);
        }
    }
}
