//! How a transaction happens: everything is checked against the state first, then everything is done.
//!
//! Between the check and the end of the record nothing else changes the state, so what was checked holds. A part
//! that does not hold refuses the whole, and names itself.

use std::collections::BTreeSet;

use wharf_protocol::{
    Committed, Part, ProducerId, Receipt, Rejection, Settlement, Stored, TransactionReceipt,
};

use super::State;
use crate::effect::Refusal;
use crate::producers::Seen;
use crate::seeded::{self, Fault};
use crate::{Commit, ConsumerId, Effect, Entry, Publish, Transaction, kv};

impl State {
    /// Does all of `transaction`, or nothing of it.
    pub(super) fn transact(&mut self, transaction: &Transaction, effects: &mut Vec<Effect>) {
        let receipt = match self.check(transaction) {
            Ok(Seen::New) => return self.commit(transaction, effects),
            Ok(Seen::Before(place)) => {
                if let Some(session) = &transaction.session {
                    self.producers.touch(session, self.now);
                }
                TransactionReceipt::Duplicate(place)
            }
            Err((part, Refusal { code, reason })) => {
                let rejection = Rejection { code, stage: None, reason, retry_after_ms: None };
                TransactionReceipt::Refused { part, rejection }
            }
        };
        effects.push(Effect::Transacted(Box::new(receipt)));
    }

    /// A new life of a producer begins.
    pub(super) fn claim(&mut self, producer: ProducerId, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let (epoch, last_sequence) = self.producers.claim(producer, self.now)?;
        effects.push(Effect::Claimed { epoch, last_sequence });
        Ok(())
    }

    fn check(&self, transaction: &Transaction) -> Result<Seen, (Part, Refusal)> {
        if let Some(session) = &transaction.session {
            match self.producers.check(session).map_err(|refusal| (Part::Whole, refusal))? {
                Seen::New => {}
                seen @ Seen::Before(_) => return Ok(seen),
            }
        }
        self.check_settles(&transaction.settles)?;
        self.check_cursors(&transaction.cursors)?;
        self.check_publishes(&transaction.publishes)?;
        Ok(Seen::New)
    }

    /// Whether streams are where the messages expect them, and queues have room. What is left out for its message id
    /// is asked neither.
    fn check_publishes(&self, publishes: &[Publish]) -> Result<(), (Part, Refusal)> {
        let mut ids = BTreeSet::new();
        // Each entry with the number of its publish and its own number in the record: what is left out is counted too.
        let (mut new, mut first) = (Vec::<(u32, u16, &Entry)>::new(), 0);
        let mut changes = Vec::new();
        for (publish, n) in publishes.iter().zip(0..) {
            let known = |key| self.message_ids.find(key).is_some();
            if publish.dedup.is_none_or(|key| !known(key) && ids.insert(key)) {
                new.extend(publish.entries.iter().zip(first..).map(|(entry, number)| (n, number, entry)));
                changes.extend(publish.kv.as_deref());
            }
            first += u16::try_from(publish.entries.len()).expect("a transaction has at most 65,535 entries");
        }
        if !self.kv.are_current(changes) {
            return Err((Part::Whole, kv::stale()));
        }
        let entries = || new.iter().map(|(.., entry)| *entry);
        let numbered = new.iter().map(|(_, number, entry)| (*number, *entry));
        if let Some((number, Rejection { code, reason, .. })) = self.unmet_expectation(numbered) {
            let (n, ..) =
                new.iter().find(|(_, each, _)| *each == number).expect("it is one of these entries");
            return Err((Part::Message(*n), Refusal { code, reason }));
        }
        self.find_room(entries()).map_err(|refusal| (Part::Whole, refusal))
    }

