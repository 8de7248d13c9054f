//! The messages of one queue by offset: where each lies, and which are settled.
//!
//! ```text
//! offset   0      …  256     …   512     …   768   … next
//! chunks  [all settled][all settled][ 256 slots  ][ 256 slots  ]
//!          gone: before the first    a slot: id, stored at; a bit: settled; a bit: aside
//!          chunk that is needed
//! ```
//!
//! A chunk whose messages are all settled is given back wherever it lies, so one old message that
//! stays holds 4 KiB and not all that came after it.

use std::collections::VecDeque;

use wharf_protocol::{MessageId, Timestamp};

const CHUNK: u64 = 256;
const WORDS: usize = (CHUNK / 64) as usize;

/// Log indexes stay below this: an index and an entry share 64 bits. At a million records a second it is
/// reached after nine years.
pub(crate) const INDEX_MAX: u64 = (1 << 48) - 1;

/// Where a message lies, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) id: MessageId,
    pub(crate) stored_at: Timestamp,
}

/// A message id in 64 bits: the index above, the entry in the lowest 16.
pub(crate) fn packed(id: MessageId) -> u64 {
    id.index << 16 | u64::from(id.entry)
}

/// The message id that [`packed`] made.
#[expect(clippy::cast_possible_truncation, reason = "the lowest 16 bits are the entry")]
pub(crate) fn unpacked(bits: u64) -> MessageId {
    MessageId { index: bits >> 16, entry: bits as u16 }
}

#[derive(Debug)]
struct Chunk {
    ids: [u64; CHUNK as usize],
    stored_at: [Timestamp; CHUNK as usize],
    settled: [u64; WORDS],
    /// Messages that the cursor passes over: they wait in a structure of their own.
    aside: [u64; WORDS],
    /// How many messages of this chunk are not settled.
    live: u16,
}

#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// The number of the first chunk held: offset / 256.
    first_chunk: u64,
    /// `None`: all settled.
    chunks: VecDeque<Option<Box<Chunk>>>,
    /// The offset that the next message gets.
    next: u64,
    /// Every message below was delivered, settled or set aside.
    cursor: u64,
    /// How many messages are not settled.
    live: u64,
}

impl Backlog {
    /// A backlog that starts at an offset: what a snapshot restores.
    pub(crate) fn starting_at(first: u64) -> Self {
        let first_chunk = first / CHUNK;
        let mut backlog = Self { first_chunk, next: first_chunk * CHUNK, cursor: first, ..Self::default() };
        backlog.skip_to(first);
        backlog
    }

    /// The offset that the next message gets: how many ever came.
    pub(crate) fn next_offset(&self) -> u64 {
        self.next
    }

    pub(crate) fn live(&self) -> u64 {
        self.live
    }

    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Adds a message; one set aside is never found by [`first_fresh`](Self::first_fresh).
    pub(crate) fn push(&mut self, slot: Slot, aside: bool) -> u64 {
        assert!(slot.id.index <= INDEX_MAX, "log indexes stay below 2^48");
        let offset = self.next;
        let chunk = self.tail();
        let at = place(offset);
        chunk.ids[at] = packed(slot.id);
        chunk.stored_at[at] = slot.stored_at;
        chunk.aside[at / 64] |= u64::from(aside) << (at % 64);
        chunk.live += 1;
        self.live += 1;
        self.next += 1;
        offset
    }

    /// Goes on at `next` as if the offsets up to it had been used and settled: for restoring.
    pub(crate) fn skip_to(&mut self, next: u64) {
        while self.next < next {
            let at = place(self.next);
            let end = (self.next - at as u64 + CHUNK).min(next);
            if at == 0 && end - self.next == CHUNK {
                self.chunks.push_back(None);
            } else {
                let from = self.next;
                let chunk = self.tail();
                (from..end).for_each(|offset| mark(&mut chunk.settled, offset));
            }
            self.next = end;
        }
        self.drop_settled_front();
    }

    pub(crate) fn set_cursor(&mut self, cursor: u64) {
        self.cursor = cursor;
    }

    /// The message at `offset`, unless it is settled or was never there.
    pub(crate) fn slot(&self, offset: u64) -> Option<Slot> {
        let chunk = self.chunk(offset)?;
        let at = place(offset);
        let live = offset < self.next && !marked(&chunk.settled, offset);
        live.then(|| Slot { id: unpacked(chunk.ids[at]), stored_at: chunk.stored_at[at] })
    }

    /// Settles a message and says where it lay; `None` when it is settled already.
    pub(crate) fn settle(&mut self, offset: u64) -> Option<Slot> {
        let slot = self.slot(offset)?;
        let number = (offset / CHUNK - self.first_chunk) as usize;
        let chunk = self.chunks[number].as_mut().expect("the slot was found in it");
        mark(&mut chunk.settled, offset);
        chunk.live -= 1;
        self.live -= 1;
        let whole = (offset / CHUNK + 1) * CHUNK <= self.next;
        if whole && self.chunks[number].as_ref().is_some_and(|chunk| chunk.live == 0) {
            self.chunks[number] = None;
            self.drop_settled_front();
        }
        Some(slot)
    }

    /// The first message that was neither delivered, settled nor set aside.
    pub(crate) fn first_fresh(&mut self) -> Option<u64> {
        self.cursor = self.fresh_from(self.cursor);
        (self.cursor < self.next).then_some(self.cursor)
    }

    /// Passes the message that [`first_fresh`](Self::first_fresh) found.
    pub(crate) fn pass(&mut self, offset: u64) {
        debug_assert_eq!(offset, self.cursor, "messages are passed in order");
        self.cursor = offset + 1;
    }

