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
//! on them, and ends the trial when its [`Watch`] says so. A canary that passed a bound gets no message more from that
//! moment on, before the log has it.
//!
//! That a trial is under way is in the log; what it has seen is not: after a restart it goes on and counts anew.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc};
use tokio::task::JoinSet;
use wharf_pipeline::compare::{Comparison, Ran, Times};
use wharf_pipeline::{Item, Pipeline, Processed, Traced};
use wharf_protocol::{Message, Name, Timestamp};
use wharf_queue::{Change, PipelineEventKind, Topology, Trial, TrialKind};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::replay::shares;
use super::watch::{Conclusion, Watch};
use super::{Active, Run, missing};
use crate::node::WeakNode;
use crate::view::PipelineView;
use crate::{Action, Node, NodeError, Principal};

/// How many copies wait for a trial.
const COPIES_MAX: usize = 1_024;
/// How many bytes of messages, and of what they became, wait for a trial.
const COPIES_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How many copies run together.
const BATCH: usize = 32;
/// How many examples are kept of each class of differences.
const EXAMPLES: usize = 3;
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
    /// How long the version took for a message that it processed for good.
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

/// A trial at work, in the slot of its pipeline.
pub(crate) struct TrialRun {
    trial: Trial,
    candidate: Arc<Pipeline>,
    /// The copies' way to the task, which ends when this is dropped.
    copies: mpsc::Sender<Copied>,
    seen: Arc<Seen>,
    seed: u64,
}

/// A message, what one version made of it, and how long that took.
struct Copied {
    item: Item,
    ran: Ran,
    now: Timestamp,
    bytes: usize,
}

/// What a trial has seen so far.
#[derive(Debug)]
struct Seen {
    counts: Mutex<Counts>,
    /// It gets no message more.
    closed: AtomicBool,
    /// Its watch has come to a conclusion.
    concluded: Notify,
    skipped: AtomicU64,
    bytes_waiting: AtomicUsize,
}

#[derive(Debug)]
struct Counts {
    watch: Option<Watch>,
    processed: u64,
    failed: u64,
    times: Times,
    comparison: Comparison,
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

impl TrialRun {
    /// Runs messages through the version in use and, as far as the trial says so, the candidate.
    pub(super) async fn run(&self, number: u32, live: &Pipeline, items: Vec<Item>, now: Timestamp) -> Run {
        if self.is_closed() {
            return Run::of(number, live.run(items, now).await);
        }
        let chosen: Vec<bool> = items.iter().map(|item| self.chooses(&item.message)).collect();
        if !chosen.contains(&true) {
            return Run::of(number, live.run(items, now).await);
        }
        match self.trial.kind {
            TrialKind::Shadow => {
                let copies = items.iter().zip(&chosen).map(|(item, chosen)| chosen.then(|| item.clone()));
                let copies = copies.collect();
                let (processed, took) = live.run_timed(items, now).await;
                self.show_all(copies, &processed, took, now);
                Run::of(number, processed)
            }
            TrialKind::Canary(_) => self.share(number, live, items, chosen, now).await,
        }
    }

    /// As [`run`](Self::run) with one message, with an account of each stage; and by which version.
    pub(super) async fn trace(
        &self,
        number: u32,
        live: &Pipeline,
        item: Item,
        now: Timestamp,
    ) -> (u32, Traced) {
        if self.is_closed() || !self.chooses(&item.message) {
            return (number, live.trace(item, now).await);
        }
        let (copy, began) = (item.clone(), Instant::now());
        let (by, traced) = match self.trial.kind {
            TrialKind::Shadow => (number, live.trace(item, now).await),
            TrialKind::Canary(_) => (self.trial.number, self.candidate.trace(item, now).await),
        };
        let ran = Ran { processed: traced.processed.clone(), took: began.elapsed() };
        if by != number {
            self.seen.processed(std::slice::from_ref(&ran));
        }
        self.show(copy, ran, now);
        (by, traced)
    }

    /// Gives the chosen messages to the candidate and the others to the version in use.
    async fn share(
        &self,
        number: u32,
        live: &Pipeline,
        items: Vec<Item>,
        chosen: Vec<bool>,
        now: Timestamp,
    ) -> Run {
        let (mut to_live, mut to_candidate) = (Vec::new(), Vec::new());
        for (item, chosen) in items.into_iter().zip(&chosen) {
            if *chosen { to_candidate.push(item) } else { to_live.push(item) }
        }
        let copies = to_candidate.clone();
        let live = async {
            match to_live.is_empty() {
                true => Vec::new(),
                false => live.run(to_live, now).await,
            }
        };
        let (live, candidate) = tokio::join!(live, self.candidate.run_timed(to_candidate, now));
        let candidate: Vec<Ran> = shares(candidate).collect();
        self.seen.processed(&candidate);
        for (item, ran) in copies.into_iter().zip(&candidate) {
            self.show(item, ran.clone(), now);
        }
        let (mut live, mut candidate) = (live.into_iter(), candidate.into_iter().map(|ran| ran.processed));
        let next = |chosen: &bool| if *chosen { candidate.next() } else { live.next() };
        let processed = chosen.iter().map(next).map(|each| each.expect("each message got its answer"));
        Run { processed: processed.collect(), number, canary: Some((self.trial.number, chosen)) }
    }

