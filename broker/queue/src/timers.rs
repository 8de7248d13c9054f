//! What happens when time passes, in the order in which it does.

use std::collections::BTreeSet;

use wharf_protocol::Timestamp;

use crate::{ConsumerId, QueueId};

/// What is due. The order is that in which timers of one moment fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A delayed message becomes ready.
    Ready(QueueId, u64),
    /// A message's time to live runs out.
    Expire(QueueId, u64),
    /// The queue's time to live may have run out for messages that have no timer of their own.
    Oldest(QueueId),
    /// The oldest lease of a consumer may have lapsed.
    Lease(ConsumerId),
    /// A partition of a stream may have something to give up.
    Retain(QueueId, u16),
    /// A queue has had no consumer for as long as it may.
    Unused(QueueId),
}

#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Timestamp, Timer)>);

impl Timers {
    pub(crate) fn arm(&mut self, at: Timestamp, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(crate) fn cancel(&mut self, at: Timestamp, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.0.first().map(|(at, _)| *at)
    }

    /// The next timer that is due at `now`, which is disarmed, and the moment it was armed for.
    pub(crate) fn fire(&mut self, now: Timestamp) -> Option<(Timestamp, Timer)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first()
    }
}
