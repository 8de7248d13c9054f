//! The seam: what the broker asks of a log, wherever its records are kept.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::Batch;
use crate::compaction::{Compacted, Compaction, Reclaimed};
use crate::snapshot::{Snapshot, Written};
use crate::stats::Stats;

/// The place of a record in its log: dense, the first record is 1.
pub type Index = u64;

/// What an append waits for before it returns. Ordered from weakest to strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Durability {
    /// Nothing: for a log on disk the same as [`Durability::Os`].
    Memory,
    /// The operating system has it: it survives the end of this process, not a power cut.
    Os,
    /// The disk has it: it survives a power cut.
    #[default]
    Fsync,
}

/// A tenure of ownership: an owner with a smaller epoch is a former owner.
///
/// It is the index that the owner's first record gets, so it grows with each owner that appended at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// One log, owned by one writer: a fenced compare-and-swap append, reads, snapshots, trimming.
pub trait LogEngine: Send {
    /// Becomes the owner; appends of every earlier owner conflict from now on.
    ///
    /// # Errors
    /// [`AppendError::Failed`] when the log takes no more records.
    fn claim(&mut self) -> Result<Epoch, AppendError>;

    /// The index that the next record gets.
    fn next(&self) -> Index;

    /// Writes the batch's records from index `expected` on, and empties the batch.
    ///
    /// Returns their indexes once they are as durable as asked. The whole batch is one write and at most one
    /// sync, unless it crosses the end of a segment. An empty batch does nothing.
    ///
    /// # Errors
    /// After [`AppendError::Failed`] it is unknown whether the records are kept, and the log takes no more;
    /// after every other error nothing was written and the batch is as it was.
    fn append(
        &mut self,
        expected: Index,
        batch: &mut Batch,
        durability: Durability,
    ) -> Result<Range<Index>, AppendError>;

    /// Makes durable what was appended with less than [`Durability::Fsync`].
    ///
    /// # Errors
    /// [`AppendError::Failed`], and then the log takes no more records.
    fn sync(&mut self) -> Result<(), AppendError>;

    /// A handle that reads records while others are appended. Cheap to clone.
    fn reader(&self) -> Arc<dyn LogReader>;

    /// Gives up records below `below`, as far as two generations of snapshots cover them, in whole segments.
    ///
    /// Returns the first index that is still kept.
    ///
    /// # Errors
    /// [`TrimError`]; what was given up before the error stays given up.
    fn trim(&mut self, below: Index) -> Result<Index, TrimError>;

    /// Begins to keep the state folded from the records `1..=at`, beside one older generation: makes the records
    /// it covers durable, and returns what is to be written, on any thread.
    ///
    /// `None` when a snapshot at `at` or later is kept already.
    ///
    /// # Errors
    /// [`SnapshotError`]; the snapshots that were there before are still there.
    fn begin_snapshot(&mut self, at: Index) -> Result<Option<Snapshot>, SnapshotError>;

    /// Counts on a snapshot that was written, and lets go of the one before the last.
    ///
    /// # Errors
    /// [`SnapshotError::Failed`] when it was not written; those that were there before are still there.
    fn snapshot_written(&mut self, written: Written) -> Result<(), SnapshotError>;

    /// [Begins](Self::begin_snapshot), writes and [counts on](Self::snapshot_written) a snapshot of the state
    /// `bytes`.
    ///
    /// # Errors
    /// As they do.
    fn write_snapshot(&mut self, at: Index, bytes: &[u8]) -> Result<(), SnapshotError> {
        match self.begin_snapshot(at)? {
            Some(snapshot) => self.snapshot_written(snapshot.write(bytes)),
            None => Ok(()),
        }
    }

    /// Plans the next part of a pass over what two generations of snapshots cover: segments that are mostly dead
    /// are to be rewritten without their dead records.
    ///
    /// `live` tells which records of a range are still needed, in any order, as of the last record appended; that
    /// is made durable first, so that no crash brings back a need. `None` ends the pass: the next call begins
    /// another. So it does while a part is under way.
    ///
    /// # Errors
    /// [`AppendError::Failed`], and then the log takes no more records.
    fn compaction(
        &mut self,
        live: &mut dyn FnMut(Range<Index>) -> Vec<Index>,
    ) -> Result<Option<Compaction>, AppendError>;

