//! Folding a log offline: what a restart makes of snapshot and records, without running anything.

use std::collections::BTreeMap;
use std::path::Path;

use wharf_disk::SimulatedDisk;
use wharf_log::{LocalLog, OpenError, Replay};
use wharf_queue::{Stamped, State};

use crate::Violation;
use crate::world::{FOLDER, log_options};

/// Folds a copy of the log on `disk`, and compares the state's hash after each record of which the live shard had
/// told one (I11).
///
/// # Errors
/// When the log does not open.
pub(crate) fn compare(disk: &SimulatedDisk, live: &BTreeMap<u64, u64>) -> Result<Compared, OpenError> {
    let copy = disk.copy();
    let mut state = State::default();
    let mut compared = Compared::default();
    let mut effects = Vec::new();
    LocalLog::open(Path::new(FOLDER), log_options(&copy), &mut |replay| {
        match replay {
            Replay::Snapshot { bytes, .. } => state = State::restore(bytes)?,
            Replay::Record { index, body } => {
                effects.clear();
                state.apply(index, &Stamped::decode(body)?, &mut effects);
            }
        }
        if let Some(hash) = live.get(&state.applied()) {
            compared.records += 1;
            if *hash != state.hash() {
                let what = format!("after record {} the state is another one than it was", state.applied());
                compared.violations.push(Violation::new("replay", what));
            }
        }
        Ok(())
    })?;
    state.verify();
    Ok(compared)
}

/// What a comparison found.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// Records after which both hashes are known.
    pub(crate) records: u64,
    pub(crate) violations: Vec<Violation>,
}
