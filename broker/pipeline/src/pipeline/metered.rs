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
                false => alone(self.stages.pass(self.stages.flow(batch), now, None, &mut reports).processed),
            };
            (processed, Usage::sum(reports))
        };
        aside(metered).unwrap_or_else(|_| (alone(self.stages.lost(count)), Usage::default()))
    }

    /// Runs `batches`, one after another, again and again for `time`, reading `memory`; tells what each round of all of
    /// them took.
    pub(crate) fn run_rounds(
        &self,
        batches: &[Vec<Item>],
        now: Timestamp,
        memory: &Arc<dyn Memory>,
        time: Duration,
        rounds_max: usize,
    ) -> Vec<Round> {
        let round = || {
            let mut round = Round::default();
            for batch in batches {
                let (batch, memory, mut reports) = (batch.clone(), Arc::clone(memory), Vec::new());
                let start = Instant::now();
                match self.stages.remembers {
                    true => drop(self.stages.process_remembering(batch, now, memory, &mut reports)),
                    false => drop(self.stages.pass(self.stages.flow(batch), now, None, &mut reports)),
                }
                round.whole += start.elapsed();
                round.call += reports.iter().map(|report| report.took).sum::<Duration>();
                round.calls += reports.len();
            }
            round
        };
        let rounds = || {
            let end = Instant::now() + time;
            let mut rounds = Vec::new();
            while rounds.len() < rounds_max && (rounds.is_empty() || Instant::now() < end) {
                rounds.push(round());
            }
            rounds
        };
        aside(rounds).unwrap_or_default()
    }
}
