//! How many messages a stage gives its plugin in a call: as many as a call may carry, until the plugin breaks.
//!
//! ```text
//!  64 ──▶ breaks ──▶ 32 ──▶ breaks ──▶ … ──▶ 1 ──▶ breaks: that message is at fault
//!   ▲                                        │
//!   └──── doubled after 4 calls in a row that did not break ◀──┘
//! ```
//!
//! A call that breaks is made again with half as many, so the message that breaks it is found alone and its neighbours
//! are not charged. The size is remembered from batch to batch: a plugin that breaks on every other message, or in
//! company only, gets single messages and costs one call for each, instead of a search for each.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::BATCH_MESSAGES_MAX;

/// After how many calls in a row that did not break the size is doubled.
const CALLS_TO_DOUBLE: usize = 4;

#[derive(Debug)]
pub(crate) struct BatchSize {
    messages: AtomicUsize,
    /// Calls of this size in a row that did not break.
    unbroken: AtomicUsize,
}

impl Default for BatchSize {
    fn default() -> Self {
        Self { messages: AtomicUsize::new(BATCH_MESSAGES_MAX), unbroken: AtomicUsize::new(0) }
    }
}

impl BatchSize {
    /// How many messages the next call carries at most.
    pub(crate) fn messages(&self) -> usize {
        self.messages.load(Relaxed)
    }

    /// A call with so many messages broke.
    pub(crate) fn broke(&self, messages: usize) {
        self.messages.fetch_min((messages / 2).max(1), Relaxed);
        self.unbroken.store(0, Relaxed);
    }

    /// A call did not break.
    pub(crate) fn held(&self) {
        let messages = self.messages();
        if messages < BATCH_MESSAGES_MAX && self.unbroken.fetch_add(1, Relaxed) + 1 >= CALLS_TO_DOUBLE {
            self.messages.store((messages * 2).min(BATCH_MESSAGES_MAX), Relaxed);
            self.unbroken.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls that a plugin gets for `count` messages, when it breaks on those for which `breaks` says so.
    fn calls(count: usize, breaks: impl Fn(&[usize]) -> bool) -> usize {
        let size = BatchSize::default();
        let messages: Vec<usize> = (0..count).collect();
        let (mut done, mut calls) = (0, 0);
        while done < count {
            let call = &messages[done..count.min(done + size.messages())];
            calls += 1;
            if !breaks(call) {
                size.held();
                done += call.len();
            } else if call.len() == 1 {
                size.broke(1);
                done += 1;
            } else {
                size.broke(call.len());
            }
        }
        calls
    }

    #[test]
    fn one_message_that_breaks_is_found_in_few_calls() {
        assert_eq!(calls(6400, |_| false), 100);
        let with_one = calls(6400, |call| call.contains(&77));
        assert!(with_one <= 100 + 40, "{with_one} calls");
    }

    #[test]
    fn a_storm_costs_about_a_call_a_message() {
        let every_other = calls(1000, |call| call.iter().any(|n| n % 2 == 0));
        assert!(every_other <= 1010, "{every_other} calls");
        let in_company = calls(1000, |call| call.len() > 1);
        assert!(in_company <= 1260, "{in_company} calls");
    }
}
