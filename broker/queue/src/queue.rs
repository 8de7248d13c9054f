//! One queue: which of its messages are ready, leased, delayed or settled, and in what order they go.
//!
//! A plain message that waits for its first delivery is a slot of the backlog and nothing else. What is
//! unusual about one (a priority, a time to live, a delay, earlier deliveries, a death) is kept aside by
//! its offset, for as long as it is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use wharf_protocol::{Death, MessageId, Name, PRIORITY_MAX, Timestamp};

use crate::backlog::{Backlog, Slot};
use crate::live::LiveRecords;
use crate::timers::{Timer, Timers};
use crate::{Browsed, ConsumerId, DeadLetter, Place, QueueId, QueuePolicy, QueueView, Waiting};

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
    /// Ready messages that are not plain and fresh, by [`rank`].
    pub(crate) line: BTreeSet<u64>,
    pub(crate) ready: u64,
    pub(crate) leased: u64,
    pub(crate) delayed: u64,
    /// How many messages have a death.
    pub(crate) dead: u64,
    pub(crate) counters: Counters,
    /// Consumers that can take more, the next one first.
    pub(crate) takers: VecDeque<ConsumerId>,
    /// How many of the takers want to hear that the queue is empty, and have not.
    pub(crate) untold: u64,
    pub(crate) consumers: u64,
}

/// What is unusual about a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extra {
    /// Deliveries that ended without settling it.
    pub(crate) attempts: u32,
    /// Those of them, in this queue, that were nacked or lapsed.
    pub(crate) failures: u32,
    pub(crate) priority: u8,
    /// When its time to live runs out; nothing is delivered from then on.
    pub(crate) expires: Option<Timestamp>,
    /// It is delayed until then.
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) death: Option<Box<Death>>,
}

/// What happened in a queue since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) acked: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) expired: u64,
    pub(crate) purged: u64,
    pub(crate) redriven: u64,
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
}

/// A message that was taken for a consumer.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) offset: u64,
    pub(crate) slot: Slot,
    pub(crate) attempt: u32,
    pub(crate) death: Option<Box<Death>>,
}

impl Counters {
    pub(crate) fn settled(&self) -> u64 {
        self.acked + self.dead_lettered + self.expired + self.purged + self.redriven
    }
}

impl Queue {
    pub(crate) fn new(id: QueueId, name: Name, policy: QueuePolicy) -> Self {
        Self {
            id,
            name,
            policy,
            backlog: Backlog::default(),
            extras: BTreeMap::new(),
            line: BTreeSet::new(),
            ready: 0,
            leased: 0,
            delayed: 0,
            dead: 0,
            counters: Counters::default(),
            takers: VecDeque::new(),
            untold: 0,
            consumers: 0,
        }
    }

    /// Adds a message.
    pub(crate) fn push(&mut self, slot: Slot, extra: Option<Extra>, timers: &mut Timers) {
        let offset = self.backlog.push(slot, extra.is_some());
        assert!(offset >> OFFSET_BITS == 0, "offsets stay below 2^59");
        let Some(extra) = extra else {
            self.ready += 1;
            return;
        };
        if let Some(at) = extra.expires {
            timers.arm(at, Timer::Expire(self.id, offset));
        }
        self.dead += u64::from(extra.death.is_some());
        let (priority, not_before) = (extra.priority, extra.not_before);
        self.extras.insert(offset, extra);
        match not_before {
            Some(at) => {
                timers.arm(at, Timer::Ready(self.id, offset));
                self.delayed += 1;
            }
            None => self.line_up(offset, priority),
        }
    }

    /// Takes the next ready message for a consumer: by priority, then by offset.
    pub(crate) fn take(&mut self) -> Option<Taken> {
        if self.ready == 0 {
            return None;
        }
        let fresh = self.backlog.first_fresh();
        let offset = match (self.line.first().copied(), fresh) {
            (Some(first), fresh) if fresh.is_none_or(|fresh| first < rank(0, fresh)) => {
                self.line.remove(&first);
                unranked(first)
            }
            (_, fresh) => {
                let offset = fresh.expect("what is ready is in the line or fresh");
                self.backlog.pass(offset);
                offset
            }
        };
        self.ready -= 1;
        self.leased += 1;
        self.counters.delivered += 1;
        let slot = self.backlog.slot(offset).expect("what is ready is not settled");
        let extra = if self.extras.is_empty() { None } else { self.extras.get(&offset) };
        let attempt = extra.map_or(1, |extra| extra.attempts.saturating_add(1));
        Some(Taken { offset, slot, attempt, death: extra.and_then(|extra| extra.death.clone()) })
    }

