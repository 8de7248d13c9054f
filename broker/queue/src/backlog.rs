//! The messages of one queue by offset: where each lies, what it takes, and which are settled.
//!
//! ```text
//! offset   0      …  256     …   512     …   768   … next
//! chunks  [all settled][all settled][ 256 slots  ][ 256 slots  ]
//!          gone: before the first
//!          chunk that is needed
//! ```
//!
//! A chunk whose messages are all settled is given back wherever it lies, so one old message that stays holds 3 KiB and
//! not all that came after it.

mod chunk;

use std::collections::VecDeque;
use std::ops::Range;

use wharf_protocol::{MessageId, Timestamp};

use self::chunk::{CHUNK, Chunk, mark, marked, place};
use crate::lane::LaneId;

/// Log indexes stay below this: an index and an entry share 64 bits. At a million records a second it is
/// reached after nine years.
pub(crate) const INDEX_MAX: u64 = (1 << 48) - 1;

/// Where a message lies, since when, and what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) id: MessageId,
    pub(crate) stored_at: Timestamp,
    /// Its encoding's length, which is under 4 GiB.
    pub(crate) bytes: u32,
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
    #[inline]
    pub(crate) fn push(&mut self, slot: Slot, aside: bool) -> u64 {
        assert!(slot.id.index <= INDEX_MAX, "log indexes stay below 2^48");
        let offset = self.next;
        let chunk = self.tail();
        let at = place(offset);
        chunk.put(at, slot);
        chunk.aside[at / 64] |= u64::from(aside) << (at % 64);
        chunk.live += 1;
        self.live += 1;
        self.next += 1;
        offset
    }

    /// Notes the lane of the message that was pushed last.
    pub(crate) fn set_lane(&mut self, lane: LaneId) {
        let offset = self.next - 1;
        let number = (offset / CHUNK - self.first_chunk) as usize;
        let chunk = self.chunks[number].as_mut().expect("a message was pushed to it");
        let lanes = chunk.lanes.get_or_insert_with(|| Box::new([LaneId::NONE; CHUNK as usize]));
        lanes[place(offset)] = lane;
    }

    /// Whether any unsettled message has a lane.
    pub(crate) fn has_lanes(&self) -> bool {
        let with = self
            .chunks
            .iter()
            .enumerate()
            .filter(|(_, chunk)| chunk.as_ref().is_some_and(|chunk| chunk.lanes.is_some()));
        with.map(|(number, _)| (self.first_chunk + number as u64) * CHUNK).any(|from| {
            let unsettled = self.runs(from).flatten().take_while(|offset| *offset < from + CHUNK);
            unsettled.into_iter().any(|offset| self.lane(offset) != LaneId::NONE)
        })
    }

    /// The first offset that is held.
    pub(crate) fn first_offset(&self) -> u64 {
        self.first_chunk * CHUNK
    }

    /// The lane of an unsettled message.
    pub(crate) fn lane(&self, offset: u64) -> LaneId {
        let lanes = self.chunk(offset).and_then(|chunk| chunk.lanes.as_ref());
        lanes.map_or(LaneId::NONE, |lanes| lanes[place(offset)])
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
    #[inline]
    pub(crate) fn slot(&self, offset: u64) -> Option<Slot> {
        let chunk = self.chunk(offset)?;
        let live = offset < self.next && !marked(&chunk.settled, offset);
        live.then(|| chunk.get(place(offset)))
    }

    /// Settles a message and says where it lay; `None` when it is settled already.
    #[inline]
    pub(crate) fn settle(&mut self, offset: u64) -> Option<Slot> {
        let number = usize::try_from((offset / CHUNK).checked_sub(self.first_chunk)?).ok()?;
        let kept = self.chunks.get_mut(number)?;
        let chunk = kept.as_mut()?;
        if offset >= self.next || marked(&chunk.settled, offset) {
            return None;
        }
        let slot = chunk.get(place(offset));
        mark(&mut chunk.settled, offset);
        chunk.live -= 1;
        self.live -= 1;
        let whole = (offset / CHUNK + 1) * CHUNK <= self.next;
        if chunk.live == 0 && whole {
            *kept = None;
            self.drop_settled_front();
        }
        Some(slot)
    }

    /// The first message that was neither delivered, settled nor set aside.
    pub(crate) fn first_fresh(&mut self) -> Option<u64> {
        self.cursor = self.fresh_from(self.cursor);
        (self.cursor < self.next).then_some(self.cursor)
    }

    /// Whether a message was neither delivered, settled nor set aside.
    pub(crate) fn is_fresh(&self, offset: u64) -> bool {
        (self.cursor..self.next).contains(&offset)
            && self
                .chunk(offset)
                .is_some_and(|chunk| !marked(&chunk.settled, offset) && !marked(&chunk.aside, offset))
    }

    /// Sets a fresh message aside.
    pub(crate) fn set_aside(&mut self, offset: u64) {
        let number = (offset / CHUNK - self.first_chunk) as usize;
        let chunk = self.chunks[number].as_mut().expect("a fresh message has its chunk");
        mark(&mut chunk.aside, offset);
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

    /// All messages that are not settled, in order, from an offset on.
    pub(crate) fn unsettled_from(&self, from: u64) -> impl Iterator<Item = (u64, Slot)> {
        self.runs(from).flat_map(|run| run.clone().zip(self.slots(run)))
    }

    /// The messages of one of the [`runs`](Self::runs).
    pub(crate) fn slots(&self, run: Range<u64>) -> impl Iterator<Item = Slot> {
        let chunk = self.chunk(run.start).expect("what is not settled is held");
        run.map(|offset| chunk.get(place(offset)))
    }

    /// The ids of messages that are not settled and lie in `records`, in the order of offsets. Passes over whole
    /// chunks that lie elsewhere.
    pub(crate) fn unsettled_in(&self, records: &Range<u64>) -> impl Iterator<Item = MessageId> {
        let chunks =
            self.chunks.iter().zip(self.first_chunk..).filter_map(|(chunk, n)| Some((chunk.as_ref()?, n)));
        let near = chunks.filter(|(chunk, _)| chunk.may_hold(records));
        near.flat_map(move |(chunk, number)| {
            let offsets = (number * CHUNK..(number + 1) * CHUNK).take_while(|offset| *offset < self.next);
            let unsettled = offsets.filter(|offset| !marked(&chunk.settled, *offset));
            unsettled.map(|offset| chunk.get(place(offset)).id).filter(|id| records.contains(&id.index))
        })
    }

    /// All messages that are not settled, in order.
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = (u64, Slot)> {
        self.unsettled_from(0)
    }

    /// The offsets, from one on, of messages that are not settled, as runs within a chunk.
    pub(crate) fn runs(&self, from: u64) -> impl Iterator<Item = Range<u64>> {
        let mut at = from;
        std::iter::from_fn(move || {
            let start = self.next_where(at, self.next, |chunk, word| !chunk.settled[word]);
            let chunk_end = ((start / CHUNK + 1) * CHUNK).min(self.next);
            let end = self.next_where(start, chunk_end, |chunk, word| chunk.settled[word]);
            at = end;
            (start < self.next).then_some(start..end)
        })
    }

    /// The first offset from `at` on that the cursor may stop at; `next` when there is none.
    fn fresh_from(&self, at: u64) -> u64 {
        self.next_where(at, self.next, |chunk, word| !(chunk.settled[word] | chunk.aside[word]))
    }

    /// The first offset from `at` on and before `end` that is in a chunk and whose bit is set in what `wanted` gives
    /// for its word; `end` when there is none.
    fn next_where(&self, at: u64, end: u64, wanted: impl Fn(&Chunk, usize) -> u64) -> u64 {
        let mut at = at.max(self.first_chunk * CHUNK);
        while at < end {
            let Some(chunk) = self.chunk(at) else {
                at = (at / CHUNK + 1) * CHUNK;
                continue;
            };
            let word = place(at) / 64;
            let open = wanted(chunk, word) >> (at % 64);
            if open != 0 {
                return (at + u64::from(open.trailing_zeros())).min(end);
            }
            at = (at / 64 + 1) * 64;
        }
        end
    }

    #[inline]
    fn chunk(&self, offset: u64) -> Option<&Chunk> {
        let number = (offset / CHUNK).checked_sub(self.first_chunk)?;
        self.chunks.get(usize::try_from(number).ok()?)?.as_deref()
    }

    /// The chunk that the next message belongs to.
    #[inline]
    fn tail(&mut self) -> &mut Chunk {
        let number = (self.next / CHUNK - self.first_chunk) as usize;
        if number == self.chunks.len() {
            self.chunks.push_back(Some(Chunk::empty()));
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slot(n: u64) -> Slot {
        Slot {
            id: MessageId { index: n + 1, entry: (n % 7) as u16 },
            stored_at: Timestamp(n * 3),
            bytes: n as u32 * 5,
        }
    }

    /// Slots of all kinds: near the one before, far ahead of it, and of long ago.
    fn any_slot() -> impl Strategy<Value = Slot> {
        let number = || prop_oneof![1_000..2_000_u64, 0..1_048_576_u64, 0..INDEX_MAX];
        (number(), any::<u16>(), number(), any::<u32>()).prop_map(|(index, entry, at, bytes)| Slot {
            id: MessageId { index, entry },
            stored_at: Timestamp(at),
            bytes,
        })
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

    #[test]
    fn steps_past_the_end_of_time_come_back_as_they_were() {
        let mut backlog = Backlog::default();
        let at = |n: u64, at: u64| Slot { stored_at: Timestamp(at), ..slot(n) };
        let slots = [at(5, u64::MAX - 1), at(3, 2), at(9, u64::MAX)];
        for slot in slots {
            backlog.push(slot, false);
        }
        assert_eq!(backlog.unsettled_from(0).map(|(_, slot)| slot).collect::<Vec<_>>(), slots);
    }

    proptest! {
        #[test]
        fn a_slot_is_given_back_as_it_was_put(
            slots in proptest::collection::vec(any_slot(), 1..600), settled in 0usize..600,
        ) {
            let mut backlog = Backlog::default();
            for (n, slot) in slots.iter().enumerate() {
                backlog.push(*slot, false);
                backlog.set_lane(LaneId(n as u32));
                if n == settled {
                    for offset in 0..=n as u64 {
                        backlog.settle(offset);
                    }
                }
            }
            let kept = if settled < slots.len() { settled + 1 } else { 0 };
            for (n, slot) in slots.iter().enumerate().skip(kept) {
                prop_assert_eq!(backlog.slot(n as u64), Some(*slot));
                prop_assert_eq!(backlog.lane(n as u64), LaneId(n as u32));
            }
        }

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
            let records = slot(skipped + 100).id.index..slot(skipped + 1_100).id.index;
            let found: Vec<MessageId> = backlog.unsettled_in(&records).collect();
            let ids = unsettled.iter().map(|offset| slot(*offset).id);
            prop_assert_eq!(found, ids.filter(|id| records.contains(&id.index)).collect::<Vec<_>>());
            prop_assert_eq!(backlog.unsettled().map(|(offset, _)| offset).collect::<Vec<_>>(), &unsettled[..]);
            prop_assert_eq!(backlog.runs(0).flatten().collect::<Vec<_>>(), unsettled);
            let fresh: Vec<u64> =
                naive.iter().filter(|each| !each.1 && !each.2 && !each.3).map(|each| each.0).collect();
            prop_assert_eq!(backlog.fresh().collect::<Vec<_>>(), &fresh[..]);
            prop_assert!((0..backlog.next_offset()).all(|o| backlog.is_fresh(o) == fresh.contains(&o)));
        }
    }
}
