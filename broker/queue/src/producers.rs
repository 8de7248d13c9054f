//! Producer sessions.
use std::time::Duration;
/// A producer that is idle this long is forgotten.
pub const PRODUCER_IDLE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// The most ranges kept of one producer.
pub const PRODUCER_RANGES_MAX: usize = 1_024;
/// The most producers.
pub const PRODUCERS_MAX: usize = 100_000;
