//! Trials over seeds and places, spread over the machine's cores.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// Only this place of the one run, to look at a violation again.
    pub only: Option<u64>,
    /// The last place of a run that is tried.
    pub last: u64,
}

impl Plan {
    /// So many trials from `seed` on, at every place.
    pub fn new(cases: u64, seed: u64) -> Self {
        Self { cases, seed, only: None, last: u64::MAX }
    }
}

/// Tries every place of one run after the other, until there were enough, and adds what came of it to `report`.
pub(crate) fn run<F, T>(plan: &Plan, mut report: Report, trial: F) -> Result<Report>
where
    F: Fn(Case) -> T + Sync,
    T: Future<Output = Trial>,
{
    if let Some(at) = plan.only {
        let case = Case { seed: plan.seed, at };
        let runtime = Builder::new_current_thread().enable_time().build()?;
        add(&mut report, case, runtime.block_on(trial(case)));
        return Ok(report);
    }
    let (next_seed, tried) = (AtomicU64::new(plan.seed), AtomicU64::new(0));
    let work = || -> Result<Report> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let mut report = Report::new(report.check, report.unit);
        'seeds: loop {
            let seed = next_seed.fetch_add(1, Ordering::Relaxed);
            for at in 1..=plan.last {
                if tried.fetch_add(1, Ordering::Relaxed) >= plan.cases {
                    break 'seeds;
                }
                let case = Case { seed, at };
                let trial = runtime.block_on(trial(case));
                if trial.past_the_end {
                    tried.fetch_sub(1, Ordering::Relaxed);
                    break;
                }
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