    /// A copy of each message that a shadow is to be shown. A canary has none of these.
    pub(crate) fn copies(&self, items: &[Item]) -> Vec<Option<Item>> {
        let shown = |item: &Item| (!self.is_closed() && self.chooses(&item.message)).then(|| item.clone());
        items.iter().map(shown).collect()
    }

    /// Lays copies where the task finds them, with what the version in use made of them in `took` altogether.
    pub(crate) fn show_all(
        &self,
        copies: Vec<Option<Item>>,
        processed: &[Processed],
        took: Duration,
        now: Timestamp,
    ) {
        let took = took / u32::try_from(processed.len().max(1)).unwrap_or(u32::MAX);
        for (item, processed) in copies.into_iter().zip(processed) {
            let Some(item) = item else { continue };
            self.show(item, Ran { processed: processed.clone(), took }, now);
        }
    }

    fn is_closed(&self) -> bool {
        self.seen.closed.load(Relaxed)
    }

    /// Whether a message is of the trial's share: all of a key are, or none.
    fn chooses(&self, message: &Message) -> bool {
        let id = message.message_id.as_ref().map(|id| id.as_bytes().as_ref());
        let by = message.key.as_deref().or(id).unwrap_or(&message.payload);
        let place = xxh3_64_with_seed(by, self.seed) % u64::from(wharf_queue::SHARE_WHOLE_PPM);
        place < u64::from(self.trial.share_ppm)
    }

    /// Lays a copy where the task finds it, if there is room.
    fn show(&self, item: Item, ran: Ran, now: Timestamp) {
        let bytes = item.message.encoded_bytes() + bytes_of(&ran.processed);
        let waiting = self.seen.bytes_waiting.fetch_add(bytes, Relaxed);
        let fits = waiting + bytes <= COPIES_BYTES_MAX;
        if fits && self.copies.try_send(Copied { item, ran, now, bytes }).is_ok() {
            return;
        }
        self.seen.bytes_waiting.fetch_sub(bytes, Relaxed);
        self.seen.skipped();
    }

    pub(super) fn index(&self) -> u64 {
        self.trial.index
    }

    pub(super) fn view(&self) -> TrialView {
        let counts = lock(&self.seen.counts);
        TrialView {
            trial: self.trial.clone(),
            processed: counts.processed,
            failed: counts.failed,
            times: counts.times.clone(),
            skipped: self.seen.skipped.load(Relaxed),
            comparison: counts.comparison.clone(),
        }
    }
}

impl Seen {
    fn new(kind: TrialKind) -> Self {
        let watch = match kind {
            TrialKind::Shadow => None,
            TrialKind::Canary(bounds) => Some(Watch::new(bounds)),
        };
        let (times, comparison) = (Times::default(), Comparison::default());
        Self {
            counts: Mutex::new(Counts { watch, processed: 0, failed: 0, times, comparison }),
            closed: AtomicBool::new(false),
            concluded: Notify::new(),
            skipped: AtomicU64::new(0),
            bytes_waiting: AtomicUsize::new(0),
        }
    }

    /// The canary processed these.
    fn processed(&self, batch: &[Ran]) {
        let mut counts = lock(&self.counts);
        for Ran { processed, took } in batch {
            let failed = matches!(processed, Processed::Failed(_));
            counts.processed += 1;
            counts.failed += u64::from(failed);
            counts.times.add(*took);
            if let Some(watch) = &mut counts.watch {
                watch.processed(failed, *took);
            }
        }
        self.judge(&counts);
    }

    fn skipped(&self) {
        self.skipped.fetch_add(1, Relaxed);
        let mut counts = lock(&self.counts);
        if let Some(watch) = &mut counts.watch {
            watch.skipped();
        }
        self.judge(&counts);
    }

    fn compared(&self, kind: TrialKind, copy: &Copied, other: &Ran) {
        let name = || told(&copy.item.message);
        let mut counts = lock(&self.counts);
        let differs = match kind {
            TrialKind::Shadow => counts.comparison.add(name, &copy.ran, other, EXAMPLES),
            TrialKind::Canary(_) => counts.comparison.add(name, other, &copy.ran, EXAMPLES),
        };
        if let Some(watch) = &mut counts.watch {
            watch.compared(differs);
        }
        self.judge(&counts);
    }

