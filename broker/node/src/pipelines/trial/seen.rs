//! What a trial has seen so far, and whether that is enough.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use tokio::sync::Notify;
use wharf_pipeline::compare::{Comparison, Ran, Times};
use wharf_protocol::Message;
use wharf_queue::TrialKind;

use super::lock;
use super::run::Copied;
use super::tried::One;
use crate::pipelines::watch::{Conclusion, Watch};

/// How many examples are kept of each class of differences.
const EXAMPLES: usize = 3;

/// What a trial has seen so far.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) counts: Mutex<Counts>,
    /// It gets no message more.
    pub(super) closed: AtomicBool,
    /// Its watch has come to a conclusion.
    pub(super) concluded: Notify,
    pub(super) skipped: AtomicU64,
    pub(super) bytes_waiting: AtomicUsize,
}

#[derive(Debug)]
pub(super) struct Counts {
    watch: Option<Watch>,
    pub(super) processed: u64,
    pub(super) failed: u64,
    pub(super) times: Times,
    pub(super) comparison: Comparison,
}

impl Seen {
    pub(super) fn new(kind: TrialKind) -> Self {
        let watch = match kind {
            TrialKind::Shadow => None,
            TrialKind::Canary(bounds) => Some(Watch::new(bounds)),
        };
        let (times, comparison) = (Times::default(), Comparison::default());
        Self {
            counts: Mutex::new(Counts { watch, processed: 0, failed: 0, times, comparison }),
            closed: AtomicBool::new(false),
            concluded: Notify::new(),
            skipped: AtomicU64::new(0),
            bytes_waiting: AtomicUsize::new(0),
        }
    }

    /// The canary processed these.
    pub(super) fn processed<'a>(&self, batch: impl Iterator<Item = &'a One>) {
        let mut counts = lock(&self.counts);
        for &One { failed, took, share } in batch {
            counts.processed += 1;
            counts.failed += u64::from(failed);
            counts.times.add(took, share);
            if let Some(watch) = &mut counts.watch {
                watch.processed(failed, took);
            }
        }
        self.judge(&counts);
    }

    pub(super) fn skipped(&self) {
        self.skipped.fetch_add(1, Relaxed);
        let mut counts = lock(&self.counts);
        if let Some(watch) = &mut counts.watch {
            watch.skipped();
        }
        self.judge(&counts);
    }

    pub(super) fn compared(&self, kind: TrialKind, copy: &Copied, other: &Ran) {
        let name = || told(&copy.item.message);
        let mut counts = lock(&self.counts);
        let differs = match kind {
            TrialKind::Shadow => counts.comparison.add(name, &copy.ran, other, EXAMPLES),
            TrialKind::Canary(_) => counts.comparison.add(name, other, &copy.ran, EXAMPLES),
        };
        if let Some(watch) = &mut counts.watch {
            watch.compared(differs);
        }
        self.judge(&counts);
    }

    /// Closes the trial to further messages when its watch has seen enough.
    fn judge(&self, counts: &Counts) {
        let conclusion = counts.watch.as_ref().and_then(Watch::conclusion);
        if let Some(conclusion) = conclusion {
            // A canary that is about to be promoted goes on meanwhile.
            if matches!(conclusion, Conclusion::RollBack(_)) {
                self.closed.store(true, Relaxed);
            }
            self.concluded.notify_one();
        }
    }

    pub(super) fn conclusion(&self) -> Option<Conclusion> {
        lock(&self.counts).watch.as_ref().and_then(Watch::conclusion)
    }
}

/// By what an example of a trial is known: it has no place in the log yet.
fn told(message: &Message) -> String {
    let topic = &message.topic;
    match (&message.message_id, &message.key) {
        (Some(id), _) => format!("{topic} {id}"),
        (None, Some(key)) => format!("{topic} key {}", String::from_utf8_lossy(key)),
        (None, None) => topic.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wharf_queue::CanaryBounds;

    use super::*;

    const FAILED: One = One { failed: true, took: Duration::ZERO, share: Duration::ZERO };

    #[test]
    fn a_canary_that_passed_a_bound_gets_no_message_more_before_the_log_knows() {
        let bounds = CanaryBounds {
            errors_max_ppm: 10_000,
            divergence_max_ppm: 0,
            p99_max_us: None,
            after: 100,
            promote_after: Some(1),
        };
        let seen = Seen::new(TrialKind::Canary(bounds));
        seen.processed([FAILED].iter());
        assert!(!seen.closed.load(Relaxed), "one of a hundred may fail");
        seen.skipped();
        assert!(matches!(seen.conclusion(), Some(Conclusion::Promote(_))));
        assert!(!seen.closed.load(Relaxed), "one that is about to be promoted goes on");
        seen.processed([FAILED].iter());
        assert!(seen.closed.load(Relaxed));
        assert!(matches!(seen.conclusion(), Some(Conclusion::RollBack(_))));
    }
}
