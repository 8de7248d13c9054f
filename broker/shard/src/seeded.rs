//! Faults of our own, planted on request: the checks of durability must find each of them.
//!
//! They exist only with the feature `seeded-faults`, which no broker is built with. One is planted at a time, for
//! the whole process, by `plant`.
//!
//! | name | what is wrong |
//! |---|---|
//! | `confirm-before-fsync` | what is published is confirmed once it is written, and not yet synced |
//! | `confirm-on-failed-sync` | a write or sync that failed is taken for one that succeeded |

#[cfg(feature = "seeded-faults")]
use std::sync::atomic::{AtomicU8, Ordering};

/// One fault of the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// Confirms do not wait for the sync.
    ConfirmBeforeFsync = 1,
    /// Confirms come although the write or the sync failed.
    ConfirmOnFailedSync = 2,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::ConfirmBeforeFsync, Self::ConfirmOnFailedSync];

    /// By which it is known.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConfirmBeforeFsync => "confirm-before-fsync",
            Self::ConfirmOnFailedSync => "confirm-on-failed-sync",
        }
    }
}

#[cfg(feature = "seeded-faults")]
static PLANTED: AtomicU8 = AtomicU8::new(0);

/// Plants a fault in place of the one before; `None`: all is well again.
#[cfg(feature = "seeded-faults")]
pub fn plant(fault: Option<Fault>) {
    PLANTED.store(fault.map_or(0, |fault| fault as u8), Ordering::SeqCst);
}

#[cfg(feature = "seeded-faults")]
pub(crate) fn is(fault: Fault) -> bool {
    PLANTED.load(Ordering::Relaxed) == fault as u8
}

#[cfg(not(feature = "seeded-faults"))]
pub(crate) const fn is(_: Fault) -> bool {
    false
}
