//! Pipelines in use: each name has a slot, and each slot the version that messages pass now.
//!
//! A swap is atomic at a place in the log. Who runs a pipeline holds its slot for reading until the outcome
//! has its place in the order of the log; who swaps waits for them, writes the record that activates the new
//! version, and only then lets the next ones in. So every message stored before that record passed the old
//! version, and every later one the new.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch::Sender;
use tokio::sync::{Mutex, MutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use wharf_pipeline::{
    Circumstances, CpuUse, Engine, Item, Pipeline, PipelineSpec, Processed, StageStats, Step, Traced,
};
use wharf_protocol::{Name, Timestamp};
use wharf_queue::{Change, Topology};

use crate::components::Components;
use crate::lent;
use crate::plugins::{check_signers, pin};
use crate::view::{PipelineVersionView, PipelineView};
use crate::{Action, Node, NodeError, Principal};

mod candidate;
mod replay;
mod trial;
mod turn;
mod versions;
mod watch;

pub use candidate::Candidate;
pub use replay::{Replay, ReplayReport, ReplaySource};
pub use trial::{TrialSpec, TrialView};
pub(crate) use trial::{Trials, Tried};

use trial::TrialRun;

/// The version of a pipeline that messages pass now.
pub(crate) enum Active {
    /// It runs; another may be on trial beside it.
    Ready { number: u32, pipeline: Arc<Pipeline>, trial: Option<Arc<TrialRun>> },
    /// It could not be prepared; messages that would pass it are refused with this reason.
    Broken { reason: String },
}

/// What a pipeline made of messages, each by one version.
pub(crate) struct Run {
    /// An answer for each message, in order.
    pub(crate) processed: Vec<Processed>,
    /// The version in use.
    number: u32,
    /// What a canary made of its share of them; `None`: it had none.
    canary: Option<Tried>,
}

/// What is told of one traced message: its steps, and what they hung on.
pub(crate) struct Told {
    pub(crate) steps: Vec<Step>,
    pub(crate) circumstances: Circumstances,
}

type Slot = Arc<RwLock<Active>>;

/// A pipeline held at one version until this is dropped.
pub(crate) type Entered = OwnedRwLockReadGuard<Active>;

/// Every pipeline in use, by name.
#[derive(Default)]
pub(crate) struct Pipelines {
    slots: ArcSwap<BTreeMap<Name, Slot>>,
    /// One change at a time: what a change was checked against still holds when it is made.
    changing: Mutex<()>,
    /// What runs beside the versions in use.
    pub(crate) trials: Trials,
    /// How many wait for a pipeline to be empty.
    swapping: Sender<usize>,
}

impl Pipelines {
    /// Prepares the active version of every pipeline that the log knows. One that cannot be prepared is
    /// kept as broken, so that nothing passes unprocessed.
    pub(crate) async fn open(
        &self,
        engine: &Engine,
        components: &Arc<Components>,
        topology: &Topology,
    ) -> Result<(), NodeError> {
        let mut slots = BTreeMap::new();
        for (name, pipeline) in topology.pipelines() {
            let number = pipeline.active;
            let spec = parse(name, &pipeline.active_version().spec)?;
            let active = match prepare(engine, components, topology, &spec).await {
                Ok(pipeline) => Active::Ready { number, pipeline, trial: None },
                Err(error) => {
                    tracing::error!(%name, number, %error, "a pipeline does not run");
                    Active::Broken { reason: error.to_string() }
                }
            };
            slots.insert(name.clone(), Arc::new(RwLock::new(active)));
        }
        self.slots.store(Arc::new(slots));
        Ok(())
    }

    /// Holds pipeline `name` at the version in use; waits while it is being swapped. `None`: it is gone.
    pub(crate) async fn enter(&self, name: &Name) -> Option<Entered> {
        let slot = self.slots.load().get(name).cloned()?;
        Some(slot.read_owned().await)
    }

    /// Keeps every pipeline as it is while the guard lives.
    pub(crate) async fn hold_changes(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// Keeps everybody out of pipeline `name`, which is made if there is none.
    async fn lock(&self, name: &Name) -> (OwnedRwLockWriteGuard<Active>, bool) {
        let _announced = turn::Announced::new(&self.swapping);
        if let Some(slot) = self.slots.load().get(name) {
            return (Arc::clone(slot).write_owned().await, false);
        }
        let active = Active::Broken { reason: format!("pipeline {name} is being made") };
        let slot = Arc::new(RwLock::new(active));
        let guard = Arc::clone(&slot).write_owned().await;
        let mut slots = BTreeMap::clone(&self.slots.load());
        slots.insert(name.clone(), slot);
        self.slots.store(Arc::new(slots));
        (guard, true)
    }

    fn forget(&self, name: &Name) {
        let mut slots = BTreeMap::clone(&self.slots.load());
        slots.remove(name);
        self.slots.store(Arc::new(slots));
    }

    /// Every trial that is under way.
    pub(crate) async fn trial_views(&self) -> Vec<(Name, TrialView)> {
        let mut views = Vec::new();
        let slots = self.slots.load_full();
        for (name, slot) in slots.iter() {
            views.extend(slot.read().await.trial().map(|trial| (name.clone(), trial.view())));
        }
        views
    }

    /// What every pipeline has done and taken.
    pub(crate) async fn accounts(&self) -> BTreeMap<Name, Account> {
        let mut accounts = BTreeMap::new();
        let slots = self.slots.load_full();
        for (name, slot) in slots.iter() {
            accounts.insert(name.clone(), slot.read().await.account());
        }
        accounts
    }
}

/// What one pipeline has done and taken.
pub(crate) struct Account {
    pub(crate) stages: Vec<StageStats>,
    pub(crate) cpu: CpuUse,
    /// It does not run.
    pub(crate) is_broken: bool,
}

impl Active {
    /// Whether what it does hangs on what it remembers.
    pub(crate) fn remembers(&self) -> bool {
        matches!(self, Self::Ready { pipeline, .. } if pipeline.remembers())
    }

    /// Runs messages through it.
    ///
    /// # Errors
    /// Why it does not run.
    pub(crate) async fn run(&self, items: Vec<Item>, now: Timestamp) -> Result<Run, String> {
        match self {
            Self::Ready { number, pipeline, trial: None } => {
                Ok(Run::of(*number, pipeline.run(items, now).await))
            }
            Self::Ready { number, pipeline, trial: Some(trial) } => {
                Ok(trial.run(*number, pipeline, items, now).await)
            }
            Self::Broken { reason, .. } => Err(reason.clone()),
        }
    }

    /// Runs one message through it, and tells what each stage was given, said and changed.
    ///
    /// # Errors
    /// Why it does not run.
    pub(crate) async fn trace(&self, item: Item, now: Timestamp) -> Result<(Run, Told), String> {
        let (number, canary, traced) = match self {
            Self::Ready { number, pipeline, trial: None } => (*number, None, pipeline.trace(item, now).await),
            Self::Ready { number, pipeline, trial: Some(trial) } => {
                let (traced, canary) = trial.trace(pipeline, item, now).await;
                (*number, canary, traced)
            }
            Self::Broken { reason, .. } => return Err(reason.clone()),
        };
        let Traced { processed, steps, circumstances } = traced;
        Ok((Run { processed: vec![processed], number, canary }, Told { steps, circumstances }))
    }

    /// The share of its messages that is traced, where it names one.
    pub(crate) fn trace_sample(&self) -> Option<f64> {
        match self {
            Self::Ready { pipeline, .. } => pipeline.spec().trace_sample,
            Self::Broken { .. } => None,
        }
    }

    /// Puts a trial beside the version in use, or takes it away.
    fn set_trial(&mut self, next: Option<Arc<TrialRun>>) {
        if let Self::Ready { trial, .. } = self {
            *trial = next;
        }
    }

    fn trial(&self) -> Option<&Arc<TrialRun>> {
        match self {
            Self::Ready { trial, .. } => trial.as_ref(),
            Self::Broken { .. } => None,
        }
    }

    fn account(&self) -> Account {
        match self {
            Self::Ready { pipeline, .. } => {
                Account { stages: pipeline.stats(), cpu: pipeline.cpu(), is_broken: false }
            }
            Self::Broken { .. } => Account { stages: Vec::new(), cpu: CpuUse::default(), is_broken: true },
        }
    }
}

impl Run {
    /// All by the version in use.
    pub(crate) fn of(number: u32, processed: Vec<Processed>) -> Self {
        Self { processed, number, canary: None }
    }

    /// Adds what became of the messages after these, in the same pipeline held all the while.
    pub(crate) fn extend(&mut self, next: Self) {
        let (had, more) = (self.processed.len(), next.processed.len());
        self.processed.extend(next.processed);
        match (&mut self.canary, next.canary) {
            (Some(tried), Some(next)) => tried.extend(next),
            (Some(tried), None) => tried.pass_over(more),
            (None, Some(mut next)) => {
                next.come_behind(had);
                self.canary = Some(next);
            }
            (None, None) => {}
        }
        self.number = next.number;
    }

    /// The number of the version that processed message `i`.
    pub(crate) fn number(&self, i: usize) -> u32 {
        self.canary.as_ref().and_then(|tried| tried.number(i)).unwrap_or(self.number)
    }

    /// What a canary made of its share, for who knows later what became of that.
    pub(crate) fn into_tried(self) -> Option<Tried> {
        self.canary
    }

    /// What was made of message `i` may not go on: an error of the version that made it, where that is a canary.
    pub(crate) fn refused(&mut self, i: usize) {
        if let Some(tried) = &mut self.canary {
            tried.refused(i);
        }
    }
}

impl Node {
    /// Makes `spec`, the text of a pipeline file in TOML or JSON, the next version of pipeline `name`, and
    /// swaps it in. Plugins without a version are pinned to the one uploaded last.
    ///
    /// # Errors
    /// What is wrong with the file, a plugin or its configuration; not allowed.
    pub async fn apply_pipeline(
        &self,
        who: &Principal,
        name: Name,
        spec: &str,
        note: Option<String>,
    ) -> Result<PipelineView, NodeError> {
        who.check(Action::Administer)?;
        let _changing = self.pipelines_in_use().changing.lock().await;
        let topology = self.shard().topology().clone();
        let (spec, pipeline) = self.candidate(&topology, &name, spec).await?;
        let change = Change::ApplyPipeline {
            name: name.clone(),
            spec: write(&spec)?.into(),
            ingress: spec.ingress.clone(),
            by: who.name().to_owned(),
            note: note.unwrap_or_default(),
            delivery: spec.delivery.clone(),
        };
        self.swap(&name, change, pipeline).await?;
        self.pipeline(who, &name).await
    }

    /// Removes a pipeline that no binding names. Messages of its ingress pattern pass unprocessed from then on.
    ///
    /// # Errors
    /// No such pipeline; a binding names it; not allowed.
    pub async fn remove_pipeline(&self, who: &Principal, name: &Name) -> Result<(), NodeError> {
        who.check(Action::Administer)?;
        let _changing = self.pipelines_in_use().changing.lock().await;
        if self.shard().topology().pipeline(name.as_str()).is_none() {
            return Err(missing(name));
        }
        let (_kept_out, _) = self.pipelines_in_use().lock(name).await;
        self.shard().change(Change::RemovePipeline { name: name.clone() }).await?;
        self.pipelines_in_use().forget(name);
        Ok(())
    }

    /// Every pipeline.
    ///
    /// # Errors
    /// Not allowed.
    pub async fn pipelines(&self, who: &Principal) -> Result<Vec<PipelineView>, NodeError> {
        who.check(Action::Administer)?;
        let topology = self.shard().topology().clone();
        let mut views = Vec::new();
        for (name, _) in topology.pipelines() {
            views.push(self.pipeline(who, name).await?);
        }
        Ok(views)
    }

    /// One pipeline.
    ///
    /// # Errors
    /// No such pipeline; not allowed.
    pub async fn pipeline(&self, who: &Principal, name: &Name) -> Result<PipelineView, NodeError> {
        who.check(Action::Administer)?;
        let topology = self.shard().topology().clone();
        let known = topology.pipeline(name.as_str()).ok_or_else(|| missing(name))?;
        let entered = self.pipelines_in_use().enter(name).await.ok_or_else(|| missing(name))?;
        let account = entered.account();
        let version = known.active_version();
        let versions = known.versions.iter().map(|(number, version)| PipelineVersionView {
            number: *number,
            at: version.at,
            by: version.by.clone(),
            note: version.note.clone(),
        });
        let bound = topology.bindings().iter().filter(|binding| binding.pipeline.as_ref() == Some(name));
        Ok(PipelineView {
            name: name.clone(),
            number: known.active,
            ingress: version.ingress.clone(),
            delivery: version.delivery.clone(),
            versions: versions.collect(),
            bound_to: bound.map(|binding| binding.queue.clone()).collect(),
            spec: version.spec.to_string(),
            stages: account.stages,
            cpu: account.cpu,
            trial: entered.trial().map(|trial| trial.view()),
            broken: match &*entered {
                Active::Ready { .. } => None,
                Active::Broken { reason, .. } => Some(reason.clone()),
            },
        })
    }

    /// Reads `text` as a version of pipeline `name`, pins its plugins, and makes it ready to run.
    async fn candidate(
        &self,
        topology: &Topology,
        name: &Name,
        text: &str,
    ) -> Result<(PipelineSpec, Arc<Pipeline>), NodeError> {
        let mut spec = parse(name, text)?;
        if spec.name != *name {
            return Err(NodeError::Invalid(format!("the file describes pipeline {}, not {name}", spec.name)));
        }
        for stage in &mut spec.stages {
            stage.plugin = pin(topology, &stage.plugin)?.0;
        }
        lent::check_grants(self.engine().library(), &self.config().data, topology, &spec)?;
        let pipeline = prepare(self.engine(), self.components(), topology, &spec).await?;
        if !spec.delivery.is_empty() && pipeline.remembers() {
            return Err(NodeError::Invalid(format!(
                "pipeline {name} sits on delivery, where nothing is remembered: remove the grant \"kv\", or delivery"
            )));
        }
        Ok((spec, pipeline))
    }

    /// Waits until nobody is in the pipeline, writes `change`, and lets the next ones into `next`.
    async fn swap(&self, name: &Name, change: Change, next: Arc<Pipeline>) -> Result<(), NodeError> {
        let in_use = self.pipelines_in_use();
        let (mut active, is_new) = in_use.lock(name).await;
        if let Err(error) = self.shard().change(change).await {
            if is_new {
                in_use.forget(name);
            }
            return Err(error.into());
        }
        let topology = self.shard().topology().clone();
        let known = topology.pipeline(name.as_str());
        // Putting the version in use to use again leaves its trial as it is.
        let going_on = known.and_then(|known| known.trial.as_ref()).map(|trial| trial.index);
        let trial = active.trial().filter(|trial| Some(trial.index()) == going_on).cloned();
        let number = known.map_or(0, |known| known.active);
        *active = Active::Ready { number, pipeline: next, trial };
        Ok(())
    }
}

/// The pipeline that `text` describes, as TOML or, when it begins like it, JSON.
fn parse(name: &Name, text: &str) -> Result<PipelineSpec, NodeError> {
    let spec = match text.trim_start().starts_with('{') {
        true => PipelineSpec::from_json(text.as_bytes()),
        false => PipelineSpec::from_toml(text),
    };
    spec.map_err(|error| NodeError::Invalid(format!("pipeline {name}: {error}")))
}

fn write(spec: &PipelineSpec) -> Result<String, NodeError> {
    toml::to_string(spec)
        .map_err(|error| NodeError::Invalid(format!("the pipeline cannot be written: {error}")))
}

/// Makes `spec` ready to run. Every way to a running pipeline leads through here: the start of the node, a new
/// version, an old one that is put to use again, a trial.
async fn prepare(
    engine: &Engine,
    components: &Arc<Components>,
    topology: &Topology,
    spec: &PipelineSpec,
) -> Result<Arc<Pipeline>, NodeError> {
    check_signers(components, topology, spec)?;
    let mut plugins = Vec::with_capacity(spec.stages.len());
    for stage in &spec.stages {
        let (_, digest) = pin(topology, &stage.plugin)?;
        plugins.push(components.get(engine, &digest).await?);
    }
    let (engine, spec) = (engine.clone(), spec.clone());
    let prepared = tokio::task::spawn_blocking(move || engine.prepare(spec, plugins)).await;
    match prepared {
        Ok(pipeline) => pipeline.map_err(|error| NodeError::Invalid(crate::error::chain(&error))),
        Err(error) => Err(NodeError::Invalid(format!("preparing the pipeline failed: {error}"))),
    }
}

fn missing(name: &Name) -> NodeError {
    NodeError::NotFound { kind: "pipeline", name: name.to_string() }
}

impl fmt::Debug for Pipelines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.slots.load().keys()).finish()
    }
}
