//! How long messages waited for runs, so that two versions can be compared by a percentile, and what they cost.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Durations, counted by size: two buckets an octave, from a microsecond to a quarter of an hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// How many in each bucket, the shortest first; buckets after the last used one are left out.
    buckets: Vec<u64>,
    total_ns: u64,
}

impl Times {
    const BUCKETS: usize = 60;

    /// Counts a message that waited so long, of which its share was so much.
    pub fn add(&mut self, took: Duration, share: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = (0..Self::BUCKETS - 1).find(|bucket| us <= Self::edge_us(*bucket));
        let bucket = bucket.unwrap_or(Self::BUCKETS - 1);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.total_ns = self.total_ns.saturating_add(u64::try_from(share.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The longest of the shortest `percent` of all, rounded up to its bucket, in microseconds; 0 of none.
    pub fn percentile_us(&self, percent: u8) -> u64 {
        let count: u64 = self.buckets.iter().sum();
        let rank = (count * u64::from(percent)).div_ceil(100);
        let mut seen = 0;
        let reached = self.buckets.iter().position(|bucket| {
            seen += bucket;
            seen >= rank && *bucket > 0
        });
        reached.map_or(0, Self::edge_us)
    }

    /// The shares of all of them together, in microseconds: the time in which nothing else ran there.
    pub fn total_us(&self) -> u64 {
        self.total_ns / 1_000
    }

    /// The upper edge of a bucket: 1, 2, 3, 4, 6, 8, 12, 16…
    fn edge_us(bucket: usize) -> u64 {
        match bucket {
            0 => 1,
            _ if bucket % 2 == 1 => 1 << bucket.div_ceil(2),
            _ => 3 << (bucket / 2 - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_within_half_an_octave() {
        let mut times = Times::default();
        assert_eq!(times.percentile_us(99), 0);
        let add = |times: &mut Times, took| times.add(took, took);
        (1..=100).for_each(|ms| add(&mut times, Duration::from_millis(ms)));
        assert!((50_000..=75_000).contains(&times.percentile_us(50)), "{}", times.percentile_us(50));
        assert!((99_000..=131_072).contains(&times.percentile_us(99)));
        add(&mut times, Duration::MAX);
        assert!(times.percentile_us(100) > 500_000_000);
        assert!((1..60).all(|bucket| Times::edge_us(bucket) > Times::edge_us(bucket - 1)));
    }
}
