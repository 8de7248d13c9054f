//! Damage to what was durable: each byte of a small data folder flipped, each file cut off at each byte, each segment
//! replaced by one of another history. It is detected, or does no harm: never silent loss, never a panic.
//!
//! The folder is one of a shard that was stopped in good order. Of a shard that crashed, the last batch cannot be told
//! from a torn one: that is said in `docs/guarantees.md`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use wharf_shard::OpenError;

use crate::Violation;
use crate::report::{Case, Report};
use crate::spread::{self, Plan, Trial};
use crate::world::World;

/// Steps of work before the damage.
const STEPS: u64 = 60;
/// Places are taken in steps of this prime, so that some of them are spread over all files.
const STRIDE: u64 = 2_654_435_761;

/// One damage.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Harm {
    Flip { file: PathBuf, byte: usize },
    Cut { file: PathBuf, byte: usize },
    Replace { file: PathBuf },
}

/// Runs the check; cases are single damages.
///
/// # Errors
/// When the machine does not let the check do its work.
pub fn run(plan: &Plan) -> Result<Report> {
    let begun = Instant::now();
    let mut report = spread::run(plan, Report::new("damage", "damages"), damage)?;
    report.took = begun.elapsed();
    Ok(report)
}

async fn damage(Case { seed, at }: Case) -> Trial {
    let mut trial = Trial::default();
    let mut world = World::new(seed);
    if world.open().await.is_err() {
        trial.violations.push(Violation::new("repair", "an empty folder does not open"));
        return trial;
    }
    world.work(STEPS / 2).await;
    let mut other = None;
    // The replacements come first: there are few, and a sample is to have them.
    if at <= REPLACEMENTS_MAX {
        world.end().await;
        let mut fork = world.fork(!seed);
        if fork.open().await.is_ok() {
            fork.work(STEPS / 2).await;
        }
        fork.stop().await;
        other = Some(fork.disk);
        if world.open().await.is_err() {
            trial.violations.push(Violation::new("repair", "what was left does not open"));
        }
    }
    world.work(STEPS / 2).await;
    world.stop().await;

    let Some(harm) = harm(&world, seed, at) else {
        trial.past_the_end = at > REPLACEMENTS_MAX;
        return trial;
    };
    let harmed = match &harm {
        Harm::Flip { file, byte } => world.disk.harm(file, |bytes| bytes[*byte] ^= 1 << (byte % 8)),
        Harm::Cut { file, byte } => world.disk.harm(file, |bytes| bytes.truncate(*byte)),
        Harm::Replace { file } => {
            let theirs = other.and_then(|other| other.contents(file));
            theirs.is_some_and(|theirs| world.disk.harm(file, |bytes| *bytes = theirs))
        }
    };
    if !harmed {
        return trial;
    }

    let found = match world.open().await {
        Ok(()) => world.drain().await,
        Err(OpenError::Recovery) => vec![Violation::new("panic", "the thread that folds the state died")],
        Err(_) => {
            trial.figures.push(("refused to open", 1));
            Vec::new()
        }
    };
    trial.tally = world.history.tally();
    world.end().await;
    // A message that cannot be read is told so, and stays: that is no silent loss.
    let told = found.iter().any(|violation| violation.promise == "unreadable");
    trial.figures.push(("told when read", u64::from(told)));
    let silent =
        |violation: &Violation| !matches!(violation.promise, "unreadable" | "lost" | "stuck" | "torn");
    let found = found.into_iter().filter(|violation| !told || silent(violation));
    let name =
        |violation: Violation| Violation::new(violation.promise, format!("{harm:?}: {}", violation.seen));
    trial.violations.extend(found.map(name));
    trial
}

/// Places at the beginning that are kept for segments of another history.
const REPLACEMENTS_MAX: u64 = 32;

/// The damage of place `at`, if there is one.
fn harm(world: &World, seed: u64, at: u64) -> Option<Harm> {
    let mut files = world.disk.files();
    files.sort();
    if at <= REPLACEMENTS_MAX {
        let segment = |file: &PathBuf| file.extension().is_some_and(|kind| kind != "snapshot");
        let file = files.into_iter().filter(segment).nth(at as usize - 1)?;
        return Some(Harm::Replace { file });
    }
    // What lies in a spare is of no use to anybody.
    files.retain(|file| file.extension().is_none_or(|kind| kind != "spare"));
    let bytes = |file: &PathBuf| world.disk.contents(file).map_or(0, |bytes| bytes.len() as u64);
    let total: u64 = files.iter().map(bytes).sum();
    let place = at - REPLACEMENTS_MAX - 1;
    if place >= 2 * total {
        return None;
    }
    let spread = place.wrapping_mul(STRIDE).wrapping_add(seed) % (2 * total);
    let mut byte = spread / 2;
    for file in files {
        let length = bytes(&file);
        if byte < length {
            let byte = byte as usize;
            return Some(if spread.is_multiple_of(2) {
                Harm::Flip { file, byte }
            } else {
                Harm::Cut { file, byte }
            });
        }
        byte -= length;
    }
    None
}
