//! One version of a pipeline, ready to run: messages go in, and one answer for each comes out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};
use wharf_protocol::{Name, Timestamp};

use crate::engine::Inner;
use crate::flow::Flow;
use crate::harness::Round;
use crate::here::{LEASH, Leash};
use crate::instance::{Answer, Report};
use crate::memory::{Blank, Remembering, Shared, lock};
use crate::share::Meter;
use crate::stage::{Here, Stage};
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
    leash: Leash,
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
            core: Arc::new(Core {
                memory,
                remembers,
                spec,
                stages,
                engine,
                meter,
                metered_ns,
                leash: Leash::default(),
            }),
            share,
        })
    }

    /// What it was made from.
    pub fn spec(&self) -> &PipelineSpec {
        &self.core.spec
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
        let (processed, took) = match self.run_here(batch, now) {
            Ok(through) => through,
            Err(flow) => {
                let timed = move |core: &Core| {
                    let began = Instant::now();
                    (core.go_on(flow, now, &mut Vec::new()), began.elapsed())
                };
                let on_worker = self.on_worker(timed).await;
                on_worker.unwrap_or_else(|| (self.core.lost(count), Duration::ZERO))
            }
        };
        self.core.leash.took(count, took);
        (processed, took)
    }

    /// On this thread, where that is short; otherwise what is left to do.
    fn run_here(&self, batch: Vec<Item>, now: Timestamp) -> Result<(Vec<Processed>, Duration), Flow> {
        let (core, began, mut flow) = (&self.core, Instant::now(), self.core.flow(batch));
        if core.remembers || !core.leash.allows(flow.units.len(), began) {
            return Err(flow);
        }
        let Ok(_permit) = self.share.try_acquire() else { return Err(flow) };
        if !core.pass_here(&mut flow, now) {
            return Err(flow);
        }
        let processed = flow.finish();
        Ok((processed, began.elapsed()))
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
                false => alone(self.core.pass(self.core.flow(batch), now, None, &mut reports)),
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
    fn process(&self, batch: Vec<Item>, now: Timestamp) -> Vec<Processed> {
        self.process_reported(batch, now, &mut Vec::new())
    }

    fn process_reported(
        &self,
        batch: Vec<Item>,
        now: Timestamp,
        reports: &mut Vec<Report>,
    ) -> Vec<Processed> {
        self.go_on(self.flow(batch), now, reports)
    }

    /// The rest of the way of a batch.
    fn go_on(&self, flow: Flow, now: Timestamp, reports: &mut Vec<Report>) -> Vec<Processed> {
        if !self.remembers {
            return self.pass(flow, now, None, reports);
        }
        let (batch, memory) = (flow.into_batch(), Arc::clone(&self.memory));
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
            let processed = self.pass(self.flow(vec![item]), now, Some(&remembering), reports).pop();
            let processed = processed.unwrap_or_else(|| self.host_failure());
            let came_through = !matches!(processed, Processed::Failed(_));
            let recall = lock(&remembering).end_message(came_through);
            (processed, recall)
        };
        batch.into_iter().map(&mut one).collect()
    }

    /// The way of a batch: each stage answers for every message that came so far.
    fn pass(
        &self,
        mut flow: Flow,
        now: Timestamp,
        remembering: Option<&Shared>,
        reports: &mut Vec<Report>,
    ) -> Vec<Processed> {
        while let Some(stage) = self.stages.get(flow.stages) {
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
    fn pass_here(&self, flow: &mut Flow, now: Timestamp) -> bool {
        while let Some(stage) = self.stages.get(flow.stages) {
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

    fn flow(&self, batch: Vec<Item>) -> Flow {
        Flow::new(batch, self.engine.limits.outputs)
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
        let mut flow = self.flow(vec![item]);
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
