//! A stage at work: its instances, its breaker, and the search for the message that breaks it.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wharf_protocol::{Name, Timestamp};

use crate::batch::BatchSize;
use crate::bindings::exports::wharf::plugin::lifecycle;
use crate::breaker::{Admission, Breaker};
use crate::engine::Inner;
use crate::host::{About, Call, Remembered, Rights, Unit};
use crate::instance::{Answer, Broken, Instance, Report};
use crate::memory::{Shared, lock};
use crate::plugin::START_DEADLINE;
use crate::recorder::Tap;
use crate::stats::Counters;
use crate::view::Packing;
use crate::wanted::{Lack, lacking};
use crate::{
    BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, Fault, Grant, Kind, Level, Need, OnFailure, Plugin, PluginRef,
    PrepareError, Problem, StageSpec, StageStats, Target, config_schema,
};

/// After how many calls an instance is replaced: a random number in this range, so that nobody comes to rely
/// on what an instance remembers.
const CALLS_BEFORE_RETIREMENT: std::ops::Range<u32> = 5_000..10_000;

pub(crate) struct Stage {
    pub(crate) name: Name,
    pub(crate) plugin_ref: PluginRef,
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) kind: Kind,
    pub(crate) policy: OnFailure,
    pub(crate) targets: Vec<Target>,
    pipeline: Name,
    rights: Rights,
    /// Which fields are packed into each call.
    packing: Packing,
    deadline: Duration,
    fresh: bool,
    engine: Arc<Inner>,
    idle: Mutex<Vec<Instance>>,
    batch: BatchSize,
    breaker: Breaker,
    counters: Counters,
    /// Where copies of what it takes and says go, while somebody records.
    pub(crate) tap: Tap,
}

/// Messages `first..first + count` of a batch.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: usize,
    count: usize,
}

/// What became of a call on the thread of the caller.
pub(crate) enum Here {
    Answered(Vec<Answer>, Report),
    /// It takes a guest's thread: there is no idle instance, or more than one call to make.
    Elsewhere,
    /// It did not come back with answers; it is as if it had not been made.
    Broke,
}

/// Why there is no initialised instance.
enum StartError {
    Broken(Broken),
    /// The plugin does not accept its configuration.
    Config(Problem),
}

/// What the stage may use: a configuration is written to be read, so that a stage with one grants it.
fn granted(spec: &StageSpec) -> Arc<[Grant]> {
    let own = (!spec.config.is_empty()).then_some(Grant::Config);
    let own = own.filter(|grant| !spec.grants.contains(grant));
    spec.grants.iter().cloned().chain(own).collect()
}

impl Stage {
    pub(crate) fn prepare(
        engine: &Arc<Inner>,
        pipeline: &Name,
        spec: &StageSpec,
        plugin: Arc<Plugin>,
    ) -> Result<Arc<Self>, PrepareError> {
        let name = spec.name().clone();
        let kind = choose_kind(spec, &plugin)?;
        if kind == Kind::Validator && spec.on_failure == OnFailure::Bypass {
            return Err(PrepareError::BypassedValidator(name));
        }
        if !spec.outputs.is_empty() && !matches!(kind, Kind::Router | Kind::Transformer) {
            return Err(PrepareError::NoOutputs { stage: name, kind });
        }
        let schema = plugin.description().config_schema.as_deref();
        match lacking(plugin.needs(), schema, &spec.config, &spec.grants) {
            Some(Lack::Any(need)) => return Err(PrepareError::NotGranted { stage: name, need }),
            Some(Lack::Named(grant)) => return Err(PrepareError::NotGrantedByName { stage: name, grant }),
            None => {}
        }
        if let Some(schema) = &plugin.description().config_schema {
            config_schema::check(schema, &spec.config)
                .map_err(|problem| PrepareError::Config { stage: name.clone(), problem })?;
        }
        let (output_names, targets) =
            spec.outputs.iter().map(|(name, to)| (name.clone(), to.clone())).unzip();
        let about = About {
            pipeline: pipeline.to_string(),
            stage: name.to_string(),
            outputs: output_names,
            config: serde_json::to_string(&spec.config).map_err(|_| PrepareError::Host)?,
        };
        let mut stage = Self {
            plugin_ref: spec.plugin.clone(),
            kind,
            policy: spec.on_failure,
            targets,
            pipeline: pipeline.clone(),
            rights: Rights { grants: granted(spec), about: Arc::new(about) },
            packing: Packing::described(plugin.description().reads.clone()),
            deadline: spec.deadline_ms.map_or(engine.limits.deadline(), Duration::from_millis),
            fresh: spec.fresh,
            engine: Arc::clone(engine),
            idle: Mutex::default(),
            batch: BatchSize::default(),
            breaker: Breaker::new(Instant::now()),
            counters: Counters::default(),
            tap: Tap::default(),
            plugin,
            name,
        };
        let mut first = stage.start().map_err(|error| match error {
            StartError::Config(problem) => PrepareError::Config { stage: stage.name.clone(), problem },
            StartError::Broken(broken) => PrepareError::Init {
                stage: stage.name.clone(),
                problem: broken.fault.problem(broken.message),
            },
        })?;
        let broke = |broken: Broken| PrepareError::Init {
            stage: stage.name.clone(),
            problem: broken.fault.problem(broken.message),
        };
        if let Some(reads) = first.reads(engine, START_DEADLINE).map_err(broke)? {
            reads.check().map_err(|error| PrepareError::Reads { stage: stage.name.clone(), error })?;
            stage.packing = Packing::configured(reads);
        }
        stage.put_back(first);
        let stage = Arc::new(stage);
        engine.add_stage(&stage);
        Ok(stage)
    }

