//! A disk that fails at every operation of a run: nothing is confirmed after a failure that is final, and a restart
//! serves all that was confirmed.
//!
//! | seed | the operation | and then |
//! |---|---|---|
//! | 0, 1 of 6 | reports an error of the device (EIO); a sync loses what it was to make durable | once, or for good |
//! | 2, 3 of 6 | reports that the disk is full (ENOSPC) | once, or until the restart |
//! | 4, 5 of 6 | writes half, and reports an error (a short write) | once, or for good |
//!
//! A full disk is not final: once there is room, the same process goes on.

use std::time::Instant;

use anyhow::Result;
use wharf_disk::Fault;

use crate::Violation;
use crate::report::{Case, Report};
use crate::spread::{self, Plan, Trial};
use crate::world::World;

/// Steps of work in one run.
const STEPS: u64 = 40;
/// Steps after a full disk has room again.
const STEPS_AFTER: u64 = 10;

/// Runs the check; cases are operations that fail.
///
/// # Errors
/// When the machine does not let the check do its work.
pub fn run(plan: &Plan) -> Result<Report> {
    let begun = Instant::now();
    let mut report = spread::run(plan, Report::new("faults", "failing operations"), fail)?;
    report.took = begun.elapsed();
    Ok(report)
}

async fn fail(Case { seed, at }: Case) -> Trial {
    let mut trial = Trial::default();
    let mut world = World::new(seed);
    let fault = [Fault::Error, Fault::Full, Fault::Short][(seed / 2 % 3) as usize];
    let full = fault == Fault::Full;
    world.failure_is_final = !full;
    world.disk.plan(wharf_disk::Plan { at, fault, lasting: seed.is_multiple_of(2) });
    let opened = world.open().await.is_ok();
    if opened {
        world.work(STEPS).await;
    }
    trial.past_the_end = world.disk.failed().is_none();
    if trial.past_the_end {
        world.end().await;
        return trial;
    }
    trial.figures.extend(spread::place_of_failure(&world.disk));
    let stopped = !opened || world.is_stopped();
    trial.figures.push(("stopped", u64::from(stopped)));
    world.disk.heal();
    if full && !stopped {
        trial.figures.push(("went on when there was room", 1));
        world.work(STEPS_AFTER).await;
    }

    // The machine may go down with the process, or serve the next one what it never wrote.
    if seed / 6 % 2 == 0 {
        world.cut_power(seed + at);
    } else {
        world.disk.kill();
    }
    world.end().await;
    match world.open().await {
        Ok(()) => trial.violations.extend(world.drain().await),
        Err(error) => trial.violations.push(Violation::new("repair", format!("{error:?}"))),
    }
    trial.tally = world.history.tally();
    world.end().await;
    trial
}
