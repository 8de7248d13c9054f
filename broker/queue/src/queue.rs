//! One queue: which of its messages are ready, leased, delayed or settled, and in what order they go.
//!
//! A plain message that waits for its first delivery is a slot of the backlog and nothing else. What is
//! unusual about one (a priority, a time to live, a delay, earlier deliveries, a death) is kept aside by
//! its offset, for as long as it is there. Where the policy asks for [lanes](crate::lane), some or all that is
//! ready lies in them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use wharf_protocol::{Death, Name, PRIORITY_MAX, Timestamp};

use crate::backlog::{Backlog, Slot};
use crate::lane::{LaneId, Lanes};
use crate::live::LiveRecords;
use crate::past::Past;
use crate::purse::Bytes;
use crate::seeded::{self, Fault};
use crate::timers::{Timer, Timers};
use crate::{ConsumerId, QueueId, QueuePolicy};

mod conserved;
mod expiry;
mod look;
mod turn;

/// Offsets stay below this: a priority and an offset share 64 bits.
const OFFSET_BITS: u32 = 59;

#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) id: QueueId,
    pub(crate) name: Name,
    pub(crate) policy: QueuePolicy,
    pub(crate) backlog: Backlog,
    /// What is unusual about messages that are not settled, by offset.
    pub(crate) extras: BTreeMap<u64, Extra>,
    /// Ready messages that are not plain and fresh, and in no lane, by [`rank`].
    pub(crate) line: BTreeSet<u64>,
    pub(crate) lanes: Option<Lanes>,
    pub(crate) ready: u64,
    pub(crate) leased: u64,
    pub(crate) delayed: u64,
    /// How many messages have a death.
    pub(crate) dead: u64,
    /// What the messages that are not settled take.
    pub(crate) bytes: Bytes,
    /// What those of them take that are ready.
    pub(crate) ready_bytes: u64,
    pub(crate) counters: Counters,
    /// Consumers that can take more, the next one first.
    pub(crate) takers: VecDeque<ConsumerId>,
    /// How many of the takers want to hear that the queue is empty, and have not.
    pub(crate) untold: u64,
    pub(crate) consumers: u64,
    /// The one consumer that is served, where the policy says that one is.
    pub(crate) active: Option<ConsumerId>,
    /// Since when it has no consumer.
    pub(crate) unused_since: Option<Timestamp>,
    /// Every message without an [`Extra`] below this offset has been looked at for the queue's time to live.
    pub(crate) unexpired_from: u64,
    /// The moment for which the timer of those messages is armed: at the oldest one's end or before.
    pub(crate) oldest_armed: Option<Timestamp>,
}

/// What is unusual about a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extra {
    /// Deliveries that ended without settling it.
    pub(crate) attempts: u32,
    /// Those of them, in this queue, that were nacked or lapsed.
    pub(crate) failures: u32,
    pub(crate) priority: u8,
    /// When its own time to live runs out; nothing is delivered from then on.
    pub(crate) expires: Option<Timestamp>,
    /// When it came here, if not when it was stored: the queue's time to live counts from then.
    pub(crate) laid_at: Option<Timestamp>,
    /// It is delayed until then.
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) death: Option<Box<Death>>,
    /// What it went through before, when it was redriven or edited.
    pub(crate) past: Option<Box<Past>>,
}

/// What happened in a queue since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) acked: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) expired: u64,
    pub(crate) purged: u64,
    pub(crate) redriven: u64,
    pub(crate) moved: u64,
    pub(crate) dropped: u64,
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
    pub(crate) returned: u64,
}

/// How a message ends in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Acked,
    DeadLettered,
    Expired,
    Purged,
    Redriven,
    Moved,
    Dropped,
}

impl Counters {
    pub(crate) fn settled(&self) -> u64 {
        self.acked
            + self.dead_lettered
            + self.expired
            + self.purged
            + self.redriven
            + self.moved
            + self.dropped
    }
}

