//! The last message of each key of a partition, by a 128-bit hash of the key.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_128;

/// Hash of a key → offset of its last message. Entries of messages that are gone are not seen, and go in sweeps
/// that cost each message that went a constant.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    last: BTreeMap<u128, u64>,
    /// Messages that went since the last sweep.
    gone: u64,
}

/// The hash by which a key is known.
pub(crate) fn hash(key: &[u8]) -> u128 {
    xxh3_128(key)
}

impl Keys {
    /// The key's last message is at `offset` now: where the one before is.
    pub(crate) fn put(&mut self, key: u128, offset: u64) -> Option<u64> {
        self.last.insert(key, offset)
    }

    /// The key's last message, unless it is below the `first` that is kept.
    pub(crate) fn last(&self, key: u128, first: u64) -> Option<u64> {
        self.last.get(&key).copied().filter(|offset| *offset >= first)
    }

    /// The message at `offset` is gone; the key's last may be a later one.
    pub(crate) fn remove(&mut self, key: u128, offset: u64) {
        if self.last.get(&key) == Some(&offset) {
            self.last.remove(&key);
        }
    }

    /// So many more messages are gone: all below `first` are.
    pub(crate) fn forget(&mut self, messages: u64, first: u64) {
        self.gone += messages;
        if self.gone > self.last.len() as u64 {
            self.gone = 0;
            self.last.retain(|_, offset| *offset >= first);
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.last.len() as u64
    }

    /// All keys whose last message is not below `first`, in order.
    pub(crate) fn iter(&self, first: u64) -> impl Iterator<Item = (u128, u64)> {
        self.last.iter().filter(move |(_, offset)| **offset >= first).map(|(key, offset)| (*key, *offset))
    }
}
