//! One version of a pipeline, ready to run: messages go in, and one answer for each comes out.

mod account;
mod metered;
mod stages;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};
use wharf_protocol::{Name, Timestamp};

use crate::engine::Inner;
use crate::flow::{Flow, Through};
use crate::worker::aside;
use crate::{
    BATCH_MESSAGES_MAX, Circumstances, CpuUse, Item, Memory, Outdated, PipelineSpec, Plugin, PrepareError,
    Processed, RECORDING_VERSION, Recall, RecordError, Recording, RecordingHead, StageStats, Traced,
};
use stages::Stages;

/// One version of a pipeline. Immutable: a new version is another `Pipeline`, and messages in flight finish
/// with the one that they began with.
pub struct Pipeline {
    stages: Arc<Stages>,
    /// How many threads it may hold at once.
    share: Arc<Semaphore>,
}

/// What became of a batch, and how long that took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimedRun {
    /// An answer for each message, in order.
    pub processed: Vec<Processed>,
    /// Messages of which a stage failed whose policy lets them pass then: their places in the batch, in order. Nothing
    /// is known of a pipeline that remembers.
    pub bypassed: Vec<usize>,
    /// How long the batch took, which is how long each of its messages waited.
    pub took: Duration,
}

impl TimedRun {
    fn of((through, took): (Through, Duration)) -> Self {
        let Through { processed, mut bypassed } = through;
        bypassed.sort_unstable();
        bypassed.dedup();
        Self { processed, bypassed, took }
    }
}

/// How many messages of a pipeline that takes much time go to a thread at once: then others have their turn.
const HEAVY_BATCH_MESSAGES_MAX: usize = BATCH_MESSAGES_MAX;

impl Pipeline {
    pub(crate) fn prepare(
        engine: &Arc<Inner>,
        spec: PipelineSpec,
        plugins: Vec<Arc<Plugin>>,
    ) -> Result<Self, PrepareError> {
        spec.check()?;
        if plugins.len() != spec.stages.len() {
            return Err(PrepareError::Plugins { stages: spec.stages.len(), plugins: plugins.len() });
        }
        let stages = Arc::new(Stages::prepare(engine, spec, plugins)?);
        let share = Arc::new(Semaphore::new(engine.threads.saturating_sub(1).max(1)));
        Ok(Self { stages, share })
    }

    /// What it was made from.
    pub fn spec(&self) -> &PipelineSpec {
        &self.stages.spec
    }

    /// Runs `batch` on the engine's threads, or on this one where that is short: one answer a message, in order. All
    /// messages see `now` as the time.
    ///
    /// Never fails as a whole: a message that a plugin breaks on has its own failure, and its neighbours do
    /// not notice. Keep the messages: a failure does not give its message back.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answers; work that has begun goes on to its end.
    pub async fn run(&self, batch: Vec<Item>, now: Timestamp) -> Vec<Processed> {
        self.run_timed(batch, now).await.processed
    }

    /// As [`run`](Self::run), with the time that the batch took on its thread, waiting for one not counted, and with
    /// what its stages let pass though they failed.
    pub async fn run_timed(&self, mut batch: Vec<Item>, now: Timestamp) -> TimedRun {
        let meter = &self.stages.meter;
        if batch.len() <= HEAVY_BATCH_MESSAGES_MAX || !meter.is_heavy(Instant::now()) {
            return TimedRun::of(self.run_at_once(batch, now).await);
        }
        let (mut through, mut took) = (Through::default(), Duration::ZERO);
        while !batch.is_empty() {
            let rest = batch.split_off(batch.len().min(HEAVY_BATCH_MESSAGES_MAX));
            let (part, part_took) = self.run_at_once(std::mem::replace(&mut batch, rest), now).await;
            through.extend(part);
            took += part_took;
        }
        TimedRun::of((through, took))
    }

    /// How long to wait before the next batch, so that the pipeline keeps to its share of processor time; nothing: it
    /// may begin. Say how long it was by [`Pipeline::waited`].
    pub fn owed(&self) -> Option<Duration> {
        self.stages.meter.owed(Instant::now())
    }

    /// A batch waited so long for the pipeline's share.
    pub fn waited(&self, time: Duration) {
        self.stages.meter.waited(time);
    }

    /// Charges it with what a version beside it took for its messages.
    pub fn charge(&self, time: Duration) {
        self.stages.meter.took(time, Instant::now());
    }

    /// What it has taken of processor time.
    pub fn cpu(&self) -> CpuUse {
        self.stages.meter.read(Instant::now())
    }

    async fn run_at_once(&self, batch: Vec<Item>, now: Timestamp) -> (Through, Duration) {
        let count = batch.len();
        let (through, took) = match self.run_here(batch, now) {
            Ok(through) => through,
            Err(flow) => {
                let timed = move |stages: &Stages| {
                    let began = Instant::now();
                    (stages.go_on(flow, now, &mut Vec::new()), began.elapsed())
                };
                let on_worker = self.on_worker(timed).await;
                on_worker.unwrap_or_else(|| {
                    let lost = Through { processed: self.stages.lost(count), bypassed: Vec::new() };
                    (lost, Duration::ZERO)
                })
            }
        };
        self.stages.leash.took(count, took);
        (through, took)
    }

    /// On this thread, where that is short; otherwise what is left to do.
    fn run_here(&self, batch: Vec<Item>, now: Timestamp) -> Result<(Through, Duration), Flow> {
        let (stages, began, mut flow) = (&self.stages, Instant::now(), self.stages.flow(batch));
        if stages.remembers || !stages.leash.allows(flow.units.len(), began) {
            return Err(flow);
        }
        let Ok(_permit) = self.share.try_acquire() else { return Err(flow) };
        if !stages.pass_here(&mut flow, now) {
            return Err(flow);
        }
        let through = flow.finish();
        Ok((through, began.elapsed()))
    }

