//! Whether a canary keeps its bounds.
//!
//! Each bound is about runs of so many messages: among the last [`CanaryBounds::after`] of them, at most a share may
//! fail, be slow, or come out otherwise than from the version in use. Until so many have passed, those to come are
//! taken for good: a bound that is passed then would be passed in any case. No clock, no chance: what was seen
//! decides.

use std::collections::VecDeque;
use std::time::Duration;

use wharf_queue::{CanaryBounds, SHARE_WHOLE_PPM};

/// The share of messages that may be slower than a p99.
const SLOW_PPM: u32 = SHARE_WHOLE_PPM / 100;

/// What a canary has done, held against its bounds.
#[derive(Debug)]
pub(crate) struct Watch {
    bounds: CanaryBounds,
    errors: Window,
    slow: Window,
    diverged: Window,
    /// Messages that the canary processed.
    processed: u64,
    /// Messages whose comparison with the version in use is decided, one way or the other.
    compared: u64,
}

/// What is to become of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Conclusion {
    /// It passed a bound: this one.
    RollBack(String),
    /// It kept all of them as long as it had to.
    Promote(String),
}

/// The last messages, each good or bad.
#[derive(Debug)]
struct Window {
    size: usize,
    bad_max: usize,
    recent: VecDeque<bool>,
    bad: usize,
}

impl Watch {
    pub(crate) fn new(bounds: CanaryBounds) -> Self {
        let window = |ppm| Window::new(bounds.after, ppm);
        Self {
            errors: window(bounds.errors_max_ppm),
            slow: window(SLOW_PPM),
            diverged: window(bounds.divergence_max_ppm),
            bounds,
            processed: 0,
            compared: 0,
        }
    }

    /// The canary processed a message.
    pub(crate) fn processed(&mut self, failed: bool, took: Duration) {
        self.processed += 1;
        self.errors.push(failed);
        let p99 = self.bounds.p99_max_us.map(Duration::from_micros);
        self.slow.push(p99.is_some_and(|max| took > max));
    }

    /// The version in use was shown a message that the canary processed.
    pub(crate) fn compared(&mut self, differs: bool) {
        self.compared += 1;
        self.diverged.push(differs);
    }

    /// A message could not be shown to the version in use: there was no room.
    pub(crate) fn skipped(&mut self) {
        self.compared += 1;
    }

    /// What follows from what was seen so far; `None`: the trial goes on.
    pub(crate) fn conclusion(&self) -> Option<Conclusion> {
        let CanaryBounds { errors_max_ppm, divergence_max_ppm, p99_max_us, after, promote_after } =
            self.bounds;
        let over = |window: &Window, what: &str, bound: String| {
            let (bad, seen) = (window.bad, window.recent.len());
            window.is_over().then(|| {
                Conclusion::RollBack(format!(
                    "{bad} of its last {seen} messages {what}, over the bound of {bound}"
                ))
            })
        };
        let share = |ppm: u32| format!("{} in {after}", percent(ppm));
        let broken = over(&self.errors, "failed", share(errors_max_ppm))
            .or_else(|| over(&self.diverged, "came out otherwise", share(divergence_max_ppm)))
            .or_else(|| {
                let max = p99_max_us.unwrap_or(u64::MAX);
                over(&self.slow, &format!("took over {max} µs"), share(SLOW_PPM))
            });
        if broken.is_some() {
            return broken;
        }
        let enough = promote_after.is_some_and(|enough| self.processed.min(self.compared) >= enough);
        enough.then(|| {
            Conclusion::Promote(format!("{} messages kept the bounds of the canary", self.processed))
        })
    }
}

impl Window {
    fn new(size: u32, bad_max_ppm: u32) -> Self {
        let bad_max = u64::from(size) * u64::from(bad_max_ppm) / u64::from(SHARE_WHOLE_PPM);
        Self { size: size as usize, bad_max: bad_max as usize, recent: VecDeque::new(), bad: 0 }
    }

