//! A queue as the bytes of a snapshot.
//!
//! ```text
//! id · name · next offset · cursor · counters
//! times:      unused since · unexpired from · oldest armed
//! unusual:    of each: offset · attempts · failures · priority · expires · laid at · not before ·
//!             1 a death follows, 2 a past · [death] · [past]
//! messages:   how many · 1: lanes follow each
//!             runs of offsets that follow each other: gap · length
//!               of each: id · stored at · bytes [· lane]
//! line:       ranks of ready messages        takers: consumers
//! tenants:    period · of each: lane · work · as of
//! ```
//!
//! What is unusual comes before the messages: it says which of them the cursor passes over. What is parked by key
//! or waits in a tenant's lane is what is left when all other places are filled.

use std::collections::BTreeSet;

use wharf_protocol::{Death, MessageId, Name, PRIORITY_MAX, Timestamp};

use super::RestoreError;
use crate::backlog::{Backlog, INDEX_MAX, Slot};
use crate::lane::{LaneId, Lanes};
use crate::pack::{Packer, Short, Unpacker, step};
use crate::past::{PAST_DEATHS_MAX, Past};
use crate::purse::Bytes;
use crate::queue::{Counters, Extra, Queue, rank, unranked};
use crate::{ConsumerId, QueueId, QueuePolicy, Topology};

/// A message is dead: the first that was ever written here, as a flag.
const HAS_DEATH: u64 = 1;
/// A message was redriven or edited.
const HAS_PAST: u64 = 2;
/// What a waiting message takes, nearly always at most.
const MESSAGE_BYTES: usize = 4;
/// No queue spans more offsets from its oldest message to its newest: a damaged one could claim anything.
const SPAN_MAX: u64 = 1 << 36;

pub(super) fn pack(queue: &Queue, packer: &mut Packer) {
    packer.number(u64::from(queue.id.0));
    packer.bytes(queue.name.as_str().as_bytes());
    packer.number(queue.backlog.next_offset());
    packer.number(queue.backlog.cursor());
    let Counters {
        acked,
        dead_lettered,
        expired,
        purged,
        redriven,
        moved,
        dropped,
        delivered,
        failed,
        returned,
    } = queue.counters;
    for counter in
        [acked, dead_lettered, expired, purged, redriven, moved, dropped, delivered, failed, returned]
    {
        packer.number(counter);
    }
    packer.maybe(queue.unused_since.map(|at| at.0));
    packer.number(queue.unexpired_from);
    packer.maybe(queue.oldest_armed.map(|at| at.0));
    packer.number(queue.extras.len() as u64);
    let mut last = 0;
    for (offset, extra) in &queue.extras {
        packer.number(offset - last);
        last = *offset;
        pack_extra(extra, packer);
    }
    pack_messages(&queue.backlog, packer);
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
    if let Some(lanes) = &queue.lanes {
        lanes.pack(packer);
    }
}

fn pack_messages(backlog: &Backlog, packer: &mut Packer) {
    packer.number(backlog.live());
    let lanes = backlog.has_lanes();
    packer.flag(lanes);
    packer.out.reserve(backlog.live() as usize * MESSAGE_BYTES);
    let (mut end, mut id, mut at, mut bytes) = (0, MessageId { index: 0, entry: 0 }, 0, 0);
    for run in backlog.runs(0) {
        packer.number(run.start - end);
        packer.number(run.end - run.start);
        end = run.end;
        for (offset, slot) in run.clone().zip(backlog.slots(run)) {
            let steps = (step(at, slot.stored_at.0), step(bytes, u64::from(slot.bytes)));
            if slot.id.entry == 0 {
                packer.three([step(id.index, slot.id.index) << 1, steps.0, steps.1]);
            } else {
                packer.message_step(id, slot.id);
                packer.number(steps.0);
                packer.number(steps.1);
            }
            (id, at, bytes) = (slot.id, slot.stored_at.0, u64::from(slot.bytes));
            if lanes {
                packer.number(u64::from(backlog.lane(offset).0));
            }
        }
    }
}

