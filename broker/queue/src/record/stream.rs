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
