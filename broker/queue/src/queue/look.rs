//! A queue looked at: in numbers, and message by message.

use wharf_protocol::{Death, MessageId};

use super::{Extra, Queue, rank, unranked};
use crate::{Browsed, DeadLetter, Place, QueueView, Waiting};

impl Queue {
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
            moved: counters.moved,
            dropped: counters.dropped,
            bytes: self.bytes.get(),
            lanes_in_flight: self.lanes.as_ref().map_or(0, |lanes| lanes.in_flight()),
            lanes_waiting: self.lanes.as_ref().map_or(0, |lanes| lanes.waiting()),
            active: self.active,
            dead: self.dead,
            delivered: counters.delivered,
            failed: counters.failed,
            returned: counters.returned,
            oldest_offset: oldest.map(|(offset, _)| offset),
            oldest_stored_at: oldest.map(|(_, slot)| slot.stored_at),
        }
    }

    /// The first ready messages by priority, then offset. Lanes may let others go first.
    pub(crate) fn peek(&self, max: usize) -> Vec<Waiting> {
        let mut laned: Vec<u64> = self.lanes.iter().flat_map(|lanes| lanes.ranks()).collect();
        laned.sort_unstable();
        let fresh = self.backlog.fresh().map(|offset| rank(0, offset));
        let merged = merged(merged(fresh, self.line.iter().copied()), laned.into_iter());
        let waiting = |rank| {
            let offset = unranked(rank);
            let slot = self.backlog.slot(offset)?;
            Some(Waiting { offset, id: slot.id, stored_at: slot.stored_at })
        };
        merged.take(max).filter_map(waiting).collect()
    }

    /// All messages that are not settled, from an offset on.
    pub(crate) fn browse(&self, from: u64) -> impl Iterator<Item = Browsed> {
        let plain = Extra::default();
        self.backlog.unsettled_from(from).map(move |(offset, slot)| {
            let extra = self.extras.get(&offset).unwrap_or(&plain);
            let place = match extra.not_before {
                Some(until) => Place::Delayed { until },
                None if self.is_ready(offset, extra.priority) => Place::Ready,
                None => Place::Leased,
            };
            Browsed {
                offset,
                id: slot.id,
                stored_at: slot.stored_at,
                bytes: slot.bytes,
                place,
                attempts: extra.attempts,
                failures: extra.failures,
                priority: extra.priority,
                expires: self.expiry(slot, extra),
                death: extra.death.as_deref().cloned(),
            }
        })
    }

    /// The dead letters from an offset on.
    pub(crate) fn dead_letters(&self, from: u64) -> impl Iterator<Item = DeadLetter> {
        self.extras.range(from..).filter_map(|(offset, extra)| self.dead_letter_at(*offset, extra))
    }

    /// As [`State::find_dead_letters`](crate::State::find_dead_letters).
    pub(crate) fn find_dead_letters(
        &self,
        from: u64,
        looked_max: usize,
        max: usize,
        wanted: impl Fn(&Death) -> bool,
    ) -> (Vec<DeadLetter>, Option<u64>) {
        let mut found = Vec::new();
        for ((offset, extra), looked) in self.extras.range(from..).zip(0..) {
            if looked == looked_max || found.len() == max {
                return (found, Some(*offset));
            }
            if extra.death.as_deref().is_some_and(&wanted) {
                found.extend(self.dead_letter_at(*offset, extra));
            }
        }
        (found, None)
    }

    fn dead_letter_at(&self, offset: u64, extra: &Extra) -> Option<DeadLetter> {
        let death = extra.death.as_deref()?.clone();
        let slot = self.backlog.slot(offset)?;
        let past = extra.past.as_deref().cloned().unwrap_or_default();
        Some(DeadLetter { offset, id: slot.id, bytes: slot.bytes, death, past })
    }

    /// Offsets and ids of the dead letters, in order.
    pub(crate) fn dead(&self) -> impl Iterator<Item = (u64, MessageId)> {
        let dead = self.extras.iter().filter(|(_, extra)| extra.death.is_some());
        dead.filter_map(|(offset, _)| Some((*offset, self.backlog.slot(*offset)?.id)))
    }

    fn is_ready(&self, offset: u64, priority: u8) -> bool {
        let rank = rank(priority, offset);
        let laned = self.lanes.as_ref().is_some_and(|lanes| lanes.contains(self.backlog.lane(offset), rank));
        laned || self.line.contains(&rank) || self.backlog.is_fresh(offset)
    }
}

/// Two rising runs as one.
fn merged(a: impl Iterator<Item = u64>, b: impl Iterator<Item = u64>) -> impl Iterator<Item = u64> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some(x), Some(y)) if x < y => a.next(),
        (Some(_), None) => a.next(),
        _ => b.next(),
    })
}
