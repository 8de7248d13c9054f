//! Records on disk: append, group commit, recovery, reclaim. Knows no queue.
//!
//! A log is a folder with one owner. Records have dense indexes from 1, lie in segments of a fixed size,
//! and are never changed. [`LogEngine`] is the seam: [`LocalLog`] keeps the log on this machine's disk, and
//! an engine that replicates it stands behind the same trait.
//!
//! ```text
//! orders/
//!   identity                        which log this is; its lock is the ownership of the folder
//!   00000000000000000001.sparse     the live records of segments 1 to 6, which were mostly dead
//!   00000000000000000007.segment    sealed: header, records, footer (the place of each record)
//!   00000000000000000008.segment    active: header, records, zeros or stale bytes of an earlier life
//!   00000000000000000002.spare      zero-filled, or recycled: the next segment, ready to be renamed
//!   00000000000000091000.snapshot   the state folded from records 1..=91000; two generations are kept
//! ```
//!
//! What is promised, and where it is kept:
//!
//! - A batch appended with [`Durability::Fsync`] survives a power cut once `append` returned (`local`).
//! - A failed write or sync is final: nothing is appended after it, and nothing is retried (`local`).
//! - A full disk is met while a segment is prepared, never in the middle of a record (`spares`).
//! - What was torn by a crash is cut, durably; what was durable and is now wrong is damage, and the log
//!   refuses to open rather than skip it (`recovery`). Each record says what was durable when it was
//!   written, so the two cannot be confused.
//! - Disk in use, once a pass of compaction is over: at most four times what is live, two segments, the spares
//!   ([`Options::spares_max`]), and what two generations of snapshots do not cover (`compaction`).
//! - No byte is served whose checksums do not fit the log, the segment and the index (`record`, `reader`).
//!
//! ```
//! use wharf_log::{Batch, Durability, LocalLog, LogEngine, Options, Replay};
//!
//! # let folder = tempfile::tempdir()?;
//! # let dir = folder.path();
//! let mut bodies = Vec::new();
//! let options = Options { segment_bytes: 1 << 20, ..Options::default() };
//! let mut log = LocalLog::open(dir, options, &mut |replay| {
//!     if let Replay::Record { body, .. } = replay {
//!         bodies.push(body);
//!     }
//!     Ok(())
//! })?;
//!
//! let mut batch = Batch::new();
//! batch.push(|out| out.extend_from_slice(b"an order"));
//! let written = log.append(log.next(), &mut batch, Durability::Fsync)?;
//! assert_eq!(written, 1..2);
//!
//! let mut out = Vec::new();
//! log.reader().read(&[1], &mut out)?;
//! assert_eq!(out[0], "an order");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod compaction;
mod disk;
mod engine;
mod folder;
mod inspection;
mod local;
mod places;
mod reader;
mod record;
mod recovery;
mod scan;
#[cfg(feature = "seeded-faults")]
pub mod seeded;
#[cfg(not(feature = "seeded-faults"))]
#[expect(dead_code, unreachable_pub, reason = "faults exist for the checks only")]
mod seeded;
mod segment;
mod snapshot;
mod spares;
mod sparse;
mod stats;

pub use batch::Batch;
pub use compaction::{Compacted, Compaction, Reclaimed};
pub use disk::{Disk, DiskEntry, DiskFile, FileSystem};
pub use engine::{
    AppendError, CompactError, Damage, Durability, Epoch, Failure, Index, LogEngine, LogReader, ReadError,
    SnapshotError, TrimError,
};
pub use inspection::{Finding, Inspected, Inspection, Remedy, SegmentFound, SnapshotFound, Torn};
pub use local::{LocalLog, Options};
pub use recovery::{OpenError, Replay, ReplayError};
pub use snapshot::{Snapshot, Written};
pub use stats::{Histogram, SYNC_BUCKETS, Stats};
