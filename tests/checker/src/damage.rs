//! Damage to what was durable: each byte of a small data folder flipped, each file cut off at each byte, each segment
//! replaced by one of another history. It is detected, or does no harm: never silent loss, never a panic.
//!
//! ```text
//! work ──end──> work ──stop──> the folder of the seed ──copy──> harmed at one place ──open──> drain
//!         └──> other work ──stop──> segments of another history
//! ```
//!
//! The folder is one of a shard that was stopped in good order. Of a shard that crashed, the last batch cannot be told
//! from a torn one: that is said in `docs/guarantees.md`. A seed's folder is made once, and copied for each damage.
//!
//! *All* damages of a seed are: each segment and spare that another history has too, replaced by theirs; and for every
//! byte of every file (segments, compacted ones, spares, snapshots, the identity) one of its bits flipped, and the file
//! cut off before it. The order spreads them over the files, so that the first few are a sample of all.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use tokio::sync::Mutex;
use wharf_shard::OpenError;

use crate::report::{Case, Report, Tally};
use crate::spread::{self, Plan, Trial};
use crate::world::World;
use crate::{History, Violation};

/// Steps of work before the damage.
const STEPS: u64 = 60;
/// Places are taken in steps of this prime, which is greater than any folder's bytes: so each place is met once, and
/// the first ones are spread over all files.
const STRIDE: u64 = 2_654_435_761;
/// Folders that are kept at a time: trials of a seed begin while the last ones of the seed before go on.
const FOLDERS_MAX: usize = 2;

/// One damage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    let folders = Folders::default();
    let mut report =
        spread::run(plan, Report::new("damage", "damages"), async |case| damage(&folders, case).await)?;
    report.took = begun.elapsed();
    Ok(report)
}

/// The folders of the last seeds, each made once.
#[derive(Default)]
struct Folders(Mutex<BTreeMap<u64, Arc<Folder>>>);

impl Folders {
    async fn of(&self, seed: u64) -> Result<Arc<Folder>, Violation> {
        let mut made = self.0.lock().await;
        if let Some(folder) = made.get(&seed) {
            return Ok(Arc::clone(folder));
        }
        let folder = Arc::new(Folder::make(seed).await?);
        made.insert(seed, Arc::clone(&folder));
        while made.len() > FOLDERS_MAX {
            made.pop_first();
        }
        Ok(folder)
    }
}

/// What a shard left that was stopped in good order, and what else might lie there.
struct Folder {
    seed: u64,
    world: World,
    /// How the operations ended that made it.
    tally: Tally,
    /// All files and their lengths.
    files: Vec<(PathBuf, u64)>,
    bytes: u64,
    /// Files of another history that went on from the middle of this one.
    others: Vec<(PathBuf, Vec<u8>)>,
}

impl Folder {
    async fn make(seed: u64) -> Result<Self, Violation> {
        let unopened = |what: &str| Violation::new("repair", format!("{what} does not open"));
        let mut world = World::new(seed);
        world.open().await.map_err(|_| unopened("an empty folder"))?;
        world.work(STEPS / 2).await;
        world.end().await;

        let mut other = world.fork(!seed);
        other.open().await.map_err(|_| unopened("a copy"))?;
        other.work(STEPS / 2).await;
        other.stop().await;

        world.open().await.map_err(|_| unopened("what was left"))?;
        world.work(STEPS / 2).await;
        world.stop().await;

        let mut names = world.disk.files();
        names.sort();
        let contents = |name: &PathBuf| world.disk.contents(name).unwrap_or_default();
        let is_segment = |name: &&PathBuf| name.extension().is_some_and(|kind| kind != "snapshot");
        let theirs = |name: &PathBuf| Some((name.clone(), other.disk.contents(name)?));
        let others = names.iter().filter(is_segment).filter_map(theirs);
        let others = others.filter(|(name, theirs)| *theirs != contents(name)).collect();
        let files: Vec<_> = names.iter().map(|name| (name.clone(), contents(name).len() as u64)).collect();
        let bytes = files.iter().map(|(_, bytes)| bytes).sum();
        Ok(Self { seed, tally: world.history.tally(), world, files, bytes, others })
    }

