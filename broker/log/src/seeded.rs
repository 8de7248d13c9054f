//! Faults of our own, planted on request: the checks of durability must find each of them.
//!
//! They exist only with the feature `seeded-faults`, which no broker is built with. One is planted at a time, for
//! the whole process, by `plant`.
//!
//! | name | what is wrong | what finds it |
//! |---|---|---|
//! | `fsync-skipped` | records are confirmed without their sync | a power cut |
//! | `directory-fsync-skipped` | new names of files are not made durable | a power cut |
//! | `trim-before-snapshot` | a snapshot counts, and records are given up for it, before it is durable | a power cut |
//! | `sparse-not-synced` | a sparse segment takes the place of what it stands for before it is durable | a power cut |
//! | `hash-chain-unchecked` | a record need not follow from the one before | a segment of another history |
//! | `torn-tail-kept` | a record that a crash tore is replayed as it is | a power cut |
//! | `damage-taken-for-torn` | damage to what was durable is cut like a torn tail | a flipped byte |
//! | `failed-sync-retried` | after a failed write or sync the log goes on | a failing disk |

#[cfg(feature = "seeded-faults")]
use std::sync::atomic::{AtomicU8, Ordering};

/// One fault of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// Records are confirmed without their sync.
    FsyncSkipped = 1,
    /// Names of files are not made durable.
    DirectoryFsyncSkipped = 2,
    /// A snapshot counts before it is durable.
    TrimBeforeSnapshot = 3,
    /// A sparse segment counts before it is durable.
    SparseNotSynced = 4,
    /// Links between records are not checked.
    HashChainUnchecked = 5,
    /// Bodies are not checked when they are replayed.
    TornTailKept = 6,
    /// What was durable and does not read is cut.
    DamageTakenForTorn = 7,
    /// A failure is not final.
    FailedSyncRetried = 8,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::FsyncSkipped,
        Self::DirectoryFsyncSkipped,
        Self::TrimBeforeSnapshot,
        Self::SparseNotSynced,
        Self::HashChainUnchecked,
        Self::TornTailKept,
        Self::DamageTakenForTorn,
        Self::FailedSyncRetried,
    ];

    /// By which it is known.
    pub fn name(self) -> &'static str {
        match self {
            Self::FsyncSkipped => "fsync-skipped",
            Self::DirectoryFsyncSkipped => "directory-fsync-skipped",
            Self::TrimBeforeSnapshot => "trim-before-snapshot",
            Self::SparseNotSynced => "sparse-not-synced",
            Self::HashChainUnchecked => "hash-chain-unchecked",
            Self::TornTailKept => "torn-tail-kept",
            Self::DamageTakenForTorn => "damage-taken-for-torn",
            Self::FailedSyncRetried => "failed-sync-retried",
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
