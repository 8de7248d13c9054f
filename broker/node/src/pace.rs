//! How fast a transfer may go: a bucket that fills evenly and holds a tenth of a second.

use std::time::Duration;

/// What one message takes of the bucket: it is filled by the nanosecond.
const MESSAGE: u128 = 1_000_000_000;
/// The bucket holds what so long a time fills it with, or one message.
const BURST: Duration = Duration::from_millis(100);

/// A rate of messages, in the caller's own time.
#[derive(Debug)]
pub(crate) struct Pace {
    per_second: u32,
    /// In units of [`MESSAGE`]-ths.
    filled: u128,
    /// When it was filled last, from the beginning.
    at: Duration,
}

impl Pace {
    /// At most so many messages a second; the first may go at once.
    pub(crate) fn new(per_second: u32) -> Self {
        Self { per_second: per_second.max(1), filled: MESSAGE, at: Duration::ZERO }
    }

    /// How many messages may go `now`, counted from the beginning.
    pub(crate) fn allowed(&mut self, now: Duration) -> u64 {
        let since = now.saturating_sub(self.at);
        self.at = now;
        let most = (BURST.as_nanos() * u128::from(self.per_second)).max(MESSAGE);
        self.filled = (self.filled + since.as_nanos() * u128::from(self.per_second)).min(most);
        u64::try_from(self.filled / MESSAGE).unwrap_or(u64::MAX)
    }

    /// So many went.
    pub(crate) fn took(&mut self, messages: u64) {
        self.filled = self.filled.saturating_sub(u128::from(messages) * MESSAGE);
    }

    /// How long until one more may go: as long as the bucket takes to be worth the while.
    pub(crate) fn pause(&self) -> Duration {
        let missing = MESSAGE.saturating_sub(self.filled).div_ceil(u128::from(self.per_second));
        Duration::from_nanos(u64::try_from(missing).unwrap_or(u64::MAX)).max(BURST / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many go within `seconds` when as many as may do, whenever the pace says.
    fn gone(per_second: u32, seconds: u64) -> u64 {
        let (mut pace, mut now, mut gone) = (Pace::new(per_second), Duration::ZERO, 0);
        while now <= Duration::from_secs(seconds) {
            let allowed = pace.allowed(now);
            pace.took(allowed);
            gone += allowed;
            now += pace.pause();
        }
        gone
    }

    #[test]
    fn as_many_go_as_the_rate_says() {
        for per_second in [1, 3, 100, 12_345] {
            let (gone, expected) = (gone(per_second, 10), 10 * u64::from(per_second));
            let burst = u64::from(per_second / 10).max(1);
            assert!((expected - burst..=expected + burst).contains(&gone), "{per_second}/s: {gone} in 10 s");
        }
    }

    #[test]
    fn a_stall_is_not_made_up_for() {
        let mut pace = Pace::new(1000);
        assert_eq!(pace.allowed(Duration::ZERO), 1);
        assert_eq!(pace.allowed(Duration::from_secs(60)), 100);
    }
}
