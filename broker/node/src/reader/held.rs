//! What a member of a group has been given and has not settled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use wharf_protocol::{Outcome, Settlement};
use wharf_queue::{Commit, ConsumerId, Failed, GROUP_WINDOW_MAX, Passed, STALE_TAGS_MAX};

/// How long a message waits that is nacked without a delay.
const NACK_DELAY: Duration = Duration::from_millis(200);

/// One delivery of a member, and the offsets that are done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) partition: u16,
    pub(super) generation: u64,
    /// The first offset that goes with it: those before its own were found settled or gone.
    pub(super) first: u64,
    pub(super) offset: u64,
    pub(super) attempt: u32,
}

/// The deliveries of a member, by tag, and those that are to come again.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    held: BTreeMap<u64, Held>,
    /// Nacked, by the order of nacks: due when, once the log has counted it.
    nacked: BTreeMap<u64, (Instant, Held)>,
    /// Nacked and counted: due when, by the order of nacks.
    again: BTreeMap<(Instant, u64), Held>,
    nacks: u64,
    /// By partition: the first offsets of what is held or to come again.
    open: BTreeMap<u16, BTreeSet<u64>>,
}

/// Settlements as the state is told of them.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) commit: Commit,
    /// The tags behind each part of the commit.
    pub(super) tags: Vec<Vec<u64>>,
    /// The tag of each failure of the commit, and the number of the nack.
    pub(super) nacks: Vec<(u64, u64)>,
    /// Tags that were not held.
    pub(super) stale: Vec<u64>,
}

impl Deliveries {
    pub(super) fn give(&mut self, tag: u64, held: Held) {
        self.open.entry(held.partition).or_default().insert(held.first);
        self.held.insert(tag, held);
    }

    /// Whether a partition may go on at `position`: nothing of it waits to come again, and it is not too far ahead
    /// of the oldest that is open.
    pub(super) fn lets_go_on(&self, partition: u16, position: u64) -> bool {
        let oldest = self.open.get(&partition).and_then(BTreeSet::first);
        let near = oldest.is_none_or(|oldest| position < oldest + GROUP_WINDOW_MAX / 2);
        let mut waiting = self.again.values().chain(self.nacked.values().map(|(_, held)| held));
        near && !waiting.any(|held| held.partition == partition)
    }

    /// Takes settlements, for the state: what is nacked comes again once it is [counted](Self::counted).
    pub(super) fn settle(&mut self, member: ConsumerId, settlements: &[Settlement], now: Instant) -> Told {
        let (mut passed, mut tags, mut stale) = (Vec::<Passed>::new(), Vec::<Vec<u64>>::new(), Vec::new());
        let (mut failed, mut nacks) = (Vec::new(), Vec::new());
        for Settlement { first, last, outcome } in settlements {
            let mut next = *first;
            let tags_held: Vec<u64> = self.held.range(*first..=*last).map(|(tag, _)| *tag).collect();
            for tag in tags_held {
                add_stale(&mut stale, next..tag);
                next = tag + 1;
                let held = self.held.remove(&tag).expect("found in the range");
                let dead_letter = match outcome {
                    Outcome::Nack { delay } => {
                        self.nacks += 1;
                        let due = now + delay.unwrap_or(NACK_DELAY);
                        let again = Held { attempt: held.attempt.saturating_add(1), ..held };
                        self.nacked.insert(self.nacks, (due, again));
                        let Held { partition, generation, first, offset, .. } = held;
                        failed.push(Failed { partition, generation, first, offset });
                        nacks.push((tag, self.nacks));
                        continue;
                    }
                    Outcome::Ack => None,
                    Outcome::DeadLetter { reason } => Some(reason.clone()),
                };
                self.close(&held);
                let Held { partition, generation, first, offset, .. } = held;
                let part =
                    passed.iter_mut().zip(&mut tags).rev().find(|(part, _)| part.partition == partition);
                match part {
                    Some((part, with)) if continues(part, generation, first) && dead_letter.is_none() => {
                        part.last = offset;
                        with.push(tag);
                    }
                    _ => {
                        passed.push(Passed { partition, generation, first, last: offset, dead_letter });
                        tags.push(vec![tag]);
                    }
                }
            }
            add_stale(&mut stale, next..last.saturating_add(1));
        }
        Told { commit: Commit { member, passed, failed }, tags, nacks, stale }
    }

    /// A nack is in the log: its message comes again, unless it is `over` for this member, because it was given up
    /// or is another's.
    pub(super) fn counted(&mut self, nack: u64, over: bool) {
        // A partition that is gone has taken its nacks along.
        let Some((due, held)) = self.nacked.remove(&nack) else { return };
        match over {
            true => self.close(&held),
            false => drop(self.again.insert((due, nack), held)),
        }
    }

    /// What a settlement would pass, when all that it names is held.
    pub(super) fn passed(&self, settlement: &Settlement) -> Option<Vec<Passed>> {
        let Settlement { first, last, outcome } = settlement;
        let dead_letter = match outcome {
            Outcome::DeadLetter { reason } => Some(reason),
            _ => None,
        };
        let held: Vec<_> = self.held.range(*first..=*last).map(|(_, held)| held).collect();
        let pass = |held: &&Held| {
            let Held { partition, generation, first, offset: last, .. } = **held;
            Passed { partition, generation, first, last, dead_letter: dead_letter.cloned() }
        };
        let all = last.checked_sub(*first)?.checked_add(1)? == held.len() as u64;
        all.then(|| held.iter().map(pass).collect())
    }

