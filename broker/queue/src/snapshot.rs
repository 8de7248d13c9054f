//! The state as bytes: what a restart begins with, and what the hash of a state is a hash of.
//!
//! ```text
//! u8   version, 2
//!      applied · now · topology (MessagePack)
//!      queues:     id · next offset · cursor · counters · messages (offset, id, stored at: as steps)
//!                  · what is unusual about some · line of ready messages · line of consumers
//!      consumers:  id · queue · credit · flags · armed · first tag · window (offset, deadline: as steps)
//!      producers:  next sweep · id · epoch · last sequence · seen at · runs
//!      message ids: key · where stored · when
//!      streams (`stream/snapshot.rs`)
//! u64  XXH3 of all before, little-endian
//! ```
//!
//! Numbers as in [`pack`](crate::pack); each list after its length. Everything is written in the order of its
//! key, so equal states are equal bytes. Timers, the count of live records and the matcher of bindings
//! follow from the rest and are built again.

use std::collections::BTreeSet;
use std::sync::Arc;

use wharf_protocol::{Name, PRIORITY_MAX, ProducerId, Stored, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use crate::backlog::{Backlog, INDEX_MAX, Slot, packed, unpacked};
use crate::consumer::Consumer;
use crate::message_ids::MessageIds;
use crate::pack::{Packer, Short, Unpacker};
use crate::producers::{Producer, Range};
use crate::queue::{Counters, Extra, Queue};
use crate::stream::{self, Stream};
use crate::timers::Timer;
use crate::{ConsumerId, Deduplication, QueueId, QueuePolicy, State, Topology};

const VERSION: u8 = 2;
const CHECKSUM_BYTES: usize = 8;
/// No queue spans more offsets from its oldest message to its newest: a damaged one could claim anything.
const SPAN_MAX: u64 = 1 << 36;

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
        if *version != VERSION {
            return Err(RestoreError::Version(*version));
        }
        Self::unpack(&mut Unpacker::new(body))
    }

    fn pack(&self) -> Packer {
        let mut packer = Packer::default();
        packer.out.push(VERSION);
        packer.number(self.applied);
        packer.number(self.now.0);
        packer.bytes(&rmp_serde::to_vec(&*self.topology).expect("memory takes every write"));
        packer.number(self.queues.len() as u64);
        for queue in self.queues.values() {
            pack_queue(queue, &mut packer);
        }
        packer.number(self.consumers.len() as u64);
        for (id, consumer) in &self.consumers {
            pack_consumer(*id, consumer, &mut packer);
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
        packer
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Self, RestoreError> {
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
            let queue = unpack_queue(&state.topology, unpacker)?;
            if state.queues.insert(queue.id, queue).is_some() {
                return Err(RestoreError::Inconsistent("a queue is there twice"));
            }
        }
        if state.queues.len() != state.topology.queues().len() {
            return Err(RestoreError::Inconsistent("a declared queue is missing"));
        }
        for _ in 0..unpacker.count()? {
            let (id, consumer) = unpack_consumer(&state, unpacker)?;
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
        state.take_streams(stream::unpack(&state.topology, unpacker)?)?;
        if !unpacker.is_at_end() {
            return Err(RestoreError::Inconsistent("something follows its end"));
        }
        state.rebuild()?;
        Ok(state)
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
            queue.leased = held.len() as u64;
            queue.consumers = mine().count() as u64;
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
                // One that has run out is held by a consumer: it expires when it comes back.
                if let Some(at) = extra.expires.filter(|at| *at > self.now) {
                    self.timers.arm(at, Timer::Expire(*id, *offset));
                }
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
        Ok(())
    }
}

fn pack_queue(queue: &Queue, packer: &mut Packer) {
    packer.number(u64::from(queue.id.0));
    packer.bytes(queue.name.as_str().as_bytes());
    packer.number(queue.backlog.next_offset());
    packer.number(queue.backlog.cursor());
    let Counters { acked, dead_lettered, expired, purged, redriven, delivered, failed, returned } =
        queue.counters;
    for counter in [acked, dead_lettered, expired, purged, redriven, delivered, failed, returned] {
        packer.number(counter);
    }
    packer.number(queue.backlog.live());
    let (mut offset, mut id, mut at) = (0, 0, 0);
    for (next, slot) in queue.backlog.unsettled() {
        packer.number(next - offset);
        packer.step(id, packed(slot.id));
        packer.step(at, slot.stored_at.0);
        (offset, id, at) = (next, packed(slot.id), slot.stored_at.0);
    }
    packer.number(queue.extras.len() as u64);
    let mut last = 0;
    for (offset, extra) in &queue.extras {
        packer.number(offset - last);
        last = *offset;
        packer.number(u64::from(extra.attempts));
        packer.number(u64::from(extra.failures));
        packer.number(u64::from(extra.priority));
        packer.maybe(extra.expires.map(|at| at.0));
        packer.maybe(extra.not_before.map(|at| at.0));
        packer.flag(extra.death.is_some());
        if let Some(death) = &extra.death {
            packer.bytes(&rmp_serde::to_vec(death).expect("memory takes every write"));
        }
    }
    packer.number(queue.line.len() as u64);
    let mut last = 0;
    for rank in &queue.line {
        packer.number(rank - last);
        last = *rank;
    }
    packer.number(queue.takers.len() as u64);
    for consumer in &queue.takers {
        packer.number(consumer.0);
    }
}

fn unpack_queue(topology: &Topology, unpacker: &mut Unpacker<'_>) -> Result<Queue, RestoreError> {
    let id = QueueId(unpacker.small()?);
    let (name, policy) = declared(topology, id, unpacker.bytes()?)?;
    let mut queue = Queue::new(id, name, policy);
    let (next, cursor) = (unpacker.number()?, unpacker.number()?);
    let counters = &mut queue.counters;
    for counter in [
        &mut counters.acked,
        &mut counters.dead_lettered,
        &mut counters.expired,
        &mut counters.purged,
        &mut counters.redriven,
        &mut counters.delivered,
        &mut counters.failed,
        &mut counters.returned,
    ] {
        *counter = unpacker.number()?;
        if *counter > u64::MAX >> 8 {
            return Err(RestoreError::Inconsistent("a counter is past all bounds"));
        }
    }

    let count = unpacker.count()?;
    let mut slots = Vec::with_capacity(count);
    let (mut offset, mut id, mut at) = (0_u64, 0, 0);
    for n in 0..count {
        let step = unpacker.number()?;
        offset =
            offset.checked_add(step).filter(|offset| *offset < next && (n == 0 || step > 0)).ok_or(Short)?;
        id = unpacker.step(id)?;
        at = unpacker.step(at)?;
        slots.push((offset, Slot { id: unpacked(id), stored_at: Timestamp(at) }));
    }
    let mut last = 0_u64;
    for n in 0..unpacker.count()? {
        let step = unpacker.number()?;
        last = last.checked_add(step).filter(|_| n == 0 || step > 0).ok_or(Short)?;
        queue.extras.insert(last, unpack_extra(unpacker)?);
    }

    let first = slots.first().map_or(next, |(offset, _)| *offset);
    if next - first > SPAN_MAX || cursor > next {
        return Err(RestoreError::Inconsistent("a queue spans more than it can"));
    }
    queue.backlog = Backlog::starting_at(first);
    for (offset, slot) in slots {
        queue.backlog.skip_to(offset);
        queue.backlog.push(slot, queue.extras.contains_key(&offset));
    }
    queue.backlog.skip_to(next);
    queue.backlog.set_cursor(cursor);

    let mut last = 0_u64;
    for _ in 0..unpacker.count()? {
        last = last.checked_add(unpacker.number()?).ok_or(Short)?;
        queue.line.insert(last);
    }
    for _ in 0..unpacker.count()? {
        queue.takers.push_back(ConsumerId(unpacker.number()?));
    }
    queue.delayed = queue.extras.values().filter(|extra| extra.not_before.is_some()).count() as u64;
    queue.dead = queue.extras.values().filter(|extra| extra.death.is_some()).count() as u64;
    queue.ready = (queue.line.len() + queue.backlog.fresh().count()) as u64;
    let ranked = |rank: &u64| {
        let offset = crate::queue::unranked(*rank);
        queue.extras.get(&offset).is_some_and(|extra| crate::queue::rank(extra.priority, offset) == *rank)
    };
    if !queue.line.iter().all(ranked) {
        return Err(RestoreError::Inconsistent("a ready message is not where its priority belongs"));
    }
    Ok(queue)
}

fn declared(topology: &Topology, id: QueueId, name: &[u8]) -> Result<(Name, QueuePolicy), RestoreError> {
    let missing = RestoreError::Inconsistent("a queue is not declared");
    let Some((name, info)) = std::str::from_utf8(name).ok().and_then(|name| topology.named(name)) else {
        return Err(missing);
    };
    if info.id != id {
        return Err(missing);
    }
    Ok((name.clone(), info.policy.clone()))
}

fn unpack_extra(unpacker: &mut Unpacker<'_>) -> Result<Extra, RestoreError> {
    let (attempts, failures) = (unpacker.small()?, unpacker.small()?);
    let priority = unpacker.small()?;
    if priority > PRIORITY_MAX {
        return Err(RestoreError::Inconsistent("a priority is over the highest"));
    }
    let (expires, not_before) = (unpacker.maybe()?.map(Timestamp), unpacker.maybe()?.map(Timestamp));
    let death = if unpacker.flag()? { Some(rmp_serde::from_slice(unpacker.bytes()?)?) } else { None };
    Ok(Extra { attempts, failures, priority, expires, not_before, death })
}

fn pack_consumer(id: ConsumerId, consumer: &Consumer, packer: &mut Packer) {
    packer.number(id.0);
    packer.number(u64::from(consumer.queue.0));
    packer.number(consumer.credit);
    for flag in [consumer.auto_settle, consumer.notify_empty, consumer.told_empty, consumer.in_line] {
        packer.flag(flag);
    }
    packer.maybe(consumer.armed.map(|at| at.0));
    let (first_tag, window) = consumer.window();
    packer.number(first_tag);
    packer.number(window.len() as u64);
    let (mut last, mut at) = (0, 0);
    for (offset, deadline) in window {
        packer.flag(offset.is_some());
        if let Some(offset) = offset {
            packer.step(last, offset);
            last = offset;
        }
        packer.step(at, deadline.0);
        at = deadline.0;
    }
}

fn unpack_consumer(
    state: &State,
    unpacker: &mut Unpacker<'_>,
) -> Result<(ConsumerId, Consumer), RestoreError> {
    let id = ConsumerId(unpacker.number()?);
    let queue = QueueId(unpacker.small()?);
    let Some(of) = state.queues.get(&queue) else {
        return Err(RestoreError::Inconsistent("a consumer's queue is not there"));
    };
    let mut consumer = Consumer::new(queue, unpacker.number()?);
    consumer.auto_settle = unpacker.flag()?;
    consumer.notify_empty = unpacker.flag()?;
    consumer.told_empty = unpacker.flag()?;
    consumer.in_line = unpacker.flag()?;
    consumer.armed = unpacker.maybe()?.map(Timestamp);
    let first_tag = unpacker.number()?;
    let count = unpacker.count()?;
    let mut places = Vec::with_capacity(count);
    let (mut last, mut at) = (0, 0);
    for _ in 0..count {
        let offset = if unpacker.flag()? { Some(unpacker.step(last)?) } else { None };
        if let Some(offset) = offset {
            last = offset;
            if of.backlog.slot(offset).is_none() {
                return Err(RestoreError::Inconsistent("a consumer holds a message that is not there"));
            }
        }
        at = unpacker.step(at)?;
        places.push((offset, Timestamp(at)));
    }
    let due = consumer.armed.is_none_or(|at| at > state.now);
    if consumer.set_window(first_tag, places).is_none() || !due || (consumer.in_line && !consumer.can_take())
    {
        return Err(RestoreError::Inconsistent("a consumer cannot be as it is said to be"));
    }
    Ok((id, consumer))
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