    /// Closes the trial to further messages when its watch has seen enough.
    fn judge(&self, counts: &Counts) {
        let conclusion = counts.watch.as_ref().and_then(Watch::conclusion);
        if let Some(conclusion) = conclusion {
            // A canary that is about to be promoted goes on meanwhile.
            if matches!(conclusion, Conclusion::RollBack(_)) {
                self.closed.store(true, Relaxed);
            }
            self.concluded.notify_one();
        }
    }

    fn conclusion(&self) -> Option<Conclusion> {
        lock(&self.counts).watch.as_ref().and_then(Watch::conclusion)
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
        let candidate = self.prepare_version(topology, name, number).await?;
        let other = match kind {
            TrialKind::Shadow => Arc::clone(&candidate),
            // Apart from the one at work: copies are not in its statistics, and break none of its breakers.
            TrialKind::Canary(_) => {
                let active = topology.pipeline(name.as_str()).ok_or_else(|| missing(name))?.active;
                self.prepare_version(topology, name, active).await?
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
        let task = Task {
            node: self.downgrade(),
            name: name.clone(),
            trial: trial.clone(),
            other,
            seen: Arc::clone(&seen),
        };
        self.pipelines_in_use().trials.spawn(task.run(waiting));
        let seed = xxh3_64_with_seed(name.as_str().as_bytes(), trial.index);
        Arc::new(TrialRun { trial, candidate, copies, seen, seed })
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

/// What runs the other side on the copies of a trial.
struct Task {
    node: WeakNode,
    name: Name,
    trial: Trial,
    other: Arc<Pipeline>,
    seen: Arc<Seen>,
}

impl Task {
    async fn run(self, mut copies: mpsc::Receiver<Copied>) {
        loop {
            let mut batch = Vec::new();
            let came = tokio::select! {
                came = copies.recv_many(&mut batch, BATCH) => Some(came),
                () = self.seen.concluded.notified() => None,
            };
            if came == Some(0) {
                return;
            }
            if !batch.is_empty() {
                self.compare(batch).await;
            }
            let Some(conclusion) = self.seen.conclusion() else { continue };
            let Some(node) = self.node.upgrade() else { return };
            if let Err(error) = node.conclude(&self.name, &self.trial, conclusion).await {
                tracing::error!(pipeline = %self.name, %error, "a trial could not be ended");
            }
            return;
        }
    }

    async fn compare(&self, batch: Vec<Copied>) {
        let now = batch[0].now;
        let items = batch.iter().map(|copy| copy.item.clone()).collect();
        let Some(node) = self.node.upgrade() else { return };
        let others = {
            let _turn = node.pipelines_in_use().trials.turn().await;
            self.other.run_timed(items, now).await
        };
        for (copy, other) in batch.iter().zip(shares(others)) {
            self.seen.bytes_waiting.fetch_sub(copy.bytes, Relaxed);
            self.seen.compared(self.trial.kind, copy, &other);
        }
    }
}

/// By what an example of a trial is known: it has no place in the log yet.
fn told(message: &Message) -> String {
    let topic = &message.topic;
    match (&message.message_id, &message.key) {
        (Some(id), _) => format!("{topic} {id}"),
        (None, Some(key)) => format!("{topic} key {}", String::from_utf8_lossy(key)),
        (None, None) => topic.to_string(),
    }
}

fn bytes_of(processed: &Processed) -> usize {
    match processed {
        Processed::Passed(outputs) => outputs.iter().map(|output| output.message.encoded_bytes()).sum(),
        Processed::Dropped { .. } | Processed::Failed(_) => 0,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use wharf_pipeline::{Failure, FailureKind, OnFailure, Problem};
    use wharf_queue::CanaryBounds;

    use super::*;

    fn failed() -> Ran {
        let problem = Problem { code: "schema".into(), message: "no total".into(), path: None };
        let failure = Failure {
            stage: "check".parse().expect("a name"),
            plugin: "check@1".parse().expect("a plugin"),
            digest: String::new(),
            step: None,
            problem,
            kind: FailureKind::Rejected,
            policy: OnFailure::Reject,
        };
        Ran { processed: Processed::Failed(Box::new(failure)), took: Duration::ZERO }
    }

    #[test]
    fn a_canary_that_passed_a_bound_gets_no_message_more_before_the_log_knows() {
        let bounds = CanaryBounds {
            errors_max_ppm: 10_000,
            divergence_max_ppm: 0,
            p99_max_us: None,
            after: 100,
            promote_after: Some(1),
        };
        let seen = Seen::new(TrialKind::Canary(bounds));
        seen.processed(&[failed()]);
        assert!(!seen.closed.load(Relaxed), "one of a hundred may fail");
        seen.skipped();
        assert!(matches!(seen.conclusion(), Some(Conclusion::Promote(_))));
        assert!(!seen.closed.load(Relaxed), "one that is about to be promoted goes on");
        seen.processed(&[failed()]);
        assert!(seen.closed.load(Relaxed));
        assert!(matches!(seen.conclusion(), Some(Conclusion::RollBack(_))));
    }
}
