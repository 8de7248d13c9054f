//! What a benchmark prints: a line a phase.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::output;

/// Latencies in microseconds, to a minute.
pub(super) struct Latencies(Histogram<u64>);

/// The figures of one phase.
pub(super) struct Phase<'a> {
    pub(super) name: &'a str,
    pub(super) messages: u64,
    pub(super) took: Duration,
    /// Of the broker's process, user and system.
    pub(super) broker_cpu: Option<Duration>,
    pub(super) latencies: Option<&'a Latencies>,
    /// What the floor of the same work costs a message.
    pub(super) floor: Option<Duration>,
}

impl Latencies {
    pub(super) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, 60_000_000, 3);
        Self(histogram.expect("the bounds are in order and three digits are allowed"))
    }

    pub(super) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// How many were recorded.
    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    fn milliseconds(&self, quantile: f64) -> f64 {
        Duration::from_micros(self.0.value_at_quantile(quantile)).as_secs_f64() * 1e3
    }
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (p50, p99) = (self.milliseconds(0.5), self.milliseconds(0.99));
        write!(f, "p50 {p50:.2} ms  p99 {p99:.2} ms")
    }
}

impl Phase<'_> {
    /// Prints its line.
    pub(super) fn print(&self) -> anyhow::Result<()> {
        let mut line = format!(
            "{:<10} {:>9.0} msg/s  {:>9} messages in {:>6.2} s",
            self.name,
            per(self.messages, self.took),
            self.messages,
            self.took.as_secs_f64()
        );
        if let Some(cpu) = self.broker_cpu {
            let _ = write!(line, "  broker CPU {:>6.2} µs/msg", micros(cpu, self.messages));
            if let Some(floor) = self.floor {
                let ratio = micros(cpu, self.messages) / (floor.as_secs_f64() * 1e6);
                let _ = write!(line, " ({ratio:.1} × the floors)");
            }
        }
        if let Some(latencies) = self.latencies {
            let at = |quantile| latencies.milliseconds(quantile);
            let _ =
                write!(line, "  p50 {:.2} ms  p99 {:.2} ms  p99.9 {:.2} ms", at(0.5), at(0.99), at(0.999));
        }
        output::line(line)
    }
}

fn per(messages: u64, took: Duration) -> f64 {
    exact(messages) / took.as_secs_f64().max(1e-9)
}

/// Microseconds a message.
pub(super) fn micros(time: Duration, messages: u64) -> f64 {
    time.as_secs_f64() * 1e6 / exact(messages).max(1.0)
}

#[expect(clippy::cast_precision_loss, reason = "counts of messages are far below 2^52")]
fn exact(count: u64) -> f64 {
    count as f64
}
