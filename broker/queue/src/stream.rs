//! One stream: messages kept by age, size, count or key, and the groups that read them.
//!
//! A stream is split into partitions, each an ordered run with dense offsets: 0, 1, 2… and never another. Where
//! a message of an offset lies is part of the state ([`block`]), as few bytes as that takes.

mod block;
mod blocks;
mod group;
mod keys;
mod partition;
mod policy;
mod slots;
mod snapshot;

use std::collections::BTreeMap;
use std::ops::Range;

use wharf_protocol::{Message, MessageId, Name, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

pub use group::GROUP_WINDOW_MAX;
pub use policy::{GiveUp, GiveUpTo, PARTITIONS_MAX, StreamPolicy};

pub(crate) use block::Place;
pub(crate) use group::{Cursor, Group};
pub(crate) use keys::hash as key_hash;
pub(crate) use partition::{Incoming, Partition};
pub(crate) use snapshot::{pack, unpack};

use crate::live::LiveRecords;
use crate::purse::Purse;
use crate::timers::{Timer, Timers};
use crate::{ConsumerId, QueueId, Start, Waiting};

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: QueueId,
    pub(crate) name: Name,
    pub(crate) policy: StreamPolicy,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) groups: BTreeMap<Name, Group>,
}

/// One stream in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamView {
    /// Its number.
    pub id: QueueId,
    /// Its name.
    pub name: Name,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionView>,
    /// How many groups read it.
    pub groups: usize,
}

/// One partition in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionView {
    /// The first offset that is kept; `next` when none is.
    pub first: u64,
    /// The offset of the next message.
    pub next: u64,
    /// How many messages are kept.
    pub messages: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// When the oldest one was stored.
    pub oldest_at: Option<Timestamp>,
    /// How many keys are known, where the stream knows keys; some may be of messages that are gone.
    pub keys: Option<u64>,
}

/// One group in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// Its name.
    pub name: Name,
    /// Who is in it, in the order in which they came.
    pub members: Vec<ConsumerId>,
    /// How far it is, by partition.
    pub cursors: Vec<CursorView>,
}

/// How far a group is in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorView {
    /// All offsets below it are settled.
    pub floor: u64,
    /// How many messages are not settled, from the floor to the end; in a compacted stream some may be gone.
    pub lag: u64,
    /// The member that has the partition.
    pub owner: Option<ConsumerId>,
    /// Rises whenever the partition is given to a member or set back.
    pub generation: u64,
    /// How many messages that are not settled failed at least once.
    pub failing: u64,
}

/// The partition of `partitions` that a message goes to: by its key, or by where it lies.
pub fn partition_of(message: &Message, id: MessageId, partitions: u16) -> u16 {
    if partitions <= 1 {
        return 0;
    }
    let spread = match &message.key {
        Some(key) => xxh3_64(key),
        None => id.index.wrapping_add(u64::from(id.entry)),
    };
    u16::try_from(spread % u64::from(partitions)).expect("a remainder is below its divisor")
}

impl Stream {
    pub(crate) fn new(id: QueueId, name: Name, policy: StreamPolicy) -> Self {
        let partitions = (0..policy.partitions).map(|_| Partition::new(&policy)).collect();
        Self { id, name, policy, partitions, groups: BTreeMap::new() }
    }

    /// What counts the bytes of its partitions for their owner.
    pub(crate) fn purse(&self) -> Option<&Purse> {
        self.partitions.first()?.bytes.purse()
    }

    /// Has `purse` count the bytes of its partitions, and no other.
    pub(crate) fn count_in(&mut self, purse: Option<&Purse>) {
        for partition in &mut self.partitions {
            partition.bytes.count_in(purse.cloned());
        }
    }

    /// Adds a message: its partition and offset.
    pub(crate) fn append(
        &mut self,
        id: MessageId,
        now: Timestamp,
        message: &Message,
        live: &mut LiveRecords,
        timers: &mut Timers,
    ) -> (u16, u64) {
        let number = partition_of(message, id, self.policy.partitions);
        let key = message.key.as_deref().filter(|_| self.policy.knows_keys()).map(key_hash);
        let incoming = Incoming {
            place: Place { id, at: now },
            bytes: message.encoded_bytes() as u64,
            key,
            tombstone: key.is_some() && message.payload.is_empty(),
        };
        let partition = &mut self.partitions[usize::from(number)];
        let offset = partition.append(incoming, &self.policy, live);
        self.retain(number, now, live, timers);
        (number, offset)
    }

    /// Gives up what a partition does not keep any more, and arms the timer for what is next.
    pub(crate) fn retain(
        &mut self,
        number: u16,
        now: Timestamp,
        live: &mut LiveRecords,
        timers: &mut Timers,
    ) {
        let partition = &mut self.partitions[usize::from(number)];
        partition.retain(now, &self.policy, live);
        let due = partition.next_due(&self.policy);
        if due != partition.armed {
            let timer = Timer::Retain(self.id, number);
            partition.armed.into_iter().for_each(|armed| timers.cancel(armed, timer));
            due.into_iter().for_each(|due| timers.arm(due, timer));
            partition.armed = due;
        }
    }

