//! One version of a pipeline, ready to run: messages go in, and one answer for each comes out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};
use wharf_protocol::{Name, Timestamp};

use crate::engine::Inner;
use crate::flow::Flow;
use crate::harness::Round;
use crate::instance::{Answer, Report};
use crate::memory::{Blank, Remembering, Shared, lock};
use crate::share::Meter;
use crate::stage::Stage;
use crate::trace::Step;
use crate::worker::{Weight, aside};
use crate::{
    BATCH_MESSAGES_MAX, Circumstances, CpuUse, FailureKind, Fault, Item, LogLine, Memory, OnFailure,
    Outdated, PipelineSpec, Plugin, PrepareError, Problem, Processed, RECORDING_VERSION, Recall, RecordError,
    Recording, RecordingHead, StageStats, Traced, Verdict,
};

/// One version of a pipeline. Immutable: a new version is another `Pipeline`, and messages in flight finish
/// with the one that they began with.
pub struct Pipeline {
    core: Arc<Core>,
    /// How many threads it may hold at once.
    share: Arc<Semaphore>,
}

/// How many messages of a pipeline that takes much time go to a thread at once: then others have their turn.
const HEAVY_BATCH_MESSAGES_MAX: usize = BATCH_MESSAGES_MAX;

struct Core {
    /// What runs read whose changes nobody keeps.
    memory: Arc<dyn Memory>,
    /// Whether any stage is granted what the pipeline remembers.
    remembers: bool,
    spec: PipelineSpec,
    stages: Vec<Arc<Stage>>,
    engine: Arc<Inner>,
    meter: Meter,
    /// Of the time in its stages, what the meter knows, in nanoseconds.
    metered_ns: AtomicU64,
}

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
        let stages = spec.stages.iter().zip(plugins);
        let stages = stages
            .map(|(stage, plugin)| Stage::prepare(engine, &spec.name, stage, plugin))
            .collect::<Result<Vec<Arc<Stage>>, _>>()?;
        let remembers = stages.iter().any(|stage| stage.remembers());
        let memories = engine.memories.get().filter(|_| remembers);
        let memory = memories.map_or_else(|| Arc::new(Blank) as Arc<dyn Memory>, |all| all.of(&spec.name));
        let share = Arc::new(Semaphore::new(engine.threads.saturating_sub(1).max(1)));
        let meter = Meter::new(spec.cpu, Instant::now());
        let metered_ns = AtomicU64::default();
        let engine = Arc::clone(engine);
        Ok(Self {
            core: Arc::new(Core { memory, remembers, spec, stages, engine, meter, metered_ns }),
            share,
        })
    }

    /// What it was made from.
    pub fn spec(&self) -> &PipelineSpec {
        &self.core.spec
    }

    /// Runs `batch` on the engine's threads: one answer a message, in order. All messages see `now` as the
    /// time.
    ///
    /// Never fails as a whole: a message that a plugin breaks on has its own failure, and its neighbours do
    /// not notice. Keep the messages: a failure does not give its message back.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answers; work that has begun goes on to its end.
    pub async fn run(&self, batch: Vec<Item>, now: Timestamp) -> Vec<Processed> {
        self.run_timed(batch, now).await.0
    }

    /// As [`run`](Self::run), with the time that the batch took on its thread, waiting for one not counted.
    pub async fn run_timed(&self, mut batch: Vec<Item>, now: Timestamp) -> (Vec<Processed>, Duration) {
        let meter = &self.core.meter;
        if batch.len() <= HEAVY_BATCH_MESSAGES_MAX || !meter.is_heavy(Instant::now()) {
            return self.run_at_once(batch, now).await;
        }
        let (mut processed, mut took) = (Vec::with_capacity(batch.len()), Duration::ZERO);
        while !batch.is_empty() {
            let rest = batch.split_off(batch.len().min(HEAVY_BATCH_MESSAGES_MAX));
            let (part, part_took) = self.run_at_once(std::mem::replace(&mut batch, rest), now).await;
            processed.extend(part);
            took += part_took;
        }
        (processed, took)
    }

    /// How long to wait before the next batch, so that the pipeline keeps to its share of processor time; nothing: it
    /// may begin. Say how long it was by [`Pipeline::waited`].
    pub fn owed(&self) -> Option<Duration> {
        self.core.meter.owed(Instant::now())
    }

    /// A batch waited so long for the pipeline's share.
    pub fn waited(&self, time: Duration) {
        self.core.meter.waited(time);
    }

    /// What it has taken of processor time.
    pub fn cpu(&self) -> CpuUse {
        self.core.meter.read(Instant::now())
    }

    async fn run_at_once(&self, batch: Vec<Item>, now: Timestamp) -> (Vec<Processed>, Duration) {
        let count = batch.len();
        let timed = move |core: &Core| {
            let began = Instant::now();
            (core.process(batch, now), began.elapsed())
        };
        self.on_worker(timed).await.unwrap_or_else(|| (self.core.lost(count), Duration::ZERO))
    }

    /// As [`run`](Self::run) with one message, and tells what each stage was given, said and changed: on the same
    /// threads, in the same share of them, with the same answer.
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn trace(&self, item: Item, now: Timestamp) -> Traced {
        let traced = self.on_worker(move |core| core.trace(item, now, Arc::clone(&core.memory))).await;
        traced.unwrap_or_else(|| self.lost_trace(now))
    }

    /// Does `job` on one of the engine's threads; `None`: it did not come back.
    async fn on_worker<T: Send + 'static>(&self, job: impl FnOnce(&Core) -> T + Send + 'static) -> Option<T> {
        let core = Arc::clone(&self.core);
        let permit = Arc::clone(&self.share).acquire_owned().await.ok()?;
        let (answer, answered) = oneshot::channel();
        let job = move || {
            // Nobody may be waiting any more; the answers are then nobody's.
            let _ = answer.send(job(&core));
            drop(permit);
        };
        self.core.engine.workers.run(self.core.weight(), Box::new(job)).await;
        answered.await.ok()
    }

    /// As [`run`](Self::run), for callers outside of async code; blocks, on a thread made for it.
    pub fn run_blocking(&self, batch: Vec<Item>, now: Timestamp) -> Vec<Processed> {
        let count = batch.len();
        aside(|| self.core.process(batch, now)).unwrap_or_else(|_| self.core.lost(count))
    }

    /// Runs one message and tells what each stage was given, said and changed. Blocks, on a thread made for
    /// it: for trying a pipeline, not for traffic.
    pub fn run_traced(&self, item: Item, now: Timestamp) -> Traced {
        self.traced(item, now, &self.core.memory)
    }

    /// Runs one message as it was run before, in what it hung on then: the same version and message give the same
    /// again, byte by byte. Blocks, as [`run_traced`](Self::run_traced) does.
    ///
    /// # Errors
    /// A table or schema that it used is of another version now.
    pub fn run_again(&self, item: Item, circumstances: &Circumstances) -> Result<Traced, Outdated> {
        circumstances.check(&self.core.engine.library)?;
        Ok(self.traced(item, circumstances.now, &circumstances.memory()))
    }

    fn traced(&self, item: Item, now: Timestamp, memory: &Arc<dyn Memory>) -> Traced {
        aside(|| self.core.trace(item, now, Arc::clone(memory))).unwrap_or_else(|_| self.lost_trace(now))
    }

    /// The account of a run that did not come back.
    fn lost_trace(&self, now: Timestamp) -> Traced {
        let circumstances = Circumstances { now, ..Circumstances::default() };
        Traced { processed: self.core.host_failure(), steps: Vec::new(), circumstances }
    }

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
            let processed = match self.core.remembers {
                true => self.core.process_remembering(batch, now, memory, &mut reports),
                false => alone(self.core.pass(batch, now, None, &mut reports)),
            };
            (processed, Usage::sum(reports))
        };
        aside(metered).unwrap_or_else(|_| (alone(self.core.lost(count)), Usage::default()))
    }

    /// Whether any of its stages is granted what it remembers.
    pub fn remembers(&self) -> bool {
        self.core.remembers
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
        let lost = || self.core.lost(count).into_iter().map(|lost| (lost, Recall::default())).collect();
        let run = move |core: &Core| core.process_remembering(batch, now, memory, &mut Vec::new());
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
        let traced = self.on_worker(move |core| core.trace_remembering(item, now, memory)).await;
        traced.unwrap_or_else(|| (self.lost_trace(now), Recall::default()))
    }

    /// Records what `stage`, the first where none is named, takes and says from now on. The version of a pipeline is
    /// its user's to say.
    ///
    /// # Errors
    /// There is no such stage, or somebody else records it.
    pub fn record(&self, stage: Option<&Name>, version: u32) -> Result<Recording, RecordError> {
        let spec = &self.core.spec;
        let i = match stage {
            None => 0,
            Some(name) => spec.stages.iter().position(|each| each.name() == name).ok_or_else(|| {
                let stages = spec.stages.iter().map(|each| each.name().to_string()).collect::<Vec<_>>();
                RecordError::NoSuchStage { stage: name.clone(), stages: stages.join(", ") }
            })?,
        };
        let (stage, spec) = (&self.core.stages[i], &spec.stages[i]);
        let head = RecordingHead {
            recording: RECORDING_VERSION,
            pipeline: self.core.spec.name.to_string(),
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
                drop(self.core.process_reported(batch, now, &mut reports));
                let whole = start.elapsed();
                rounds.push(Round { whole, call: reports.iter().map(|report| report.took).sum() });
            }
            rounds
        };
        aside(rounds).unwrap_or_default()
    }

    /// What each stage has done so far.
    pub fn stats(&self) -> Vec<StageStats> {
        self.core.stages.iter().map(|stage| stage.stats()).collect()
    }
}

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

