//! Data folders of released versions, kept: each still opens, and is what it was.
//!
//! ```text
//! golden/0.1.0/
//!   shard/…        the files of a small log that was stopped in good order
//!   expected.txt   the state's hash, its queues, and every message that waits: what a fold has to give
//! ```

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use wharf_disk::SimulatedDisk;
use wharf_log::{Disk as _, LocalLog, LogEngine as _, Replay};
use wharf_queue::{Stamped, State};

use crate::Label;
use crate::world::{FOLDER, World, log_options};

/// Steps of work in a folder that is written.
const STEPS: u64 = 60;
/// The file that says what a folder holds.
const EXPECTED: &str = "expected.txt";

/// Writes a folder of this version into `folder`, which is made.
///
/// # Errors
/// When it is there already, or cannot be written.
pub fn write(folder: &Path, seed: u64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let disk = runtime.block_on(async {
        let mut world = World::new(seed);
        world.open().await?;
        world.work(STEPS).await;
        world.stop().await;
        anyhow::Ok(world.disk)
    })?;
    let shard = folder.join("shard");
    fs::create_dir_all(folder.parent().unwrap_or(folder))?;
    fs::create_dir(folder).with_context(|| format!("making {}", folder.display()))?;
    fs::create_dir(&shard)?;
    for file in disk.files() {
        // Spares hold nothing.
        if file.extension().is_none_or(|kind| kind != "spare") {
            let name = file.file_name().context("a file of the log has a name")?;
            fs::write(shard.join(name), disk.contents(&file).context("it is listed")?)?;
        }
    }
    fs::write(folder.join(EXPECTED), describe(&load(&shard)?)?)?;
    Ok(())
}

/// Opens a copy of `folder`, and compares what is there with what is expected.
///
/// # Errors
/// When it does not open, or is another one.
pub fn check(folder: &Path) -> Result<()> {
    let expected = fs::read_to_string(folder.join(EXPECTED)).context("what is expected of the folder")?;
    let disk = load(&folder.join("shard"))?;
    let found = describe(&disk)?;
    ensure!(found == expected, "{} is another one than it was:\n{found}", folder.display());
    Ok(())
}

/// The golden folders that come with the checker, by version.
///
/// # Errors
/// When they are not where the source is.
pub fn folders() -> Result<Vec<PathBuf>> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let entries = fs::read_dir(&golden).with_context(|| golden.display().to_string())?;
    let mut folders: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    folders.retain(|path| path.is_dir());
    folders.sort();
    Ok(folders)
}

/// A disk with the files of a folder.
fn load(folder: &Path) -> Result<SimulatedDisk> {
    let disk = SimulatedDisk::default();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let file = disk.create(&Path::new(FOLDER).join(entry.file_name()))?;
        file.write_at(0, &fs::read(entry.path())?)?;
        file.sync()?;
    }
    disk.sync_dir(Path::new(FOLDER))?;
    Ok(disk)
}

/// What a copy of the log on `disk` holds, in words.
fn describe(disk: &SimulatedDisk) -> Result<String> {
    let copy = disk.copy();
    let (mut state, mut effects) = (State::default(), Vec::new());
    let log = LocalLog::open(Path::new(FOLDER), log_options(&copy), &mut |replay| {
        match replay {
            Replay::Snapshot { bytes, .. } => state = State::restore(bytes)?,
            Replay::Record { index, body } => {
                effects.clear();
                state.apply(index, &Stamped::decode(body)?, &mut effects);
            }
        }
        Ok(())
    })?;
    state.verify();
    let reader = log.reader();
    let mut text = format!("record {}\nhash {:016x}\n", state.applied(), state.hash());
    for view in state.queues() {
        writeln!(
            text,
            "queue {}: {} of {} unsettled",
            view.name,
            view.enqueued - view.settled,
            view.enqueued
        )?;
        for message in state.browse(view.name.as_str(), 0, usize::MAX) {
            let mut bodies = Vec::new();
            reader.read(&[message.id.index], &mut bodies)?;
            let stamped = Stamped::decode(bodies.remove(0))?;
            let body = stamped.record.message(message.id.entry).context("its record holds it")?;
            let label = Label::read(&body.payload).context("it is whole")?;
            writeln!(text, "  {} {} {label} attempts {}", message.offset, message.id, message.attempts)?;
        }
    }
    Ok(text)
}
