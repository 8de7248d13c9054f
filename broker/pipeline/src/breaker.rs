//! The circuit breaker of a stage: a plugin that breaks again and again is left alone for a while.
//!
//! ```text
//!          5 faults in a row, or
//!          10 of the last 20 outcomes             back-off over: one message may try
//!  closed ───────────────────────────▶ open ───────────────────────▶ half-open
//!    ▲                                  ▲        fault: back-off doubles  │ │
//!    │                                  └────────────────────────────────┘ │
//!    └────────────────────── success ──────────────────────────────────────┘
//! ```
//!
//! The second rule is for the plugin that breaks on every other message: it would never break five times in a row.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Problem;

/// How many faults in a row open a breaker.
pub const FAULTS_TO_OPEN: u32 = 5;

/// How many outcomes are looked back on, and how many faults among them open a breaker.
const OUTCOMES: u32 = 20;
const FAULTS_OF_OUTCOMES: u32 = 10;

const BACK_OFF_MIN: Duration = Duration::from_millis(500);
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// Whether a stage is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Called as usual.
    #[default]
    Closed,
    /// Not called: its failure policy applies to every message at once.
    Open,
    /// One message tries whether it works again.
    HalfOpen,
}

/// A breaker as people see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerView {
    /// Whether the stage is called.
    pub state: BreakerState,
    /// For how long it has been in this state, or the stage there.
    pub since: Duration,
    /// Faults in a row, the last of them included.
    pub faults_in_a_row: u32,
    /// How often it opened.
    pub opened: u64,
    /// When the next message may try, counted from now; only when it is open.
    pub next_try_in: Option<Duration>,
    /// How the plugin broke last.
    pub last_fault: Option<LastFault>,
}

/// How a plugin broke last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFault {
    /// What was wrong.
    pub problem: Problem,
    /// How long ago.
    pub ago: Duration,
}

#[derive(Debug)]
pub(crate) struct Breaker(Mutex<State>);

/// Whether a stage may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Yes,
    /// With one message, to see whether it works again.
    Trial,
    No,
}

#[derive(Debug)]
struct State {
    faults_in_a_row: u32,
    /// The last outcomes, the latest in the lowest bit: 1 for a fault. Zero when there is nothing to remember.
    outcomes: u32,
    back_off: Duration,
    /// Set while it is open; passed: the next call may try.
    open_until: Option<Instant>,
    trying: bool,
    since: Instant,
    opened: u64,
    last: Option<(Instant, Problem)>,
}