/// The queue as far as it does not hang on consumers; the rest is [`fill`]'s.
pub(super) fn unpack(
    topology: &Topology,
    now: Timestamp,
    unpacker: &mut Unpacker<'_>,
) -> Result<Queue, RestoreError> {
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
        &mut counters.moved,
        &mut counters.dropped,
        &mut counters.delivered,
        &mut counters.failed,
        &mut counters.returned,
    ] {
        *counter = unpacker.number()?;
        if *counter > u64::MAX >> 8 {
            return Err(RestoreError::Inconsistent("a counter is past all bounds"));
        }
    }
    queue.unused_since = unpacker.maybe()?.map(Timestamp);
    queue.unexpired_from = unpacker.number()?;
    queue.oldest_armed = unpacker.maybe()?.map(Timestamp);
    if queue.oldest_armed.is_some() && queue.policy.ttl_ms == 0 {
        return Err(RestoreError::Inconsistent("a queue without a time to live waits for its end"));
    }

    let mut last = 0_u64;
    for n in 0..unpacker.count()? {
        let step = unpacker.number()?;
        last = last.checked_add(step).filter(|_| n == 0 || step > 0).ok_or(Short)?;
        queue.extras.insert(last, unpack_extra(unpacker)?);
    }
    if cursor > next {
        return Err(RestoreError::Inconsistent("a queue has delivered more than came"));
    }
    let mut slots = Slots::default();
    queue.backlog = slots.unpack(next, &queue, unpacker)?;
    queue.backlog.set_cursor(cursor);
    queue.bytes = Bytes::of(slots.bytes);

    let mut last = 0_u64;
    for _ in 0..unpacker.count()? {
        last = last.checked_add(unpacker.number()?).ok_or(Short)?;
        queue.line.insert(last);
    }
    for _ in 0..unpacker.count()? {
        queue.takers.push_back(ConsumerId(unpacker.number()?));
    }
    if let Some(lanes) = &mut queue.lanes {
        lanes.unpack(now, unpacker)?;
    }
    queue.delayed = queue.delayed().count() as u64;
    queue.dead = queue.extras.values().filter(|extra| extra.death.is_some()).count() as u64;
    let ranked = |place: &u64| {
        let offset = unranked(*place);
        let priority = queue.extras.get(&offset).map_or(0, |extra| extra.priority);
        let lined = queue.extras.contains_key(&offset) || matches!(queue.lanes, Some(Lanes::Keys(_)));
        lined && rank(priority, offset) == *place
    };
    if !queue.line.iter().all(ranked) {
        return Err(RestoreError::Inconsistent("a ready message is not where its priority belongs"));
    }
    Ok(queue)
}

/// Puts the messages of a queue that are in no place by now where they are: `held` by consumers, or in lanes.
pub(super) fn fill(queue: &mut Queue, held: &[u64]) {
    queue.leased = held.len() as u64;
    let bytes = |offset: u64| queue.backlog.slot(offset).map_or(0, |slot| u64::from(slot.bytes));
    let not_ready: u64 = held.iter().copied().chain(queue.delayed()).map(bytes).sum();
    queue.ready_bytes = queue.bytes.get().saturating_sub(not_ready);
    if let Some(mut lanes) = queue.lanes.take() {
        let elsewhere = queue.line.iter().map(|rank| unranked(*rank)).chain(queue.delayed());
        let elsewhere: BTreeSet<u64> = elsewhere.chain(held.iter().copied()).collect();
        let lane = |offset: u64| queue.backlog.lane(offset);
        let left = queue.backlog.runs(0).flatten();
        let left = left.filter(|o| !elsewhere.contains(o) && !queue.backlog.is_fresh(*o));
        let priority = |offset: &u64| queue.extras.get(offset).map_or(0, |extra| extra.priority);
        let waiting = left.map(|offset| (lane(offset), rank(priority(&offset), offset)));
        let failed = |offset: &u64| queue.extras[offset].failures > 0;
        let resting = queue.delayed().filter(failed).map(lane);
        lanes.fill(waiting, held.iter().copied().map(lane), resting);
        queue.lanes = Some(lanes);
    }
    let laned = queue.lanes.as_ref().map_or(0, Lanes::waiting);
    queue.ready = (queue.line.len() + queue.backlog.fresh().count()) as u64 + laned;
}

/// What the messages read so far add up to.
#[derive(Default)]
struct Slots {
    bytes: u64,
}

