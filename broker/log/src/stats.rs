//! Counts and times, for metrics.

use std::time::Duration;

use crate::engine::Index;

/// The upper bounds of the histogram's buckets; one more bucket takes what is longer than all.
pub const SYNC_BUCKETS: [Duration; 12] = [
    Duration::from_micros(100),
    Duration::from_micros(200),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
];

/// What a log did since it was opened, and what it holds now.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// The first record that is kept.
    pub first: Index,
    /// The index that the next record gets.
    pub next: Index,
    /// The last record that survives a power cut.
    pub durable: Index,
    /// Segments that hold records, the active one included.
    pub segments: usize,
    /// Durable snapshots that are kept.
    pub snapshots: usize,
    /// Prepared files, ready to become segments.
    pub spares: usize,
    /// The room that segments and spares take on the disk.
    pub bytes: u64,
    /// Records appended since the log was opened.
    pub records_appended: u64,
    /// Bytes appended since the log was opened, heads and padding included.
    pub bytes_appended: u64,
    /// Batches appended since the log was opened.
    pub batches_appended: u64,
    /// How long syncs of records took.
    pub syncs: Histogram,
    /// How long the last sync of records took.
    pub last_sync: Duration,
}

/// How long something took, by buckets of fixed bounds.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// How many took at most the bound of the same place in [`SYNC_BUCKETS`] (and more than the one before).
    pub counts: [u64; SYNC_BUCKETS.len() + 1],
    /// All of them together.
    pub total: Duration,
    /// The longest.
    pub longest: Duration,
}

impl Histogram {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(crate) fn record(&mut self, took: Duration) {
        self.counts[SYNC_BUCKETS.partition_point(|bound| *bound < took)] += 1;
        self.total += took;
        self.longest = self.longest.max(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_under_the_first_bound_that_it_does_not_pass() {
        let mut histogram = Histogram::default();
        for micros in [0, 100, 101, 10_000_000] {
            histogram.record(Duration::from_micros(micros));
        }

        assert_eq!(histogram.counts[0..2], [2, 1]);
        assert_eq!(histogram.counts[SYNC_BUCKETS.len()], 1);
        assert_eq!((histogram.count(), histogram.longest), (4, Duration::from_secs(10)));
    }
}
