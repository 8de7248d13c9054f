//! Whose turn it is: which message goes next, and which goes when there are too many.

use std::cmp::Reverse;

use wharf_protocol::Timestamp;
use wharf_queue::{LOAD_PERIOD_MS, Order};

use super::{Message, Place, Queue};

/// What a tenant has in flight, and the time its messages took, halved every period, as of `at`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tenant {
    pub(crate) in_flight: u64,
    pub(crate) work_ms: u64,
    pub(crate) at: Timestamp,
}

impl Tenant {
    fn load(self) -> u64 {
        self.work_ms + 1_000 * self.in_flight
    }

    pub(crate) fn pass_time(&mut self, now: Timestamp) {
        let periods = now.0 / LOAD_PERIOD_MS - self.at.0 / LOAD_PERIOD_MS;
        (0..periods.min(64)).for_each(|_| self.work_ms /= 2);
        self.work_ms += self.in_flight * (now.0 - self.at.0);
        self.at = now;
    }
}

impl Queue {
    /// The offset of the message that goes next, if any may.
    pub(crate) fn next(&mut self, now: Timestamp) -> Option<usize> {
        let ready = |message: &Message| message.place == Place::Ready;
        if !self.messages.iter().any(ready) {
            return None;
        }
        if self.policy.fair_by.is_some() {
            let period = now.0 / LOAD_PERIOD_MS;
            if self.period != period {
                self.period = period;
                self.tenants.values_mut().for_each(|tenant| tenant.pass_time(now));
            }
        }
        let may = self
            .messages
            .iter()
            .enumerate()
            .filter(|(_, message)| ready(message) && !self.is_blocked(message));
        may.min_by_key(|(offset, message)| (self.load(message), Reverse(message.priority), *offset))
            .map(|(at, _)| at)
    }

    /// The offset of the message that goes when there are too many.
    pub(crate) fn victim(&self) -> Option<usize> {
        let ready = self.messages.iter().enumerate().filter(|(_, message)| message.place == Place::Ready);
        ready.min_by_key(|(offset, m)| (Reverse(self.load(m)), m.priority, *offset)).map(|(offset, _)| offset)
    }

    /// The load and lane of a message's tenant: the least goes first. All the same where no tenants are.
    fn load(&self, message: &Message) -> Option<(u64, u32)> {
        self.policy.fair_by.as_ref()?;
        Some((self.tenants.get(&message.lane).copied().unwrap_or_default().load(), message.lane))
    }

    /// Whether another message of its key is in flight, or rests after a failure.
    fn is_blocked(&self, message: &Message) -> bool {
        self.policy.order == Order::Key
            && message.lane != 0
            && self.messages.iter().any(|other| other.lane == message.lane && holds_up(other))
    }

    /// A tenant's share changes.
    pub(crate) fn tenant(&mut self, lane: u32, now: Timestamp) -> Option<&mut Tenant> {
        self.policy.fair_by.as_ref()?;
        let tenant = self.tenants.entry(lane).or_insert(Tenant { at: now, ..Tenant::default() });
        tenant.pass_time(now);
        Some(tenant)
    }
}

fn holds_up(message: &Message) -> bool {
    match message.place {
        Place::Leased => true,
        Place::Delayed(_) => message.failures > 0,
        Place::Ready | Place::Gone => false,
    }
}
