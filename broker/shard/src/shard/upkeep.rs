//! When a snapshot is due, and what follows once it is durable: the log is trimmed, and segments that are mostly
//! dead are rewritten, part by part.

use std::time::Duration;

use wharf_log::{LocalLog, LogEngine, Snapshot, Written};
use wharf_protocol::Timestamp;
use wharf_queue::State;

use super::Options;
use super::keeper::{Job, Keeper, Kept};
use crate::error::chain;

/// A snapshot is due when the last one is so old, and there is log worth it: what was settled since then still
/// fills the disk.
const AGE_MAX: Duration = Duration::from_secs(60);
/// The log that is worth it, or a quarter of the snapshot's own size, whichever is more.
const AGED_LOG_BYTES_MIN: usize = 1 << 20;

/// What the owner knows of its snapshots.
pub(super) struct Upkeep {
    keeper: Keeper,
    /// The log since the last snapshot.
    log_bytes: usize,
    /// The length of the last snapshot.
    snapshot_bytes: usize,
    /// When it was begun, or the log was opened.
    begun: Timestamp,
    /// See [`Options::snapshot_log_bytes_min`](crate::Options::snapshot_log_bytes_min).
    log_bytes_min: usize,
    /// See [`Options::snapshot_log_times`](crate::Options::snapshot_log_times).
    log_times: usize,
}

impl Upkeep {
    pub(super) fn new(keeper: Keeper, now: Timestamp, options: &Options) -> Self {
        let Options { snapshot_log_bytes_min: log_bytes_min, snapshot_log_times: log_times, .. } = *options;
        Self { keeper, log_bytes: 0, snapshot_bytes: 0, begun: now, log_bytes_min, log_times }
    }

    /// The state was restored from a snapshot of so many bytes.
    pub(super) fn restored(&mut self, bytes: usize) {
        self.snapshot_bytes = bytes;
    }

    /// The log has, or now has, so many more bytes that no snapshot covers.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.log_bytes += bytes;
    }

    /// When to [go on](Self::go_on) though nothing else happens.
    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        let worth_it = self.log_bytes >= self.aged_log_bytes_min();
        (worth_it && !self.keeper.is_busy()).then(|| self.begun.after(AGE_MAX))
    }

    /// Takes what the keeper did, and gives it what is to be done next.
    pub(super) fn go_on(&mut self, log: &mut LocalLog, state: &State, now: Timestamp) {
        while let Some(kept) = self.keeper.take() {
            self.take(kept, log, state);
        }
        let long = self.log_bytes >= self.log_bytes_min.max(self.log_times * self.snapshot_bytes);
        let old = self.next_timer().is_some_and(|due| due <= now);
        if !self.keeper.is_busy() && (long || old) {
            self.begun = now;
            if let Some((snapshot, bytes)) = self.begin(log, state) {
                let needed = state.oldest_live_index();
                self.keeper.begin(Job::Snapshot { snapshot, state: bytes, needed });
            }
        }
    }

    /// Waits for the keeper and keeps the last state, before the log is closed.
    pub(super) fn finish(&mut self, log: &mut LocalLog, state: &State) {
        match self.keeper.wait() {
            Some(Kept::Snapshot { written, needed }) => {
                keep(log, written, needed);
            }
            Some(Kept::Compaction(done)) => drop(log.compacted(done)),
            None => {}
        }
        if let Some((snapshot, bytes)) = self.begin(log, state) {
            keep(log, snapshot.write(&bytes), state.oldest_live_index());
        }
    }

    fn aged_log_bytes_min(&self) -> usize {
        AGED_LOG_BYTES_MIN.max(self.snapshot_bytes / 4)
    }

    fn begin(&mut self, log: &mut LocalLog, state: &State) -> Option<(Snapshot, Vec<u8>)> {
        self.log_bytes = 0;
        let begun = log.begin_snapshot(log.next() - 1);
        let complain = |error| tracing::error!(error = chain(&error), "no snapshot: the log keeps growing");
        let snapshot = begun.map_err(complain).ok()??;
        let bytes = state.snapshot();
        self.snapshot_bytes = bytes.len();
        Some((snapshot, bytes))
    }

    fn take(&mut self, kept: Kept, log: &mut LocalLog, state: &State) {
        match kept {
            Kept::Snapshot { written, needed } => {
                if !keep(log, written, needed) {
                    // Tried again by its age: a full disk takes no log that would make it due.
                    self.log_bytes = self.log_bytes.max(self.aged_log_bytes_min());
                    return;
                }
            }
            Kept::Compaction(done) => match log.compacted(done) {
                Ok(done) if done.copied > 0 => tracing::debug!(?done, "segments were rewritten"),
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(error = chain(&error), "segments were not rewritten: the log stays long");
                    return;
                }
            },
        }
        // What the state no longer needs, a crash may make it need again, as long as the records that settled it
        // are not synced.
        if let Err(error) = log.sync() {
            tracing::error!(error = chain(&error), "segments are not rewritten");
            return;
        }
        match log.compaction(&mut |range| state.live_records(range)) {
            Ok(Some(part)) => self.keeper.begin(Job::Compaction(part)),
            Ok(None) => {}
            Err(error) => tracing::error!(error = chain(&error), "segments are not rewritten"),
        }
    }
}

/// Counts on a snapshot, and gives up what its state does not need; false when there is no snapshot.
fn keep(log: &mut LocalLog, written: Written, needed: u64) -> bool {
    if let Err(error) = log.snapshot_written(written) {
        tracing::error!(error = chain(&error), "a snapshot was not written: the log keeps growing");
        return false;
    }
    if let Err(error) = log.trim(needed) {
        tracing::error!(error = chain(&error), "the log was not trimmed: it keeps growing");
    }
    true
}