    /// Whether every member holds what it is done with, and names nothing twice.
    fn check_cursors(&self, commits: &[Commit]) -> Result<(), (Part, Refusal)> {
        let mut named = BTreeSet::new();
        for (n, commit) in (0..).zip(commits) {
            let twice =
                commit.passed.iter().find(|each| !named.insert((commit.member, each.partition, each.first)));
            if let Some(passed) = twice {
                let (offset, partition) = (passed.first, passed.partition);
                let reason =
                    format!("offset {offset} of partition {partition} is settled twice in this transaction");
                return Err((Part::Cursor(n), Refusal::malformed(reason)));
            }
            if !commit.failed.is_empty() {
                let reason = "a message of a stream is nacked outside of a transaction";
                return Err((Part::Cursor(n), Refusal::malformed(reason)));
            }
            // What was settled before was part of another transaction, or of none.
            if !self.check_commit(commit).is_empty()
                || commit.passed.iter().any(|each| self.is_passed(commit.member, each))
            {
                let reason =
                    "not all that it names is this member's: settled before, or its partition is another's";
                return Err((Part::Cursor(n), Refusal::conflict(reason)));
            }
        }
        Ok(())
    }

    /// Whether every delivery that is to be settled is held, and none is named twice.
    fn check_settles(&self, settles: &[(ConsumerId, Vec<Settlement>)]) -> Result<(), (Part, Refusal)> {
        let named =
            settles.iter().flat_map(|(id, settlements)| settlements.iter().map(move |each| (*id, each)));
        let mut ranges = Vec::new();
        for ((id, Settlement { first, last, .. }), n) in named.zip(0..) {
            let stale = |reason: String| (Part::Settlement(n), Refusal::conflict(reason));
            let Some(consumer) = self.consumers.get(&id) else {
                return Err(stale(format!(
                    "the consumer of deliveries {first} to {last} is gone; they are delivered again"
                )));
            };
            let held = consumer.tags(*first, *last);
            let all = held.start == *first && last.checked_add(1) == Some(held.end);
            let mut each = held.clone();
            let all =
                all && (each.all(|tag| consumer.holds(tag)) || seeded::is(Fault::TransactionLeaseUnchecked));
            if !all {
                return Err(stale(format!(
                    "not all deliveries {first} to {last} are held: settled before, or their lease has ended"
                )));
            }
            ranges.push((id, *first, *last, n));
        }
        ranges.sort_unstable();
        let twice = ranges.windows(2).find(|pair| pair[0].0 == pair[1].0 && pair[1].1 <= pair[0].2);
        match twice {
            None => Ok(()),
            Some(pair) => {
                let (_, first, _, n) = pair[1];
                let reason = format!("delivery {first} is settled twice in this transaction");
                Err((Part::Settlement(n), Refusal::malformed(reason)))
            }
        }
    }

    /// Does what was checked.
    fn commit(&mut self, transaction: &Transaction, effects: &mut Vec<Effect>) {
        let all: usize = transaction.publishes.iter().map(|publish| publish.entries.len()).sum();
        let entries = u16::try_from(all).expect("a transaction has at most 65,535 entries");
        let stored = Stored { index: self.applied, entries };
        if let Some(session) = &transaction.session {
            self.producers.store(session, stored, self.now);
        }
        let place = effects.len();
        let (mut duplicates, mut next) = (Vec::new(), 0);
        for (publish, n) in transaction.publishes.iter().zip(0..) {
            match self.remember(publish.dedup, stored) {
                Receipt::Stored(_) => {
                    self.remember_kv(publish);
                    self.enqueue_all(next, &publish.entries, None, effects);
                }
                _ => duplicates.push(n),
            }
            next += u16::try_from(publish.entries.len()).expect("counted above");
        }
        for (consumer, settlements) in &transaction.settles {
            self.settle_held(*consumer, settlements, effects);
        }
        for commit in &transaction.cursors {
            self.apply_commit(commit, effects);
        }
        let committed = Committed { stored, duplicates, unrouted: Vec::new() };
        effects.insert(place, Effect::Transacted(Box::new(TransactionReceipt::Committed(committed))));
    }
}