    /// One answer for each of `units`, in order.
    ///
    /// A batch that breaks the plugin is given again in smaller ones, to fresh instances, until the message that
    /// breaks it is alone: it is charged, its neighbours are not.
    pub(crate) fn run(
        &self,
        units: &Arc<Vec<Unit>>,
        now: Timestamp,
        remembering: Option<&Shared>,
        reports: &mut Vec<Report>,
    ) -> Vec<Answer> {
        let remembering = remembering.filter(|_| self.remembers());
        let mut answers: Vec<Option<Answer>> = Vec::new();
        answers.resize_with(units.len(), || None);
        let mut runs = if remembering.is_some() { one_by_one(units.len()) } else { runs(units) };
        while let Some(run) = runs.pop() {
            let size = match self.breaker.admits(Instant::now()) {
                Admission::Yes => self.batch.messages(),
                Admission::Trial => 1,
                Admission::No => {
                    answers[run.range()].fill_with(|| Some(self.suspended()));
                    self.counters.not_asked(Fault::Open, run.count);
                    continue;
                }
            };
            let run = run.first(size, &mut runs);
            let instance = match self.take() {
                Ok(instance) => instance,
                // No message is at fault: smaller batches would not start it either.
                Err(broken) => {
                    self.faulted(broken.fault.problem(&broken.message));
                    self.counters.not_asked(broken.fault, run.count);
                    answers[run.range()]
                        .fill_with(|| Some(Answer::Fault(broken.fault, broken.message.clone())));
                    reports.push(Report::default());
                    continue;
                }
            };
            let (called, report) = self.call(instance, units, run, now, self.deadline, remembering);
            // What broke in company is given again: it is counted when it is answered for.
            let is_settled = called.is_ok() || run.count == 1;
            self.account(if is_settled { run.count } else { 0 }, &report);
            match called {
                Ok(answered) => {
                    self.judge(&answered);
                    for (place, answer) in answers[run.range()].iter_mut().zip(answered) {
                        self.count(&answer);
                        *place = Some(answer);
                    }
                    reports.push(report);
                }
                Err(broken) if run.count == 1 => {
                    self.faulted(broken.fault.problem(&broken.message));
                    self.batch.broke(1);
                    let answer = Answer::Fault(broken.fault, broken.message);
                    self.count(&answer);
                    answers[run.first] = Some(answer);
                    reports.push(report);
                }
                Err(_) => {
                    self.batch.broke(run.count);
                    runs.push(run);
                }
            }
        }
        let answered = |answer: Option<Answer>| answer.unwrap_or_else(|| self.suspended());
        answers.into_iter().map(answered).collect()
    }

    /// As [`run`](Self::run), by one call of an idle instance that takes at most `deadline`.
    pub(crate) fn run_here(&self, units: &Arc<Vec<Unit>>, now: Timestamp, deadline: Duration) -> Here {
        let run = match runs(units)[..] {
            [] => return Here::Answered(Vec::new(), Report::default()),
            [run] if run.count <= self.batch.messages() && self.breaker.is_closed() => run,
            _ => return Here::Elsewhere,
        };
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(instance) = idle else { return Here::Elsewhere };
        let (called, report) = self.call(instance, units, run, now, deadline.min(self.deadline), None);
        match called {
            Ok(answers) if !answers.iter().any(Answer::is_fault) => {
                self.account(run.count, &report);
                self.judge(&answers);
                answers.iter().for_each(|answer| self.count(answer));
                Here::Answered(answers, report)
            }
            _ => Here::Broke,
        }
    }