    fn push(&mut self, bad: bool) {
        if self.recent.len() == self.size {
            self.bad -= usize::from(self.recent.pop_front() == Some(true));
        }
        self.recent.push_back(bad);
        self.bad += usize::from(bad);
    }

    fn is_over(&self) -> bool {
        self.bad > self.bad_max
    }
}

/// A share as people write it: `2.5%`.
pub(crate) fn percent(ppm: u32) -> String {
    let text = format!("{:.4}", f64::from(ppm) / 10_000.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> CanaryBounds {
        CanaryBounds {
            errors_max_ppm: 10_000,
            divergence_max_ppm: 20_000,
            p99_max_us: Some(1_000),
            after: 500,
            promote_after: Some(2_000),
        }
    }

    fn reason(watch: &Watch) -> Option<String> {
        match watch.conclusion()? {
            Conclusion::RollBack(reason) => Some(reason),
            Conclusion::Promote(reason) => panic!("promoted: {reason}"),
        }
    }

    #[test]
    fn one_failure_more_than_the_bound_ends_it_at_once_and_not_one_less() {
        let mut watch = Watch::new(bounds());
        for _ in 0..5 {
            watch.processed(true, Duration::ZERO);
            assert_eq!(watch.conclusion(), None);
        }
        watch.processed(true, Duration::ZERO);
        assert_eq!(
            reason(&watch).as_deref(),
            Some("6 of its last 6 messages failed, over the bound of 1% in 500")
        );
    }

    #[test]
    fn what_lies_further_back_than_the_run_is_forgotten() {
        let mut watch = Watch::new(bounds());
        for n in 0..10_000_u32 {
            watch.processed(n % 100 == 0, Duration::ZERO);
            watch.compared(n % 50 == 0);
            assert_eq!(reason_or_promoted(&watch), None, "{n}");
        }
    }

    fn reason_or_promoted(watch: &Watch) -> Option<String> {
        match watch.conclusion() {
            Some(Conclusion::RollBack(reason)) => Some(reason),
            _ => None,
        }
    }

    #[test]
    fn divergence_and_slowness_have_bounds_of_their_own() {
        let mut watch = Watch::new(bounds());
        (0..10).for_each(|_| watch.compared(true));
        assert_eq!(watch.conclusion(), None);
        watch.compared(true);
        assert!(
            reason(&watch).is_some_and(|reason| reason.contains("came out otherwise, over the bound of 2%"))
        );

        let mut watch = Watch::new(bounds());
        (0..5).for_each(|_| watch.processed(false, Duration::from_micros(1_001)));
        (0..400).for_each(|_| watch.processed(false, Duration::from_micros(1_000)));
        assert_eq!(watch.conclusion(), None, "one of a hundred may be slow");
        watch.processed(false, Duration::from_secs(1));
        assert!(reason(&watch).is_some_and(|reason| reason.contains("took over 1000 µs")));
    }

    #[test]
    fn it_is_promoted_when_enough_messages_kept_the_bounds_and_were_compared() {
        let mut watch = Watch::new(bounds());
        (0..2_000).for_each(|_| watch.processed(false, Duration::ZERO));
        (0..1_999).for_each(|_| watch.compared(false));
        assert_eq!(watch.conclusion(), None, "one comparison is still to come");
        watch.skipped();
        assert!(matches!(watch.conclusion(), Some(Conclusion::Promote(_))));
        let mut patient = Watch::new(CanaryBounds { promote_after: None, ..bounds() });
        (0..10_000).for_each(|_| patient.processed(false, Duration::ZERO));
        assert_eq!(patient.conclusion(), None, "somebody decides");
    }

    #[test]
    fn shares_are_written_as_people_do() {
        assert_eq!(
            [percent(10_000), percent(25_000), percent(1), percent(1_000_000)],
            ["1%", "2.5%", "0.0001%", "100%"]
        );
    }
}