    /// Takes another policy, and keeps by it from now on.
    pub(crate) fn set_policy(
        &mut self,
        policy: StreamPolicy,
        now: Timestamp,
        live: &mut LiveRecords,
        timers: &mut Timers,
    ) {
        self.policy = policy;
        for number in 0..self.policy.partitions {
            self.retain(number, now, live, timers);
        }
    }

    /// Lets go of all messages and timers: the stream is about to be dropped.
    pub(crate) fn abandon(&self, live: &mut LiveRecords, timers: &mut Timers) {
        for (number, partition) in (0..).zip(&self.partitions) {
            partition.abandon(live);
            if let Some(armed) = partition.armed {
                timers.cancel(armed, Timer::Retain(self.id, number));
            }
        }
    }

    /// The offset in partition `number` that `start` means now.
    pub(crate) fn offset_of(&self, number: usize, start: Start) -> u64 {
        let partition = &self.partitions[number];
        let (first, next) = (partition.first(), partition.next);
        match start {
            Start::First => first,
            Start::Last => next.saturating_sub(1).max(first),
            Start::New => next,
            Start::Offset(offset) => offset.clamp(first, next),
            Start::Time(at) => partition.offset_at(at),
        }
    }

    /// The last message of a key, and its partition.
    pub(crate) fn last(&self, key: &[u8]) -> Option<(u16, Waiting)> {
        let number = xxh3_64(key) % u64::from(self.policy.partitions);
        let number = u16::try_from(number).expect("a remainder is below its divisor");
        let partition = &self.partitions[usize::from(number)];
        let offset = partition.last_of(key_hash(key))?;
        let Place { id, at } = partition.place(offset)?;
        Some((number, Waiting { offset, id, stored_at: at }))
    }

    /// The messages of the records of `range`, and some beside them.
    pub(crate) fn of_records(&self, range: &Range<u64>) -> impl Iterator<Item = MessageId> {
        self.partitions.iter().flat_map(|each| each.of_records(range).map(|place| place.id))
    }

    /// The first record that each partition needs.
    pub(crate) fn oldest_index(&self) -> impl Iterator<Item = u64> {
        self.partitions.iter().filter_map(|each| each.places().next().map(|(_, place)| place.id.index))
    }

    pub(crate) fn nexts(&self) -> Vec<u64> {
        self.partitions.iter().map(|partition| partition.next).collect()
    }

    pub(crate) fn view(&self) -> StreamView {
        let partition = |each: &Partition| PartitionView {
            first: each.first(),
            next: each.next,
            messages: each.messages,
            bytes: each.bytes.get(),
            oldest_at: each.oldest_at(),
            keys: each.keys.as_ref().map(keys::Keys::len),
        };
        let partitions = self.partitions.iter().map(partition).collect();
        StreamView { id: self.id, name: self.name.clone(), partitions, groups: self.groups.len() }
    }

    pub(crate) fn group_view(&self, name: &Name) -> Option<GroupView> {
        let group = self.groups.get(name)?;
        let cursor = |(cursor, partition): (&Cursor, &Partition)| {
            let from = cursor.floor.max(partition.first());
            let kept = cursor.ahead.iter().map(|(first, last)| (*first.max(&from), *last));
            let ahead: u64 = kept.map(|(first, last)| (last + 1).saturating_sub(first)).sum();
            let open = partition.next - from;
            let (owner, generation) = (cursor.owner, cursor.generation);
            let failing = cursor.failures.len() as u64;
            CursorView { floor: cursor.floor, lag: open - ahead, owner, generation, failing }
        };
        let cursors = group.cursors.iter().zip(&self.partitions).map(cursor).collect();
        Some(GroupView { name: name.clone(), members: group.members.iter().copied().collect(), cursors })
    }

    /// Checks what has to hold the long way.
    ///
    /// # Panics
    /// If it does not hold.
    pub(crate) fn verify(&self) {
        for (number, partition) in self.partitions.iter().enumerate() {
            let places: Vec<(u64, Place)> = partition.places().collect();
            let who = format!("stream {} partition {number}", self.name);
            assert_eq!(places.len() as u64, partition.messages, "{who}: what is kept is counted");
            assert!(places.is_sorted_by(|a, b| a.0 < b.0 && a.1.id <= b.1.id), "{who}: offsets rise");
            assert!(places.last().is_none_or(|(last, _)| *last < partition.next), "{who}: the next is free");
            if !self.policy.compact {
                let dense = places.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0);
                assert!(dense, "{who}: offsets are dense");
            }
            for group in self.groups.values() {
                let cursor = &group.cursors[number];
                assert!(cursor.floor <= partition.next, "{who}: nothing is settled before it comes");
                assert!(cursor.owner.is_none_or(|owner| group.members.contains(&owner)), "{who}: owners");
                assert!(cursor.owner.is_some() || group.members.is_empty(), "{who}: somebody reads it");
                let open = |offset: &u64| *offset < partition.next && !cursor.is_settled(*offset);
                assert!(cursor.failures.keys().all(open), "{who}: what is settled failed no more");
            }
        }
    }
}