impl Queue {
    pub(crate) fn new(id: QueueId, name: Name, policy: QueuePolicy) -> Self {
        Self {
            id,
            name,
            lanes: Lanes::asked_for(&policy),
            policy,
            backlog: Backlog::default(),
            extras: BTreeMap::new(),
            line: BTreeSet::new(),
            ready: 0,
            leased: 0,
            delayed: 0,
            dead: 0,
            bytes: Bytes::default(),
            ready_bytes: 0,
            counters: Counters::default(),
            takers: VecDeque::new(),
            untold: 0,
            consumers: 0,
            active: None,
            unused_since: None,
            unexpired_from: 0,
            oldest_armed: None,
        }
    }

    /// Adds a plain message that comes as it is stored.
    #[inline]
    pub(crate) fn push_plain(&mut self, slot: Slot, lane: LaneId, timers: &mut Timers) {
        let by_tenant = matches!(self.lanes, Some(Lanes::Tenants(_)));
        let offset = self.add(slot, lane, by_tenant);
        if self.policy.ttl_ms > 0 {
            self.arm_oldest(slot.stored_at, timers);
        }
        if by_tenant {
            self.line_up(offset, slot, 0, slot.stored_at);
        } else {
            self.ready += 1;
            self.ready_bytes += u64::from(slot.bytes);
        }
    }

    /// Adds a message that has something unusual. `now` is when it comes here.
    pub(crate) fn push(
        &mut self,
        slot: Slot,
        lane: LaneId,
        extra: Extra,
        now: Timestamp,
        timers: &mut Timers,
    ) {
        let offset = self.add(slot, lane, true);
        self.dead += u64::from(extra.death.is_some());
        let (priority, not_before) = (extra.priority, extra.not_before);
        self.arm_expiry(offset, slot, &extra, now, timers);
        self.extras.insert(offset, extra);
        match not_before {
            Some(at) => {
                timers.arm(at, Timer::Ready(self.id, offset));
                self.delayed += 1;
            }
            None => self.line_up(offset, slot, priority, now),
        }
    }

    /// Gives a message its place in the backlog.
    #[inline]
    fn add(&mut self, slot: Slot, lane: LaneId, aside: bool) -> u64 {
        let offset = self.backlog.push(slot, aside);
        assert!(offset >> OFFSET_BITS == 0, "offsets stay below 2^59");
        // One that comes from a queue with lanes keeps its own, for the way back.
        if lane != LaneId::NONE {
            self.backlog.set_lane(lane);
        }
        self.bytes.add(u64::from(slot.bytes));
        offset
    }

    /// Settles a message that a consumer holds.
    #[inline]
    pub(crate) fn settle_leased(
        &mut self,
        offset: u64,
        fate: Fate,
        now: Timestamp,
        timers: &mut Timers,
        live: &mut LiveRecords,
    ) {
        self.leased -= 1;
        self.land(offset, now);
        self.remove(offset, fate, timers, live);
    }

    /// Ends a lease without settling: the message is nowhere until it is
    /// [readied](Self::ready), [delayed](Self::delay) or [removed](Self::remove).
    pub(crate) fn unlease(
        &mut self,
        offset: u64,
        failed: bool,
        now: Timestamp,
        timers: &mut Timers,
    ) -> &Extra {
        self.leased -= 1;
        self.land(offset, now);
        self.make_unusual(offset, now, timers);
        let extra = self.extras.get_mut(&offset).expect("just made unusual");
        if !seeded::is(Fault::AttemptForgotten) {
            extra.attempts = extra.attempts.saturating_add(1);
        }
        if failed {
            extra.failures = extra.failures.saturating_add(1);
            self.counters.failed += 1;
        } else {
            self.counters.returned += 1;
        }
        extra
    }

