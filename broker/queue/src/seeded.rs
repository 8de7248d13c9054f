//! Faults of our own, planted on request: the checks of delivery must find each of them.
//!
//! They exist only with the feature `seeded-faults`, which no broker is built with. One is planted at a time, for
//! the whole process, by `plant`.
//!
//! | name | what is wrong |
//! |---|---|
//! | `dedup-table-not-restored` | a snapshot is restored without what producers and message ids were stored |
//! | `attempt-forgotten` | a delivery that came back is not counted |
//! | `expiry-by-record-before` | what is due is found by an older clock than the record's stamp |
//! | `lease-not-checked-on-ack` | a settlement is accepted though its lease is over |
//! | `id-reused` | the messages of one record share the id of its first |
//! | `key-order-broken` | a key with a message in flight gives its next one |
//! | `dead-letter-twice` | a message that is given up is laid in the dead-letter queue twice |
//! | `group-gives-up-late` | a group tries a message once more than its largest number of attempts |
//! | `transaction-lease-unchecked` | a transaction settles a range of deliveries of which some are not held |
//! | `resume-looks-back` | a schedule that goes on publishes what it left out while it was paused |
//! | `redrive-uncounted` | a dead letter that is sent back does not say how often it was |
//! | `resolved-letter-stays` | a dead letter stays although what it became is stored |

#[cfg(feature = "seeded-faults")]
use std::sync::atomic::{AtomicU8, Ordering};

/// One fault of the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// Duplicates are forgotten by a restart.
    DedupTableNotRestored = 1,
    /// Deliveries that come back are not counted.
    AttemptForgotten = 2,
    /// Time is that of the record before.
    ExpiryByRecordBefore = 3,
    /// Stale settlements are accepted.
    LeaseNotCheckedOnAck = 4,
    /// Messages of one record share an id.
    IdReused = 5,
    /// A key may have several messages in flight.
    KeyOrderBroken = 6,
    /// Dead letters are laid twice.
    DeadLetterTwice = 7,
    /// A group's failures are one too many.
    GroupGivesUpLate = 8,
    /// Single deliveries of a transaction's range need not be held.
    TransactionLeaseUnchecked = 9,
    /// A schedule forgets that it was paused.
    ResumeLooksBack = 10,
    /// Redrives are not counted.
    RedriveUncounted = 11,
    /// A dead letter is there twice: as it was, and as what it became.
    ResolvedLetterStays = 12,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::DedupTableNotRestored,
        Self::AttemptForgotten,
        Self::ExpiryByRecordBefore,
        Self::LeaseNotCheckedOnAck,
        Self::IdReused,
        Self::KeyOrderBroken,
        Self::DeadLetterTwice,
        Self::GroupGivesUpLate,
        Self::TransactionLeaseUnchecked,
        Self::ResumeLooksBack,
        Self::RedriveUncounted,
        Self::ResolvedLetterStays,
    ];

    /// By which it is known.
    pub fn name(self) -> &'static str {
        match self {
            Self::DedupTableNotRestored => "dedup-table-not-restored",
            Self::AttemptForgotten => "attempt-forgotten",
            Self::ExpiryByRecordBefore => "expiry-by-record-before",
            Self::LeaseNotCheckedOnAck => "lease-not-checked-on-ack",
            Self::IdReused => "id-reused",
            Self::KeyOrderBroken => "key-order-broken",
            Self::DeadLetterTwice => "dead-letter-twice",
            Self::GroupGivesUpLate => "group-gives-up-late",
            Self::TransactionLeaseUnchecked => "transaction-lease-unchecked",
            Self::ResumeLooksBack => "resume-looks-back",
            Self::RedriveUncounted => "redrive-uncounted",
            Self::ResolvedLetterStays => "resolved-letter-stays",
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
