//! What the log promises, held against cuts, flipped bits, failing disks and a naive model.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod append;
mod compaction;
mod crash;
mod damage;
mod decoding;
mod faults;
mod harness;
mod inspection;
mod model;
mod power;
mod read;
mod recycle;
#[cfg(feature = "seeded-faults")]
mod seeded;
mod snapshot;
