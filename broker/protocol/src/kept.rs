//! What a pipeline remembers under a key.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// The longest key of a pipeline's `kv`, in bytes; the shortest has one.
pub const KV_KEY_BYTES_MAX: usize = 512;
/// The longest value of a pipeline's `kv`, in bytes.
pub const KV_VALUE_BYTES_MAX: usize = 64 * 1024;
/// The most keys that one message may change in a pipeline's `kv`.
pub const KV_CHANGES_MAX: usize = 128;
/// The most keys of its pipeline's `kv` that one message may read without having changed them before.
pub const KV_READS_MAX: usize = 1024;
/// What a pipeline's `kv` may take, in bytes as [`Kept::cost`] counts them.
pub const KV_SPACE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What a key costs beside its own bytes and its value's.
const KV_ENTRY_BYTES: usize = 64;

/// A value, and its end where it has one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Kept {
    /// The value.
    pub value: Bytes,
    /// When it is there no more.
    pub expires: Option<Timestamp>,
}

impl Kept {
    /// Whether it is still there at `now`.
    pub fn lives(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| expires > now)
    }

    /// What it takes of its pipeline's space, under a key of this length.
    pub fn cost(&self, key_bytes: usize) -> u64 {
        (key_bytes + self.value.len() + KV_ENTRY_BYTES) as u64
    }
}
