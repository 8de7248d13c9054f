//! Trials over seeds and places, spread over the machine's cores.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Result, anyhow};
use tokio::runtime::Builder;
use wharf_disk::SimulatedDisk;

use crate::report::{Case, Report, Tally, Violation};

/// What came of one trial.
#[derive(Debug, Default)]
pub(crate) struct Trial {
    /// The run ended before the place at which something was to happen: the next run is another seed's.
    pub(crate) past_the_end: bool,
    pub(crate) tally: Tally,
    pub(crate) figures: Vec<(&'static str, u64)>,
    pub(crate) violations: Vec<Violation>,
}

/// Which trials.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many.
    pub cases: u64,
    /// The first run's seed; the next runs have the next ones.
    pub seed: u64,
    /// Of how many runs, at most.
    pub runs: u64,
    /// Only this place of the one run, to look at a violation again.
    pub only: Option<u64>,
    /// The last place of a run that is tried.
    pub last: u64,
}

impl Plan {
    /// So many trials from `seed` on, at every place.
    pub fn new(cases: u64, seed: u64) -> Self {
        Self { cases, seed, runs: u64::MAX, only: None, last: u64::MAX }
    }

    /// Every place of the run of `seed`.
    pub fn whole(seed: u64) -> Self {
        Self { runs: 1, ..Self::new(u64::MAX, seed) }
    }
}

/// Which trial is next, for all threads.
struct Cursor<'a> {
    plan: &'a Plan,
    next: Mutex<Next>,
}

struct Next {
    case: Case,
    /// Trials that were handed out and are not known to be past the end of their run.
    tried: u64,
}

impl Cursor<'_> {
    /// Hands out the next trial, if there is to be one.
    fn take(&self) -> Option<Case> {
        let mut next = self.lock();
        if next.case.at > self.plan.last {
            let seed = next.case.seed;
            next.begin_run_after(seed);
        }
        let runs = next.case.seed - self.plan.seed;
        if runs >= self.plan.runs || next.tried >= self.plan.cases {
            return None;
        }
        next.tried += 1;
        let case = next.case;
        next.case.at += 1;
        Some(case)
    }

    /// The trial was none: its run ends before.
    fn past_the_end(&self, case: Case) {
        let mut next = self.lock();
        next.tried -= 1;
        next.begin_run_after(case.seed);
    }

    fn lock(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Next {
    /// Goes on with the run after that of `seed`, unless another thread did so before.
    fn begin_run_after(&mut self, seed: u64) {
        if self.case.seed == seed {
            self.case = Case { seed: seed + 1, at: 1 };
        }
    }
}

/// Tries every place of one run after the other, until there were enough, and adds what came of it to `report`.
pub(crate) fn run<F>(plan: &Plan, mut report: Report, trial: F) -> Result<Report>
where
    F: AsyncFn(Case) -> Trial + Sync,
{
    if let Some(at) = plan.only {
        let case = Case { seed: plan.seed, at };
        let runtime = Builder::new_current_thread().enable_time().build()?;
        add(&mut report, case, runtime.block_on(trial(case)));
        return Ok(report);
    }
    let cursor = Cursor { plan, next: Mutex::new(Next { case: Case { seed: plan.seed, at: 1 }, tried: 0 }) };
    let work = || -> Result<Report> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let mut report = Report::new(report.check, report.unit);
        while let Some(case) = cursor.take() {
            let trial = runtime.block_on(trial(case));
            if trial.past_the_end {
                cursor.past_the_end(case);
            } else {
                add(&mut report, case, trial);
            }
        }
        Ok(report)
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let parts: Vec<Result<Report>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let lost = || anyhow!("a thread of the check panicked");
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(lost()))).collect()
    });
    for part in parts {
        report.merge(part?);
    }
    Ok(report)
}

/// At which kind of file a disk failed, as a figure: so that a report shows whether trimming and compaction were met.
pub(crate) fn place_of_failure(disk: &SimulatedDisk) -> Option<(&'static str, u64)> {
    let failed = disk.failed()?;
    let kinds = [
        (".segment", "at a segment"),
        ("sparse", "at a segment that is compacted"),
        (".spare", "at a spare segment"),
        ("snapshot", "at a snapshot"),
    ];
    let kind = kinds.into_iter().find(|(part, _)| failed.contains(part));
    Some((kind.map_or("at the folder", |(_, name)| name), 1))
}

fn add(report: &mut Report, case: Case, trial: Trial) {
    report.cases += 1;
    report.tally += trial.tally;
    trial.figures.into_iter().for_each(|(name, count)| report.add(name, count));
    report.violations.extend(trial.violations.into_iter().map(|violation| (case, violation)));
}
