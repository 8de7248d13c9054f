//! A trial in the slot of its pipeline: which messages are its, and what is copied for comparison.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use wharf_pipeline::compare::Ran;
use wharf_pipeline::{Item, Pipeline, Processed, TimedRun, Traced, Verdict};
use wharf_protocol::{Message, Name, Timestamp};
use wharf_queue::{Trial, TrialKind};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::seen::Seen;
use super::tried::{One, Tried};
use super::{TrialView, lock};
use crate::pipelines::Run;
use crate::pipelines::replay::each_of;

/// How many bytes of messages, and of what they became, wait for a trial.
const COPIES_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A trial at work, in the slot of its pipeline.
pub(crate) struct TrialRun {
    trial: Trial,
    candidate: Arc<Pipeline>,
    /// The copies' way to the task, which ends when this is dropped.
    copies: mpsc::Sender<Copied>,
    seen: Arc<Seen>,
    /// So that each trial takes other keys.
    seed: u64,
    /// What a canary took of processor time, as far as the version in use was charged with it, in nanoseconds.
    charged_ns: AtomicU64,
}

/// A message, what one version made of it, and how long that took.
pub(super) struct Copied {
    pub(super) item: Item,
    pub(super) ran: Ran,
    pub(super) now: Timestamp,
    pub(super) bytes: usize,
}

impl TrialRun {
    pub(super) fn new(
        pipeline: &Name,
        trial: Trial,
        candidate: Arc<Pipeline>,
        copies: mpsc::Sender<Copied>,
        seen: Arc<Seen>,
    ) -> Self {
        let seed = xxh3_64_with_seed(pipeline.as_str().as_bytes(), trial.index);
        Self { trial, candidate, copies, seen, seed, charged_ns: AtomicU64::new(0) }
    }

    /// Runs messages through the version in use and, as far as the trial says so, the candidate.
    pub(in crate::pipelines) async fn run(
        &self,
        number: u32,
        live: &Pipeline,
        items: Vec<Item>,
        now: Timestamp,
    ) -> Run {
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
                let TimedRun { processed, took, .. } = live.run_timed(items, now).await;
                self.show_all(copies, &processed, took, now);
                Run::of(number, processed)
            }
            TrialKind::Canary(_) => self.share(number, live, items, chosen, now).await,
        }
    }

    /// As [`run`](Self::run) with one message, with an account of each stage; and how the canary did, if it was the
    /// canary's.
    pub(in crate::pipelines) async fn trace(
        &self,
        live: &Pipeline,
        item: Item,
        now: Timestamp,
    ) -> (Traced, Option<Tried>) {
        if self.is_closed() || !self.chooses(&item.message) {
            return (live.trace(item, now).await, None);
        }
        let (copy, began) = (item.clone(), Instant::now());
        let canary = matches!(self.trial.kind, TrialKind::Canary(_));
        let by = if canary { self.candidate.as_ref() } else { live };
        let traced = by.trace(item, now).await;
        let took = began.elapsed();
        let tried = canary.then(|| {
            self.charge(live);
            let bypassed = traced.steps.iter().any(|step| step.verdict == Verdict::Bypassed);
            let failed = bypassed || is_failure(&traced.processed);
            Tried::new(&self.seen, self.trial.number, vec![Some(One { failed, took, share: took })])
        });
        self.show(copy, Ran { processed: traced.processed.clone(), took, share: took }, now);
        (traced, tried)
    }

    /// Gives the chosen messages to the candidate and the others to the version in use.
    async fn share(
        &self,
        number: u32,
        in_use: &Pipeline,
        items: Vec<Item>,
        chosen: Vec<bool>,
        now: Timestamp,
    ) -> Run {
        let (mut to_live, mut to_candidate) = (Vec::new(), Vec::new());
        for (item, chosen) in items.into_iter().zip(&chosen) {
            if *chosen { to_candidate.push(item) } else { to_live.push(item) }
        }
        let copies = to_candidate.clone();
        let ran = async {
            match to_live.is_empty() {
                true => Vec::new(),
                false => in_use.run(to_live, now).await,
            }
        };
        let (live, candidate) = tokio::join!(ran, self.candidate.run_timed(to_candidate, now));
        self.charge(in_use);
        let bypassed = candidate.bypassed.clone();
        let candidate: Vec<Ran> = each_of(candidate).collect();
        let mut ones: Vec<One> = candidate
            .iter()
            .map(|ran| One { failed: is_failure(&ran.processed), took: ran.took, share: ran.share })
            .collect();
        bypassed.into_iter().for_each(|place| ones[place].failed = true);
        for (item, ran) in copies.into_iter().zip(&candidate) {
            self.show(item, ran.clone(), now);
        }
        let (mut live, mut candidate) = (live.into_iter(), candidate.into_iter().map(|ran| ran.processed));
        let next = |chosen: &bool| if *chosen { candidate.next() } else { live.next() };
        let processed = chosen.iter().map(next).map(|each| each.expect("each message got its answer"));
        let processed = processed.collect();
        let mut ones = ones.into_iter();
        let each = chosen.into_iter().map(|chosen| if chosen { ones.next() } else { None }).collect();
        Run { processed, number, canary: Some(Tried::new(&self.seen, self.trial.number, each)) }
    }

    /// Charges the version in use with what the canary took since the last time: the pipeline has one share of processor
    /// time, whichever version its messages pass.
    fn charge(&self, live: &Pipeline) {
        let busy = u64::try_from(self.candidate.cpu().busy.as_nanos()).unwrap_or(u64::MAX);
        let before = self.charged_ns.fetch_max(busy, Relaxed);
        if busy > before {
            live.charge(Duration::from_nanos(busy - before));
        }
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
        let share = took / u32::try_from(processed.len().max(1)).unwrap_or(u32::MAX);
        for (item, processed) in copies.into_iter().zip(processed) {
            let Some(item) = item else { continue };
            self.show(item, Ran { processed: processed.clone(), took, share }, now);
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

    pub(in crate::pipelines) fn index(&self) -> u64 {
        self.trial.index
    }

    pub(in crate::pipelines) fn view(&self) -> TrialView {
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

fn is_failure(processed: &Processed) -> bool {
    matches!(processed, Processed::Failed(_))
}

fn bytes_of(processed: &Processed) -> usize {
    match processed {
        Processed::Passed(outputs) => outputs.iter().map(|output| output.message.encoded_bytes()).sum(),
        Processed::Dropped { .. } | Processed::Failed(_) => 0,
    }
}