    /// As [`run`](Self::run) with one message, and tells what each stage was given, said and changed: on the same
    /// threads, in the same share of them, with the same answer.
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn trace(&self, item: Item, now: Timestamp) -> Traced {
        let traced = self.on_worker(move |stages| stages.trace(item, now, Arc::clone(&stages.memory))).await;
        traced.unwrap_or_else(|| self.lost_trace(now))
    }

    /// Does `job` on one of the engine's threads; `None`: it did not come back.
    async fn on_worker<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Stages) -> T + Send + 'static,
    ) -> Option<T> {
        let stages = Arc::clone(&self.stages);
        let permit = Arc::clone(&self.share).acquire_owned().await.ok()?;
        let (answer, answered) = oneshot::channel();
        let job = move || {
            // Nobody may be waiting any more; the answers are then nobody's.
            let _ = answer.send(job(&stages));
            drop(permit);
        };
        self.stages.engine.workers.run(self.stages.weight(), Box::new(job)).await;
        answered.await.ok()
    }

    /// As [`run`](Self::run), for callers outside of async code; blocks, on a thread made for it.
    pub fn run_blocking(&self, batch: Vec<Item>, now: Timestamp) -> Vec<Processed> {
        let count = batch.len();
        aside(|| self.stages.process(batch, now)).unwrap_or_else(|_| self.stages.lost(count))
    }

    /// Runs one message and tells what each stage was given, said and changed. Blocks, on a thread made for
    /// it: for trying a pipeline, not for traffic.
    pub fn run_traced(&self, item: Item, now: Timestamp) -> Traced {
        self.traced(item, now, &self.stages.memory)
    }

    /// Runs one message as it was run before, in what it hung on then: the same version and message give the same
    /// again, byte by byte. Blocks, as [`run_traced`](Self::run_traced) does.
    ///
    /// # Errors
    /// A table or schema that it used is of another version now.
    pub fn run_again(&self, item: Item, circumstances: &Circumstances) -> Result<Traced, Outdated> {
        circumstances.check(&self.stages.engine.library)?;
        Ok(self.traced(item, circumstances.now, &circumstances.memory()))
    }

    fn traced(&self, item: Item, now: Timestamp, memory: &Arc<dyn Memory>) -> Traced {
        aside(|| self.stages.trace(item, now, Arc::clone(memory))).unwrap_or_else(|_| self.lost_trace(now))
    }

    /// The account of a run that did not come back.
    fn lost_trace(&self, now: Timestamp) -> Traced {
        let circumstances = Circumstances { now, ..Circumstances::default() };
        Traced { processed: self.stages.host_failure(), steps: Vec::new(), circumstances }
    }

    /// Whether any of its stages is granted what it remembers.
    pub fn remembers(&self) -> bool {
        self.stages.remembers
    }

    /// As [`run`](Self::run), reading `memory`; each answer comes with what its message read and changed.
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn run_remembering(
        &self,
        batch: Vec<Item>,
        now: Timestamp,
        memory: Arc<dyn Memory>,
    ) -> Vec<(Processed, Recall)> {
        let count = batch.len();
        let lost = || self.stages.lost(count).into_iter().map(|lost| (lost, Recall::default())).collect();
        let run = move |stages: &Stages| stages.process_remembering(batch, now, memory, &mut Vec::new());
        self.on_worker(run).await.unwrap_or_else(lost)
    }

    /// As [`trace`](Self::trace), reading `memory`; with what the message read and changed.
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn trace_remembering(
        &self,
        item: Item,
        now: Timestamp,
        memory: Arc<dyn Memory>,
    ) -> (Traced, Recall) {
        let traced = self.on_worker(move |stages| stages.trace_remembering(item, now, memory)).await;
        traced.unwrap_or_else(|| (self.lost_trace(now), Recall::default()))
    }

    /// Records what `stage`, the first where none is named, takes and says from now on. The version of a pipeline is
    /// its user's to say.
    ///
    /// # Errors
    /// There is no such stage, or somebody else records it.
    pub fn record(&self, stage: Option<&Name>, version: u32) -> Result<Recording, RecordError> {
        let spec = &self.stages.spec;
        let i = match stage {
            None => 0,
            Some(name) => spec.stages.iter().position(|each| each.name() == name).ok_or_else(|| {
                let stages = spec.stages.iter().map(|each| each.name().to_string()).collect::<Vec<_>>();
                RecordError::NoSuchStage { stage: name.clone(), stages: stages.join(", ") }
            })?,
        };
        let (stage, spec) = (&self.stages.row[i], &spec.stages[i]);
        let head = RecordingHead {
            recording: RECORDING_VERSION,
            pipeline: self.stages.spec.name.to_string(),
            version,
            stage: stage.name.to_string(),
            plugin: stage.plugin_ref.to_string(),
            digest: stage.plugin.digest().to_owned(),
            kind: stage.kind,
            config: spec.config.clone(),
            outputs: stage.output_names().to_vec(),
            grants: spec.grants.clone(),
        };
        Recording::new(head, &stage.tap).ok_or_else(|| RecordError::Busy(stage.name.clone()))
    }

    /// What each stage has done so far.
    pub fn stats(&self) -> Vec<StageStats> {
        self.stages.row.iter().map(|stage| stage.stats()).collect()
    }
}