    /// All messages that were neither delivered, settled nor set aside, in order.
    pub(crate) fn fresh(&self) -> impl Iterator<Item = u64> {
        let mut at = self.cursor;
        std::iter::from_fn(move || {
            let offset = self.fresh_from(at);
            at = offset + 1;
            (offset < self.next).then_some(offset)
        })
    }

    /// All messages that are not settled, in order.
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = (u64, Slot)> {
        let held = self.chunks.iter().enumerate().filter(|(_, chunk)| chunk.is_some());
        held.flat_map(move |(n, _)| {
            let from = (self.first_chunk + n as u64) * CHUNK;
            (from..from + CHUNK).filter_map(move |offset| Some((offset, self.slot(offset)?)))
        })
    }

    /// The first offset from `at` on that the cursor may stop at; `next` when there is none.
    fn fresh_from(&self, at: u64) -> u64 {
        let mut at = at.max(self.first_chunk * CHUNK);
        while at < self.next {
            let Some(chunk) = self.chunk(at) else {
                at = (at / CHUNK + 1) * CHUNK;
                continue;
            };
            let word = place(at) / 64;
            let open = !(chunk.settled[word] | chunk.aside[word]) >> (at % 64);
            if open != 0 {
                return (at + u64::from(open.trailing_zeros())).min(self.next);
            }
            at = (at / 64 + 1) * 64;
        }
        self.next
    }

    fn chunk(&self, offset: u64) -> Option<&Chunk> {
        let number = (offset / CHUNK).checked_sub(self.first_chunk)?;
        self.chunks.get(usize::try_from(number).ok()?)?.as_deref()
    }

    /// The chunk that the next message belongs to.
    fn tail(&mut self) -> &mut Chunk {
        let number = (self.next / CHUNK - self.first_chunk) as usize;
        if number == self.chunks.len() {
            self.chunks.push_back(Some(Box::new(Chunk {
                ids: [0; CHUNK as usize],
                stored_at: [Timestamp(0); CHUNK as usize],
                settled: [0; WORDS],
                aside: [0; WORDS],
                live: 0,
            })));
        }
        self.chunks[number].as_mut().expect("a chunk with free places is never given back")
    }

    fn drop_settled_front(&mut self) {
        while matches!(self.chunks.front(), Some(None)) {
            self.chunks.pop_front();
            self.first_chunk += 1;
        }
    }
}

fn place(offset: u64) -> usize {
    (offset % CHUNK) as usize
}

fn mark(bits: &mut [u64; WORDS], offset: u64) {
    bits[place(offset) / 64] |= 1 << (offset % 64);
}

fn marked(bits: &[u64; WORDS], offset: u64) -> bool {
    bits[place(offset) / 64] >> (offset % 64) & 1 == 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slot(n: u64) -> Slot {
        Slot { id: MessageId { index: n + 1, entry: (n % 7) as u16 }, stored_at: Timestamp(n * 3) }
    }

    #[test]
    fn one_old_message_does_not_hold_what_came_after_it() {
        let mut backlog = Backlog::default();
        for n in 0..100_000 {
            backlog.push(slot(n), false);
        }
        for n in 1..100_000 {
            assert_eq!(backlog.settle(n), Some(slot(n)));
        }
        assert_eq!(backlog.chunks.iter().flatten().count(), 2, "the first chunk, and the last that has room");
        assert_eq!(backlog.settle(1), None, "settled once");
        assert_eq!(backlog.unsettled().collect::<Vec<_>>(), [(0, slot(0))]);
        backlog.settle(0);
        assert_eq!(backlog.chunks.len(), 1);
    }

    proptest! {
        #[test]
        fn a_backlog_is_a_list_with_marks(
            steps in proptest::collection::vec((0u8..5, 0u64..2_000), 1..2_000), skipped in 0u64..1_000,
        ) {
            let mut backlog = Backlog::starting_at(skipped / 2);
            backlog.skip_to(skipped);
            // Offset, aside, settled, passed.
            let mut naive: Vec<(u64, bool, bool, bool)> = Vec::new();
            for (step, number) in steps {
                match step {
                    0..=2 => {
                        let offset = backlog.push(slot(backlog.next_offset()), step == 2);
                        prop_assert_eq!(offset, skipped + naive.len() as u64);
                        naive.push((offset, step == 2, false, false));
                    }
                    3 if !naive.is_empty() => {
                        let chosen = number as usize % naive.len();
                        let each = &mut naive[chosen];
                        prop_assert_eq!(backlog.settle(each.0).is_some(), !each.2);
                        each.2 = true;
                    }
                    _ => {
                        let expected = naive.iter_mut().find(|each| !each.1 && !each.2 && !each.3);
                        let found = backlog.first_fresh();
                        prop_assert_eq!(found, expected.as_ref().map(|each| each.0));
                        if let (Some(offset), Some(each)) = (found, expected) {
                            backlog.pass(offset);
                            each.3 = true;
                        }
                    }
                }
            }
            let unsettled: Vec<u64> = naive.iter().filter(|each| !each.2).map(|each| each.0).collect();
            prop_assert_eq!(backlog.live(), unsettled.len() as u64);
            prop_assert_eq!(backlog.unsettled().map(|(offset, _)| offset).collect::<Vec<_>>(), unsettled);
            let fresh: Vec<u64> =
                naive.iter().filter(|each| !each.1 && !each.2 && !each.3).map(|each| each.0).collect();
            prop_assert_eq!(backlog.fresh().collect::<Vec<_>>(), fresh);
        }
    }
}
