//! When the messages of a queue run out of time.
//!
//! A message of its own time to live has a timer. The queue's time to live is the same for all, so those
//! without an [`Extra`] run out in the order in which they came: one timer for the oldest is enough.

use wharf_protocol::Timestamp;

use super::{Extra, Queue};
use crate::QueuePolicy;
use crate::backlog::Slot;
use crate::lane::Lanes;
use crate::timers::{Timer, Timers};

impl Queue {
    /// When a message may no longer be delivered: the earlier of its own end and the queue's.
    pub(crate) fn expiry(&self, slot: Slot, extra: &Extra) -> Option<Timestamp> {
        let here = self.policy.ttl().map(|ttl| extra.laid_at.unwrap_or(slot.stored_at).after(ttl));
        extra.expires.into_iter().chain(here).min()
    }

    /// Whether the message at `offset` has run out of time.
    pub(crate) fn is_expired(&self, offset: u64, now: Timestamp) -> bool {
        let plain = Extra::default();
        let extra = self.extras.get(&offset).unwrap_or(&plain);
        let slot = self.backlog.slot(offset);
        slot.and_then(|slot| self.expiry(slot, extra)).is_some_and(|at| at <= now)
    }

    /// Takes the next message out of its place that has no [`Extra`] and whose time in this queue is over `by`
    /// then, if there is one; else arms the timer for the next.
    pub(crate) fn next_outlived(&mut self, by: Timestamp, timers: &mut Timers) -> Option<u64> {
        let ttl = self.policy.ttl()?;
        loop {
            let (offset, slot) = self.backlog.unsettled_from(self.unexpired_from).next()?;
            if !self.extras.contains_key(&offset) {
                let end = slot.stored_at.after(ttl);
                if end > by {
                    self.arm_oldest(slot.stored_at, timers);
                    return None;
                }
                self.unexpired_from = offset + 1;
                if self.withdraw(offset, timers) {
                    return Some(offset);
                }
            }
            self.unexpired_from = offset + 1;
        }
    }

    /// Arms the timer of a message that has an [`Extra`]; one that has run out is dealt with at once, or held
    /// by a consumer.
    pub(crate) fn arm_expiry(
        &self,
        offset: u64,
        slot: Slot,
        extra: &Extra,
        now: Timestamp,
        timers: &mut Timers,
    ) {
        if let Some(at) = self.expiry(slot, extra).filter(|at| *at > now) {
            timers.arm(at, Timer::Expire(self.id, offset));
        }
    }

    /// Arms the timer of the messages without an [`Extra`], for one that was stored at `oldest`.
    pub(crate) fn arm_oldest(&mut self, oldest: Timestamp, timers: &mut Timers) {
        if let (Some(ttl), None) = (self.policy.ttl(), self.oldest_armed) {
            let at = oldest.after(ttl);
            timers.arm(at, Timer::Oldest(self.id));
            self.oldest_armed = Some(at);
        }
    }

    /// Cancels the timers of a message.
    pub(crate) fn disarm(&self, offset: u64, slot: Slot, extra: &Extra, timers: &mut Timers) {
        if let Some(at) = self.expiry(slot, extra) {
            timers.cancel(at, Timer::Expire(self.id, offset));
        }
        if let Some(at) = extra.not_before {
            timers.cancel(at, Timer::Ready(self.id, offset));
        }
    }

    /// Takes another policy, for what waits too. Timers may be due at once then.
    pub(crate) fn set_policy(&mut self, policy: QueuePolicy, now: Timestamp, timers: &mut Timers) {
        let extras = std::mem::take(&mut self.extras);
        let slot = |queue: &Self, offset| queue.backlog.slot(offset).expect("what is unusual is not settled");
        for (offset, extra) in &extras {
            if let Some(at) = self.expiry(slot(self, *offset), extra) {
                timers.cancel(at, Timer::Expire(self.id, *offset));
            }
        }
        if let Some(at) = self.oldest_armed.take() {
            timers.cancel(at, Timer::Oldest(self.id));
        }
        if let Some(at) = self.unused_until() {
            timers.cancel(at, Timer::Unused(self.id));
        }
        if (policy.order, &policy.fair_by) != (self.policy.order, &self.policy.fair_by) {
            assert!(self.backlog.live() == 0, "messages are sorted anew only when there are none");
            self.lanes = Lanes::asked_for(&policy);
        }
        self.policy = policy;
        for (offset, extra) in &extras {
            if let Some(at) = self.expiry(slot(self, *offset), extra) {
                timers.arm(at.max(now), Timer::Expire(self.id, *offset));
            }
        }
        self.extras = extras;
        self.unexpired_from = 0;
        if self.policy.ttl_ms > 0 {
            timers.arm(now, Timer::Oldest(self.id));
            self.oldest_armed = Some(now);
        }
        self.unused_since = self.unused_since.map(|_| now);
        if let Some(at) = self.unused_until() {
            timers.arm(at, Timer::Unused(self.id));
        }
    }
}
