//! Message ids that publishers gave: a second message with one, within the window, is a duplicate.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use wharf_protocol::{Stored, Timestamp};

use crate::backlog::{packed, unpacked};

/// How long a message id is remembered, in logged time.
pub const MESSAGE_ID_WINDOW: Duration = Duration::from_secs(600);
/// How many message ids are remembered; past that the oldest goes before its time.
pub const MESSAGE_IDS_MAX: usize = 1_000_000;

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
    pub(crate) fn store(&mut self, key: u128, stored: Stored, now: Timestamp) {
        if self.by_age.len() == MESSAGE_IDS_MAX {
            self.forget_oldest();
        }
        let place = wharf_protocol::MessageId { index: stored.index, entry: stored.entries };
        self.stored.insert(halves(key), packed(place));
        self.by_age.push_back((now, halves(key)));
    }

    /// Forgets what is older than the window.
    pub(crate) fn sweep(&mut self, now: Timestamp) {
        while self.by_age.front().is_some_and(|(at, _)| now >= at.after(MESSAGE_ID_WINDOW)) {
            self.forget_oldest();
        }
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
        let mut ids = MessageIds::default();
        let stored = Stored { index: 5, entries: 2 };
        ids.store(1 << 100 | 1, stored, Timestamp(1_000));

        ids.sweep(Timestamp(600_999));
        assert_eq!(ids.find(1 << 100 | 1), Some(stored));
        ids.sweep(Timestamp(601_000));
        assert_eq!(ids.find(1 << 100 | 1), None);
    }

    #[test]
    fn the_window_is_bounded_by_count() {
        let mut ids = MessageIds::default();
        for n in 0..=MESSAGE_IDS_MAX as u64 {
            ids.store(u128::from(n), Stored { index: n, entries: 1 }, Timestamp(0));
        }
        assert_eq!(
            (ids.find(0), ids.stored.len(), ids.by_age.len()),
            (None, MESSAGE_IDS_MAX, MESSAGE_IDS_MAX)
        );
    }
}