    /// Takes a message that is ready or delayed out of its place: it is nowhere then. `false` when it is
    /// neither: a consumer holds it, or it is settled.
    pub(crate) fn withdraw(&mut self, offset: u64, timers: &mut Timers) -> bool {
        let Some(slot) = self.backlog.slot(offset) else { return false };
        let mut priority = 0;
        if let Some(extra) = self.extras.get_mut(&offset) {
            priority = extra.priority;
            if let Some(at) = extra.not_before.take() {
                let blocks = extra.failures > 0;
                timers.cancel(at, Timer::Ready(self.id, offset));
                self.delayed -= 1;
                if blocks {
                    self.unblock(offset);
                }
                return true;
            }
        }
        let (rank, lane) = (rank(priority, offset), self.backlog.lane(offset));
        let in_line = self.line.remove(&rank);
        if in_line {
            self.promote(lane);
        }
        if !in_line && !self.lanes.as_mut().is_some_and(|lanes| lanes.remove(lane, rank)) {
            if !self.backlog.is_fresh(offset) {
                return false;
            }
            self.backlog.set_aside(offset);
        }
        self.ready -= 1;
        self.ready_bytes -= u64::from(slot.bytes);
        true
    }

    /// Makes a message that is nowhere ready, at its place by priority and offset.
    pub(crate) fn ready(&mut self, offset: u64, now: Timestamp) {
        let priority = self.extras.get(&offset).map_or(0, |extra| extra.priority);
        let slot = self.backlog.slot(offset).expect("what is readied is not settled");
        self.line_up(offset, slot, priority, now);
    }

    /// Delays a message that is nowhere, until a later moment. One that failed here holds its key's others up
    /// meanwhile; one that has run out is told so when the delay is over.
    pub(crate) fn delay(&mut self, offset: u64, until: Timestamp, now: Timestamp, timers: &mut Timers) {
        self.make_unusual(offset, now, timers);
        let slot = self.backlog.slot(offset).expect("what is delayed is not settled");
        let end = self.expiry(slot, &self.extras[&offset]).filter(|end| *end <= now);
        if let Some(end) = end {
            // Time may have jumped past its end, whose timer is then still to come.
            timers.cancel(end, Timer::Expire(self.id, offset));
        }
        let extra = self.extras.get_mut(&offset).expect("just made unusual");
        extra.not_before = Some(until);
        let blocks = extra.failures > 0;
        self.delayed += 1;
        timers.arm(until, Timer::Ready(self.id, offset));
        if let (true, Some(Lanes::Keys(keys))) = (blocks, &mut self.lanes) {
            keys.block(self.backlog.lane(offset));
        }
    }

    /// Marks a message that is nowhere as dead, here where it lies: it stays, without a time to live of its
    /// own.
    pub(crate) fn die_here(&mut self, offset: u64, death: Box<Death>, now: Timestamp, timers: &mut Timers) {
        self.make_unusual(offset, now, timers);
        let slot = self.backlog.slot(offset).expect("what dies is not settled");
        let mut extra = self.extras.remove(&offset).expect("just made unusual");
        self.disarm(offset, slot, &extra, timers);
        if extra.death.is_none() {
            self.dead += 1;
            extra.laid_at = Some(now);
        }
        (extra.expires, extra.death) = (None, Some(death));
        self.arm_expiry(offset, slot, &extra, now, timers);
        self.extras.insert(offset, extra);
    }

    /// Settles a message that is nowhere.
    #[inline]
    pub(crate) fn remove(
        &mut self,
        offset: u64,
        fate: Fate,
        timers: &mut Timers,
        live: &mut LiveRecords,
    ) -> (Slot, Extra) {
        let slot = self.backlog.settle(offset).expect("a message is settled once");
        live.remove(slot.id.index);
        self.bytes.sub(u64::from(slot.bytes));
        let extra = if self.extras.is_empty() { None } else { self.extras.remove(&offset) };
        let extra = match extra {
            Some(extra) => {
                self.disarm(offset, slot, &extra, timers);
                self.dead -= u64::from(extra.death.is_some());
                extra
            }
            None => Extra::default(),
        };
        let counter = match fate {
            Fate::Acked => &mut self.counters.acked,
            Fate::DeadLettered => &mut self.counters.dead_lettered,
            Fate::Expired => &mut self.counters.expired,
            Fate::Purged => &mut self.counters.purged,
            Fate::Redriven => &mut self.counters.redriven,
            Fate::Moved => &mut self.counters.moved,
            Fate::Dropped => &mut self.counters.dropped,
        };
        *counter += 1;
        (slot, extra)
    }

