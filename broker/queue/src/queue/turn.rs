//! Whose turn it is in a queue: which ready message goes next, and which goes when there are too many.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use wharf_protocol::{Death, Timestamp};

use super::{OFFSET_BITS, Queue, rank, unranked};
use crate::backlog::Slot;
use crate::lane::{LaneId, Lanes};

/// A message that was taken for a consumer.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) offset: u64,
    pub(crate) slot: Slot,
    pub(crate) attempt: u32,
    pub(crate) death: Option<Box<Death>>,
}

impl Queue {
    /// Takes the next ready message for a consumer: by priority, then by offset, as far as lanes let it.
    #[inline]
    pub(crate) fn take(&mut self, now: Timestamp) -> Option<Taken> {
        if self.ready == 0 {
            return None;
        }
        let offset = match &self.lanes {
            None => self.next_in_order()?,
            Some(_) => self.next_in_lanes(now)?,
        };
        let slot = self.backlog.slot(offset).expect("what is ready is not settled");
        self.ready -= 1;
        self.ready_bytes -= u64::from(slot.bytes);
        self.leased += 1;
        self.counters.delivered += 1;
        let extra = if self.extras.is_empty() { None } else { self.extras.get(&offset) };
        let attempt = extra.map_or(1, |extra| extra.attempts.saturating_add(1));
        Some(Taken { offset, slot, attempt, death: extra.and_then(|extra| extra.death.clone()) })
    }

    /// Takes the first of the line and the fresh messages out of its place.
    #[inline]
    fn next_in_order(&mut self) -> Option<u64> {
        let fresh = self.backlog.first_fresh();
        match (self.line.first().copied(), fresh) {
            (Some(first), fresh) if fresh.is_none_or(|fresh| first < rank(0, fresh)) => {
                self.line.remove(&first);
                Some(unranked(first))
            }
            (_, Some(fresh)) => {
                self.backlog.pass(fresh);
                Some(fresh)
            }
            (_, None) => None,
        }
    }

    /// Takes the next message whose lane has its turn out of its place, and its lane is in flight.
    fn next_in_lanes(&mut self, now: Timestamp) -> Option<u64> {
        loop {
            let lanes = self.lanes.as_mut().expect("the caller found them");
            let offset = match lanes {
                Lanes::Tenants(tenants) => unranked(tenants.take(now)?),
                Lanes::Keys(keys) => {
                    let room = keys.has_room();
                    let first = self.line.first().copied();
                    let fresh = self.backlog.first_fresh();
                    let next = first.into_iter().chain(fresh.map(|fresh| rank(0, fresh))).min()?;
                    let (offset, in_line) = (unranked(next), first == Some(next));
                    let lane = self.backlog.lane(offset);
                    let blocked = keys.is_blocked(lane);
                    if blocked && !in_line && !room {
                        return None;
                    }
                    match in_line {
                        true => drop(self.line.remove(&next)),
                        false => self.backlog.pass(offset),
                    }
                    if blocked {
                        keys.park(lane, next);
                        continue;
                    }
                    offset
                }
            };
            let lane = self.backlog.lane(offset);
            self.lanes.as_mut().expect("the caller found them").depart(lane, now);
            return Some(offset);
        }
    }

    /// The ready message that goes when there are too many: the oldest of the lowest priority, in a fair
    /// queue that of the tenant whose turn is last.
    pub(crate) fn victim(&mut self) -> Option<u64> {
        if let Some(Lanes::Tenants(tenants)) = &self.lanes {
            return tenants.victim(lowest).map(unranked);
        }
        let oldest = |ranks: &BTreeSet<u64>| ranks.range(lowest(*ranks.last()?)..).next().copied();
        let parked = match &self.lanes {
            Some(Lanes::Keys(keys)) => oldest(keys.ranks()),
            _ => None,
        };
        let fresh = self.backlog.first_fresh().map(|fresh| rank(0, fresh));
        let all = [oldest(&self.line), parked, fresh].into_iter().flatten();
        all.min_by_key(|rank| (Reverse(lowest(*rank)), *rank)).map(unranked)
    }

    pub(super) fn line_up(&mut self, offset: u64, slot: Slot, priority: u8, now: Timestamp) {
        let rank = rank(priority, offset);
        match &mut self.lanes {
            Some(Lanes::Tenants(tenants)) => tenants.add(self.backlog.lane(offset), rank, now),
            _ => drop(self.line.insert(rank)),
        }
        self.ready += 1;
        self.ready_bytes += u64::from(slot.bytes);
    }

    /// A message is in flight no longer.
    pub(super) fn land(&mut self, offset: u64, now: Timestamp) {
        if let Some(lanes) = &mut self.lanes {
            self.line.extend(lanes.land(self.backlog.lane(offset), now));
        }
    }

    /// A message rests no longer after a failure.
    pub(super) fn unblock(&mut self, offset: u64) {
        if let Some(Lanes::Keys(keys)) = &mut self.lanes {
            self.line.extend(keys.unblock(self.backlog.lane(offset)));
        }
    }

    /// A message went out of the line: another of its lane may stand there in its place.
    pub(super) fn promote(&mut self, lane: LaneId) {
        if let Some(Lanes::Keys(keys)) = &mut self.lanes {
            self.line.extend(keys.first_if_free(lane));
        }
    }
}

/// The least rank of the same priority.
fn lowest(rank: u64) -> u64 {
    rank & !((1 << OFFSET_BITS) - 1)
}
