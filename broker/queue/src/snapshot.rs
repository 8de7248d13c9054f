//! The state as bytes: what a restart begins with, and what the hash of a state is a hash of.
//!
//! ```text
//! u8   version, 5; 4 while no group failed with a message that it has still to settle, 3 while nothing is owned
//!      either, and 2 while no pipeline remembers anything either: what would say nothing is left out then
//!      applied · now · topology (MessagePack)
//!      queues:     drawn in `snapshot/queue.rs`
//!      consumers:  drawn in `snapshot/consumer.rs`
//!      producers:  next sweep · id · epoch · last sequence · seen at · runs
//!      message ids: key · where stored · when
//!      streams (`stream/snapshot.rs`)
//!      kv: the last stale record · name · key · value · when it expires
//!      ownership (MessagePack)
//!      failures: stream · group · partition · offset · how often
//! u64  XXH3 of all before, little-endian
//! ```
//!
//! Numbers as in [`pack`](crate::pack); each list after its length. Everything is written in the order of its
//! key, so equal states are equal bytes. Timers, the count of live records and the matcher of bindings
//! follow from the rest and are built again.

use std::collections::BTreeSet;
use std::sync::Arc;

use wharf_protocol::{Name, ProducerId, Stored, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use crate::backlog::INDEX_MAX;
use crate::message_ids::MessageIds;
use crate::pack::{Packer, Short, Unpacker};
use crate::producers::{Producer, Range};
use crate::seeded::{self, Fault};
use crate::stream::{self, Stream};
use crate::timers::Timer;
use crate::{ConsumerId, Deduplication, Kv, QueueId, State, Topology};

mod consumer;
mod queue;

const VERSION: u8 = 5;
/// What was written before groups counted failures.
const VERSION_WITHOUT_FAILURES: u8 = 4;
/// What was written before anything was owned.
const VERSION_WITHOUT_OWNERS: u8 = 3;
/// What was written before pipelines remembered anything.
const VERSION_WITHOUT_KV: u8 = 2;
const CHECKSUM_BYTES: usize = 8;

/// Why bytes are not a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The checksum does not fit.
    #[error("the snapshot's checksum does not fit its {0} bytes: it is damaged or cut short")]
    Checksum(usize),
    /// A version that this broker does not know.
    #[error(
        "snapshot encoding {0} is not known here, only {VERSION}: another version of the broker wrote it"
    )]
    Version(u8),
    /// It contradicts itself.
    #[error("the snapshot contradicts itself: {0}")]
    Inconsistent(&'static str),
    /// The topology or a death in it cannot be read.
    #[error("a part of the snapshot cannot be read")]
    Part(#[from] rmp_serde::decode::Error),
}

impl From<Short> for RestoreError {
    fn from(_: Short) -> Self {
        Self::Inconsistent("a number or a list is not where it should be")
    }
}

impl State {
    /// The whole state as bytes, for [`restore`](Self::restore).
    pub fn snapshot(&self) -> Vec<u8> {
        let mut packer = self.pack();
        let checksum = xxh3_64(&packer.out);
        packer.out.extend_from_slice(&checksum.to_le_bytes());
        packer.out
    }

    /// A hash of all that matters: the same records give the same hash, on any machine, through any snapshot.
    ///
    /// It takes as long as a snapshot: some milliseconds for each 100,000 messages.
    pub fn hash(&self) -> u64 {
        xxh3_64(&self.pack().out)
    }

    /// The state that [`snapshot`](Self::snapshot) wrote.
    ///
    /// # Errors
    /// What keeps the bytes from being one.
    pub fn restore(bytes: &[u8]) -> Result<Self, RestoreError> {
        let damaged = || RestoreError::Checksum(bytes.len());
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(damaged)?;
        if xxh3_64(body) != u64::from_le_bytes(*checksum) {
            return Err(damaged());
        }
        let (version, body) = body.split_first().ok_or_else(damaged)?;
        if !(VERSION_WITHOUT_KV..=VERSION).contains(version) {
            return Err(RestoreError::Version(*version));
        }
        Self::unpack(*version, &mut Unpacker::new(body))
    }

    fn pack(&self) -> Packer {
        let mut packer = Packer::default();
        let nothing =
            (self.failures().next().is_none(), self.topology.ownership.is_empty(), self.kv.is_empty());
        let version = match nothing {
            (true, true, true) => VERSION_WITHOUT_KV,
            (true, true, false) => VERSION_WITHOUT_OWNERS,
            (true, false, _) => VERSION_WITHOUT_FAILURES,
            (false, ..) => VERSION,
        };
        packer.out.push(version);
        packer.number(self.applied);
        packer.number(self.now.0);
        packer.bytes(&rmp_serde::to_vec(&*self.topology).expect("memory takes every write"));
        packer.number(self.queues.len() as u64);
        for queue in self.queues.values() {
            queue::pack(queue, &mut packer);
        }
        packer.number(self.consumers.len() as u64);
        for (id, consumer) in &self.consumers {
            consumer::pack(*id, consumer, &mut packer);
        }
        packer.number(self.producers.sweep_at.0);
        packer.number(self.producers.known.len() as u64);
        for (id, producer) in &self.producers.known {
            pack_producer(*id, producer, &mut packer);
        }
        let ids = self.message_ids.iter();
        packer.number(ids.len() as u64);
        let mut last = Timestamp(0);
        for (key, stored, at) in ids {
            packer.wide(key);
            packer.number(stored.index);
            packer.number(u64::from(stored.entries));
            packer.step(last.0, at.0);
            last = at;
        }
        stream::pack(self.streams.values(), &mut packer);
        if version > VERSION_WITHOUT_KV {
            self.kv.pack(&mut packer);
        }
        if version > VERSION_WITHOUT_OWNERS {
            let ownership = rmp_serde::to_vec(&self.topology.ownership);
            packer.bytes(&ownership.expect("memory takes every write"));
        }
        if version > VERSION_WITHOUT_FAILURES {
            packer.number(self.failures().count() as u64);
            for (stream, group, partition, offset, failures) in self.failures() {
                packer.number(u64::from(stream.0));
                packer.bytes(group.as_str().as_bytes());
                packer.number(u64::from(partition));
                packer.number(offset);
                packer.number(u64::from(failures));
            }
        }
        packer
    }

    fn unpack(version: u8, unpacker: &mut Unpacker<'_>) -> Result<Self, RestoreError> {
        let mut state =
            Self { applied: unpacker.number()?, now: Timestamp(unpacker.number()?), ..Self::default() };
        if state.applied > INDEX_MAX {
            return Err(RestoreError::Inconsistent("it is of a record past the last"));
        }
        let mut topology: Topology = rmp_serde::from_slice(unpacker.bytes()?)?;
        if let Some(problem) = topology.inconsistency() {
            return Err(RestoreError::Inconsistent(problem));
        }
        topology.rebuild_matcher();
        state.topology = Arc::new(topology);
        for _ in 0..unpacker.count()? {
            let queue = queue::unpack(&state.topology, state.now, unpacker)?;
            if state.queues.insert(queue.id, queue).is_some() {
                return Err(RestoreError::Inconsistent("a queue is there twice"));
            }
        }
        if state.queues.len() != state.topology.queues().len() {
            return Err(RestoreError::Inconsistent("a declared queue is missing"));
        }
        for _ in 0..unpacker.count()? {
            let (id, consumer) = consumer::unpack(&state, unpacker)?;
            if state.consumers.insert(id, consumer).is_some() {
                return Err(RestoreError::Inconsistent("a consumer is there twice"));
            }
        }
        state.producers.sweep_at = Timestamp(unpacker.number()?);
        for _ in 0..unpacker.count()? {
            let (id, producer) = unpack_producer(unpacker)?;
            state.producers.known.insert(id, producer);
        }
        state.message_ids = unpack_message_ids(state.topology.deduplication(), unpacker)?;
        if seeded::is(Fault::DedupTableNotRestored) {
            (state.message_ids, state.producers) = Default::default();
        }
        state.take_streams(stream::unpack(&state.topology, unpacker)?)?;
        if version > VERSION_WITHOUT_KV {
            state.kv = Kv::unpack(unpacker)?;
        }
        if version > VERSION_WITHOUT_OWNERS {
            Arc::make_mut(&mut state.topology).ownership = rmp_serde::from_slice(unpacker.bytes()?)?;
            if !state.topology.owners_own() {
                return Err(RestoreError::Inconsistent("somebody owns a queue or stream that is not there"));
            }
        }
        if version > VERSION_WITHOUT_FAILURES {
            state.unpack_failures(unpacker)?;
        }
        if !unpacker.is_at_end() {
            return Err(RestoreError::Inconsistent("something follows its end"));
        }
        state.rebuild()?;
        Ok(state)
    }

    /// What groups failed with and have still to settle: stream, group, partition, offset, how often.
    fn failures(&self) -> impl Iterator<Item = (QueueId, &Name, u16, u64, u32)> {
        let groups = self
            .streams
            .values()
            .flat_map(|stream| stream.groups.iter().map(|(name, group)| (stream.id, name, group)));
        let cursors = groups.flat_map(|(id, name, group)| {
            (0..).zip(&group.cursors).map(move |(n, cursor)| (id, name, n, cursor))
        });
        cursors.flat_map(|(id, name, partition, cursor)| {
            let failures = cursor.failures.iter();
            failures.map(move |(offset, failures)| (id, name, partition, *offset, *failures))
        })
    }

    fn unpack_failures(&mut self, unpacker: &mut Unpacker<'_>) -> Result<(), RestoreError> {
        for _ in 0..unpacker.count()? {
            let id = QueueId(unpacker.small()?);
            let name = std::str::from_utf8(unpacker.bytes()?).ok();
            let (partition, offset, failures) =
                (unpacker.small::<u16>()?, unpacker.number()?, unpacker.small()?);
            let stream = self.streams.get_mut(&id);
            let cursor = stream.zip(name).and_then(|(stream, name)| {
                let next = stream.partitions.get(usize::from(partition))?.next;
                let cursor = &mut stream.groups.get_mut(name)?.cursors[usize::from(partition)];
                (offset < next && !cursor.is_settled(offset)).then_some(cursor)
            });
            let cursor = cursor.ok_or(RestoreError::Inconsistent("a group failed with what it has not"))?;
            cursor.failures.insert(offset, failures);
        }
        Ok(())
    }

    /// Takes streams over from a snapshot, with all that follows from them.
    fn take_streams(&mut self, streams: Vec<Stream>) -> Result<(), RestoreError> {
        for mut stream in streams {
            for (name, group) in &stream.groups {
                for member in &group.members {
                    if self.members.insert(*member, (stream.id, name.clone())).is_some() {
                        return Err(RestoreError::Inconsistent("a member is in two groups"));
                    }
                }
            }
            for (number, partition) in (0..).zip(&mut stream.partitions) {
                partition.places().for_each(|(_, place)| self.live.add(place.id.index));
                partition.armed = partition.next_due(&stream.policy);
                if let Some(at) = partition.armed {
                    self.timers.arm(at, Timer::Retain(stream.id, number));
                }
            }
            if self.streams.insert(stream.id, stream).is_some() {
                return Err(RestoreError::Inconsistent("a stream is there twice"));
            }
        }
        if self.streams.len() != self.topology.streams().len() {
            return Err(RestoreError::Inconsistent("a declared stream is missing"));
        }
        Ok(())
    }

    /// Builds what follows from the rest, and checks that the rest agrees with itself.
    fn rebuild(&mut self) -> Result<(), RestoreError> {
        for (id, queue) in &mut self.queues {
            let mine = || self.consumers.iter().filter(|(_, consumer)| consumer.queue == *id);
            let held: Vec<u64> = mine().flat_map(|(_, consumer)| consumer.held()).collect();
            queue::fill(queue, &held);
            queue.consumers = mine().count() as u64;
            let oldest = mine().min_by_key(|(_, consumer)| consumer.attached_by).map(|(id, _)| *id);
            queue.active = oldest.filter(|_| queue.policy.single_active);
            if queue.unused_since.is_some() != (queue.consumers == 0) {
                return Err(RestoreError::Inconsistent("a queue is unused and has consumers, or neither"));
            }
            if queue.policy.exclusive && queue.consumers > 1 {
                return Err(RestoreError::Inconsistent("an exclusive queue has more than one consumer"));
            }
            queue.untold =
                mine().filter(|(_, c)| c.in_line && c.notify_empty && !c.told_empty).count() as u64;
            if !queue.is_conserved_exactly(&held) {
                return Err(RestoreError::Inconsistent("a message is in no place, or in two"));
            }
            let in_line: BTreeSet<ConsumerId> =
                mine().filter(|(_, c)| c.in_line).map(|(id, _)| *id).collect();
            let takers: BTreeSet<ConsumerId> = queue.takers.iter().copied().collect();
            if in_line != takers || takers.len() != queue.takers.len() {
                return Err(RestoreError::Inconsistent("a line of consumers is not that of its queue"));
            }
            for (offset, extra) in &queue.extras {
                if let Some(at) = extra.not_before {
                    self.timers.arm(at, Timer::Ready(*id, *offset));
                }
                // One that has run out is held by a consumer, or rests where it could not be buried.
                let slot = queue.backlog.slot(*offset).expect("the queue was found to agree with itself");
                queue.arm_expiry(*offset, slot, extra, self.now, &mut self.timers);
            }
            if let Some(at) = queue.oldest_armed {
                self.timers.arm(at, Timer::Oldest(*id));
            }
            if let Some(at) = queue.unused_until() {
                self.timers.arm(at, Timer::Unused(*id));
            }
            for (_, slot) in queue.backlog.unsettled() {
                self.live.add(slot.id.index);
            }
        }
        for (id, consumer) in &self.consumers {
            if let Some(at) = consumer.armed {
                self.timers.arm(at, Timer::Lease(*id));
            }
        }
        self.count_limited();
        self.count_owned();
        Ok(())
    }
}

fn pack_producer(id: ProducerId, producer: &Producer, packer: &mut Packer) {
    packer.wide(id.0);
    packer.number(u64::from(producer.epoch));
    packer.number(producer.last);
    packer.number(producer.seen_at.0);
    packer.number(producer.ranges.len() as u64);
    let (mut first, mut index) = (0, 0);
    for range in &producer.ranges {
        packer.step(first, range.first);
        packer.step(index, range.index);
        packer.number(range.count);
        packer.number(u64::from(range.entries));
        (first, index) = (range.first, range.index);
    }
    packer.number(producer.gaps.len() as u64);
    let mut end = 0;
    for (first, last) in &producer.gaps {
        packer.number(first - end);
        packer.number(last - first);
        end = *last;
    }
}

fn unpack_producer(unpacker: &mut Unpacker<'_>) -> Result<(ProducerId, Producer), RestoreError> {
    let id = ProducerId(unpacker.wide()?);
    let (epoch, last, seen_at) = (unpacker.small()?, unpacker.number()?, Timestamp(unpacker.number()?));
    let mut producer = Producer { epoch, last, seen_at, ..Producer::default() };
    let (mut first, mut index) = (0, 0);
    for _ in 0..unpacker.count()? {
        first = unpacker.step(first)?;
        index = unpacker.step(index)?;
        let range = Range { first, index, count: unpacker.number()?, entries: unpacker.small()? };
        if first.checked_add(range.count).is_none() || index.checked_add(range.count).is_none() {
            return Err(RestoreError::Inconsistent("a run of sequences is past all bounds"));
        }
        producer.ranges.push_back(range);
    }
    let mut end = 0_u64;
    for _ in 0..unpacker.count()? {
        let first = end.checked_add(unpacker.number()?).ok_or(Short)?;
        end = first.checked_add(unpacker.number()?).filter(|end| *end < producer.last).ok_or(Short)?;
        producer.gaps.push_back((first, end));
    }
    Ok((id, producer))
}

fn unpack_message_ids(
    bounds: &Deduplication,
    unpacker: &mut Unpacker<'_>,
) -> Result<MessageIds, RestoreError> {
    let mut ids = MessageIds::default();
    let mut at = 0;
    for _ in 0..unpacker.count()? {
        let key = unpacker.wide()?;
        let stored = Stored { index: unpacker.number()?, entries: unpacker.small()? };
        at = unpacker.step(at)?;
        if ids.find(key).is_some() || stored.index > INDEX_MAX {
            return Err(RestoreError::Inconsistent("a message id is there twice"));
        }
        ids.store(key, stored, Timestamp(at), bounds);
    }
    Ok(ids)
}
