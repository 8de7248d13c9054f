//! 256 slots of a backlog that follow each other, packed.
//!
//! ```text
//! a slot: u32 id, u32 stored at, both from the chunk's first; u32 bytes; [u32 lane]; a bit: settled; a bit: aside
//! ```
//!
//! A slot that does not fit its 32 bits (a message of 50 days or 65,536 records after the chunk's first, or of
//! before it) is kept beside its chunk in full.

use std::ops::Range;

use wharf_protocol::Timestamp;

use super::{Slot, packed, unpacked};
use crate::lane::LaneId;

/// How many slots a chunk has.
pub(super) const CHUNK: u64 = 256;

/// How many words its bits take.
const WORDS: usize = (CHUNK / 64) as usize;

/// In place of an id: the slot is one of the chunk's odd ones.
const ODD: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Chunk {
    /// The id, packed, and the time from which the slots count: those of the first that was pushed.
    first: (u64, u64),
    ids: [u32; CHUNK as usize],
    stored_at: [u32; CHUNK as usize],
    bytes: [u32; CHUNK as usize],
    /// Only where a message has one.
    pub(super) lanes: Option<Box<[LaneId; CHUNK as usize]>>,
    pub(super) settled: [u64; WORDS],
    /// Messages that the cursor passes over: they wait in a structure of their own.
    pub(super) aside: [u64; WORDS],
    /// How many messages of this chunk are not settled.
    pub(super) live: u16,
    /// Slots that do not fit, by place; in order.
    odd: Vec<(u8, Slot)>,
}

impl Chunk {
    pub(super) fn empty() -> Box<Self> {
        Box::new(Self {
            first: (0, 0),
            ids: [0; CHUNK as usize],
            stored_at: [0; CHUNK as usize],
            bytes: [0; CHUNK as usize],
            lanes: None,
            settled: [0; WORDS],
            aside: [0; WORDS],
            live: 0,
            odd: Vec::new(),
        })
    }

    #[inline]
    pub(super) fn put(&mut self, at: usize, slot: Slot) {
        let id = packed(slot.id);
        if self.live == 0 {
            self.first = (id, slot.stored_at.0);
            self.odd.clear();
        }
        // A step back wraps around, and does not fit; `get` wraps the other way.
        let steps = (id.wrapping_sub(self.first.0), slot.stored_at.0.wrapping_sub(self.first.1));
        self.bytes[at] = slot.bytes;
        match (u32::try_from(steps.0), u32::try_from(steps.1)) {
            (Ok(id), Ok(stored_at)) if id != ODD => (self.ids[at], self.stored_at[at]) = (id, stored_at),
            _ => {
                self.ids[at] = ODD;
                self.odd.push((u8::try_from(at).expect("a chunk has 256 places"), slot));
            }
        }
    }

    /// A message in it may lie in `records`: an id of 32 bits is at most so far from the first one.
    pub(super) fn may_hold(&self, records: &Range<u64>) -> bool {
        let first = self.first.0 >> 16;
        let last = self.first.0.saturating_add(u64::from(u32::MAX)) >> 16;
        self.live > 0 && (!self.odd.is_empty() || (first < records.end && last >= records.start))
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> Slot {
        if self.ids[at] == ODD {
            let found = self.odd.binary_search_by_key(&at, |(place, _)| usize::from(*place));
            return self.odd[found.expect("a slot marked as odd is among them")].1;
        }
        Slot {
            id: unpacked(self.first.0.wrapping_add(u64::from(self.ids[at]))),
            stored_at: Timestamp(self.first.1.wrapping_add(u64::from(self.stored_at[at]))),
            bytes: self.bytes[at],
        }
    }
}

pub(super) fn place(offset: u64) -> usize {
    (offset % CHUNK) as usize
}

pub(super) fn mark(bits: &mut [u64; WORDS], offset: u64) {
    bits[place(offset) / 64] |= 1 << (offset % 64);
}

pub(super) fn marked(bits: &[u64; WORDS], offset: u64) -> bool {
    bits[place(offset) / 64] >> (offset % 64) & 1 == 1
}
