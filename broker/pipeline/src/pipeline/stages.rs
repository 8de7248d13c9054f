//! The stages of one version of a pipeline, in a row, and the way of a batch through them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use wharf_protocol::Timestamp;

use crate::engine::Inner;
use crate::flow::{Flow, Through};
use crate::here::{LEASH, Leash};
use crate::instance::Report;
use crate::memory::{Blank, Remembering, Shared, lock};
use crate::share::Meter;
use crate::stage::{Here, Stage};
use crate::worker::Weight;
use crate::{FailureKind, Fault, Item, Memory, PipelineSpec, Plugin, PrepareError, Processed, Recall};

/// The stages, and what their runs share: the threads that run a batch hold it as long as they do.
pub(super) struct Stages {
    /// What runs read whose changes nobody keeps.
    pub(super) memory: Arc<dyn Memory>,
    /// Whether any stage is granted what the pipeline remembers.
    pub(super) remembers: bool,
    pub(super) spec: PipelineSpec,
    pub(super) row: Vec<Arc<Stage>>,
    pub(super) engine: Arc<Inner>,
    pub(super) meter: Meter,
    /// Of the time in its stages, what the meter knows, in nanoseconds.
    metered_ns: AtomicU64,
    pub(super) leash: Leash,
}

impl Stages {
    pub(super) fn prepare(
        engine: &Arc<Inner>,
        spec: PipelineSpec,
        plugins: Vec<Arc<Plugin>>,
    ) -> Result<Self, PrepareError> {
        let row = spec.stages.iter().zip(plugins);
        let row = row
            .map(|(stage, plugin)| Stage::prepare(engine, &spec.name, stage, plugin))
            .collect::<Result<Vec<Arc<Stage>>, _>>()?;
        let remembers = row.iter().any(|stage| stage.remembers());
        let memories = engine.memories.get().filter(|_| remembers);
        let memory = memories.map_or_else(|| Arc::new(Blank) as Arc<dyn Memory>, |all| all.of(&spec.name));
        let meter = Meter::new(spec.cpu, Instant::now());
        let (metered_ns, leash) = (AtomicU64::default(), Leash::default());
        Ok(Self { memory, remembers, spec, row, engine: Arc::clone(engine), meter, metered_ns, leash })
    }

    pub(super) fn process(&self, batch: Vec<Item>, now: Timestamp) -> Vec<Processed> {
        self.process_reported(batch, now, &mut Vec::new())
    }

    pub(super) fn process_reported(
        &self,
        batch: Vec<Item>,
        now: Timestamp,
        reports: &mut Vec<Report>,
    ) -> Vec<Processed> {
        self.go_on(self.flow(batch), now, reports).processed
    }

    /// The rest of the way of a batch.
    pub(super) fn go_on(&self, flow: Flow, now: Timestamp, reports: &mut Vec<Report>) -> Through {
        if !self.remembers {
            return self.pass(flow, now, None, reports);
        }
        let (batch, memory) = (flow.into_batch(), Arc::clone(&self.memory));
        let ran = self.process_remembering(batch, now, memory, reports);
        Through { processed: ran.into_iter().map(|(processed, _)| processed).collect(), bypassed: Vec::new() }
    }

    /// Each message goes all the way before the next one begins, so that this one sees what that one left.
    pub(super) fn process_remembering(
        &self,
        batch: Vec<Item>,
        now: Timestamp,
        memory: Arc<dyn Memory>,
        reports: &mut Vec<Report>,
    ) -> Vec<(Processed, Recall)> {
        let remembering = Remembering::begin(memory);
        let mut one = |item| {
            let processed =
                self.pass(self.flow(vec![item]), now, Some(&remembering), reports).processed.pop();
            let processed = processed.unwrap_or_else(|| self.host_failure());
            let came_through = !matches!(processed, Processed::Failed(_));
            let recall = lock(&remembering).end_message(came_through);
            (processed, recall)
        };
        batch.into_iter().map(&mut one).collect()
    }

    /// The way of a batch: each stage answers for every message that came so far.
    pub(super) fn pass(
        &self,
        mut flow: Flow,
        now: Timestamp,
        remembering: Option<&Shared>,
        reports: &mut Vec<Report>,
    ) -> Through {
        while let Some(stage) = self.row.get(flow.stages) {
            let units = flow.ask();
            let first = reports.len();
            let answers = stage.run(&units, now, remembering, reports);
            flow.answered(stage, units, answers, &reports[first..], now);
        }
        self.meter();
        flow.finish()
    }

    /// As [`pass`](Self::pass), on this thread and on the leash; false: it is not through, and a guest's thread
    /// goes on from where it came to.
    pub(super) fn pass_here(&self, flow: &mut Flow, now: Timestamp) -> bool {
        while let Some(stage) = self.row.get(flow.stages) {
            let units = flow.ask();
            match stage.run_here(&units, now, LEASH) {
                Here::Answered(answers, report) => flow.answered(stage, units, answers, &[report], now),
                elsewhere => {
                    flow.not_answered(units);
                    if let Here::Broke = elsewhere {
                        self.leash.broke(Instant::now());
                    }
                    return false;
                }
            }
        }
        self.leash.held();
        self.meter();
        true
    }

    pub(super) fn flow(&self, batch: Vec<Item>) -> Flow {
        Flow::new(batch, self.engine.limits.outputs)
    }

    /// Whether its next job may take the last thread.
    pub(super) fn weight(&self) -> Weight {
        if self.meter.is_heavy(Instant::now()) { Weight::Heavy } else { Weight::Light }
    }

    /// Charges the pipeline with what its stages have taken since the last time.
    pub(super) fn meter(&self) {
        let busy: Duration = self.row.iter().map(|stage| stage.busy()).sum();
        let ns = u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX);
        let before = self.metered_ns.fetch_max(ns, Relaxed);
        if ns > before {
            self.meter.took(Duration::from_nanos(ns - before), Instant::now());
        }
    }

    /// The answers for messages whose job did not come back.
    pub(super) fn lost(&self, count: usize) -> Vec<Processed> {
        (0..count).map(|_| self.host_failure()).collect()
    }

    pub(super) fn host_failure(&self) -> Processed {
        let stage = &self.row[0];
        Processed::Failed(stage.failure(
            FailureKind::Fault(Fault::Host),
            Fault::Host.problem("the broker failed while it ran the pipeline"),
        ))
    }
}
