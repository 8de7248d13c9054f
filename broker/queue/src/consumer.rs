//! One consumer: what it can take, and what it holds.

use std::collections::VecDeque;

use wharf_protocol::Timestamp;

use crate::QueueId;

/// How far a consumer's tags may run ahead of the oldest that it has not settled; at that it gets no more
/// until it settles that one or its lease lapses.
pub(crate) const WINDOW_TAGS_MAX: usize = 65_536;

/// A settled place in a window.
const SETTLED: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Of the message, or [`SETTLED`].
    offset: u64,
    deadline: Timestamp,
}

#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) queue: QueueId,
    pub(crate) credit: u64,
    pub(crate) auto_settle: bool,
    pub(crate) notify_empty: bool,
    /// It was told that its queue is empty, and has got nothing since.
    pub(crate) told_empty: bool,
    /// It stands in its queue's line of consumers that can take more.
    pub(crate) in_line: bool,
    /// The moment for which its lease timer is armed: at its oldest lease's deadline or before.
    pub(crate) armed: Option<Timestamp>,
    /// The tag of the window's first place.
    first_tag: u64,
    /// Deliveries by tag. Deadlines rise: all leases of a queue are equally long. The first is not settled.
    window: VecDeque<Lease>,
}

impl Consumer {
    pub(crate) fn new(queue: QueueId, credit: u64) -> Self {
        Self {
            queue,
            credit,
            auto_settle: false,
            notify_empty: false,
            told_empty: false,
            in_line: false,
            armed: None,
            first_tag: 1,
            window: VecDeque::new(),
        }
    }

    pub(crate) fn can_take(&self) -> bool {
        self.credit > 0 && self.window.len() < WINDOW_TAGS_MAX
    }

    /// Leases the message at `offset` until `deadline` and gives the tag to settle it by.
    pub(crate) fn lease(&mut self, offset: u64, deadline: Timestamp) -> u64 {
        self.window.push_back(Lease { offset, deadline });
        self.first_tag + self.window.len() as u64 - 1
    }

    /// A tag for a delivery that is settled already.
    pub(crate) fn pass_tag(&mut self) -> u64 {
        debug_assert!(self.window.is_empty(), "a consumer settles all by itself, or none");
        self.first_tag += 1;
        self.first_tag - 1
    }

    /// The tags between `first` and `last` that may be held.
    pub(crate) fn tags(&self, first: u64, last: u64) -> std::ops::Range<u64> {
        let end = self.first_tag + self.window.len() as u64;
        let first = first.clamp(self.first_tag, end);
        first..last.saturating_add(1).clamp(first, end)
    }

    /// Whether the delivery `tag` is held.
    pub(crate) fn holds(&self, tag: u64) -> bool {
        let place = tag.checked_sub(self.first_tag).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| self.window.get(place)).is_some_and(|lease| lease.offset != SETTLED)
    }

    /// Ends the lease of `tag`: the offset of its message, when it was held.
    pub(crate) fn release(&mut self, tag: u64) -> Option<u64> {
        let place = usize::try_from(tag.checked_sub(self.first_tag)?).ok()?;
        let lease = self.window.get_mut(place).filter(|lease| lease.offset != SETTLED)?;
        let offset = std::mem::replace(&mut lease.offset, SETTLED);
        self.trim();
        Some(offset)
    }

    /// Ends the oldest lease, if its deadline is reached at `now`: the offset of its message.
    pub(crate) fn lapse(&mut self, now: Timestamp) -> Option<u64> {
        let oldest = self.window.front().filter(|lease| lease.deadline <= now)?;
        let offset = oldest.offset;
        self.window.pop_front();
        self.first_tag += 1;
        self.trim();
        Some(offset)
    }

    /// When the oldest lease lapses.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.window.front().map(|lease| lease.deadline)
    }

    /// The offsets of all messages that it holds, in order of delivery.
    pub(crate) fn held(&self) -> impl Iterator<Item = u64> {
        self.window.iter().map(|lease| lease.offset).filter(|offset| *offset != SETTLED)
    }

    /// First tag, and offset (`None`: settled) and deadline from there on: for a snapshot.
    pub(crate) fn window(&self) -> (u64, impl ExactSizeIterator<Item = (Option<u64>, Timestamp)>) {
        let open = |lease: &Lease| ((lease.offset != SETTLED).then_some(lease.offset), lease.deadline);
        (self.first_tag, self.window.iter().map(open))
    }

    /// What [`window`](Self::window) told; `None` when it cannot have been that.
    pub(crate) fn set_window(&mut self, first: u64, places: Vec<(Option<u64>, Timestamp)>) -> Option<()> {
        let place = |(offset, deadline): (Option<u64>, Timestamp)| Lease {
            offset: offset.unwrap_or(SETTLED),
            deadline,
        };
        self.first_tag = first;
        self.window = places.into_iter().map(place).collect();
        let open = self.window.front().is_none_or(|lease| lease.offset != SETTLED);
        let sorted = self.window.iter().is_sorted_by_key(|lease| lease.deadline);
        let tags = first >= 1 && first.checked_add(WINDOW_TAGS_MAX as u64).is_some();
        (open && sorted && tags && (self.window.is_empty() || !self.auto_settle)).then_some(())
    }

    fn trim(&mut self) {
        while self.window.front().is_some_and(|lease| lease.offset == SETTLED) {
            self.window.pop_front();
            self.first_tag += 1;
        }
    }
}
