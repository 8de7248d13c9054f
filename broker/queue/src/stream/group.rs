//! A consumer group of a stream: how far it is in each partition, and which member has which.
//!
//! ```text
//! offsets of a partition   0 … … … floor … … … … … next
//!                          all settled │  │▓▓│  │▓│
//!                                      open  settled above the floor (`ahead`)
//! ```
//!
//! What is settled stays so, whoever has the partition: a member that takes it over begins at the floor and
//! passes over what is settled above it.

use std::collections::{BTreeMap, BTreeSet};

use crate::ConsumerId;

/// How far a member may settle above the floor of a partition: so what is remembered there has a bound.
pub const GROUP_WINDOW_MAX: u64 = 65_536;

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) cursors: Vec<Cursor>,
    /// In the order in which they came: numbers rise.
    pub(crate) members: BTreeSet<ConsumerId>,
}

/// How far a group is in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// All below it is settled.
    pub(crate) floor: u64,
    /// What is settled above the floor: first → last, neither touching.
    pub(crate) ahead: BTreeMap<u64, u64>,
    /// Offsets below this one may have been delivered before.
    pub(crate) seen: u64,
    pub(crate) owner: Option<ConsumerId>,
    /// Rises whenever the partition is given to a member or set back.
    pub(crate) generation: u64,
    /// How often members failed with messages that are not settled, by offset: within the window, like `ahead`.
    pub(crate) failures: BTreeMap<u64, u32>,
}

impl Group {
    pub(crate) fn new(floors: impl Iterator<Item = u64>) -> Self {
        let cursors = floors.map(|floor| Cursor { floor, ..Cursor::default() }).collect();
        Self { cursors, members: BTreeSet::new() }
    }

    /// Spreads the partitions evenly, moving as few as that needs; `nexts` are the partitions' next offsets.
    /// The members whose partitions are others now.
    pub(crate) fn rebalance(&mut self, nexts: &[u64]) -> BTreeSet<ConsumerId> {
        let mut changed = BTreeSet::new();
        for (cursor, next) in self.cursors.iter_mut().zip(nexts) {
            if cursor.owner.is_some_and(|owner| !self.members.contains(&owner)) {
                cursor.release(*next);
            }
        }
        let quotas = self.quotas();
        let mut held: BTreeMap<ConsumerId, usize> = quotas.keys().map(|member| (*member, 0)).collect();
        for (cursor, next) in self.cursors.iter_mut().zip(nexts) {
            let Some(owner) = cursor.owner else { continue };
            let count = held.get_mut(&owner).expect("who left has been released");
            if *count == quotas[&owner] {
                cursor.release(*next);
                changed.insert(owner);
            } else {
                *count += 1;
            }
        }
        let mut free = self.cursors.iter_mut().filter(|cursor| cursor.owner.is_none());
        for (member, quota) in &quotas {
            for cursor in free.by_ref().take(quota - held[member]) {
                cursor.assign(*member);
                changed.insert(*member);
            }
        }
        changed
    }

    /// How many partitions each member is to have: those with the most get what is left over, older ones first.
    fn quotas(&self) -> BTreeMap<ConsumerId, usize> {
        let held = |member: &ConsumerId| self.cursors.iter().filter(|c| c.owner == Some(*member)).count();
        let mut members: Vec<(usize, ConsumerId)> = self.members.iter().map(|m| (held(m), *m)).collect();
        members.sort_by_key(|(held, member)| (std::cmp::Reverse(*held), *member));
        let count = members.len().max(1);
        let (each, over) = (self.cursors.len() / count, self.cursors.len() % count);
        let quota = |place: usize| each + usize::from(place < over);
        members.into_iter().enumerate().map(|(place, (_, member))| (member, quota(place))).collect()
    }
}

impl Cursor {
    /// Whether `first..=last` may be settled.
    pub(crate) fn takes(&self, first: u64, last: u64, next: u64) -> bool {
        first <= last && last < next && last < self.floor.saturating_add(GROUP_WINDOW_MAX)
    }

    /// Whether the message at `offset` is settled.
    pub(crate) fn is_settled(&self, offset: u64) -> bool {
        let around = self.ahead.range(..=offset).next_back();
        offset < self.floor || around.is_some_and(|(_, last)| offset <= *last)
    }