impl Core {
    /// The way of a batch: each stage answers for every message that came so far.
    fn process(&self, batch: Vec<Item>, now: Timestamp) -> Vec<Processed> {
        self.process_reported(batch, now, &mut Vec::new())
    }

    fn process_reported(
        &self,
        batch: Vec<Item>,
        now: Timestamp,
        reports: &mut Vec<Report>,
    ) -> Vec<Processed> {
        if !self.remembers {
            return self.pass(batch, now, None, reports);
        }
        let memory = Arc::clone(&self.memory);
        self.process_remembering(batch, now, memory, reports)
            .into_iter()
            .map(|(processed, _)| processed)
            .collect()
    }

    /// Each message goes all the way before the next one begins, so that this one sees what that one left.
    fn process_remembering(
        &self,
        batch: Vec<Item>,
        now: Timestamp,
        memory: Arc<dyn Memory>,
        reports: &mut Vec<Report>,
    ) -> Vec<(Processed, Recall)> {
        let remembering = Remembering::begin(memory);
        let mut one = |item| {
            let processed = self.pass(vec![item], now, Some(&remembering), reports).pop();
            let processed = processed.unwrap_or_else(|| self.host_failure());
            let came_through = !matches!(processed, Processed::Failed(_));
            let recall = lock(&remembering).end_message(came_through);
            (processed, recall)
        };
        batch.into_iter().map(&mut one).collect()
    }