    /// Whether its plugin asks for what its pipeline remembers, and is granted it.
    pub(crate) fn remembers(&self) -> bool {
        self.plugin.needs().contains(&Need::Kv) && self.rights.grants.contains(&Grant::Kv)
    }

    pub(crate) fn stats(&self) -> StageStats {
        let breaker = self.breaker.view(Instant::now());
        self.counters.read(self.name.clone(), self.plugin_ref.clone(), self.kind, breaker)
    }

    /// The names of its declared outputs.
    pub(crate) fn output_names(&self) -> &[String] {
        &self.rights.about.outputs
    }

    pub(crate) fn drop_idle(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
    }

    /// Time in guest code since the stage was prepared.
    pub(crate) fn busy(&self) -> Duration {
        let Counters { busy_ns, starting_ns, .. } = &self.counters;
        Duration::from_nanos(busy_ns.load(Relaxed) + starting_ns.load(Relaxed))
    }

    /// One call, and the instance back among the idle ones unless it broke. Counted by [`account`](Self::account).
    fn call(
        &self,
        mut instance: Instance,
        units: &Arc<Vec<Unit>>,
        run: Run,
        now: Timestamp,
        deadline: Duration,
        remembering: Option<&Shared>,
    ) -> (Result<Vec<Answer>, Broken>, Report) {
        let mut call = Call::new(Arc::clone(units), run.first, run.count, now, self.targets.len());
        let mark = remembering.map(|shared| {
            call.remembering = Some(Remembered(Arc::clone(shared)));
            (shared, lock(shared).mark())
        });
        let (called, report) = instance.process(&self.engine, deadline, self.kind, &self.packing, call);

        let failed =
            |answer: &Answer| matches!(answer, Answer::Reject(_) | Answer::Retry(..) | Answer::Fault(..));
        if let Some((shared, mark)) = mark
            && called.as_ref().map_or(true, |answers| answers.iter().any(failed))
        {
            lock(shared).go_back(mark);
        }
        if matches!(&called, Ok(answers) if !answers.iter().any(Answer::is_fault)) {
            self.put_back(instance);
        }
        (called, report)
    }

    /// Counts and logs what a call took and wrote that settled so many messages.
    fn account(&self, messages: usize, report: &Report) {
        self.counters.called(report.took);
        self.counters.messages.fetch_add(messages as u64, Relaxed);
        self.counters.log_lines_dropped.fetch_add(report.written.dropped, Relaxed);
        self.counters.add_own(&report.counters, self.engine.limits.counters);
        self.log(report);
    }