impl Breaker {
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(State {
            faults_in_a_row: 0,
            outcomes: 0,
            back_off: Duration::ZERO,
            open_until: None,
            trying: false,
            since: now,
            opened: 0,
            last: None,
        }))
    }

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

    /// Whether the stage is called as usual.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().open_until.is_none()
    }

    /// A call answered: whether that closed it.
    pub(crate) fn succeeded(&self, now: Instant) -> bool {
        let mut state = self.lock();
        state.faults_in_a_row = 0;
        let closes = state.open_until.take().is_some();
        if closes {
            state.outcomes = 0;
            state.back_off = Duration::ZERO;
            state.trying = false;
            state.since = now;
        } else if state.outcomes != 0 {
            state.remember(0);
        }
        closes
    }

    /// A message broke the plugin: whether that opened it, where it was closed.
    pub(crate) fn faulted(&self, now: Instant, problem: Problem) -> bool {
        let mut state = self.lock();
        state.last = Some((now, problem));
        state.faults_in_a_row = state.faults_in_a_row.saturating_add(1);
        state.remember(1);
        let too_many =
            state.faults_in_a_row >= FAULTS_TO_OPEN || state.outcomes.count_ones() >= FAULTS_OF_OUTCOMES;
        let opens = state.open_until.is_none() && too_many;
        if opens {
            state.since = now;
            state.opened += 1;
        }
        if state.trying || opens {
            state.back_off = (state.back_off * 2).clamp(BACK_OFF_MIN, BACK_OFF_MAX);
            state.open_until = Some(now + state.back_off);
            state.trying = false;
        }
        opens
    }

    /// How the plugin broke last.
    pub(crate) fn last_problem(&self) -> Option<Problem> {
        self.lock().last.as_ref().map(|(_, problem)| problem.clone())
    }

    pub(crate) fn view(&self, now: Instant) -> BreakerView {
        let state = self.lock();
        BreakerView {
            state: match state.open_until {
                None => BreakerState::Closed,
                Some(until) if now < until => BreakerState::Open,
                Some(_) => BreakerState::HalfOpen,
            },
            since: now.saturating_duration_since(state.since),
            faults_in_a_row: state.faults_in_a_row,
            opened: state.opened,
            next_try_in: state.open_until.map(|until| until.saturating_duration_since(now)),
            last_fault: state.last.as_ref().map(|(at, problem)| LastFault {
                problem: problem.clone(),
                ago: now.saturating_duration_since(*at),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember(&mut self, outcome: u32) {
        self.outcomes = ((self.outcomes << 1) | outcome) & ((1 << OUTCOMES) - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fault;

    fn faulted(breaker: &Breaker, now: Instant) {
        breaker.faulted(now, Fault::Trap.problem("it trapped"));
    }

    #[test]
    fn faults_in_a_row_open_it_and_one_success_closes_it() {
        let start = Instant::now();
        let breaker = Breaker::new(start);
        for _ in 1..FAULTS_TO_OPEN {
            faulted(&breaker, start);
        }
        breaker.succeeded(start);
        faulted(&breaker, start);
        assert_eq!(breaker.admits(start), Admission::Yes, "a success in between starts the count again");
        for _ in 1..FAULTS_TO_OPEN {
            faulted(&breaker, start);
        }
        assert_eq!(breaker.admits(start), Admission::No);
        assert_eq!(breaker.view(start).state, BreakerState::Open);

        let later = start + BACK_OFF_MIN;
        assert_eq!(breaker.admits(later), Admission::Trial, "one call may try");
        assert_eq!(breaker.admits(later), Admission::No, "and only one");
        breaker.succeeded(later);
        assert_eq!(breaker.view(later).state, BreakerState::Closed);
    }

    #[test]
    fn each_failed_try_doubles_the_back_off() {
        let mut now = Instant::now();
        let breaker = Breaker::new(now);
        for _ in 0..FAULTS_TO_OPEN {
            faulted(&breaker, now);
        }
        for doubling in 0..4 {
            let back_off = BACK_OFF_MIN * 2_u32.pow(doubling);
            assert_eq!(breaker.admits(now + back_off - Duration::from_millis(1)), Admission::No);
            now += back_off;
            assert_eq!(breaker.admits(now), Admission::Trial);
            faulted(&breaker, now);
        }
    }

    #[test]
    fn every_other_message_opens_it_and_every_third_does_not() {
        let now = Instant::now();
        let outcome_of = |every: u32| {
            let breaker = Breaker::new(now);
            for n in 0..10 * OUTCOMES {
                if n % every == 0 {
                    faulted(&breaker, now);
                } else {
                    breaker.succeeded(now);
                }
                if breaker.admits(now) == Admission::No {
                    return BreakerState::Open;
                }
            }
            breaker.view(now).state
        };
        assert_eq!(outcome_of(2), BreakerState::Open);
        assert_eq!(outcome_of(3), BreakerState::Closed);
    }

    #[test]
    fn it_shows_since_when_why_and_when_it_is_tried() {
        let start = Instant::now();
        let breaker = Breaker::new(start);
        assert_eq!(breaker.view(start), BreakerView::default());
        for _ in 0..FAULTS_TO_OPEN {
            faulted(&breaker, start);
        }
        let view = breaker.view(start + Duration::from_millis(200));
        assert_eq!((view.state, view.opened), (BreakerState::Open, 1));
        assert_eq!(view.since, Duration::from_millis(200));
        assert_eq!(view.next_try_in, Some(Duration::from_millis(300)));
        assert_eq!(view.faults_in_a_row, FAULTS_TO_OPEN);
        let last = view.last_fault.expect("it broke");
        assert_eq!((last.problem.code.as_str(), last.ago), ("plugin-trap", Duration::from_millis(200)));

        let half = breaker.view(start + BACK_OFF_MIN);
        assert_eq!((half.state, half.next_try_in), (BreakerState::HalfOpen, Some(Duration::ZERO)));
    }
}
