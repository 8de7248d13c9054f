//! A disk in memory that forgets, tears, fails and fills up on request: for tests only.
//!
//! [`SimulatedDisk`] stands where the log expects a [`Disk`](wharf_log::Disk). It keeps what is there *now*
//! apart from what is *durable*, names included, so that a trial can stop the world at any operation and look
//! at what a machine would find afterwards:
//!
//! ```text
//! write ──> now ──sync──> durable          create, rename, remove ──> names ──sync_dir──> durable names
//!            │               │                                          │                      │
//!            └─ cut_power: each sector kept or lost by the seed         └─ some kept: the first few, or any
//! ```
//!
//! ```
//! use std::path::Path;
//! use std::sync::Arc;
//! use wharf_disk::{Fault, Plan, SimulatedDisk};
//! use wharf_log::{Batch, Durability, LocalLog, LogEngine, Options};
//!
//! let disk = SimulatedDisk::default();
//! let options = || Options { disk: Arc::new(disk.clone()), segment_bytes: 4096, prepare_ahead: false, ..Options::default() };
//! let mut log = LocalLog::open(Path::new("/log"), options(), &mut |_| Ok(()))?;
//!
//! // The write succeeds, the sync after it meets a power cut.
//! disk.plan(Plan { at: 2, fault: Fault::Power, lasting: true });
//! let mut batch = Batch::new();
//! batch.push(|out| out.extend_from_slice(b"an order"));
//! assert!(log.append(1, &mut batch, Durability::Fsync).is_err());
//!
//! disk.cut_power(7);
//! let log = LocalLog::open(Path::new("/log"), options(), &mut |_| Ok(()))?;
//! assert!(log.next() <= 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod contents;
mod disk;
mod names;
mod random;

pub use disk::{Fault, Plan, SimulatedDisk};
pub use random::Random;
