//! How one queue treats its messages.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wharf_protocol::Name;
use xxhash_rust::xxh3::xxh3_64;

/// The queue where messages go that are given up, where a policy names no other.
pub const DEAD_LETTERS: &str = "dead-letters";

/// The longest name of a header by whose value a queue is fair, in bytes.
pub const FAIR_BY_BYTES_MAX: usize = 255;

/// How one queue treats its messages: set when it is created, and changed by
/// [`Change::SetPolicy`](crate::Change::SetPolicy).
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
    /// The wait grows with each failure, as `retry` says, up to this.
    pub retry_max_ms: u64,
    /// Where messages go that are given up; `None`: to [`DEAD_LETTERS`]. Created when first needed.
    pub dead_letter: Option<Name>,
    /// Whether a message whose time to live runs out is dead-lettered; otherwise it is settled as expired.
    pub dead_letter_expired: bool,
    /// How the wait grows from failure to failure.
    pub retry: Backoff,
    /// How much is added to a wait at most, in hundredths of it; at most 100. It spreads retries.
    pub retry_jitter_percent: u8,
    /// How long a message may wait here; 0: for ever. A message's own time to live holds where it is shorter.
    pub ttl_ms: u64,
    /// The most messages that are ready, leased or delayed here; 0: as many as there is room for.
    pub max_messages: u64,
    /// The most bytes of messages (topic, headers and payload) that lie here; 0: as there is room for.
    pub max_bytes: u64,
    /// What happens to a message that comes when the queue is full.
    pub overflow: Overflow,
    /// Which messages wait for one another.
    pub order: Order,
    /// Deliver to one consumer only, the one that came first; the next takes over when it leaves.
    pub single_active: bool,
    /// One consumer at a time: a second is refused, and the queue goes with its consumer.
    pub exclusive: bool,
    /// The queue is deleted after so long without a consumer; 0: never.
    pub expires_ms: u64,
    /// The header whose value is a message's tenant: tenants then take turns, and one that floods the queue
    /// waits behind its own messages. Not together with an order by key.
    pub fair_by: Option<String>,
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

/// How the wait before a retry grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backoff {
    /// Always the shortest.
    Fixed,
    /// The shortest, times the number of failures.
    Linear,
    /// Doubled with each failure.
    #[default]
    Exponential,
}

/// What happens when a message comes to a full queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// The publish is refused as a whole: nothing of it is stored anywhere.
    #[default]
    Reject,
    /// The oldest ready message makes room.
    DropOldest,
    /// The oldest ready message makes room and goes to the dead-letter queue.
    DeadLetter,
}

/// Which messages wait for one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// First deliveries in the order of coming; one that comes back holds nothing up.
    #[default]
    Fifo,
    /// At most one message of a key is in flight, until it is settled: the next waits through its retries.
    Key,
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
            retry: Backoff::Exponential,
            retry_jitter_percent: 25,
            ttl_ms: 0,
            max_messages: 0,
            max_bytes: 0,
            overflow: Overflow::Reject,
            order: Order::Fifo,
            single_active: false,
            exclusive: false,
            expires_ms: 0,
            fair_by: None,
        }
    }
}

impl QueuePolicy {
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// How long a message may wait here.
    pub(crate) fn ttl(&self) -> Option<Duration> {
        (self.ttl_ms > 0).then(|| Duration::from_millis(self.ttl_ms))
    }

    /// How long the queue may be without a consumer.
    pub(crate) fn expires(&self) -> Option<Duration> {
        (self.expires_ms > 0).then(|| Duration::from_millis(self.expires_ms))
    }

    /// Whether its messages are sorted into lanes.
    pub(crate) fn has_lanes(&self) -> bool {
        self.order == Order::Key || self.fair_by.is_some()
    }

    /// Whether a message can find the queue full.
    pub(crate) fn is_limited(&self) -> bool {
        self.max_messages > 0 || self.max_bytes > 0
    }

    /// Whether so many messages of so many bytes are within the limits.
    pub(crate) fn allows(&self, messages: u64, bytes: u64) -> bool {
        (self.max_messages == 0 || messages <= self.max_messages)
            && (self.max_bytes == 0 || bytes <= self.max_bytes)
    }

    /// How long to wait before the retry after failure number `failures`: as [`Backoff`] says, at most the
    /// maximum, and up to the jitter on top, drawn from `seed` so that a replay waits the same.
    pub(crate) fn retry_delay(&self, failures: u32, seed: [u64; 2]) -> Duration {
        let growth = match self.retry {
            Backoff::Fixed => 1,
            Backoff::Linear => u64::from(failures.max(1)),
            Backoff::Exponential => 1 << failures.saturating_sub(1).min(63),
        };
        let base = self.retry_min_ms.saturating_mul(growth).min(self.retry_max_ms);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&seed[0].to_le_bytes());
        bytes[8..].copy_from_slice(&seed[1].to_le_bytes());
        let widest = u128::from(base) * u128::from(self.retry_jitter_percent) / 100;
        let widest = u64::try_from(widest).expect("at most a hundred hundredths of 64 bits");
        let jitter = xxh3_64(&bytes) % widest.saturating_add(1);
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
        if self.retry_jitter_percent > 100 {
            return Some("a retry's jitter is at most 100 percent of its delay");
        }
        if self.fair_by.as_ref().is_some_and(|name| name.is_empty() || name.len() > FAIR_BY_BYTES_MAX) {
            return Some("fair-by names a header, of 1 to 255 bytes");
        }
        if self.fair_by.is_some() && self.order == Order::Key {
            return Some("a queue is fair by tenants or in order by keys, not both: bind two queues");
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

    #[test]
    fn retries_wait_as_long_each_time_or_grow_evenly_where_the_policy_says() {
        let even = QueuePolicy {
            retry: Backoff::Linear,
            retry_min_ms: 100,
            retry_max_ms: 350,
            retry_jitter_percent: 0,
            ..QueuePolicy::default()
        };
        let waits = |policy: &QueuePolicy| [1, 2, 3, 4, 9].map(|n| policy.retry_delay(n, [3, 4]).as_millis());
        assert_eq!(waits(&even), [100, 200, 300, 350, 350]);
        assert_eq!(waits(&QueuePolicy { retry: Backoff::Fixed, ..even }), [100; 5]);
    }

    #[test]
    fn no_delay_however_long_overflows() {
        let (retry_min_ms, retry_max_ms) = (u64::MAX, u64::MAX);
        for retry in [Backoff::Fixed, Backoff::Linear, Backoff::Exponential] {
            let policy = QueuePolicy {
                retry,
                retry_min_ms,
                retry_max_ms,
                retry_jitter_percent: 100,
                ..QueuePolicy::default()
            };
            assert_eq!(policy.retry_delay(u32::MAX, [1, 2]).as_millis(), u128::from(u64::MAX));
        }
    }

    #[test]
    fn a_policy_written_before_it_had_all_fields_is_read_with_their_defaults() {
        let old = (Durability::Os, 5, 6, 7, 8, None::<Name>, true);
        let read: QueuePolicy =
            rmp_serde::from_slice(&rmp_serde::to_vec(&old).expect("encodes")).expect("a policy");
        let expected = QueuePolicy {
            durability: Durability::Os,
            lease_ms: 5,
            max_attempts: 6,
            retry_min_ms: 7,
            retry_max_ms: 8,
            dead_letter_expired: true,
            ..QueuePolicy::default()
        };
        assert_eq!(read, expected);
    }
}
