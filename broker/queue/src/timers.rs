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
    /// The oldest lease of a consumer may have lapsed.
    Lease(ConsumerId),
    /// A partition of a stream may have something to give up.
    Retain(QueueId, u16),
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

    /// The next timer that is due at `now`, which is disarmed.
    pub(crate) fn fire(&mut self, now: Timestamp) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, timer)| timer)
    }
}
