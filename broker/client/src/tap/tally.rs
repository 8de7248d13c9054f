//! How many messages of a tap are missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is missing of all runs of a tap. Read by its user, written by its task.
#[derive(Debug, Default)]
pub(super) struct Tally(AtomicU64);

/// The messages of one stream's tap, which are numbered 1, 2, 3…
#[derive(Debug)]
pub(super) struct Run {
    tally: Arc<Tally>,
    /// What was missing when the run began.
    before: u64,
    highest: u64,
    received: u64,
}

impl Tally {
    pub(super) fn missed(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Run {
    pub(super) fn new(tally: Arc<Tally>) -> Self {
        let before = tally.missed();
        Self { tally, before, highest: 0, received: 0 }
    }

    /// The `count` messages from `first` on came. They come once: what is sent as a datagram is not sent again.
    pub(super) fn came(&mut self, first: u64, count: u64) {
        let last = first.saturating_add(count).saturating_sub(1);
        self.highest = self.highest.max(last);
        self.received = self.received.saturating_add(count);
        let missing = self.highest.saturating_sub(self.received);
        self.tally.0.store(self.before.saturating_add(missing), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_message_is_missing_until_it_comes_and_a_lost_one_for_ever() {
        let tally = Arc::<Tally>::default();
        let mut run = Run::new(Arc::clone(&tally));
        let steps = [((1, 3), 0), ((7, 2), 3), ((4, 2), 1), ((9, 1), 1)];
        for ((first, count), missed) in steps {
            run.came(first, count);
            assert_eq!(tally.missed(), missed, "after {count} from {first}");
        }
    }

    #[test]
    fn a_new_run_begins_at_one_and_forgets_nothing() {
        let tally = Arc::<Tally>::default();
        Run::new(Arc::clone(&tally)).came(5, 1);
        let mut next = Run::new(Arc::clone(&tally));
        next.came(1, 2);
        assert_eq!(tally.missed(), 4);
        next.came(4, 1);
        assert_eq!(tally.missed(), 5);
    }
}
