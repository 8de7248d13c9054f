//! How much processor time a pipeline may take, and how much it has taken.
//!
//! ```text
//!         share: 250 ms each second                  a call took 80 ms
//!              │                                            │
//!              ▼                                            ▼
//!   [ bucket, a second's worth ] ── level > 0: go on ── level - 80 ms, below 0 too
//!                              └─ level ≤ 0: wait until it is paid
//! ```
//!
//! What a call takes is known when it is over, so it is taken whole and may be owed: then nothing more is begun until
//! the debt is paid. Only time in guest code counts, measured by a clock that no time of day moves.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The most that a share may be: 64 processors.
const SHARE_MS_MAX: u32 = 64_000;

/// How long a pipeline pays its debts at most: what it took beyond that is forgiven.
const DEBT_SECONDS_MAX: i64 = 60;

/// After how long half of what a pipeline took is forgotten, where it is compared with others.
const HALF_LIFE: Duration = Duration::from_millis(500);

/// A pipeline that took more than this of late is heavy: so long that nobody does it by routing messages.
const HEAVY: Duration = Duration::from_millis(200);

/// A share of processor time: `"50%"` of one processor, or `"500ms"` each second, which is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuShare {
    /// Milliseconds a second.
    ms: u32,
}

/// Why a text is no [`CpuShare`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a share of processor time is \"50%\" of one processor or \"500ms\" a second, from 1ms to {SHARE_MS_MAX}ms, \
     not {0:?}"
)]
pub struct CpuShareError(String);

/// What a pipeline has taken of processor time, and what it waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuUse {
    /// What it may take; `None`: what there is.
    pub share: Option<CpuShare>,
    /// Time in guest code.
    pub busy: Duration,
    /// How often a batch waited for its share.
    pub waits: u64,
    /// How long they waited in all.
    pub waited: Duration,
    /// How long the next batch would wait now.
    pub owed: Duration,
}

/// The bucket of a pipeline, and its account.
#[derive(Debug)]
pub(crate) struct Meter {
    share: Option<CpuShare>,
    state: Mutex<State>,
    waits: AtomicU64,
    waited_ns: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// Nanoseconds that may be taken; below zero, they are owed.
    level: i64,
    at: Instant,
    busy: Duration,
    /// What was taken of late, in nanoseconds.
    recent: f64,
    recent_at: Instant,
}

impl CpuShare {
    /// Nanoseconds of processor time that come with each second.
    fn ns_per_second(self) -> i64 {
        i64::from(self.ms) * 1_000_000
    }
}

impl Meter {
    pub(crate) fn new(share: Option<CpuShare>, now: Instant) -> Self {
        let level = share.map_or(0, CpuShare::ns_per_second);
        let state = State { level, at: now, busy: Duration::ZERO, recent: 0.0, recent_at: now };
        Self { share, state: Mutex::new(state), waits: AtomicU64::new(0), waited_ns: AtomicU64::new(0) }
    }

