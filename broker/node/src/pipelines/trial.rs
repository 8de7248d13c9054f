//! A version on trial beside the one in use: shown copies as a shadow, or at work on a share as a canary.
//!
//! ```text
//!            ┌ live ──────────────────────▶ outcome, as always
//! messages ──┤        copies, with it ─▶ ▒▒▒▒ ─▶ candidate ─▶ compared                          shadow
//!
//!            ┌ live ──────────────────────▶ outcome
//! messages ──┤
//!            └ candidate, a share of keys ▶ outcome      copies, with it ─▶ ▒▒▒▒ ─▶ live ─▶ compared   canary
//! ```
//!
//! A message passes one version: the slot of the pipeline holds both, and who is in it chooses by the message's key
//! alone. The copies wait in a bounded room (▒); what finds none is counted as skipped, and the message itself never
//! waits. A task for each trial takes them, one thread of the plugins at a time among all trials, runs the other side
//! on them, and ends the trial when its [`Watch`](super::watch::Watch) says so. A canary that passed a bound gets no message more from that
//! moment on, before the log has it.
//!
//! That a trial is under way is in the log; what it has seen is not: after a restart it goes on and counts anew.

mod run;
mod seen;
mod task;
mod tried;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::task::JoinSet;
use wharf_pipeline::Pipeline;
use wharf_pipeline::compare::{Comparison, Times};
use wharf_protocol::Name;
use wharf_queue::{Change, PipelineEventKind, Topology, Trial, TrialKind};

use self::seen::Seen;
use self::task::Task;
use super::watch::Conclusion;
use super::{Active, missing};
use crate::view::PipelineView;
use crate::{Action, Node, NodeError, Principal};

pub(crate) use self::run::TrialRun;
pub(crate) use self::tried::Tried;

/// How many copies wait for a trial.
const COPIES_MAX: usize = 1_024;
/// How many trials and replays run plugins at a moment, each on one thread.
const AT_ONCE: usize = 1;
/// In whose name the broker ends trials and promotes canaries.
const BROKER: &str = "wharf";

/// What is to be tried, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialSpec {
    /// The version.
    pub number: u32,
    /// Its share of the messages, in millionths.
    pub share_ppm: u32,
    /// As what.
    pub kind: TrialKind,
}

/// A trial as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialView {
    /// What the log says of it.
    pub trial: Trial,
    /// Messages that the version processed for good; 0 of a shadow.
    pub processed: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// How long messages waited for the version that it processed for good, each for its whole batch.
    pub times: Times,
    /// Copies for which there was no room.
    pub skipped: u64,
    /// What was compared; the times are those of the version in use and of the one on trial.
    pub comparison: Comparison,
}

/// What the trials of a node share.
#[derive(Debug)]
pub(crate) struct Trials {
    turns: Semaphore,
    tasks: Mutex<JoinSet<()>>,
}

impl Default for Trials {
    fn default() -> Self {
        Self { turns: Semaphore::new(AT_ONCE), tasks: Mutex::default() }
    }
}

impl Trials {
    /// The right to run plugins now.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Ends every task.
    pub(crate) async fn stop(&self) {
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        tasks.shutdown().await;
    }
}

impl Node {
    /// Begins to try a version of a pipeline on live messages: as a shadow, or as a canary.
    ///
    /// # Errors
    /// No such pipeline or version; it is the one in use; another is on trial; it does not run; not allowed.
    pub async fn begin_trial(
        &self,
        who: &Principal,
        name: &Name,
        spec: TrialSpec,
        note: Option<String>,
    ) -> Result<PipelineView, NodeError> {
        who.check(Action::Administer)?;
        let _changing = self.pipelines_in_use().changing.lock().await;
        let topology = self.shard().topology().clone();
        let known = topology.pipeline(name.as_str()).ok_or_else(|| missing(name))?;
        let points = |number: u32| {
            known.versions.get(&number).map(|version| (version.ingress.as_ref(), version.delivery.as_slice()))
        };
        if points(spec.number).is_some_and(|those| Some(those) != points(known.active)) {
            return Err(NodeError::Conflict(format!(
                "version {} of pipeline {name} sits at other topics or queues than the version in use: both are to \
                 see the same messages",
                spec.number
            )));
        }
        let sides = self.sides(&topology, name, spec.number, spec.kind).await?;
        let TrialSpec { number, share_ppm, kind } = spec;
        let (by, note) = (who.name().to_owned(), note.unwrap_or_default());
        let change = Change::BeginTrial { name: name.clone(), number, share_ppm, kind, by, note };
        {
            let (mut active, _) = self.pipelines_in_use().lock(name).await;
            if let Active::Broken { reason, .. } = &*active {
                return Err(NodeError::Conflict(format!("the version in use does not run: {reason}")));
            }
            self.shard().change(change).await?;
            let topology = self.shard().topology().clone();
            if let Some(trial) = topology.pipeline(name.as_str()).and_then(|known| known.trial.clone()) {
                active.set_trial(Some(self.start_trial(name, trial, sides)));
            }
        }
        self.pipeline(who, name).await
    }

