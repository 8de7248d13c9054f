//! How much one principal may have: messages and bytes a second, connections. What it stores: `owner.rs`.
//!
//! A publisher over its rate waits, and its client with it: what it has sent is not refused. One connection too many is
//! refused, with the reason. Nothing here reads a clock; callers pass the time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use wharf_protocol::Timestamp;

use crate::NodeError;

/// The bounds of one principal; what is left out is unbounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Quota {
    /// Messages a second that it may publish, over all its connections.
    pub messages_per_second: Option<u32>,
    /// Bytes of messages a second that it may publish, over all its connections.
    pub bytes_per_second: Option<u64>,
    /// Connections that it may have at once.
    pub connections: Option<u32>,
    /// Queues and streams that it may have made.
    pub queues: Option<u32>,
    /// Bytes of messages in the queues and streams that it made, together: of those that are not settled, or that a
    /// stream keeps.
    pub stored_bytes: Option<u64>,
}

/// What a principal uses of its quota.
#[derive(Debug)]
pub(crate) struct Usage {
    quota: Quota,
    rates: Mutex<Rates>,
    connections: Mutex<u32>,
    waits: AtomicU64,
}

#[derive(Debug)]
struct Rates {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
}

/// One of a principal's connections. Dropping it makes room for another.
#[derive(Debug)]
pub struct Presence(Arc<Usage>);

/// Tokens that come at a steady rate, up to a second's worth.
///
/// What is taken at once is taken whole, and may be more than there is: then nothing more is to be had until the debt
/// is paid. So no message is too large for its principal's rate.
#[derive(Debug)]
struct Bucket {
    per_second: i64,
    /// In thousandths of a token: a millisecond brings `per_second` of them.
    level: i64,
    at: Timestamp,
}

impl Bucket {
    fn new(per_second: u64) -> Self {
        let per_second = i64::try_from(per_second.clamp(1, 1 << 40)).expect("clamped");
        Self { per_second, level: per_second * 1_000, at: Timestamp(0) }
    }

    /// How long until something may be taken; nothing: now.
    fn wait(&mut self, now: Timestamp) -> Option<Duration> {
        let passed = now.since(self.at).as_millis();
        let full = self.per_second * 1_000;
        let came = i64::try_from(passed).unwrap_or(i64::MAX).saturating_mul(self.per_second);
        self.level = self.level.saturating_add(came).min(full);
        self.at = self.at.max(now);
        let debt = u64::try_from(1 - self.level).ok().filter(|debt| *debt > 0)?;
        Some(Duration::from_millis(debt.div_ceil(self.per_second.unsigned_abs())))
    }

    fn take(&mut self, tokens: u64) {
        let tokens = i64::try_from(tokens).unwrap_or(i64::MAX).saturating_mul(1_000);
        self.level = self.level.saturating_sub(tokens);
    }
}

impl Usage {
    pub(crate) fn new(quota: Quota) -> Self {
        let messages = quota.messages_per_second.map(|rate| Bucket::new(rate.into()));
        let bytes = quota.bytes_per_second.map(Bucket::new);
        let rates = Mutex::new(Rates { messages, bytes });
        Self { quota, rates, connections: Mutex::new(0), waits: AtomicU64::new(0) }
    }

    pub(crate) fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Whether a rate bounds it at all.
    pub(crate) fn has_rate(&self) -> bool {
        self.quota.messages_per_second.is_some() || self.quota.bytes_per_second.is_some()
    }

    /// Takes so much of its rates, or says how long to wait before asking again.
    pub(crate) fn take(&self, now: Timestamp, messages: u64, bytes: u64) -> Result<(), Duration> {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let Rates { messages: by_message, bytes: by_byte } = &mut *rates;
        let wait = |bucket: &mut Option<Bucket>| bucket.as_mut().and_then(|bucket| bucket.wait(now));
        if let Some(longest) = wait(by_message).max(wait(by_byte)) {
            self.waits.fetch_add(1, Ordering::Relaxed);
            return Err(longest);
        }
        for (bucket, amount) in [(by_message, messages), (by_byte, bytes)] {
            if let Some(bucket) = bucket {
                bucket.take(amount);
            }
        }
        Ok(())
    }

    /// Lets one more connection of `name` in.
    pub(crate) fn enter(self: &Arc<Self>, name: &str) -> Result<Presence, NodeError> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(max) = self.quota.connections.filter(|max| *connections >= *max) {
            let reason =
                format!("{name} has {connections} connections, and its quota is {max}; close one first");
            return Err(NodeError::Unavailable(reason));
        }
        *connections += 1;
        Ok(Presence(Arc::clone(self)))
    }

    pub(crate) fn connections(&self) -> u32 {
        *self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often a batch of it has waited.
    pub(crate) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        *self.0.connections.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp(1_000_000 + ms)
    }

    fn usage(messages: Option<u32>, bytes: Option<u64>) -> Usage {
        let quota = Quota {
            messages_per_second: messages,
            bytes_per_second: bytes,
            connections: Some(2),
            ..Quota::default()
        };
        Usage::new(quota)
    }

    #[test]
    fn a_rate_is_kept_whatever_the_size_of_batches() {
        for batch in [1_u64, 7, 100, 1_000] {
            let usage = usage(Some(100), None);
            let (mut now, mut taken) = (0, 0);
            while now < 60_000 {
                match usage.take(at(now), batch, 0) {
                    Ok(()) => taken += batch,
                    Err(wait) => now += u64::try_from(wait.as_millis()).expect("short"),
                }
            }
            // A second's worth at once, and one batch that may be owed.
            assert!((6_000..=6_100 + batch).contains(&taken), "batches of {batch}: {taken} in a minute");
        }
    }

    #[test]
    fn the_slower_of_two_rates_decides() {
        let usage = usage(Some(1_000), Some(500));
        assert_eq!(usage.take(at(0), 1, 1_500), Ok(()), "taken whole, and owed");
        let wait = usage.take(at(0), 1, 1).expect_err("the debt of bytes");
        assert!((2_000..=2_001).contains(&wait.as_millis()), "{wait:?}");
        assert_eq!(usage.take(at(2_001), 1, 1), Ok(()));
        assert!(usage.waits() >= 1);
    }

    #[test]
    fn a_clock_that_jumps_back_brings_nothing_and_takes_nothing() {
        let usage = usage(Some(10), None);
        assert_eq!(usage.take(at(5_000), 10, 0), Ok(()));
        let wait = usage.take(at(0), 1, 0).expect_err("the bucket is empty");
        assert!(wait <= Duration::from_millis(1), "{wait:?}");
        assert_eq!(usage.take(at(5_100), 1, 0), Ok(()));
    }

    #[test]
    fn one_connection_too_many_is_refused_until_one_ends() {
        let usage = Arc::new(usage(None, None));
        let first = usage.enter("shop").expect("room");
        let _second = usage.enter("shop").expect("room");
        let refused = usage.enter("shop").expect_err("full").to_string();
        assert!(refused.contains("shop has 2 connections, and its quota is 2"), "{refused}");
        drop(first);
        usage.enter("shop").expect("room again");
        assert_eq!(usage.connections(), 1);
        assert_eq!(usage.take(at(0), u64::MAX, u64::MAX), Ok(()), "no rate, no bound");
    }
}