    /// Settles a message that a consumer holds.
    pub(crate) fn settle_leased(
        &mut self,
        offset: u64,
        fate: Fate,
        timers: &mut Timers,
        live: &mut LiveRecords,
    ) {
        self.leased -= 1;
        self.remove(offset, fate, timers, live);
    }

    /// Ends a lease without settling: the message is nowhere until it is
    /// [readied](Self::ready), [delayed](Self::delay) or [removed](Self::remove).
    pub(crate) fn unlease(&mut self, offset: u64, failed: bool) -> &Extra {
        self.leased -= 1;
        let extra = self.extras.entry(offset).or_default();
        extra.attempts = extra.attempts.saturating_add(1);
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
        let Some(extra) = self.extras.get_mut(&offset) else {
            return false;
        };
        if let Some(at) = extra.not_before.take() {
            timers.cancel(at, Timer::Ready(self.id, offset));
            self.delayed -= 1;
            return true;
        }
        let ready = self.line.remove(&rank(extra.priority, offset));
        self.ready -= u64::from(ready);
        ready
    }

    /// Makes a message that is nowhere ready, at its place by priority and offset.
    pub(crate) fn ready(&mut self, offset: u64) {
        let priority = self.extras.get(&offset).map_or(0, |extra| extra.priority);
        self.line_up(offset, priority);
    }

    /// Delays a message that is nowhere.
    pub(crate) fn delay(&mut self, offset: u64, until: Timestamp, timers: &mut Timers) {
        let extra = self.extras.entry(offset).or_default();
        extra.not_before = Some(until);
        self.delayed += 1;
        timers.arm(until, Timer::Ready(self.id, offset));
    }

    /// Marks a message that is nowhere as dead, here where it lies: it stays, without a time to live.
    pub(crate) fn die_here(&mut self, offset: u64, death: Box<Death>, timers: &mut Timers) {
        let extra = self.extras.entry(offset).or_default();
        if let Some(at) = extra.expires.take() {
            timers.cancel(at, Timer::Expire(self.id, offset));
        }
        self.dead += u64::from(extra.death.is_none());
        extra.death = Some(death);
    }

    /// Settles a message that is nowhere.
    pub(crate) fn remove(
        &mut self,
        offset: u64,
        fate: Fate,
        timers: &mut Timers,
        live: &mut LiveRecords,
    ) -> (Slot, Extra) {
        let slot = self.backlog.settle(offset).expect("a message is settled once");
        live.remove(slot.id.index);
        let extra = if self.extras.is_empty() { None } else { self.extras.remove(&offset) };
        let extra = extra.unwrap_or_default();
        self.disarm(offset, &extra, timers);
        self.dead -= u64::from(extra.death.is_some());
        let counter = match fate {
            Fate::Acked => &mut self.counters.acked,
            Fate::DeadLettered => &mut self.counters.dead_lettered,
            Fate::Expired => &mut self.counters.expired,
            Fate::Purged => &mut self.counters.purged,
            Fate::Redriven => &mut self.counters.redriven,
        };
        *counter += 1;
        (slot, extra)
    }

    /// Settles all that is ready or delayed: how many messages.
    pub(crate) fn purge(&mut self, timers: &mut Timers, live: &mut LiveRecords) -> u64 {
        let mut gone: Vec<u64> = self.backlog.fresh().collect();
        gone.extend(self.line.iter().map(|rank| unranked(*rank)));
        gone.extend(self.extras.iter().filter(|(_, extra)| extra.not_before.is_some()).map(|(o, _)| *o));
        debug_assert_eq!(gone.len() as u64, self.ready + self.delayed, "each waits in one place");
        for offset in &gone {
            self.remove(*offset, Fate::Purged, timers, live);
        }
        self.line.clear();
        (self.ready, self.delayed) = (0, 0);
        gone.len() as u64
    }

    /// Lets go of all messages: the queue is about to be dropped.
    pub(crate) fn abandon(&self, timers: &mut Timers, live: &mut LiveRecords) {
        for (offset, extra) in &self.extras {
            self.disarm(*offset, extra, timers);
        }
        for (_, slot) in self.backlog.unsettled() {
            live.remove(slot.id.index);
        }
    }

    /// Whether every message is in one place: what came in is ready, leased, delayed or settled.
    pub(crate) fn is_conserved(&self) -> bool {
        let here = self.ready + self.leased + self.delayed;
        here == self.backlog.live() && here + self.counters.settled() == self.backlog.next_offset()
    }

