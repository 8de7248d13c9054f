//! Interleavings: threads that share a lock, in many orders of their turns.
//!
//! A scheduler decides at every lock who goes on, at random or with few changes of turn (PCT: Burckhardt et al., ASPLOS
//! 2010). It needs locks that it holds the strings of, and so a build of its own, with the feature `interleave`: in such
//! a build nothing else works. A failed order is printed as what shuttle calls a schedule, which repeats it.

#![expect(clippy::unwrap_used, reason = "a trial that cannot go on should stop")]

mod log;
mod outlet;

use std::panic::catch_unwind;
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};

use crate::report::{Case, Report};
use crate::{Plan, Violation};

/// Changes of turn in an order of few: most faults need no more.
const CHANGES: usize = 3;

/// What is tried: who shares a lock.
const SUBJECTS: [(&str, fn()); 2] =
    [("a log, written and read", log::once), ("an outlet with its credit", outlet::once)];

/// Runs the check; cases are orders of each scheduler, for each subject.
///
/// # Errors
/// When the machine does not let the check do its work.
pub fn run(plan: &Plan) -> Result<Report> {
    let begun = Instant::now();
    let mut report = Report::new("interleave", "orders");
    let orders = usize::try_from(plan.cases)?;
    let parts: Vec<Result<Report>> = thread::scope(|scope| {
        let trials = SUBJECTS.into_iter().flat_map(|subject| {
            let random = Box::new(RandomScheduler::new_from_seed(plan.seed, orders));
            let few = Box::new(PctScheduler::new_from_seed(plan.seed, CHANGES, orders));
            [(subject, random as Box<dyn Scheduler + Send>), (subject, few)]
        });
        let trial = |(subject, scheduler)| scope.spawn(move || try_orders(plan.seed, subject, scheduler));
        let threads: Vec<_> = trials.map(trial).collect();
        let lost = || anyhow!("a thread of the check panicked");
        threads.into_iter().map(|thread| thread.join().map_err(|_| lost())).collect()
    });
    for part in parts {
        report.merge(part?);
    }
    report.took = begun.elapsed();
    Ok(report)
}

fn try_orders(seed: u64, (name, once): (&'static str, fn()), scheduler: Box<dyn Scheduler + Send>) -> Report {
    let mut report = Report::new("interleave", "orders");
    // What is shared is made anew for each order.
    let runner = std::panic::AssertUnwindSafe(|| Runner::new(scheduler, Config::default()).run(once));
    match catch_unwind(runner) {
        Ok(orders) => {
            report.cases = orders as u64;
            report.tally.ok = orders as u64;
            report.add(name, orders as u64);
        }
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map_or("see above", String::as_str);
            let violation = Violation::new("interleaving", format!("{name}: {said}"));
            report.violations.push((Case { seed, at: 0 }, violation));
        }
    }
    report
}