    /// Ends a pipeline's trial: all its messages pass the version in use again. What it has seen.
    ///
    /// # Errors
    /// No such pipeline; none of its versions is on trial; not allowed.
    pub async fn end_trial(
        &self,
        who: &Principal,
        name: &Name,
        note: Option<String>,
    ) -> Result<TrialView, NodeError> {
        who.check(Action::Administer)?;
        let _changing = self.pipelines_in_use().changing.lock().await;
        let view = self.pipeline(who, name).await?.trial;
        let none = || NodeError::Conflict(format!("no version of pipeline {name} is on trial"));
        let view = view.ok_or_else(none)?;
        self.finish_trial(name, who.name().to_owned(), note.unwrap_or_default()).await?;
        Ok(view)
    }

    /// Goes on with the trials that were under way when the broker stopped.
    pub(crate) async fn resume_trials(&self) -> Result<(), NodeError> {
        let topology = self.shard().topology().clone();
        for (name, known) in topology.pipelines() {
            let Some(trial) = known.trial.clone() else { continue };
            match self.sides(&topology, name, trial.number, trial.kind).await {
                Ok(sides) => {
                    let (mut active, _) = self.pipelines_in_use().lock(name).await;
                    active.set_trial(Some(self.start_trial(name, trial, sides)));
                }
                Err(error) => {
                    tracing::error!(pipeline = %name, number = trial.number, %error, "a trial does not go on");
                    self.finish_trial(name, BROKER.into(), format!("it does not run: {error}")).await?;
                }
            }
        }
        Ok(())
    }

    /// The candidate, and the side that the copies are run through.
    async fn sides(
        &self,
        topology: &Topology,
        name: &Name,
        number: u32,
        kind: TrialKind,
    ) -> Result<[Arc<Pipeline>; 2], NodeError> {
        let candidate = self.prepare_version(self.engine(), topology, name, number).await?;
        let other = match kind {
            TrialKind::Shadow => Arc::clone(&candidate),
            // Apart from the one at work: copies are not in its statistics, and break none of its breakers.
            TrialKind::Canary(_) => {
                let active = topology.pipeline(name.as_str()).ok_or_else(|| missing(name))?.active;
                self.prepare_version(self.engine(), topology, name, active).await?
            }
        };
        if matches!(kind, TrialKind::Canary(_)) && (candidate.remembers() || other.remembers()) {
            return Err(NodeError::Conflict(format!(
                "pipeline {name} remembers (grant \"kv\"), and a canary would change what the version in use reads; \
                 shadow it, then activate it"
            )));
        }
        Ok([candidate, other])
    }

    fn start_trial(&self, name: &Name, trial: Trial, sides: [Arc<Pipeline>; 2]) -> Arc<TrialRun> {
        let [candidate, other] = sides;
        let (copies, waiting) = mpsc::channel(COPIES_MAX);
        let seen = Arc::new(Seen::new(trial.kind));
        let (node, name) = (self.downgrade(), name.clone());
        let run = TrialRun::new(&name, trial.clone(), candidate, copies, Arc::clone(&seen));
        self.pipelines_in_use().trials.spawn(Task { node, name, trial, other, seen }.run(waiting));
        Arc::new(run)
    }

    /// Writes that a trial ended, and takes it out of the slot.
    async fn finish_trial(&self, name: &Name, by: String, note: String) -> Result<(), NodeError> {
        let (mut active, _) = self.pipelines_in_use().lock(name).await;
        self.shard().change(Change::EndTrial { name: name.clone(), by, note }).await?;
        active.set_trial(None);
        Ok(())
    }

    /// Does what a trial's watch has come to, unless that trial is over.
    async fn conclude(&self, name: &Name, begun: &Trial, conclusion: Conclusion) -> Result<(), NodeError> {
        let _changing = self.pipelines_in_use().changing.lock().await;
        let topology = self.shard().topology().clone();
        let known = topology.pipeline(name.as_str()).and_then(|known| known.trial.as_ref());
        if known.is_none_or(|trial| trial.index != begun.index) {
            return Ok(());
        }
        match conclusion {
            Conclusion::RollBack(reason) => {
                tracing::warn!(pipeline = %name, number = begun.number, reason, "a canary is rolled back");
                self.finish_trial(name, BROKER.into(), format!("rolled back: {reason}")).await
            }
            Conclusion::Promote(reason) => {
                tracing::info!(pipeline = %name, number = begun.number, reason, "a canary is promoted");
                self.put_to_use(name, begun.number, PipelineEventKind::Promoted, BROKER.into(), reason).await
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