    /// Settles `first..=last`.
    pub(crate) fn settle(&mut self, first: u64, last: u64) {
        let (mut first, mut last) = (first.max(self.floor), last);
        if last < first {
            return;
        }
        while let Some((offset, _)) = self.failures.range(first..=last).next() {
            let offset = *offset;
            self.failures.remove(&offset);
        }
        // What touches it becomes one with it.
        if let Some((before, end)) = self.ahead.range(..first).next_back()
            && *end >= first - 1
        {
            (first, last) = (*before, last.max(*end));
        }
        while let Some((start, end)) = self.ahead.range(first..=last.saturating_add(1)).next() {
            let start = *start;
            last = last.max(*end);
            self.ahead.remove(&start);
        }
        if first == self.floor {
            self.floor = last + 1;
        } else {
            self.ahead.insert(first, last);
        }
    }

    /// Goes to `offset`, forward or back; whoever has the partition begins there.
    pub(crate) fn reset(&mut self, offset: u64, next: u64) {
        self.seen = self.seen.max(if self.owner.is_some() { next } else { self.floor });
        self.seen = self.seen.max(self.ahead.last_key_value().map_or(0, |(_, last)| last + 1));
        (self.floor, self.generation) = (offset, self.generation + 1);
        self.ahead.clear();
        self.failures.clear();
    }

    /// A member failed with the message at `offset`, which is not settled: how often that happened.
    pub(crate) fn fail(&mut self, offset: u64) -> u32 {
        let failures = self.failures.entry(offset).or_default();
        *failures = failures.saturating_add(1);
        *failures
    }

    /// What lies below `first` is gone: nobody can settle it any more.
    pub(crate) fn pass(&mut self, first: u64) {
        if let Some(last) = first.checked_sub(1).filter(|last| *last >= self.floor) {
            self.settle(self.floor, last);
        }
    }

    fn assign(&mut self, member: ConsumerId) {
        self.owner = Some(member);
        self.generation += 1;
    }

    /// Takes it from its owner, who may have got everything up to `next`.
    pub(crate) fn release(&mut self, next: u64) {
        self.owner = None;
        self.seen = self.seen.max(next);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_settled_in_any_order_is_settled(ranges in proptest::collection::vec((0..60_u64, 0..6_u64), 0..40)) {
            let (mut cursor, mut naive) = (Cursor::default(), BTreeSet::new());
            for (first, more) in ranges {
                cursor.settle(first, first + more);
                naive.extend(first..=first + more);
                for offset in 0..80 {
                    prop_assert_eq!(cursor.is_settled(offset), naive.contains(&offset), "{}", offset);
                }
                prop_assert!(!naive.contains(&cursor.floor), "the floor is the first that is open");
                let ends: Vec<(u64, u64)> = cursor.ahead.iter().map(|(f, l)| (*f, *l)).collect();
                prop_assert!(ends.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "none touches the next");
            }
        }

        #[test]
        fn partitions_are_spread_evenly_and_move_no_more_than_they_must(
            partitions in 1..20_usize, comings in proptest::collection::vec((any::<bool>(), 0..6_u64), 1..30),
        ) {
            let mut group = Group::new((0..partitions).map(|_| 0));
            let nexts = vec![0; partitions];
            for (comes, member) in comings {
                let before: Vec<Option<ConsumerId>> = group.cursors.iter().map(|c| c.owner).collect();
                let member = ConsumerId(member);
                let was = if comes { !group.members.insert(member) } else { !group.members.remove(&member) };
                group.rebalance(&nexts);
                let count = |m: &ConsumerId| group.cursors.iter().filter(|c| c.owner == Some(*m)).count();
                let counts: Vec<usize> = group.members.iter().map(count).collect();
                if let (Some(least), Some(most)) = (counts.iter().min(), counts.iter().max()) {
                    prop_assert!(most - least <= 1, "{:?}", counts);
                    prop_assert_eq!(counts.iter().sum::<usize>(), partitions, "every partition has an owner");
                }
                let moved = group.cursors.iter().zip(&before).filter(|(c, was)| c.owner != **was).count();
                let must = match (was, comes) {
                    (true, _) => 0,
                    (false, true) => count(&member),
                    (false, false) => before.iter().filter(|owner| **owner == Some(member)).count(),
                };
                prop_assert_eq!(moved, must);
            }
        }
    }
}
