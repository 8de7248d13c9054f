//! How one queue treats its messages.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wharf_protocol::Name;
use xxhash_rust::xxh3::xxh3_64;

/// The queue where messages go that are given up, where a policy names no other.
pub const DEAD_LETTERS: &str = "dead-letters";

/// How one queue treats its messages: set when it is created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueuePolicy {
    /// What a publish into it waits for.
    pub durability: Durability,
    /// How long a consumer may hold a message before it is taken back.
    pub lease_ms: u64,
    /// After this many failures (nacks and lapsed leases) a message is dead-lettered.
    pub max_attempts: u32,
    /// How long a message waits after its first nack without a delay; 0: not at all.
    pub retry_min_ms: u64,
    /// The wait doubles with each failure up to this.
    pub retry_max_ms: u64,
    /// Where messages go that are given up; `None`: to [`DEAD_LETTERS`]. Created when first needed.
    pub dead_letter: Option<Name>,
    /// Whether a message whose time to live runs out is dead-lettered; otherwise it is settled as expired.
    pub dead_letter_expired: bool,
}

/// What a publish waits for before it is confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Nothing but order.
    Memory,
    /// The operating system has it: it survives the broker, not the machine.
    Os,
    /// The disk has it.
    #[default]
    Fsync,
}

impl Default for QueuePolicy {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            lease_ms: 30_000,
            max_attempts: 20,
            retry_min_ms: 200,
            retry_max_ms: 60_000,
            dead_letter: None,
            dead_letter_expired: false,
        }
    }
}

impl QueuePolicy {
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// How long to wait before the retry after failure number `failures`: the minimum, doubled each time, at
    /// most the maximum, and up to a quarter on top, drawn from `seed` so that a replay waits the same.
    pub(crate) fn retry_delay(&self, failures: u32, seed: [u64; 2]) -> Duration {
        let doublings = failures.saturating_sub(1).min(63);
        let base = self.retry_min_ms.saturating_mul(1 << doublings).min(self.retry_max_ms);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&seed[0].to_le_bytes());
        bytes[8..].copy_from_slice(&seed[1].to_le_bytes());
        let jitter = xxh3_64(&bytes) % (base / 4 + 1);
        Duration::from_millis(base.saturating_add(jitter))
    }

    /// What makes this policy impossible, for the person who wrote it.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        if self.lease_ms == 0 {
            return Some("a lease of 0 ms would lapse before its delivery arrives");
        }
        if self.max_attempts == 0 {
            return Some("max-attempts of 0 would dead-letter what was never tried");
        }
        if self.retry_min_ms > self.retry_max_ms {
            return Some("the shortest retry delay is over the longest");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_double_up_to_the_maximum_with_up_to_a_quarter_of_jitter() {
        let policy = QueuePolicy { retry_min_ms: 100, retry_max_ms: 1_000, ..QueuePolicy::default() };
        for (failures, base) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1_000), (200, 1_000)] {
            for seed in 0..100 {
                let delay = policy.retry_delay(failures, [seed, 7]).as_millis();
                assert!((base..=base + base / 4).contains(&delay), "{failures} failures: {delay} ms");
                assert_eq!(delay, policy.retry_delay(failures, [seed, 7]).as_millis());
            }
        }
        let spread: std::collections::BTreeSet<_> = (0..100).map(|s| policy.retry_delay(4, [s, 0])).collect();
        assert!(spread.len() > 50, "jitter spreads retries");
    }
}
