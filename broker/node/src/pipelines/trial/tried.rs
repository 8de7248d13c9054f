//! What a canary made of its share of a batch, until it is known what became of that.

use std::sync::Arc;
use std::time::Duration;

use super::seen::Seen;

/// What a canary made of its share of a batch. Its trial is told when this is dropped: a version that answers well for a
/// message and makes what nobody may store has failed all the same.
#[must_use = "the trial counts its messages when this is dropped"]
pub(crate) struct Tried {
    seen: Arc<Seen>,
    number: u32,
    /// Of each message of the batch, how the canary did; `None`: it was not the canary's.
    each: Vec<Option<One>>,
}

/// How a canary did with one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct One {
    /// It failed, though its stages may let such messages pass; or what came out may not go on.
    pub(super) failed: bool,
    /// How long the message waited: its whole batch.
    pub(super) took: Duration,
    /// Its share of that.
    pub(super) share: Duration,
}

impl Tried {
    pub(super) fn new(seen: &Arc<Seen>, number: u32, each: Vec<Option<One>>) -> Self {
        Self { seen: Arc::clone(seen), number, each }
    }

    /// The canary's version, where message `i` was the canary's.
    pub(in crate::pipelines) fn number(&self, i: usize) -> Option<u32> {
        self.each.get(i)?.map(|_| self.number)
    }

    /// Which trial it is of: the same number for the same trial, while one of its answers is kept.
    pub(crate) fn trial(&self) -> usize {
        Arc::as_ptr(&self.seen).addr()
    }

    /// What became of message `i` may not go on.
    pub(crate) fn refused(&mut self, i: usize) {
        if let Some(Some(one)) = self.each.get_mut(i) {
            one.failed = true;
        }
    }

    /// Adds those of the messages behind these.
    pub(in crate::pipelines) fn extend(&mut self, mut next: Self) {
        self.each.append(&mut next.each);
    }

    /// The next `count` messages are not the canary's.
    pub(in crate::pipelines) fn pass_over(&mut self, count: usize) {
        self.each.resize(self.each.len() + count, None);
    }

    /// `count` messages before these were not the canary's.
    pub(in crate::pipelines) fn come_behind(&mut self, count: usize) {
        self.each.splice(0..0, std::iter::repeat_n(None, count));
    }
}

impl Drop for Tried {
    fn drop(&mut self) {
        self.seen.processed(self.each.iter().flatten());
    }
}
