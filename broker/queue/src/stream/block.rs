//! A run of neighbouring messages of a partition, as few bytes.
//!
//! The state has to know which record holds which offset: the log alone does not say it, because what a record
//! did (a duplicate, a conflict) hangs on the state before it. A sealed block keeps that as steps from one
//! message to the next, equal steps counted:
//!
//! ```text
//! number   step of the record's index << 3 | flags: 1 an entry follows, 2 a step of time, 4 repeats
//! [number  the entry; else 0]
//! [number  milliseconds later than the message before; else 0]
//! [number  how many more messages have the same three]
//! ```
//!
//! The first message's step is from 0. A stream that gets every record takes some bytes a block; one among many
//! takes one or two bytes a message.

use wharf_protocol::{MessageId, Timestamp};

use crate::backlog::INDEX_MAX;
use crate::pack::{Packer, Unpacker};

const ENTRY: u64 = 1;
const TIME: u64 = 2;
const REPEATS: u64 = 4;
const FLAG_BITS: u32 = 3;

/// Where a message of a stream lies, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) id: MessageId,
    pub(crate) at: Timestamp,
}

/// Messages of dense offsets that go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The first offset.
    pub(crate) first: u64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) oldest: Timestamp,
    pub(crate) newest: Timestamp,
    /// The records of its first and its last message.
    pub(crate) records: (u64, u64),
    places: Box<[u8]>,
}

/// From one message to the next.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Step {
    index: u64,
    entry: u16,
    time: u64,
}

impl Block {
    /// Packs `places`, of which there is at least one, in their order.
    pub(crate) fn seal(first: u64, bytes: u64, places: &[Place]) -> Self {
        let (oldest, newest) = (places[0].at, places[places.len() - 1].at);
        let records = (places[0].id.index, places[places.len() - 1].id.index);
        let messages = places.len() as u64;
        Self { first, messages, bytes, oldest, newest, records, places: pack(places).into() }
    }

    /// The offset after its last.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.messages
    }

    /// Its messages in order.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        unpack(&self.places).map(|place| place.expect("a block is packed here, or checked when restored"))
    }

    pub(crate) fn pack(&self, packer: &mut Packer) {
        packer.number(self.bytes);
        packer.bytes(&self.places);
    }

    /// The block that [`pack`](Self::pack) wrote, whose first offset is known; `None` when it cannot be that.
    pub(crate) fn unpack(first: u64, unpacker: &mut Unpacker<'_>) -> Option<Self> {
        let bytes = unpacker.number().ok()?;
        let packed = unpacker.bytes().ok()?;
        let mut places = Vec::new();
        for place in unpack(packed).take(BLOCK_PLACES_MAX + 1) {
            places.push(place?);
        }
        let risen = places.is_sorted_by(|a, b| a.id <= b.id && a.at <= b.at);
        let good = risen && !places.is_empty() && places.len() <= BLOCK_PLACES_MAX;
        first.checked_add(places.len() as u64)?;
        good.then(|| Self::seal(first, bytes, &places))
    }
}

/// No block that was written holds more; a damaged one could claim anything.
const BLOCK_PLACES_MAX: usize = 4_096;

fn pack(places: &[Place]) -> Vec<u8> {
    let mut packer = Packer::default();
    let mut last = Place { id: MessageId { index: 0, entry: 0 }, at: Timestamp(0) };
    let mut run: Option<(Step, u64)> = None;
    for place in places {
        let step = Step {
            index: place.id.index - last.id.index,
            entry: place.id.entry,
            time: place.at.0 - last.at.0,
        };
        last = *place;
        match &mut run {
            Some((same, repeats)) if *same == step => *repeats += 1,
            _ => {
                if let Some(run) = run.replace((step, 0)) {
                    put(run, &mut packer);
                }
            }
        }
    }
    if let Some(run) = run {
        put(run, &mut packer);
    }
    packer.out
}

