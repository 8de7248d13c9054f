//! What the queues and streams of one owner hold together.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::State;
use super::enqueue::bytes_of;
use crate::effect::Refusal;
use crate::purse::Purse;
use crate::{Change, Entry};

impl State {
    /// The bytes that the queues and streams of `owner` hold, if there is a bound for them.
    pub fn stored_bytes(&self, owner: &str) -> Option<u64> {
        self.purses.get(owner).map(Purse::held)
    }

    /// Does what a change of topology, which is made, means for what owners hold.
    pub(super) fn change_owners(&mut self, change: &Change) {
        match change {
            Change::BoundOwner { .. } => self.count_owned(),
            Change::Own { make, .. } => {
                let made = make.made().expect("the topology took it").as_str();
                let purse = self.topology.owner(made).and_then(|owner| self.purses.get(owner)).cloned();
                let Some(id) = self.topology.backlog(made).filter(|_| purse.is_some()) else { return };
                if let Some(queue) = self.queues.get_mut(&id) {
                    queue.bytes.count_in(purse.clone());
                }
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.count_in(purse.as_ref());
                }
            }
            _ => {}
        }
    }

    /// Counts anew what owners with a bound hold: after a restore, and when owners or bounds have changed.
    pub(crate) fn count_owned(&mut self) {
        let topology = Arc::clone(&self.topology);
        let purses =
            topology.stored_bytes_max().map(|(owner, max)| (owner.to_owned(), Purse::new(owner, max)));
        self.purses = purses.collect();
        let purse = |name: &str| topology.owner(name).and_then(|owner| self.purses.get(owner)).cloned();
        for queue in self.queues.values_mut() {
            queue.bytes.count_in(purse(queue.name.as_str()));
        }
        for stream in self.streams.values_mut() {
            stream.count_in(purse(stream.name.as_str()).as_ref());
        }
    }

    /// Refuses what is published if the owner of one of its queues or streams has no room for it.
    pub(super) fn find_owners_room<'a>(
        &self,
        entries: impl IntoIterator<Item = &'a Entry>,
    ) -> Result<(), Refusal> {
        let mut coming: BTreeMap<&str, (&Purse, u64)> = BTreeMap::new();
        for entry in entries {
            for destination in &entry.destinations {
                let purse = match self.queues.get(&destination.queue) {
                    Some(queue) if destination.death.is_none() => queue.bytes.purse(),
                    Some(queue) => {
                        let dead = self.queue_named(queue.dead_letters_to().as_str());
                        dead.and_then(|queue| queue.bytes.purse())
                    }
                    None => self.streams.get(&destination.queue).and_then(|stream| stream.purse()),
                };
                if let Some(purse) = purse {
                    let (_, bytes) = coming.entry(purse.owner()).or_insert((purse, 0));
                    *bytes += u64::from(bytes_of(&entry.message));
                }
            }
        }
        coming.into_values().try_for_each(|(purse, bytes)| purse.check(bytes))
    }
}