impl Slots {
    fn unpack(
        &mut self,
        next: u64,
        queue: &Queue,
        unpacker: &mut Unpacker<'_>,
    ) -> Result<Backlog, RestoreError> {
        let too_wide = RestoreError::Inconsistent("a queue spans more than it can");
        let mut left = unpacker.count()? as u64;
        let lanes = unpacker.flag()?;
        let by_tenant = matches!(queue.lanes, Some(Lanes::Tenants(_)));
        let mut unusual = queue.extras.keys().copied().peekable();
        let (mut end, mut id, mut at, mut bytes) = (0_u64, MessageId { index: 0, entry: 0 }, 0, 0);
        let mut backlog: Option<Backlog> = None;
        while left > 0 {
            let start = end.checked_add(unpacker.number()?).ok_or(Short)?;
            let length = unpacker.number()?;
            end = start.checked_add(length).filter(|end| *end <= next).ok_or(Short)?;
            left = left.checked_sub(length).filter(|_| length > 0).ok_or(Short)?;
            let backlog = backlog.get_or_insert_with(|| Backlog::starting_at(start));
            if next - backlog.first_offset() > SPAN_MAX {
                return Err(too_wide);
            }
            backlog.skip_to(start);
            for offset in start..end {
                id = unpacker.message_step(id)?;
                at = unpacker.step(at)?;
                bytes = unpacker.step(bytes)?;
                let size = u32::try_from(bytes).map_err(|_| Short)?;
                if id.index > INDEX_MAX {
                    return Err(RestoreError::Inconsistent("a message lies past the last record"));
                }
                while unusual.peek().is_some_and(|before| *before < offset) {
                    unusual.next();
                }
                let aside = by_tenant || unusual.peek() == Some(&offset);
                backlog.push(Slot { id, stored_at: Timestamp(at), bytes: size }, aside);
                if lanes {
                    match LaneId(unpacker.small()?) {
                        LaneId::NONE => {}
                        lane => backlog.set_lane(lane),
                    }
                }
                self.bytes += bytes;
            }
        }
        let mut backlog = backlog.unwrap_or_else(|| Backlog::starting_at(next));
        backlog.skip_to(next);
        Ok(backlog)
    }
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

fn pack_extra(extra: &Extra, packer: &mut Packer) {
    packer.number(u64::from(extra.attempts));
    packer.number(u64::from(extra.failures));
    packer.number(u64::from(extra.priority));
    packer.maybe(extra.expires.map(|at| at.0));
    packer.maybe(extra.laid_at.map(|at| at.0));
    packer.maybe(extra.not_before.map(|at| at.0));
    let (dead, lived) = (extra.death.is_some(), extra.past.is_some());
    packer.number((u64::from(dead) * HAS_DEATH) | (u64::from(lived) * HAS_PAST));
    if let Some(death) = &extra.death {
        packer.bytes(&rmp_serde::to_vec(death).expect("memory takes every write"));
    }
    if let Some(past) = &extra.past {
        packer.bytes(&rmp_serde::to_vec(past).expect("memory takes every write"));
    }
}

fn unpack_extra(unpacker: &mut Unpacker<'_>) -> Result<Extra, RestoreError> {
    let (attempts, failures) = (unpacker.small()?, unpacker.small()?);
    let priority = unpacker.small()?;
    if priority > PRIORITY_MAX {
        return Err(RestoreError::Inconsistent("a priority is over the highest"));
    }
    let (expires, laid_at) = (unpacker.maybe()?.map(Timestamp), unpacker.maybe()?.map(Timestamp));
    let not_before = unpacker.maybe()?.map(Timestamp);
    let flags = unpacker.number()?;
    if flags & !(HAS_DEATH | HAS_PAST) != 0 {
        return Err(RestoreError::Inconsistent("a message has what is not known here"));
    }
    let death: Option<Box<Death>> =
        if flags & HAS_DEATH != 0 { Some(rmp_serde::from_slice(unpacker.bytes()?)?) } else { None };
    let past: Option<Box<Past>> =
        if flags & HAS_PAST != 0 { Some(rmp_serde::from_slice(unpacker.bytes()?)?) } else { None };
    if past.as_ref().is_some_and(|past| past.deaths.len() > PAST_DEATHS_MAX) {
        return Err(RestoreError::Inconsistent("a message died more often than is remembered"));
    }
    Ok(Extra { attempts, failures, priority, expires, laid_at, not_before, death, past })
}