    /// An instance that has taken its configuration: an idle one, or a new one.
    fn take(&self) -> Result<Instance, Broken> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(instance) = idle {
            return Ok(instance);
        }
        self.start().map_err(|error| match error {
            StartError::Broken(broken) => broken,
            StartError::Config(problem) => Broken {
                fault: Fault::Start,
                message: format!("it refused the configuration that it accepted before: {problem}"),
            },
        })
    }

    fn put_back(&self, instance: Instance) {
        let limits = &self.engine.limits;
        let crowded = self.engine.guest_bytes.load(Relaxed) > limits.idle_memory_bytes;
        if self.fresh || crowded || instance.calls_left == 0 || instance.is_bloated(limits.memory_bytes) {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.engine.threads {
            idle.push(instance);
        }
    }

    fn start(&self) -> Result<Instance, StartError> {
        let began = Instant::now();
        let started = self.try_start();
        self.counters.started(began.elapsed());
        started
    }

    fn try_start(&self) -> Result<Instance, StartError> {
        let mut instance = Instance::start(&self.engine, &self.plugin, &self.rights, START_DEADLINE)
            .map_err(StartError::Broken)?;
        let about = &self.rights.about;
        let outputs: Vec<&str> = about.outputs.iter().map(String::as_str).collect();
        let stage = lifecycle::Stage { pipeline: &about.pipeline, name: &about.stage, outputs: &outputs };
        let init = instance.init(&self.engine, START_DEADLINE, stage, &about.config);
        init.map_err(StartError::Broken)?.map_err(StartError::Config)?;
        instance.calls_left = rand::random_range(CALLS_BEFORE_RETIREMENT);
        Ok(instance)
    }

    /// A call came back: that is a success, unless one of its answers was out of bounds.
    fn judge(&self, answers: &[Answer]) {
        let broke = answers.iter().find_map(|answer| match answer {
            Answer::Fault(fault, message) => Some(fault.problem(message)),
            _ => None,
        });
        match broke {
            Some(problem) => self.faulted(problem),
            None => {
                if self.breaker.succeeded(Instant::now()) {
                    tracing::info!(pipeline = %self.pipeline, stage = %self.name, "its plugin works again");
                }
                self.batch.held();
            }
        }
    }

    /// The plugin broke, or did not start.
    fn faulted(&self, problem: Problem) {
        let said = problem.to_string();
        if self.breaker.faulted(Instant::now(), problem) {
            let (pipeline, stage) = (&self.pipeline, &self.name);
            tracing::warn!(%pipeline, %stage, last = said, "its plugin breaks; it is left alone for a while");
        }
    }

    fn suspended(&self) -> Answer {
        let last =
            self.breaker.last_problem().map_or_else(String::new, |last| format!("; the last time: {last}"));
        let message = format!("it broke several times and is left alone for a while{last}");
        Answer::Fault(Fault::Open, message)
    }

    fn count(&self, answer: &Answer) {
        let counter = match answer {
            Answer::Keep => &self.counters.passed,
            Answer::Headers(_) | Answer::Emitted(_) => &self.counters.changed,
            Answer::To(_) => &self.counters.routed,
            Answer::Drop => &self.counters.dropped,
            Answer::Reject(_) => &self.counters.rejected,
            Answer::Retry(..) => &self.counters.retried,
            Answer::Fault(fault, _) => return self.counters.faulted(*fault, 1),
        };
        counter.fetch_add(1, Relaxed);
    }

    fn log(&self, report: &Report) {
        let (pipeline, stage) = (&self.pipeline, &self.name);
        for line in &report.written.lines {
            let text = line.text.as_str();
            match line.level {
                Level::Debug => tracing::debug!(target: "wharf::plugin", %pipeline, %stage, "{text}"),
                Level::Info => tracing::info!(target: "wharf::plugin", %pipeline, %stage, "{text}"),
                Level::Warn => tracing::warn!(target: "wharf::plugin", %pipeline, %stage, "{text}"),
                Level::Error => tracing::error!(target: "wharf::plugin", %pipeline, %stage, "{text}"),
            }
        }
        if report.written.dropped > 0 {
            let dropped = report.written.dropped;
            tracing::warn!(target: "wharf::plugin", %pipeline, %stage, dropped, "the plugin wrote too many log lines");
        }
    }
}

fn choose_kind(spec: &StageSpec, plugin: &Plugin) -> Result<Kind, PrepareError> {
    match (spec.kind, plugin.kinds()) {
        (Some(kind), kinds) if kinds.contains(&kind) => Ok(kind),
        (None, [only]) => Ok(*only),
        (asked, kinds) => {
            Err(PrepareError::Kind { stage: spec.name().clone(), asked, kinds: kinds.to_vec() })
        }
    }
}

impl Run {
    fn range(self) -> std::ops::Range<usize> {
        self.first..self.first + self.count
    }

    /// At most so many messages; the others go back to `runs`.
    fn first(self, messages: usize, runs: &mut Vec<Self>) -> Self {
        if self.count <= messages {
            return self;
        }
        runs.push(Self { first: self.first + messages, count: self.count - messages });
        Self { count: messages, ..self }
    }
}

/// Runs of one message each, the last one first.
fn one_by_one(count: usize) -> Vec<Run> {
    (0..count).rev().map(|first| Run { first, count: 1 }).collect()
}

/// Runs within the bounds of a call, the last one first.
fn runs(units: &[Unit]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut bytes = 0;
    for (i, unit) in units.iter().enumerate() {
        let message = &unit.item.message;
        let size = message.payload.len() + message.headers.as_bytes().len();
        match runs.last_mut() {
            Some(run) if run.count < BATCH_MESSAGES_MAX && bytes + size <= BATCH_BYTES_MAX => {
                run.count += 1;
                bytes += size;
            }
            _ => {
                runs.push(Run { first: i, count: 1 });
                bytes = size;
            }
        }
    }
    runs.reverse();
    runs
}