    /// How long a batch has to wait before it may begin; nothing: it may.
    pub(crate) fn owed(&self, now: Instant) -> Option<Duration> {
        let share = self.share?;
        let mut state = self.lock();
        state.fill(share, now);
        // One nanosecond more than nothing.
        let debt = u64::try_from(1 - state.level).ok().filter(|debt| *debt > 0)?;
        let ns = u128::from(debt) * 1_000_000_000 / u128::from(share.ns_per_second().unsigned_abs());
        Some(Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX)).max(Duration::from_millis(1)))
    }

    /// A batch waited.
    pub(crate) fn waited(&self, time: Duration) {
        self.waits.fetch_add(1, Relaxed);
        self.waited_ns.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Guest code ran for so long.
    pub(crate) fn took(&self, time: Duration, now: Instant) {
        let mut state = self.lock();
        if let Some(share) = self.share {
            state.fill(share, now);
            let took = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
            state.level = state.level.saturating_sub(took).max(-share.ns_per_second() * DEBT_SECONDS_MAX);
        }
        state.busy += time;
        state.recent = state.recent_at(now) + time.as_secs_f64();
        state.recent_at = now;
    }

    /// Whether it took so much of late that it must leave room for others.
    pub(crate) fn is_heavy(&self, now: Instant) -> bool {
        self.lock().recent_at(now) > HEAVY.as_secs_f64()
    }

    pub(crate) fn read(&self, now: Instant) -> CpuUse {
        let owed = self.owed(now).unwrap_or_default();
        CpuUse {
            share: self.share,
            busy: self.lock().busy,
            waits: self.waits.load(Relaxed),
            waited: Duration::from_nanos(self.waited_ns.load(Relaxed)),
            owed,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fill(&mut self, share: CpuShare, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        let came = passed.as_nanos() * u128::from(share.ms) / 1000;
        let came = i64::try_from(came).unwrap_or(i64::MAX);
        self.level = self.level.saturating_add(came).min(share.ns_per_second());
        self.at = self.at.max(now);
    }

    /// What was taken of late, in seconds; halved with each half-life.
    fn recent_at(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.recent_at);
        self.recent * (-passed.as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2()
    }
}

impl FromStr for CpuShare {
    type Err = CpuShareError;

    fn from_str(text: &str) -> Result<Self, CpuShareError> {
        let number = |text: &str| text.trim().parse::<u32>().ok();
        let ms = match (text.strip_suffix('%'), text.strip_suffix("ms")) {
            (Some(percent), _) => number(percent).and_then(|percent| percent.checked_mul(10)),
            (None, Some(ms)) => number(ms),
            (None, None) => None,
        };
        let in_bounds = ms.filter(|ms| (1..=SHARE_MS_MAX).contains(ms));
        in_bounds.map(|ms| Self { ms }).ok_or_else(|| CpuShareError(text.chars().take(40).collect()))
    }
}

impl TryFrom<String> for CpuShare {
    type Error = CpuShareError;

    fn try_from(text: String) -> Result<Self, CpuShareError> {
        text.parse()
    }
}

impl From<CpuShare> for String {
    fn from(share: CpuShare) -> Self {
        share.to_string()
    }
}

impl fmt::Display for CpuShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ms % 10 {
            0 => write!(f, "{}%", self.ms / 10),
            _ => write!(f, "{}ms", self.ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(text: &str) -> CpuShare {
        text.parse().expect("a share")
    }

    #[test]
    fn a_share_is_written_in_two_ways() {
        assert_eq!(share("50%"), share("500ms"));
        assert_eq!(share("500ms").to_string(), "50%");
        assert_eq!(share("125ms").to_string(), "125ms");
        for wrong in ["", "50", "%", "0%", "0ms", "-1%", "1.5%", "64001ms", "6401%", "99999999999%", "1s"] {
            let refused = wrong.parse::<CpuShare>().expect_err(wrong).to_string();
            assert!(refused.contains("\"50%\""), "{refused}");
        }
    }

    #[test]
    fn a_share_is_kept_however_long_its_calls_are() {
        for call_ms in [1, 7, 100, 3_000] {
            let (start, call) = (Instant::now(), Duration::from_millis(call_ms));
            let meter = Meter::new(Some(share("25%")), start);
            let (mut now, mut busy) = (start, Duration::ZERO);
            while now < start + Duration::from_secs(120) {
                match meter.owed(now) {
                    Some(wait) => now += wait,
                    None => {
                        now += call;
                        busy += call;
                        meter.took(call, now);
                    }
                }
            }
            // A second's worth at once, a call that may be owed, and the wait's rounding.
            let (least, most) =
                (Duration::from_secs(29).saturating_sub(call), Duration::from_millis(30_750) + call);
            assert!((least..=most).contains(&busy), "calls of {call:?}: {busy:?} in two minutes");
        }
    }

    #[test]
    fn without_a_share_nothing_waits_and_everything_is_counted() {
        let now = Instant::now();
        let meter = Meter::new(None, now);
        meter.took(Duration::from_secs(100), now);
        assert_eq!(meter.owed(now), None);
        assert_eq!(meter.read(now).busy, Duration::from_secs(100));
    }

    #[test]
    fn a_pipeline_is_heavy_while_it_takes_much_and_not_long_after() {
        let now = Instant::now();
        let meter = Meter::new(None, now);
        meter.took(HEAVY / 2, now);
        assert!(!meter.is_heavy(now));
        meter.took(HEAVY, now);
        assert!(meter.is_heavy(now));
        assert!(!meter.is_heavy(now + HALF_LIFE), "half of it is forgotten");
        // One that takes a tenth of a processor all the time is not.
        let (meter, mut now) = (Meter::new(None, now), now);
        for _ in 0..1000 {
            now += Duration::from_millis(10);
            meter.took(Duration::from_millis(1), now);
            assert!(!meter.is_heavy(now));
        }
    }
}
