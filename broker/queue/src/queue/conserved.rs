//! Whether a queue's messages add up.

use super::{Queue, unranked};

impl Queue {
    /// Whether every message is in one place: what came in is ready, leased, delayed or settled.
    pub(crate) fn is_conserved(&self) -> bool {
        let here = self.ready + self.leased + self.delayed;
        here == self.backlog.live() && here + self.counters.settled() == self.backlog.next_offset()
    }

    /// The same, counted one by one; `held` are the messages that consumers hold.
    pub(crate) fn is_conserved_exactly(&self, held: &[u64]) -> bool {
        let mut places: Vec<u64> = self.line.iter().map(|rank| unranked(*rank)).collect();
        places.extend(self.lanes.iter().flat_map(|lanes| lanes.ranks()).map(unranked));
        let ready = self.backlog.fresh().count() + places.len();
        let ready_places = places.len();
        places.extend(self.delayed());
        let delayed = places.len() - ready_places;
        places.extend(held);
        places.sort_unstable();
        let bytes = |offset: &u64| self.backlog.slot(*offset).map_or(0, |slot| u64::from(slot.bytes));
        let not_ready: u64 =
            held.iter().map(bytes).sum::<u64>() + self.delayed().map(|o| bytes(&o)).sum::<u64>();
        self.is_conserved()
            && [ready, delayed, held.len()].map(|n| n as u64) == [self.ready, self.delayed, self.leased]
            && places.is_sorted_by(|a, b| a < b)
            && places.iter().all(|offset| self.backlog.slot(*offset).is_some())
            && !places.iter().any(|offset| self.backlog.is_fresh(*offset))
            && self.extras.keys().all(|offset| self.backlog.slot(*offset).is_some())
            && self.dead == self.extras.values().filter(|extra| extra.death.is_some()).count() as u64
            && self.bytes.get()
                == self.backlog.unsettled().map(|(_, slot)| u64::from(slot.bytes)).sum::<u64>()
            && self.ready_bytes + not_ready == self.bytes.get()
            && self.lanes.as_ref().is_none_or(|lanes| {
                let lane = |offset: u64| self.backlog.lane(offset);
                let resting = self.extras.iter().filter(|(_, e)| e.not_before.is_some() && e.failures > 0);
                let (held, resting) = (held.iter().map(|o| lane(*o)), resting.map(|(o, _)| lane(*o)));
                lanes.count_in_flight(held, resting)
            })
    }
}