    /// The same, counted one by one; `held` are the messages that consumers hold.
    pub(crate) fn is_conserved_exactly(&self, held: &[u64]) -> bool {
        let delayed = self.extras.iter().filter(|(_, extra)| extra.not_before.is_some());
        let mut places: Vec<u64> = self.backlog.fresh().collect();
        places.extend(self.line.iter().map(|rank| unranked(*rank)));
        let ready = places.len();
        places.extend(delayed.map(|(offset, _)| *offset));
        let delayed = places.len() - ready;
        places.extend(held);
        places.sort_unstable();
        self.is_conserved()
            && [ready, delayed, held.len()].map(|n| n as u64) == [self.ready, self.delayed, self.leased]
            && places.into_iter().eq(self.backlog.unsettled().map(|(offset, _)| offset))
            && self.extras.keys().all(|offset| self.backlog.slot(*offset).is_some())
            && self.dead == self.extras.values().filter(|extra| extra.death.is_some()).count() as u64
    }

    pub(crate) fn view(&self) -> QueueView {
        let oldest = self.backlog.unsettled().next();
        let counters = &self.counters;
        QueueView {
            id: self.id,
            name: self.name.clone(),
            ready: self.ready,
            leased: self.leased,
            delayed: self.delayed,
            consumers: self.consumers,
            enqueued: self.backlog.next_offset(),
            settled: counters.settled(),
            acked: counters.acked,
            dead_lettered: counters.dead_lettered,
            expired: counters.expired,
            purged: counters.purged,
            redriven: counters.redriven,
            moved: 0,
            dropped: 0,
            bytes: 0,
            lanes_in_flight: 0,
            lanes_waiting: 0,
            active: None,
            dead: self.dead,
            delivered: counters.delivered,
            failed: counters.failed,
            returned: counters.returned,
            oldest_offset: oldest.map(|(offset, _)| offset),
            oldest_stored_at: oldest.map(|(_, slot)| slot.stored_at),
        }
    }

    /// The first ready messages, in the order in which they would be delivered.
    pub(crate) fn peek(&self, max: usize) -> Vec<Waiting> {
        let mut fresh = self.backlog.fresh().map(|offset| rank(0, offset)).peekable();
        let mut line = self.line.iter().copied().peekable();
        let merged = std::iter::from_fn(|| match (fresh.peek(), line.peek()) {
            (Some(a), Some(b)) if a < b => fresh.next(),
            (Some(_), None) => fresh.next(),
            _ => line.next(),
        });
        let waiting = |rank| {
            let offset = unranked(rank);
            let slot = self.backlog.slot(offset)?;
            Some(Waiting { offset, id: slot.id, stored_at: slot.stored_at })
        };
        merged.take(max).filter_map(waiting).collect()
    }

    /// All messages that are not settled, from an offset on.
    pub(crate) fn browse(&self, from: u64) -> impl Iterator<Item = Browsed> {
        let fresh = Extra::default();
        self.backlog.unsettled().skip_while(move |(offset, _)| *offset < from).map(move |(offset, slot)| {
            let extra = self.extras.get(&offset).unwrap_or(&fresh);
            Browsed {
                offset,
                id: slot.id,
                stored_at: slot.stored_at,
                bytes: 0,
                place: extra.not_before.map_or(Place::Ready, |until| Place::Delayed { until }),
                attempts: extra.attempts,
                failures: extra.failures,
                priority: extra.priority,
                expires: extra.expires,
                death: extra.death.as_deref().cloned(),
            }
        })
    }

    /// The dead letters from an offset on.
    pub(crate) fn dead_letters(&self, from: u64) -> impl Iterator<Item = DeadLetter> {
        self.extras.range(from..).filter_map(|(offset, extra)| {
            let death = extra.death.as_deref()?.clone();
            Some(DeadLetter { offset: *offset, id: self.backlog.slot(*offset)?.id, death })
        })
    }

    /// Offsets and ids of the dead letters, in order.
    pub(crate) fn dead(&self) -> impl Iterator<Item = (u64, MessageId)> {
        let dead = self.extras.iter().filter(|(_, extra)| extra.death.is_some());
        dead.filter_map(|(offset, _)| Some((*offset, self.backlog.slot(*offset)?.id)))
    }

    fn line_up(&mut self, offset: u64, priority: u8) {
        self.line.insert(rank(priority, offset));
        self.ready += 1;
    }

    fn disarm(&self, offset: u64, extra: &Extra, timers: &mut Timers) {
        if let Some(at) = extra.expires {
            timers.cancel(at, Timer::Expire(self.id, offset));
        }
        if let Some(at) = extra.not_before {
            timers.cancel(at, Timer::Ready(self.id, offset));
        }
    }
}

/// The order of ready messages as one number: higher priorities first, then lower offsets.
pub(crate) fn rank(priority: u8, offset: u64) -> u64 {
    u64::from(PRIORITY_MAX - priority.min(PRIORITY_MAX)) << OFFSET_BITS | offset
}

pub(crate) fn unranked(rank: u64) -> u64 {
    rank & ((1 << OFFSET_BITS) - 1)
}
