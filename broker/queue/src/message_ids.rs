//! Message ids that publishers gave: a second message with one, within the window, is a duplicate.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wharf_protocol::{Stored, Timestamp};

use crate::backlog::{packed, unpacked};

/// How long message ids are remembered, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Deduplication {
    /// How long a message id is remembered, in milliseconds of logged time; at most 30 days.
    pub window_ms: u64,
    /// How many are remembered, at most 10,000,000; past that the oldest goes before its time. A remembered
    /// id takes about 60 bytes of memory.
    pub max: u64,
}

/// The longest window.
const WINDOW_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// The most message ids that can be remembered.
const IDS_MAX: u64 = 10_000_000;

impl Default for Deduplication {
    fn default() -> Self {
        Self { window_ms: 600_000, max: 1_000_000 }
    }
}

impl Deduplication {
    /// What makes this impossible, for the person who wrote it.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.window_ms == 0 || self.max == 0 {
            return Some(
                "a window of nothing would let every duplicate pass; leave the message ids out".into(),
            );
        }
        if Duration::from_millis(self.window_ms) > WINDOW_MAX {
            return Some(format!("a window of {} ms is over the 30 days that are the most", self.window_ms));
        }
        (self.max > IDS_MAX)
            .then(|| format!("{} message ids are over the {IDS_MAX} that are the most", self.max))
    }
}

/// The window. The map only answers questions; order is the queue's.
#[derive(Debug, Default)]
pub(crate) struct MessageIds {
    stored: HashMap<[u64; 2], u64>,
    by_age: VecDeque<(Timestamp, [u64; 2])>,
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of the key")]
fn halves(key: u128) -> [u64; 2] {
    [(key >> 64) as u64, key as u64]
}

fn whole([high, low]: [u64; 2]) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

impl MessageIds {
    /// Where the message with this id was stored.
    pub(crate) fn find(&self, key: u128) -> Option<Stored> {
        // The low 16 bits count entries here, where a message id has the number of one.
        let place = unpacked(*self.stored.get(&halves(key))?);
        Some(Stored { index: place.index, entries: place.entry })
    }

    /// Remembers an id that was not found.
    pub(crate) fn store(&mut self, key: u128, stored: Stored, now: Timestamp, bounds: &Deduplication) {
        if self.by_age.len() as u64 >= bounds.max {
            self.forget_oldest();
        }
        let place = wharf_protocol::MessageId { index: stored.index, entry: stored.entries };
        self.stored.insert(halves(key), packed(place));
        self.by_age.push_back((now, halves(key)));
    }

    /// Forgets what is older than the window.
    pub(crate) fn sweep(&mut self, now: Timestamp, bounds: &Deduplication) {
        let window = Duration::from_millis(bounds.window_ms);
        while self.by_age.front().is_some_and(|(at, _)| now >= at.after(window)) {
            self.forget_oldest();
        }
    }

    /// Forgets what is beyond new bounds.
    pub(crate) fn limit(&mut self, now: Timestamp, bounds: &Deduplication) {
        while self.by_age.len() as u64 > bounds.max {
            self.forget_oldest();
        }
        self.sweep(now, bounds);
    }

    /// Key, place and time, oldest first: for a snapshot.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (u128, Stored, Timestamp)> {
        self.by_age.iter().map(|(at, halves)| {
            let key = whole(*halves);
            (key, self.find(key).expect("both hold the same ids"), *at)
        })
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.by_age.pop_front() {
            self.stored.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_forgotten_when_its_window_ends_and_not_before() {
        let (mut ids, bounds) = (MessageIds::default(), Deduplication::default());
        let stored = Stored { index: 5, entries: 2 };
        ids.store(1 << 100 | 1, stored, Timestamp(1_000), &bounds);

        ids.sweep(Timestamp(600_999), &bounds);
        assert_eq!(ids.find(1 << 100 | 1), Some(stored));
        ids.sweep(Timestamp(601_000), &bounds);
        assert_eq!(ids.find(1 << 100 | 1), None);
    }

    #[test]
    fn the_window_is_bounded_by_count_and_a_smaller_one_forgets_the_oldest() {
        let (mut ids, bounds) =
            (MessageIds::default(), Deduplication { max: 1_000, ..Deduplication::default() });
        for n in 0..=1_000 {
            ids.store(u128::from(n), Stored { index: n, entries: 1 }, Timestamp(0), &bounds);
        }
        assert_eq!((ids.find(0), ids.stored.len(), ids.by_age.len()), (None, 1_000, 1_000));

        ids.limit(Timestamp(0), &Deduplication { max: 10, ..bounds });
        assert_eq!((ids.find(990), ids.stored.len(), ids.by_age.len()), (None, 10, 10));
        assert!(ids.find(991).is_some());
    }
}
