//! Transactions: all of it is checked first, then all of it is done.

use std::collections::BTreeSet;

use wharf_protocol::{
    Committed, ErrorCode, Part, Receipt, Rejection, Settlement, Stored, TransactionReceipt,
};
use wharf_queue::{Commit, ConsumerId, Effect, Entry, Publish, Transaction};

use super::Model;

impl Model {
    pub(super) fn transact(&mut self, transaction: &Transaction) {
        if let Some(receipt) = transaction.session.as_ref().and_then(|session| self.seen(session)) {
            let told = match receipt {
                Receipt::Rejected(rejection) => refused(Part::Whole, rejection.code),
                Receipt::Stored(stored) => TransactionReceipt::Duplicate(Some(stored)),
                Receipt::Duplicate(stored) => TransactionReceipt::Duplicate(stored),
            };
            return self.told(told);
        }
        let problem = self
            .settles_problem(&transaction.settles)
            .or_else(|| self.cursors_problem(&transaction.cursors))
            .or_else(|| self.publishes_problem(&transaction.publishes));
        if let Some((part, code)) = problem {
            return self.told(refused(part, code));
        }
        let entries: usize = transaction.publishes.iter().map(|publish| publish.entries.len()).sum();
        let stored = Stored { index: self.index, entries: entries as u16 };
        if let Some(session) = &transaction.session {
            self.remember_sequence(session, stored);
        }
        let place = self.effects.len();
        let (mut duplicates, mut first) = (Vec::new(), 0);
        for (n, publish) in (0..).zip(&transaction.publishes) {
            let known = publish.dedup.is_some_and(|key| self.known_id(key).is_some());
            if known {
                duplicates.push(n);
            } else {
                publish.dedup.into_iter().for_each(|key| self.remember_id(key, stored));
                self.store(first, &publish.entries, None);
            }
            first += publish.entries.len() as u16;
        }
        for (consumer, settlements) in &transaction.settles {
            self.settle(consumer.0, settlements);
            // The transaction's answer is theirs.
            let told = self.effects.pop();
            assert!(matches!(told, Some(Effect::Settled { .. })), "settling is told last");
        }
        for commit in &transaction.cursors {
            self.commit(commit);
        }
        let committed = Committed { stored, duplicates, unrouted: Vec::new() };
        let told = Effect::Transacted(Box::new(TransactionReceipt::Committed(committed)));
        self.effects.insert(place, told);
    }

    fn told(&mut self, receipt: TransactionReceipt) {
        self.effects.push(Effect::Transacted(Box::new(receipt)));
    }

    /// A delivery that is not held, or is named twice.
    fn settles_problem(&self, settles: &[(ConsumerId, Vec<Settlement>)]) -> Option<(Part, ErrorCode)> {
        let all: Vec<(u64, u64, u64, u32)> = settles
            .iter()
            .flat_map(|(id, settlements)| settlements.iter().map(move |each| (id.0, each.first, each.last)))
            .zip(0..)
            .map(|((id, first, last), n)| (id, first, last, n))
            .collect();
        for (id, first, last, n) in &all {
            let held = self.consumers.get(id).map(|consumer| &consumer.held);
            let holds = |tag| held.is_some_and(|held| held.iter().any(|(each, ..)| *each == tag));
            if !(*first..=*last).all(holds) {
                return Some((Part::Settlement(*n), ErrorCode::Conflict));
            }
        }
        let mut sorted = all;
        sorted.sort_unstable();
        let twice = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0 && pair[1].1 <= pair[0].2)?;
        Some((Part::Settlement(twice[1].3), ErrorCode::Malformed))
    }

    fn cursors_problem(&self, commits: &[Commit]) -> Option<(Part, ErrorCode)> {
        let mut named = BTreeSet::new();
        for (n, commit) in (0..).zip(commits) {
            for passed in &commit.passed {
                if !named.insert((commit.member, passed.partition, passed.first)) {
                    return Some((Part::Cursor(n), ErrorCode::Malformed));
                }
            }
            if !commit.failed.is_empty() {
                return Some((Part::Cursor(n), ErrorCode::Malformed));
            }
            if !commit.passed.iter().all(|passed| self.may_commit(commit.member.0, passed)) {
                return Some((Part::Cursor(n), ErrorCode::Conflict));
            }
        }
        None
    }

    fn publishes_problem(&self, publishes: &[Publish]) -> Option<(Part, ErrorCode)> {
        let (mut ids, mut new, mut first) = (BTreeSet::new(), Vec::<(u32, u16, &Entry)>::new(), 0);
        for (n, publish) in (0..).zip(publishes) {
            if publish.dedup.is_none_or(|key| self.known_id(key).is_none() && ids.insert(key)) {
                new.extend((first..).zip(&publish.entries).map(|(number, entry)| (n, number, entry)));
            }
            first += publish.entries.len() as u16;
        }
        let numbered: Vec<(u16, &Entry)> = new.iter().map(|(_, number, entry)| (*number, *entry)).collect();
        if let Some(number) = self.unmet(&numbered) {
            let (n, ..) = new.iter().find(|(_, each, _)| *each == number)?;
            return Some((Part::Message(*n), ErrorCode::Conflict));
        }
        let entries: Vec<&Entry> = new.iter().map(|(.., entry)| *entry).collect();
        (!self.has_room_for_all(&entries)).then_some((Part::Whole, ErrorCode::Unavailable))
    }
}

fn refused(part: Part, code: ErrorCode) -> TransactionReceipt {
    let rejection = Rejection { code, stage: None, reason: String::new(), retry_after_ms: None };
    TransactionReceipt::Refused { part, rejection }
}