    fn pass(
        &self,
        batch: Vec<Item>,
        now: Timestamp,
        remembering: Option<&Shared>,
        reports: &mut Vec<Report>,
    ) -> Vec<Processed> {
        let mut flow = Flow::new(batch, self.engine.limits.outputs);
        for stage in &self.stages {
            let units = Arc::new(std::mem::take(&mut flow.units));
            let first = reports.len();
            let answers = stage.run(&units, now, remembering, reports);
            if stage.tap.is_on() {
                stage.tap.offer(&units, &answers, stage.output_names(), now);
            }
            let units = Arc::unwrap_or_clone(units);
            let alone = (units.len() == 1).then(|| units[0].origin);
            for (unit, answer) in units.into_iter().zip(answers) {
                flow.take(stage, unit, answer);
            }
            if let (Some(origin), [report]) = (alone, &reports[first..]) {
                flow.note(origin, stage, report);
            }
            flow.settle();
        }
        self.meter();
        flow.finish()
    }

    /// Whether its next job may take the last thread.
    fn weight(&self) -> Weight {
        if self.meter.is_heavy(Instant::now()) { Weight::Heavy } else { Weight::Light }
    }

    /// Charges the pipeline with what its stages have taken since the last time.
    fn meter(&self) {
        let busy: Duration = self.stages.iter().map(|stage| stage.busy()).sum();
        let ns = u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX);
        let before = self.metered_ns.fetch_max(ns, Relaxed);
        if ns > before {
            self.meter.took(Duration::from_nanos(ns - before), Instant::now());
        }
    }

    /// The same way, one message at a time, with an account of each step.
    fn trace(&self, item: Item, now: Timestamp, memory: Arc<dyn Memory>) -> Traced {
        let remembering = self.remembers.then(|| Remembering::begin(memory));
        self.account(item, now, remembering.as_ref())
    }

    /// As [`process_remembering`](Self::process_remembering) with one message, with an account of each step.
    fn trace_remembering(&self, item: Item, now: Timestamp, memory: Arc<dyn Memory>) -> (Traced, Recall) {
        let remembering = Remembering::begin(memory);
        let traced = self.account(item, now, Some(&remembering));
        let came_through = !matches!(traced.processed, Processed::Failed(_));
        let recall = lock(&remembering).end_message(came_through);
        (traced, recall)
    }

    fn account(&self, item: Item, now: Timestamp, remembering: Option<&Shared>) -> Traced {
        let mut circumstances = Circumstances { now, ..Circumstances::default() };
        let mut flow = Flow::new(vec![item], self.engine.limits.outputs);
        let mut steps = Vec::new();
        for stage in &self.stages {
            for unit in std::mem::take(&mut flow.units) {
                let mut reports = Vec::new();
                let given = unit.clone();
                let mut answers = stage.run(&Arc::new(vec![unit.clone()]), now, remembering, &mut reports);
                let answer = answers.pop().unwrap_or(Answer::Keep);
                let (verdict, problem) = said(&answer, stage.policy);
                let first = flow.units.len();
                flow.take(stage, unit, answer);
                let mut report = reports.pop().unwrap_or_else(Report::default);
                circumstances.lent.append(&mut report.lent);
                steps.push(Step::new(stage, &given, verdict, problem, &flow.units[first..], report));
            }
            flow.settle();
        }
        self.meter();
        if let Some(remembering) = remembering {
            circumstances.reads = lock(remembering).reads();
        }
        circumstances.lent.sort_unstable();
        circumstances.lent.dedup();
        let processed = flow.finish().pop().unwrap_or_else(|| self.host_failure());
        Traced { processed, steps, circumstances }
    }

    /// The answers for messages whose job did not come back.
    fn lost(&self, count: usize) -> Vec<Processed> {
        (0..count).map(|_| self.host_failure()).collect()
    }

    fn host_failure(&self) -> Processed {
        let stage = &self.stages[0];
        Processed::Failed(stage.failure(
            FailureKind::Fault(Fault::Host),
            Fault::Host.problem("the broker failed while it ran the pipeline"),
        ))
    }
}

fn said(answer: &Answer, policy: OnFailure) -> (Verdict, Option<Problem>) {
    let failed = |verdict, problem: Problem| match policy {
        OnFailure::Bypass => (Verdict::Bypassed, Some(problem)),
        OnFailure::Reject | OnFailure::DeadLetter => (verdict, Some(problem)),
    };
    match answer {
        Answer::Keep => (Verdict::Passed, None),
        Answer::Drop => (Verdict::Dropped, None),
        Answer::To(_) => (Verdict::Routed, None),
        Answer::Headers(_) | Answer::Emitted(_) => (Verdict::Changed, None),
        Answer::Retry(problem, _) => (Verdict::Retry, Some(problem.clone())),
        Answer::Reject(problem) => failed(Verdict::Rejected, problem.clone()),
        Answer::Fault(fault, message) => failed(Verdict::Fault, fault.problem(message.clone())),
    }
}
