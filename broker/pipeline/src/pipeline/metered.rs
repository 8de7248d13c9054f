//! Runs that are measured, for the harness: what all their calls took.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wharf_protocol::Timestamp;

use crate::harness::Round;
use crate::instance::Report;
use crate::worker::aside;
use crate::{Item, LogLine, Memory, Pipeline, Processed, Recall};

/// What a run took, over all its calls.
#[derive(Default)]
pub(crate) struct Usage {
    pub(crate) log: Vec<LogLine>,
    pub(crate) took: Duration,
    pub(crate) memory_peak_bytes: usize,
    pub(crate) fuel: Option<u64>,
}

impl Usage {
    fn sum(reports: Vec<Report>) -> Self {
        reports.into_iter().fold(Self::default(), |mut sum, report| {
            sum.log.extend(report.written.lines);
            sum.took += report.took;
            sum.memory_peak_bytes = sum.memory_peak_bytes.max(report.memory_peak_bytes);
            sum.fuel = report.fuel.map(|fuel| fuel + sum.fuel.unwrap_or(0)).or(sum.fuel);
            sum
        })
    }
}

impl Pipeline {
    /// As [`run_blocking`](Self::run_blocking), reading `memory`; with what each message read and changed, and what all
    /// of them took.
    pub(crate) fn run_metered(
        &self,
        batch: Vec<Item>,
        now: Timestamp,
        memory: Arc<dyn Memory>,
    ) -> (Vec<(Processed, Recall)>, Usage) {
        let count = batch.len();
        let alone = |processed: Vec<Processed>| {
            processed.into_iter().map(|processed| (processed, Recall::default())).collect()
        };
        let metered = || {
            let mut reports = Vec::new();
            let processed = match self.stages.remembers {
                true => self.stages.process_remembering(batch, now, memory, &mut reports),
                false => alone(self.stages.pass(self.stages.flow(batch), now, None, &mut reports)),
            };
            (processed, Usage::sum(reports))
        };
        aside(metered).unwrap_or_else(|_| (alone(self.stages.lost(count)), Usage::default()))
    }

    /// Runs `batch` again and again for `time`, and tells what each round took.
    pub(crate) fn run_rounds(
        &self,
        batch: &[Item],
        now: Timestamp,
        time: Duration,
        rounds_max: usize,
    ) -> Vec<Round> {
        let rounds = || {
            let end = Instant::now() + time;
            let mut rounds = Vec::new();
            while rounds.len() < rounds_max && (rounds.is_empty() || Instant::now() < end) {
                let (batch, mut reports) = (batch.to_vec(), Vec::new());
                let start = Instant::now();
                drop(self.stages.process_reported(batch, now, &mut reports));
                let whole = start.elapsed();
                rounds.push(Round { whole, call: reports.iter().map(|report| report.took).sum() });
            }
            rounds
        };
        aside(rounds).unwrap_or_default()
    }
}