    /// Settles all that is ready or delayed: how many messages.
    pub(crate) fn purge(&mut self, timers: &mut Timers, live: &mut LiveRecords) -> u64 {
        let delayed: Vec<u64> = self.delayed().collect();
        for offset in &delayed {
            self.withdraw(*offset, timers);
        }
        let mut gone: Vec<u64> = self.backlog.fresh().collect();
        gone.extend(self.line.iter().map(|rank| unranked(*rank)));
        gone.extend(self.lanes.iter().flat_map(|lanes| lanes.ranks()).map(unranked));
        debug_assert_eq!(gone.len() as u64, self.ready, "each waits in one place");
        self.line.clear();
        self.lanes.iter_mut().for_each(Lanes::clear);
        (self.ready, self.ready_bytes) = (0, 0);
        gone.extend(delayed);
        for offset in &gone {
            self.remove(*offset, Fate::Purged, timers, live);
        }
        gone.len() as u64
    }

    /// Lets go of all messages: the queue is about to be dropped.
    pub(crate) fn abandon(&self, timers: &mut Timers, live: &mut LiveRecords) {
        for (offset, extra) in &self.extras {
            let slot = self.backlog.slot(*offset).expect("what is unusual is not settled");
            self.disarm(*offset, slot, extra, timers);
        }
        if let Some(at) = self.oldest_armed {
            timers.cancel(at, Timer::Oldest(self.id));
        }
        if let Some(at) = self.unused_until() {
            timers.cancel(at, Timer::Unused(self.id));
        }
        for (_, slot) in self.backlog.unsettled() {
            live.remove(slot.id.index);
        }
    }

    /// Whether so many messages more, of so many bytes, stay within the limits.
    pub(crate) fn has_room(&self, messages: u64, bytes: u64) -> bool {
        !self.policy.is_limited()
            || self
                .policy
                .allows(self.backlog.live().saturating_add(messages), self.bytes.get().saturating_add(bytes))
    }

    /// Until when it is kept without a consumer.
    pub(crate) fn unused_until(&self) -> Option<Timestamp> {
        Some(self.unused_since?.after(self.policy.expires()?))
    }

    /// The offsets of messages that wait for their time.
    pub(crate) fn delayed(&self) -> impl Iterator<Item = u64> {
        let delayed = self.extras.iter().filter(|(_, extra)| extra.not_before.is_some());
        delayed.map(|(offset, _)| *offset)
    }

    /// What is kept of a message beside its slot, made when there is nothing yet.
    fn make_unusual(&mut self, offset: u64, now: Timestamp, timers: &mut Timers) {
        if self.extras.contains_key(&offset) {
            return;
        }
        let extra = Extra::default();
        if self.policy.ttl_ms > 0 {
            let slot = self.backlog.slot(offset).expect("what is made unusual is not settled");
            self.arm_expiry(offset, slot, &extra, now, timers);
        }
        self.extras.insert(offset, extra);
    }
}

/// The order of ready messages as one number: higher priorities first, then lower offsets.
pub(crate) fn rank(priority: u8, offset: u64) -> u64 {
    u64::from(PRIORITY_MAX - priority.min(PRIORITY_MAX)) << OFFSET_BITS | offset
}

pub(crate) fn unranked(rank: u64) -> u64 {
    rank & ((1 << OFFSET_BITS) - 1)
}
