//! What a world's clients know of their messages: who holds which until when, and what may not come yet.
//!
//! Times are the shard's own, as it told them after each step: within a step its clock stands still.

use std::collections::BTreeMap;
use std::time::Duration;

use wharf_protocol::Message;

use crate::Label;
use crate::history::{Place, Queue, Seen};

/// Promises about time and possession, as they are checked on the way.
#[derive(Clone, Debug, Default)]
pub(super) struct Books {
    /// Who holds a message, by which delivery.
    leases: BTreeMap<Place, Lease>,
    /// Not to be delivered before.
    resting: BTreeMap<Place, u64>,
    /// When published messages may come and when they are over, at the earliest.
    timed: BTreeMap<(Queue, Label), Timed>,
    /// The highest attempt seen of a message since the last power cut.
    attempts: BTreeMap<Place, u32>,
}

/// One delivery that is not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lease {
    consumer: u32,
    attempt: u32,
    until: u64,
}

/// The times of one message. Sent again after a crash it may have been stored at either time.
#[derive(Clone, Copy, Debug)]
struct Timed {
    not_before: u64,
    expires_first: u64,
    expires_last: u64,
}

impl Books {
    /// A message is sent at `now`, the first time or again.
    pub(super) fn publishing(&mut self, queue: Queue, label: Label, message: &Message, now: u64) {
        let after = |time: Option<Duration>| time.map(|time| now + time.as_millis() as u64);
        let (not_before, expires) =
            (after(message.delay).unwrap_or(0), after(message.ttl).unwrap_or(u64::MAX));
        let new = Timed { not_before, expires_first: expires, expires_last: expires };
        let timed = self.timed.entry((queue, label)).or_insert(new);
        // Sent again it may come sooner: the clock may have been set back meanwhile.
        timed.not_before = timed.not_before.min(not_before);
        timed.expires_first = timed.expires_first.min(expires);
        timed.expires_last = timed.expires_last.max(expires);
    }

    /// Notes a delivery at `now`; what it breaks.
    pub(super) fn delivered(&mut self, seen: &Seen, now: u64, lease_ms: u64) -> Vec<(&'static str, String)> {
        let place = seen.place();
        let mut broken = Vec::new();
        let what = || format!("{} from {} at attempt {}", seen.id, seen.queue, seen.attempt);
        let lease = Lease { consumer: seen.consumer, attempt: seen.attempt, until: now + lease_ms };
        if let Some(other) = self.leases.insert(place, lease).filter(|other| other.until > now) {
            broken.push(("leased twice", format!("{}: {other:?}, now {now}", what())));
        }
        if let Some(until) = self.resting.remove(&place).filter(|until| *until > now) {
            broken.push(("early", format!("{}: to be retried at {until}, now {now}", what())));
        }
        if let Some(timed) = seen.label.and_then(|label| self.timed.get(&(seen.queue, label)))
            && seen.died_in.is_none()
        {
            if timed.not_before > now {
                broken.push(("early", format!("{}: delayed until {}, now {now}", what(), timed.not_before)));
            }
            // One that comes again may have been dead and sent on its way anew, without a time to live.
            if timed.expires_last <= now && seen.attempt == 1 {
                broken.push(("late", format!("{}: expired at {}, now {now}", what(), timed.expires_last)));
            }
        }
        let before = self.attempts.insert(place, seen.attempt).unwrap_or(0);
        if before >= seen.attempt {
            broken.push(("attempts", format!("{}: it was at attempt {before} before", what())));
        }
        broken
    }

    /// Whether this very delivery is leased at `now`, for as much as its consumer knows.
    pub(super) fn holds(&self, seen: &Seen, now: u64) -> bool {
        self.leases.get(&seen.place()).is_some_and(|lease| lease.is_of(seen) && lease.until > now)
    }

    /// Its lease is over: it was settled, or nobody knows.
    pub(super) fn let_go(&mut self, seen: &Seen) {
        let place = seen.place();
        if self.leases.get(&place).is_some_and(|lease| lease.is_of(seen)) {
            self.leases.remove(&place);
        }
    }

    /// It was given back, for later.
    pub(super) fn rests(&mut self, seen: &Seen, until: u64) {
        self.resting.insert(seen.place(), until);
    }

    /// All that a consumer held goes back.
    pub(super) fn left(&mut self, consumer: u32) {
        self.leases.retain(|_, lease| lease.consumer != consumer);
    }

    pub(super) fn everybody_left(&mut self) {
        self.leases.clear();
    }

    /// What was not synced may be forgotten: attempts and retries among it.
    pub(super) fn power_cut(&mut self) {
        self.leases.clear();
        self.resting.clear();
        self.attempts.clear();
    }

    /// Messages that may have expired by `now`.
    pub(super) fn expired(&self, now: u64) -> impl Iterator<Item = (Queue, Label)> {
        self.timed.iter().filter(move |(_, timed)| timed.expires_first <= now).map(|(key, _)| *key)
    }
}

impl Lease {
    fn is_of(self, seen: &Seen) -> bool {
        (self.consumer, self.attempt) == (seen.consumer, seen.attempt)
    }
}
