//! Quotas on what a principal has made: how many queues and streams, and how many bytes in them.
//!
//! Both are decided by the shard when the record is applied, so that neither a race nor a restart lets more in. How
//! many it may make travels with each; how much they may hold is part of the topology, which follows the
//! configuration at each start.

use std::collections::BTreeMap;

use wharf_queue::Change;
use wharf_shard::Shard;

use crate::{Identity, NodeError, Principal};

/// Has the topology bound what principals store as `identities` say.
pub(crate) async fn bound(shard: &Shard, identities: &[Identity]) -> Result<(), NodeError> {
    let topology = shard.topology().clone();
    let bounds: BTreeMap<&str, u64> = topology.stored_bytes_max().collect();
    let wanted = |identity: &Identity| Some((identity.name.clone(), identity.quota.stored_bytes?));
    let wanted: BTreeMap<String, u64> = identities.iter().filter_map(wanted).collect();
    let gone = bounds.keys().filter(|owner| !wanted.contains_key(**owner));
    let changed = wanted.iter().filter(|(owner, bytes)| bounds.get(owner.as_str()) != Some(bytes));
    let changes = gone.map(|owner| ((*owner).to_owned(), None));
    for (owner, stored_bytes_max) in
        changes.chain(changed.map(|(owner, bytes)| (owner.clone(), Some(*bytes))))
    {
        shard.change(Change::BoundOwner { owner, stored_bytes_max }).await?;
    }
    Ok(())
}

impl Principal {
    /// `make`, which makes a queue or a stream, as this principal's. What the broker makes is nobody's.
    pub(crate) fn own(&self, make: Change) -> Change {
        if self.is_system() {
            return make;
        }
        let (owner, most) = (self.name().to_owned(), self.quota().queues);
        Change::Own { owner, most, make: Box::new(make) }
    }
}