    /// When the next nacked message is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.again.first_key_value().map(|((due, _), _)| *due)
    }

    /// The first nacked message that is due.
    pub(super) fn due(&self, now: Instant) -> Option<Held> {
        self.again.first_key_value().filter(|((due, _), _)| *due <= now).map(|(_, held)| *held)
    }

    /// It comes again under `tag`; `None`: it is gone, and needs no settling any more.
    pub(super) fn give_again(&mut self, held: Held, tag: Option<u64>) {
        self.again.retain(|_, each| *each != held);
        match tag {
            Some(tag) => drop(self.held.insert(tag, held)),
            None => self.close(&held),
        }
    }

    /// A partition is gone, or begins anew: what was given of it is somebody else's. Its tags are stale.
    pub(super) fn forget(&mut self, partition: u16) {
        self.held.retain(|_, held| held.partition != partition);
        self.again.retain(|_, held| held.partition != partition);
        self.nacked.retain(|_, (_, held)| held.partition != partition);
        self.open.remove(&partition);
    }

    fn close(&mut self, held: &Held) {
        if let Some(open) = self.open.get_mut(&held.partition) {
            open.remove(&held.first);
        }
    }
}

/// Notes tags that are not held, as far as there is room.
fn add_stale(stale: &mut Vec<u64>, tags: std::ops::Range<u64>) {
    stale.extend(tags.take(STALE_TAGS_MAX - stale.len()));
}

/// Whether a part of a commit is made longer by what begins at `first`.
fn continues(part: &Passed, generation: u64, first: u64) -> bool {
    part.dead_letter.is_none() && part.generation == generation && part.last + 1 == first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(offset: u64) -> Held {
        Held { partition: 0, generation: 1, first: offset, offset, attempt: 1 }
    }

    fn settlement(first: u64, last: u64, outcome: Outcome) -> Settlement {
        Settlement { first, last, outcome }
    }

    #[test]
    fn neighbours_are_told_as_one_and_what_was_passed_over_goes_with_the_next() {
        let mut deliveries = Deliveries::default();
        deliveries.give(1, held(0));
        deliveries.give(2, Held { first: 1, ..held(4) });
        deliveries.give(3, held(5));
        deliveries.give(4, held(6));
        let told = deliveries.settle(
            ConsumerId(9),
            &[settlement(1, 3, Outcome::Ack), settlement(4, 5, Outcome::DeadLetter { reason: "no".into() })],
            Instant::now(),
        );
        let ranges: Vec<(u64, u64)> = told.commit.passed.iter().map(|part| (part.first, part.last)).collect();
        assert_eq!(ranges, [(0, 5), (6, 6)]);
        assert_eq!((told.tags, told.stale), (vec![vec![1, 2, 3], vec![4]], vec![5]));
    }

    #[test]
    fn a_nacked_message_holds_its_partition_until_it_is_due() {
        let mut deliveries = Deliveries::default();
        let now = Instant::now();
        deliveries.give(1, held(0));
        let delay = Some(Duration::from_secs(1));
        let told = deliveries.settle(ConsumerId(9), &[settlement(1, 1, Outcome::Nack { delay })], now);
        let failed = Failed { partition: 0, generation: 1, first: 0, offset: 0 };
        assert_eq!((told.commit.passed, told.commit.failed), (vec![], vec![failed]));
        assert!(!deliveries.lets_go_on(0, 1));
        assert!(deliveries.lets_go_on(1, 0), "others go on");
        assert_eq!(deliveries.due(now + Duration::from_secs(9)), None, "not before the log has counted it");
        deliveries.counted(told.nacks[0].1, false);
        assert!(!deliveries.lets_go_on(0, 1));
        assert_eq!(deliveries.due(now), None);
        let again = deliveries.due(now + Duration::from_secs(1)).expect("due");
        assert_eq!((again.offset, again.attempt), (0, 2));
        deliveries.give_again(again, Some(2));
        assert!(deliveries.lets_go_on(0, 1));
    }

    #[test]
    fn a_message_that_is_given_up_lets_its_partition_go_on() {
        let mut deliveries = Deliveries::default();
        let now = Instant::now();
        deliveries.give(1, held(0));
        let told = deliveries.settle(ConsumerId(9), &[settlement(1, 1, Outcome::Nack { delay: None })], now);
        deliveries.counted(told.nacks[0].1, true);
        assert!(deliveries.lets_go_on(0, GROUP_WINDOW_MAX), "nothing of it is open");
        assert_eq!(deliveries.due(now + Duration::from_secs(9)), None);
    }

    #[test]
    fn what_another_member_has_now_is_stale() {
        let mut deliveries = Deliveries::default();
        deliveries.give(1, held(0));
        deliveries.forget(0);
        let told = deliveries.settle(ConsumerId(9), &[settlement(1, 1, Outcome::Ack)], Instant::now());
        assert_eq!((told.commit.passed.len(), told.stale), (0, vec![1]));
    }
}
