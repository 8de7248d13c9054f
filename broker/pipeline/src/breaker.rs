//! The circuit breaker of a stage: a plugin that breaks again and again is left alone for a while.
//!
//! ```text
//!            5 faults in a row               back-off over: one call may try
//!  closed ───────────────────────▶ open ───────────────────────▶ half-open
//!    ▲                              ▲        fault: back-off doubles  │ │
//!    │                              └────────────────────────────────┘ │
//!    └────────────────────── success ──────────────────────────────────┘
//! ```

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How many faults in a row open a breaker.
pub const FAULTS_TO_OPEN: u32 = 5;

const BACK_OFF_MIN: Duration = Duration::from_millis(500);
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// Whether a stage is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Called as usual.
    Closed,
    /// Not called: its failure policy applies to every message at once.
    Open,
    /// One call tries whether it works again.
    HalfOpen,
}

#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<State>);

/// Whether a stage may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Yes,
    /// With one message, to see whether it works again.
    Trial,
    No,
}

#[derive(Debug, Default)]
struct State {
    faults_in_a_row: u32,
    back_off: Duration,
    /// Set while it is open; passed: the next call may try.
    open_until: Option<Instant>,
    trying: bool,
}

impl Breaker {
    /// Whether the stage may be called now. A trial is answered by `succeeded` or `faulted`.
    pub(crate) fn admits(&self, now: Instant) -> Admission {
        let mut state = self.lock();
        match state.open_until {
            None => Admission::Yes,
            Some(until) if now < until || state.trying => Admission::No,
            Some(_) => {
                state.trying = true;
                Admission::Trial
            }
        }
    }

    /// A call answered.
    pub(crate) fn succeeded(&self) {
        let mut state = self.lock();
        if state.faults_in_a_row > 0 || state.open_until.is_some() {
            *state = State::default();
        }
    }

    /// A message broke the plugin.
    pub(crate) fn faulted(&self, now: Instant) {
        let mut state = self.lock();
        state.faults_in_a_row = state.faults_in_a_row.saturating_add(1);
        if state.trying || (state.open_until.is_none() && state.faults_in_a_row >= FAULTS_TO_OPEN) {
            state.back_off = (state.back_off * 2).clamp(BACK_OFF_MIN, BACK_OFF_MAX);
            state.open_until = Some(now + state.back_off);
            state.trying = false;
        }
    }

    pub(crate) fn state(&self, now: Instant) -> BreakerState {
        let state = self.lock();
        match state.open_until {
            None => BreakerState::Closed,
            Some(until) if now < until => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_in_a_row_open_it_and_one_success_closes_it() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        for _ in 1..FAULTS_TO_OPEN {
            breaker.faulted(start);
        }
        breaker.succeeded();
        breaker.faulted(start);
        assert_eq!(breaker.admits(start), Admission::Yes, "a success in between starts the count again");
        for _ in 1..FAULTS_TO_OPEN {
            breaker.faulted(start);
        }
        assert_eq!(breaker.admits(start), Admission::No);
        assert_eq!(breaker.state(start), BreakerState::Open);

        let later = start + BACK_OFF_MIN;
        assert_eq!(breaker.admits(later), Admission::Trial, "one call may try");
        assert_eq!(breaker.admits(later), Admission::No, "and only one");
        breaker.succeeded();
        assert_eq!(breaker.state(later), BreakerState::Closed);
    }

    #[test]
    fn each_failed_try_doubles_the_back_off() {
        let (breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 0..FAULTS_TO_OPEN {
            breaker.faulted(now);
        }
        for doubling in 0..4 {
            let back_off = BACK_OFF_MIN * 2_u32.pow(doubling);
            assert_eq!(breaker.admits(now + back_off - Duration::from_millis(1)), Admission::No);
            now += back_off;
            assert_eq!(breaker.admits(now), Admission::Trial);
            breaker.faulted(now);
        }
    }
}