    /// The damage of place `at`, counted from 1, if there is one.
    fn harm(&self, at: u64) -> Option<Harm> {
        let place = at.checked_sub(1)?;
        // The replacements come first: there are few, and a sample is to have them.
        let replacements = self.others.len() as u64;
        if place < replacements {
            return Some(Harm::Replace { file: self.others[place as usize].0.clone() });
        }
        let (place, places) = (place - replacements, 2 * self.bytes);
        if place >= places {
            return None;
        }
        let spread = place.wrapping_mul(STRIDE).wrapping_add(self.seed % places) % places;
        let mut byte = spread / 2;
        for (file, bytes) in &self.files {
            if byte < *bytes {
                let (file, byte) = (file.clone(), byte as usize);
                let flip = spread.is_multiple_of(2);
                return Some(if flip { Harm::Flip { file, byte } } else { Harm::Cut { file, byte } });
            }
            byte -= bytes;
        }
        None
    }

    /// A copy of the world, harmed.
    fn harmed(&self, harm: &Harm, at: u64) -> World {
        let world = self.world.fork(self.seed.wrapping_mul(1_000_003).wrapping_add(at));
        let there = match harm {
            Harm::Flip { file, byte } => world.disk.harm(file, |bytes| bytes[*byte] ^= 1 << (byte % 8)),
            Harm::Cut { file, byte } => world.disk.harm(file, |bytes| bytes.truncate(*byte)),
            Harm::Replace { file } => {
                let theirs = self.others.iter().find(|(name, _)| name == file);
                theirs.is_some_and(|(_, theirs)| world.disk.harm(file, |bytes| bytes.clone_from(theirs)))
            }
        };
        assert!(there, "the folder's own files are there");
        world
    }
}

impl Harm {
    fn name(&self) -> &'static str {
        match self {
            Self::Flip { .. } => "bytes flipped",
            Self::Cut { .. } => "files cut off",
            Self::Replace { .. } => "files of another history",
        }
    }
}

async fn damage(folders: &Folders, Case { seed, at }: Case) -> Trial {
    let mut trial = Trial::default();
    let folder = match folders.of(seed).await {
        Ok(folder) => folder,
        // Told once: there is nothing to damage.
        Err(_) if at > 1 => {
            trial.past_the_end = true;
            return trial;
        }
        Err(violation) => {
            trial.violations.push(violation);
            return trial;
        }
    };
    let Some(harm) = folder.harm(at) else {
        trial.past_the_end = true;
        return trial;
    };
    if at == 1 {
        trial.tally = folder.tally;
        trial.figures.push(("bytes of the folders", folder.bytes));
    }
    trial.figures.push((harm.name(), 1));
    let mut world = folder.harmed(&harm, at);

    let found = match world.open().await {
        Ok(()) => world.drain().await,
        Err(OpenError::Recovery) => vec![Violation::new("panic", "the thread that folds the state died")],
        Err(_) => {
            trial.figures.push(("refused to open", 1));
            Vec::new()
        }
    };
    trial.tally += after(&folder, &world.history);
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

/// How the operations ended that came after the damage.
fn after(folder: &Folder, history: &History) -> Tally {
    let (before, now) = (folder.tally, history.tally());
    Tally {
        ok: now.ok - before.ok,
        failed: now.failed - before.failed,
        unknown: now.unknown - before.unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[tokio::test]
    async fn the_places_of_a_seed_are_each_byte_flipped_and_cut_once() {
        let folder = Folder::make(1).await.expect("it opens");
        let places = folder.others.len() as u64 + 2 * folder.bytes;

        let harms: BTreeSet<Harm> = (1..=places).filter_map(|at| folder.harm(at)).collect();

        assert_eq!(harms.len() as u64, places, "none twice, none missing");
        assert_eq!(folder.harm(0), None);
        assert_eq!(folder.harm(places + 1), None);
        let of_kind = |name| harms.iter().filter(|harm| harm.name() == name).count() as u64;
        assert_eq!([of_kind("bytes flipped"), of_kind("files cut off")], [folder.bytes; 2]);
        assert!(of_kind("files of another history") > 0);
    }
}
