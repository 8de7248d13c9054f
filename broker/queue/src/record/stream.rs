//! What happens to the groups of a stream.

use serde::{Deserialize, Serialize};
use wharf_protocol::{Name, Start};

use crate::ConsumerId;

/// A member comes to a group, made when there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinGroup {
    /// Its number.
    pub member: ConsumerId,
    /// The stream.
    pub stream: Name,
    /// The group.
    pub group: Name,
    /// Where a group begins that is made now; one that is there goes on where it is.
    pub start: Start,
}

/// A member says what it is done with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Who.
    pub member: ConsumerId,
    /// What.
    pub passed: Vec<Passed>,
    /// What it failed with; not in a transaction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Failed>,
}

/// Neighbouring offsets of one partition that a member is done with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// The partition.
    pub partition: u16,
    /// The generation by which the member has it.
    pub generation: u64,
    /// The first offset.
    pub first: u64,
    /// The last offset.
    pub last: u64,
    /// The message at `last` is given up, for this reason: it goes to the stream's dead-letter queue. Those before it
    /// are offsets that the member found empty.
    pub dead_letter: Option<String>,
}

/// A message that a member failed with. It stays open, until it failed as often as
/// [`StreamPolicy::give_up`](crate::StreamPolicy::give_up) says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The partition.
    pub partition: u16,
    /// The generation by which the member has it.
    pub generation: u64,
    /// The first offset that goes with it: those before its own were found empty.
    pub first: u64,
    /// Its offset.
    pub offset: u64,
}

impl Failed {
    /// What its member is done with when it is given up.
    pub(crate) fn passed(&self) -> Passed {
        let Self { partition, generation, first, offset: last } = *self;
        Passed { partition, generation, first, last, dead_letter: None }
    }
}

/// A group is set to another place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetGroup {
    /// The stream.
    pub stream: Name,
    /// The group.
    pub group: Name,
    /// Where it goes on.
    pub to: Start,
    /// Of this partition alone.
    pub partition: Option<u16>,
}