fn put((step, repeats): (Step, u64), packer: &mut Packer) {
    let flag = |set: bool, flag| if set { flag } else { 0 };
    let flags = flag(step.entry > 0, ENTRY) | flag(step.time > 0, TIME) | flag(repeats > 0, REPEATS);
    packer.number(step.index << FLAG_BITS | flags);
    for (flag, number) in [(ENTRY, u64::from(step.entry)), (TIME, step.time), (REPEATS, repeats)] {
        if flags & flag != 0 {
            packer.number(number);
        }
    }
}

/// The messages that `packed` holds; `None` once where it holds something else, and nothing after it.
fn unpack(packed: &[u8]) -> impl Iterator<Item = Option<Place>> {
    let mut unpacker = Unpacker::new(packed);
    let mut last = Place { id: MessageId { index: 0, entry: 0 }, at: Timestamp(0) };
    let mut run: Option<(Step, u64)> = None;
    let mut broken = false;
    std::iter::from_fn(move || {
        if broken || (run.is_none() && unpacker.is_at_end()) {
            return None;
        }
        let (step, repeats) = match run.take() {
            Some(run) => run,
            None => match get(&mut unpacker) {
                Some(run) => run,
                None => {
                    broken = true;
                    return Some(None);
                }
            },
        };
        run = repeats.checked_sub(1).map(|left| (step, left));
        let index = last.id.index.checked_add(step.index).filter(|index| *index <= INDEX_MAX);
        let at = last.at.0.checked_add(step.time);
        let (Some(index), Some(at)) = (index, at) else {
            broken = true;
            return Some(None);
        };
        last = Place { id: MessageId { index, entry: step.entry }, at: Timestamp(at) };
        Some(Some(last))
    })
}

fn get(unpacker: &mut Unpacker<'_>) -> Option<(Step, u64)> {
    let head = unpacker.number().ok()?;
    let mut number = |flag| if head & flag == 0 { Some(0) } else { unpacker.number().ok() };
    let (entry, time, repeats) = (number(ENTRY)?, number(TIME)?, number(REPEATS)?);
    Some((Step { index: head >> FLAG_BITS, entry: entry.try_into().ok()?, time }, repeats))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(index: u64, entry: u16, at: u64) -> Place {
        Place { id: MessageId { index, entry }, at: Timestamp(at) }
    }

    #[test]
    fn a_stream_that_gets_every_record_takes_some_bytes_a_block() {
        let places: Vec<Place> = (0..256).map(|n| place(1_000_000 + n, 0, 1_800_000_000_000)).collect();
        let block = Block::seal(7, 0, &places);
        assert!(block.places.len() < 20, "{} bytes", block.places.len());
        let shared: Vec<Place> = (0..256_u64).map(|n| place(n * 7 + n % 5, 0, n / 3)).collect();
        let bytes = Block::seal(7, 0, &shared).places.len();
        assert!(bytes <= 2 * 256, "{bytes} bytes");
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_found_again(steps in proptest::collection::vec((0..4_u64, 0..3_u16, 0..3_u64), 1..300)) {
            let (mut index, mut at, mut places) = (1, 0, Vec::<Place>::new());
            for (step, entry, time) in steps {
                (index, at) = (index + step, at + time);
                if places.last().is_none_or(|last| last.id < MessageId { index, entry }) {
                    places.push(place(index, entry, at));
                }
            }
            let block = Block::seal(9, 77, &places);
            prop_assert_eq!(block.places().collect::<Vec<_>>(), places);
            let mut packer = Packer::default();
            block.pack(&mut packer);
            prop_assert_eq!(Block::unpack(9, &mut Unpacker::new(&packer.out)), Some(block));
        }

        #[test]
        fn what_is_damaged_is_refused_or_harmless(bytes: Vec<u8>) {
            let mut packer = Packer::default();
            packer.number(0);
            packer.bytes(&bytes);
            if let Some(block) = Block::unpack(0, &mut Unpacker::new(&packer.out)) {
                prop_assert_eq!(block.places().count() as u64, block.messages);
            }
        }
    }
}
