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
    /// The record that attached it: the lowest is the oldest consumer.
    pub(crate) attached_by: u64,
    pub(crate) credit: u64,
    /// Bytes that it can take; below zero after a message that was larger than what was left. `None`:
    /// unbounded.
    pub(crate) bytes: Option<i64>,
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
    /// Deliveries by tag. The first is not settled.
    window: VecDeque<Lease>,
    /// Deadlines rise along the window: all leases of a queue are equally long, until one is renewed. May be
    /// false when they do again; follows from the rest.
    in_order: bool,
}

impl Consumer {
    pub(crate) fn new(queue: QueueId, attached_by: u64) -> Self {
        Self {
            queue,
            attached_by,
            credit: 0,
            bytes: None,
            auto_settle: false,
            notify_empty: false,
            told_empty: false,
            in_line: false,
            armed: None,
            first_tag: 1,
            window: VecDeque::new(),
            in_order: true,
        }
    }

    pub(crate) fn can_take(&self) -> bool {
        self.credit > 0 && self.bytes.is_none_or(|bytes| bytes > 0) && self.window.len() < WINDOW_TAGS_MAX
    }

    /// Allows it more.
    pub(crate) fn grant(&mut self, messages: u32, bytes: u64) {
        self.credit = self.credit.saturating_add(u64::from(messages));
        self.bytes = self.bytes.map(|left| left.saturating_add_unsigned(bytes));
    }

    /// Counts a message of `bytes` against what it can take.
    pub(crate) fn spend(&mut self, bytes: u32) {
        self.credit -= 1;
        self.bytes = self.bytes.map(|left| left - i64::from(bytes));
    }

    /// Leases the message at `offset` until `deadline` and gives the tag to settle it by.
    pub(crate) fn lease(&mut self, offset: u64, deadline: Timestamp) -> u64 {
        self.in_order &= self.window.back().is_none_or(|last| last.deadline <= deadline);
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

    /// Starts the lease of `tag` anew; `false` when it is not held.
    pub(crate) fn renew(&mut self, tag: u64, deadline: Timestamp) -> bool {
        let place = tag.checked_sub(self.first_tag).and_then(|place| usize::try_from(place).ok());
        let lease = place.and_then(|place| self.window.get_mut(place));
        let Some(lease) = lease.filter(|lease| lease.offset != SETTLED) else { return false };
        lease.deadline = deadline;
        self.in_order = false;
        true
    }

    /// Ends all leases whose deadline is reached at `now`: the offsets of their messages, in order of delivery.
    pub(crate) fn lapse(&mut self, now: Timestamp) -> Vec<u64> {
        let over = |lease: &&mut Lease| lease.deadline <= now;
        let lapsed: Vec<&mut Lease> = match self.in_order {
            true => self.window.iter_mut().take_while(over).collect(),
            false => self.window.iter_mut().filter(over).collect(),
        };
        let end = |lease: &mut Lease| std::mem::replace(&mut lease.offset, SETTLED);
        let offsets = lapsed.into_iter().map(end).filter(|offset| *offset != SETTLED).collect();
        self.trim();
        offsets
    }

    /// When the next lease lapses.
    pub(crate) fn deadline(&mut self) -> Option<Timestamp> {
        if !self.in_order {
            self.in_order = self.window.iter().is_sorted_by_key(|lease| lease.deadline);
        }
        if self.in_order {
            return self.window.front().map(|lease| lease.deadline);
        }
        let held = self.window.iter().filter(|lease| lease.offset != SETTLED);
        held.map(|lease| lease.deadline).min()
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
        self.in_order = self.window.iter().is_sorted_by_key(|lease| lease.deadline);
        let tags = first >= 1 && first.checked_add(WINDOW_TAGS_MAX as u64).is_some();
        (open && tags && (self.window.is_empty() || !self.auto_settle)).then_some(())
    }

    fn trim(&mut self) {
        while self.window.front().is_some_and(|lease| lease.offset == SETTLED) {
            self.window.pop_front();
            self.first_tag += 1;
        }
    }
}
