//! Which batches run on the thread that brings them.
//!
//! The way to a guest's thread and back takes more processor time than a small plugin takes for a whole batch. So a
//! pipeline that took little of late runs where it is asked to, on a leash:
//!
//! ```text
//!  expected: ≤ 100 µs ──▶ here, each call ≤ 2 ms ──▶ answers of every stage: done
//!                                │
//!                                ▼ anything else
//!  expected: more ─────▶ on a guest's thread, from the stage that did not answer on;
//!                        and there for 1 s, 2 s, … 64 s after each time in a row
//! ```
//!
//! A call on the leash that does not come back with answers counts for nothing: its messages are given to another
//! instance, on a guest's thread, and what that one says is so. So a plugin that loops holds a thread that serves
//! sockets for two milliseconds, and then not again for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a batch may be expected to take here.
const SHORT: Duration = Duration::from_micros(100);

/// How long a call may hold the thread: two ticks of the clock of deadlines, which may come after four.
pub(crate) const LEASH: Duration = Duration::from_millis(1);

/// How long a pipeline stays away after it broke on the leash; each time in a row twice as long.
const AWAY_MIN: Duration = Duration::from_secs(1);
const AWAY_MAX: Duration = Duration::from_secs(64);

/// A batch counts for so much of what is expected of the next one: one part of eight.
const SMOOTHING: u32 = 8;

/// What a pipeline took of late.
#[derive(Debug, Default)]
pub(crate) struct Leash(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// A message's time, smoothed; `None`: nothing is known.
    message: Option<Duration>,
    away_until: Option<Instant>,
    away: Duration,
}

impl Leash {
    /// Whether so many messages may run here.
    pub(crate) fn allows(&self, messages: usize, now: Instant) -> bool {
        let state = self.lock();
        let Ok(messages) = u32::try_from(messages) else { return false };
        state.message.is_some_and(|each| each.saturating_mul(messages) <= SHORT)
            && state.away_until.is_none_or(|until| until <= now)
    }

    /// So many messages took so long, wherever they ran.
    pub(crate) fn took(&self, messages: usize, time: Duration) {
        let Some(each) = u32::try_from(messages).ok().and_then(|messages| time.checked_div(messages)) else {
            return;
        };
        let mut state = self.lock();
        let smoothed = |before: Duration| before - before / SMOOTHING + each / SMOOTHING;
        state.message = Some(state.message.map_or(each, smoothed));
    }

    /// A batch came through here.
    pub(crate) fn held(&self) {
        self.lock().away = Duration::ZERO;
    }

    /// A call did not come back with answers.
    pub(crate) fn broke(&self, now: Instant) {
        let mut state = self.lock();
        state.away = (state.away * 2).clamp(AWAY_MIN, AWAY_MAX);
        state.away_until = Some(now + state.away);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_runs_here_while_its_batches_are_short() {
        let (leash, now) = (Leash::default(), Instant::now());
        assert!(!leash.allows(1, now), "nothing is known");
        leash.took(64, Duration::from_micros(64));
        assert!(leash.allows(64, now) && leash.allows(100, now));
        assert!(!leash.allows(101, now));

        for _ in 0..100 {
            leash.took(1, Duration::from_micros(150));
        }
        assert!(!leash.allows(1, now), "it takes longer now");
    }

    #[test]
    fn one_that_breaks_stays_away_longer_each_time() {
        let (leash, mut now) = (Leash::default(), Instant::now());
        leash.took(1, Duration::from_micros(1));
        for seconds in [1, 2, 4, 8, 16, 32, 64, 64] {
            leash.broke(now);
            now += Duration::from_secs(seconds) - Duration::from_millis(1);
            assert!(!leash.allows(1, now), "{seconds} s");
            now += Duration::from_millis(1);
            assert!(leash.allows(1, now), "{seconds} s");
        }
        leash.held();
        leash.broke(now);
        assert!(leash.allows(1, now + AWAY_MIN));
    }
}