    /// Takes back a part that was carried out.
    ///
    /// # Errors
    /// [`CompactError`]; the pass is over, and what was reclaimed before the error stays reclaimed.
    fn compacted(&mut self, done: Compacted) -> Result<Reclaimed, CompactError>;

    /// Counts and times since the log was opened.
    fn stats(&self) -> Stats;
}

/// Reads records of a log from any thread.
pub trait LogReader: Send + Sync {
    /// Appends the bodies of the records at `indexes` to `out`, in that order.
    ///
    /// Best when `indexes` ascend: neighbours are then read from the disk together, up to a mebibyte at a
    /// time. The bodies are slices of what was read together, so one of them keeps all of that in memory.
    ///
    /// # Errors
    /// [`ReadError`] for the first index that cannot be read; the bodies of those before it may have been
    /// pushed.
    fn read(&self, indexes: &[Index], out: &mut Vec<Bytes>) -> Result<(), ReadError>;
}

/// An operation of the disk that failed: what was done, to which file, and what the system said.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}", path.display())]
pub struct Failure {
    /// The operation, as a verb: `sync`, `write records to`.
    pub doing: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl Failure {
    pub(crate) fn new(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self { doing, path: path.into(), source }
    }

    /// The disk, or this user's share of it, is full.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// Bytes that were once durable and no longer say what they said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// The record that cannot be read; the first of several.
    pub index: Index,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, offset, index, what } = self;
        write!(f, "{} is damaged at byte {offset} (record {index}): {what}", path.display())
    }
}

/// Why a batch was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Somebody else appended, or the caller lost count. Nothing was written.
    #[error("the next record of the log is {next}, not {expected}: another owner may have appended")]
    Conflict {
        /// The index that the caller expected for its first record.
        expected: Index,
        /// The index that the next record gets.
        next: Index,
    },
    /// A record is larger than a segment can hold. Nothing was written.
    #[error("a record of {bytes} bytes is larger than the log's segments can hold, {max} bytes")]
    TooLarge {
        /// The largest body in the batch.
        bytes: usize,
        /// The largest body that the log takes.
        max: usize,
    },
    /// The disk has no room for the segment that the batch needs. Nothing was written: try again when there
    /// is room.
    #[error("the disk is full")]
    Full(#[source] Failure),
    /// A write or a sync failed, now or earlier. The log takes no more records: what the disk holds is known
    /// only after it is opened again.
    #[error("the log stopped at a failed write")]
    Failed(#[source] Arc<Failure>),
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The record was given up.
    #[error("record {index} was trimmed: the log begins at {first}")]
    Trimmed {
        /// The record asked for.
        index: Index,
        /// The first record that is kept.
        first: Index,
    },
    /// Nothing referred to the record any more, and its segment was rewritten without it.
    #[error("record {index} was given up: nothing referred to it when its segment was rewritten")]
    Compacted {
        /// The record asked for.
        index: Index,
    },
    /// There is no such record yet.
    #[error("the log has no record {index}: the next one will be {next}")]
    Unknown {
        /// The record asked for.
        index: Index,
        /// The index that the next record gets.
        next: Index,
    },
    /// The record is there, and wrong.
    #[error("{0}")]
    Damaged(Damage),
    /// The disk refused.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Why records were not given up.
#[derive(Debug, thiserror::Error)]
pub enum TrimError {
    /// A write, a sync or a rename failed, now or earlier, and the log takes no more records.
    #[error("the log stopped at a failed write")]
    Failed(#[source] Arc<Failure>),
}

/// Why segments were not rewritten.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// The disk refused, or is full. The segments are as they were.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// A record that is needed does not read. Its segment is as it was.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// A rename or its sync failed, now or earlier, and the log takes no more records.
    #[error("the log stopped at a failed write")]
    Stopped(#[source] Arc<Failure>),
}

/// Why a snapshot was not kept.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A snapshot covers records that exist.
    #[error("a snapshot at record {at} covers records that the log does not have: the next one is {next}")]
    Ahead {
        /// The last record that the snapshot covers.
        at: Index,
        /// The index that the next record gets.
        next: Index,
    },
    /// The disk refused, or is full.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The log stopped at a failed write, so what the snapshot covers may not be durable.
    #[error("the log stopped at a failed write")]
    Stopped(#[source] Arc<Failure>),
}
