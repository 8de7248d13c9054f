//! A crash at every operation of a run: the disk forgets or tears what was not synced, names of files included.
//!
//! ```text
//! work ──crash at operation N──> open ──crash again──> fold, open, drain ──power cut──> open: nothing is back
//! ```
//!
//! Two of three seeds cut the power, the third kills the process alone. Each point is a run of its own, from an
//! empty disk, so its seed and its number repeat it.

use std::time::Instant;

use anyhow::Result;
use wharf_disk::Fault;

use crate::report::{Case, Report};
use crate::spread::{self, Plan, Trial};
use crate::world::World;
use crate::{Violation, fold};

/// Steps of work in one run; each is a batch, so a run has a few operations for each.
const STEPS: u64 = 40;
/// The second crash comes within so many operations of opening.
const RECOVERY_OPERATIONS: u64 = 12;

/// Runs the check; cases are points at which a run crashes.
///
/// # Errors
/// When the machine does not let the check do its work.
pub fn run(plan: &Plan) -> Result<Report> {
    let begun = Instant::now();
    let mut report = spread::run(plan, Report::new("crash", "points"), point)?;
    report.took = begun.elapsed();
    Ok(report)
}

async fn point(Case { seed, at }: Case) -> Trial {
    let mut trial = Trial::default();
    let mut world = World::new(seed);
    let crash = Crash { power: seed % 3 != 0, seed: seed.wrapping_mul(1_000_003) + at };
    world.disk.plan(wharf_disk::Plan { at, fault: Fault::Power, lasting: true });
    if world.open().await.is_ok() {
        world.work(STEPS).await;
    }
    trial.past_the_end = world.disk.failed().is_none();
    if trial.past_the_end {
        world.end().await;
        return trial;
    }
    trial.figures.extend(spread::place_of_failure(&world.disk));
    crash.happen(&mut world, 0).await;

    // What is there now is what the live shard had, as far as it goes.
    match fold::compare(&world.disk, &world.hashes) {
        Ok(compared) => {
            trial.figures.push(("states compared by hash", compared.records));
            trial.violations.extend(compared.violations);
        }
        Err(error) => trial.violations.push(Violation::new("repair", format!("after a crash: {error:?}"))),
    }

    let again = 1 + (seed + at) % RECOVERY_OPERATIONS;
    world.disk.plan(wharf_disk::Plan { at: again, fault: Fault::Power, lasting: true });
    // It may open: then it crashes in the midst of its first records, or right after them.
    let _ = world.open().await;
    trial.figures.push(("crashed again in recovery", u64::from(world.disk.failed().is_some())));
    crash.happen(&mut world, 1).await;

    match world.open().await {
        Ok(()) => trial.violations.extend(world.drain().await),
        Err(error) => {
            trial.violations.push(Violation::new("repair", format!("after two crashes: {error:?}")))
        }
    }
    trial.tally = world.history.tally();
    trial.figures.push(("deliveries", world.history.deliveries().0));
    trial.figures.push(("offsets settled by a group", world.settled_by_group()));
    if trial.violations.is_empty() {
        crash.happen(&mut world, 2).await;
        match world.open().await {
            Ok(()) => trial.violations.extend(world.assert_drained().await),
            Err(error) => {
                trial.violations.push(Violation::new("repair", format!("after three crashes: {error:?}")));
            }
        }
    }
    world.end().await;
    trial
}

/// How a run crashes.
#[derive(Clone, Copy, Debug)]
struct Crash {
    /// The machine loses its power; otherwise the process dies alone.
    power: bool,
    /// What is kept of what was not synced.
    seed: u64,
}

impl Crash {
    async fn happen(self, world: &mut World, time: u64) {
        if self.power {
            // Before the process ends: what it does while it dies reaches no disk.
            world.cut_power(self.seed.wrapping_add(time * 7_000_003));
        } else {
            world.disk.kill();
        }
        world.end().await;
    }
}
