//! Who made which queue and stream, and how many bytes an owner's may hold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharf_protocol::{ErrorCode, Name};

use super::Topology;
use crate::Change;
use crate::effect::Refusal;

/// Everything that is somebody's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ownership {
    /// Who made a queue or stream, by its name.
    owners: BTreeMap<Name, String>,
    /// The most bytes that the queues and streams of an owner may hold together.
    stored_bytes_max: BTreeMap<String, u64>,
}

impl Ownership {
    pub(crate) fn is_empty(&self) -> bool {
        self.owners.is_empty() && self.stored_bytes_max.is_empty()
    }
}

impl Topology {
    /// Who made the queue or stream `name`; `None`: nobody who is counted, or before owners were kept.
    pub fn owner(&self, name: &str) -> Option<&str> {
        self.ownership.owners.get(name).map(String::as_str)
    }

    /// How many queues and streams `owner` has made that are still there.
    pub fn owned(&self, owner: &str) -> usize {
        self.ownership.owners.values().filter(|each| *each == owner).count()
    }

    /// The most bytes that the queues and streams of each owner with a bound may hold together, by owner.
    pub fn stored_bytes_max(&self) -> impl Iterator<Item = (&str, u64)> {
        self.ownership.stored_bytes_max.iter().map(|(owner, bytes)| (owner.as_str(), *bytes))
    }

    /// Refuses to make a queue or stream for `owner`, who has as many as it may.
    pub(super) fn check_owned(&self, owner: &str, most: Option<u32>) -> Result<(), Refusal> {
        let Some(most) = most else { return Ok(()) };
        let owned = self.owned(owner);
        if owned < most as usize {
            return Ok(());
        }
        let reason = format!(
            "{owner} has made {owned} queues and streams, and its quota is {most}; delete one first, or raise it"
        );
        Err(Refusal { code: ErrorCode::Unavailable, reason })
    }

    pub(super) fn own(&mut self, owner: &str, name: &Name) {
        self.ownership.owners.insert(name.clone(), owner.to_owned());
    }

    pub(super) fn disown(&mut self, name: &Name) {
        self.ownership.owners.remove(name);
    }

    pub(super) fn bound_owner(&mut self, owner: &str, stored_bytes_max: Option<u64>) -> bool {
        match stored_bytes_max {
            Some(bytes) => self.ownership.stored_bytes_max.insert(owner.to_owned(), bytes) != Some(bytes),
            None => self.ownership.stored_bytes_max.remove(owner).is_some(),
        }
    }

    /// Whether every owner owns something that is there.
    pub(crate) fn owners_own(&self) -> bool {
        self.ownership.owners.keys().all(|name| self.backlog(name.as_str()).is_some())
    }
}

impl Change {
    /// The queue or stream that it makes, if it makes one.
    pub(crate) fn made(&self) -> Option<&Name> {
        match self {
            Self::CreateQueue { name, .. } | Self::CreateStream { name, .. } => Some(name),
            _ => None,
        }
    }
}
