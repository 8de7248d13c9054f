//! The account of one traced message, written while it travels.

use std::collections::BTreeMap;
use std::time::Instant;

use wharf_pipeline::{Snapshot, Step};
use wharf_protocol::{Message, MessageId, Name, Receipt, Timestamp};
use wharf_queue::{Entry, QueueId, Topology};

use super::context::{self, Parent};
use super::{Landing, Pass, SpanId, Trace, TraceId, TraceVerdict, Why, Wishes};

/// Messages and queues that a trace names at most.
const LANDINGS_MAX: usize = 256;

/// The traced publications of a batch, by their place in it. Mostly none.
pub(crate) type Accounts = BTreeMap<usize, Account>;

/// A trace that is not finished.
#[derive(Debug)]
pub(crate) struct Account {
    trace: Trace,
    begun: Instant,
    /// A stage dropped all or some of it.
    dropped: bool,
}

impl Account {
    /// Begins the account of a message as it came, from `by`.
    pub(crate) fn begin(why: Why, by: &str, message: &Message, at: Timestamp) -> Self {
        let wishes = Wishes::of(&message.headers);
        let parent = wishes.parent.and_then(Parent::parse);
        let named = || std::str::from_utf8(wishes.trace?).ok()?.parse().ok();
        let id = parent.map(|parent| parent.trace).or_else(named).unwrap_or_else(TraceId::random);
        let trace = Trace {
            id,
            span: SpanId::random(),
            parent: parent.map(|parent| parent.span),
            // The state is of the parent: without one it says nothing.
            state: parent.and(wishes.state).and_then(context::state),
            why,
            at,
            by: by.to_owned(),
            given: Snapshot::of(message),
            passes: Vec::new(),
            verdict: TraceVerdict::Unrouted,
            messages: Vec::new(),
            landings: Vec::new(),
            stage: None,
            reason: None,
            took_us: 0,
            cut: false,
            sequels: Vec::new(),
            sequels_left_out: 0,
        };
        Self { trace, begun: Instant::now(), dropped: false }
    }

    /// How long it has been travelling, in microseconds.
    pub(crate) fn elapsed_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// It passed a pipeline.
    pub(crate) fn passed(&mut self, pass: Pass, dropped: bool) {
        self.trace.passes.push(pass);
        self.dropped |= dropped;
    }

    /// A stage that nobody traced made it a dead letter.
    pub(crate) fn failed_at(&mut self, pipeline: &Name, number: u32, step: Step, now: Timestamp) {
        let pass = Pass {
            pipeline: pipeline.clone(),
            number,
            on_way_to: None,
            begun_us: 0,
            now,
            steps: vec![step],
            given: None,
            circumstances: None,
            on_way_from: None,
        };
        self.trace.passes.push(pass);
    }

    /// Where it is about to be stored.
    pub(crate) fn lands(&mut self, entries: &[Entry], topology: &Topology) {
        for (entry, number) in entries.iter().zip(0..) {
            for destination in &entry.destinations {
                let Some(queue) = name_of(topology, destination.queue) else { continue };
                let dead = destination.death.as_deref();
                if let Some(death) = dead {
                    self.trace.stage.clone_from(&death.stage);
                    self.trace.reason = Some(death.reason.clone());
                }
                self.trace.landings.push(Landing { queue, entry: number, dead: dead.is_some() });
            }
        }
    }

    /// Its publisher is told `receipt`, in which its own messages begin at entry `first`.
    pub(crate) fn end(self, receipt: &Receipt, first: u16, entries: u16) -> Trace {
        let took_us = self.elapsed_us();
        let dropped = self.dropped;
        let mut trace = self.trace;
        trace.took_us = took_us;
        trace.landings.truncate(LANDINGS_MAX);
        match receipt {
            Receipt::Stored(_) if trace.landings.is_empty() => {
                trace.verdict = if dropped { TraceVerdict::Dropped } else { TraceVerdict::Unrouted };
            }
            Receipt::Stored(stored) => {
                let dead = trace.landings.iter().any(|landing| landing.dead);
                trace.verdict = if dead { TraceVerdict::DeadLettered } else { TraceVerdict::Stored };
                let own = first..first.saturating_add(entries);
                let ids = own.map(|entry| MessageId { index: stored.index, entry });
                trace.messages = ids.take(LANDINGS_MAX).collect();
            }
            Receipt::Duplicate(stored) => {
                trace.verdict = TraceVerdict::Duplicate;
                trace.messages = stored.iter().flat_map(|stored| stored.ids()).take(LANDINGS_MAX).collect();
                trace.landings.clear();
            }
            Receipt::Rejected(rejection) => {
                trace.verdict = TraceVerdict::Rejected;
                trace.stage.clone_from(&rejection.stage);
                trace.reason = Some(rejection.reason.clone());
                trace.landings.clear();
            }
        }
        trace
    }

    /// In how many queues and streams each message lies that it became.
    pub(crate) fn landings(&self) -> Vec<u16> {
        let mut landings = vec![0_u16; usize::from(self.entries())];
        for landing in &self.trace.landings {
            let count = &mut landings[usize::from(landing.entry)];
            *count = count.saturating_add(1);
        }
        landings
    }

    /// How many messages it became.
    pub(crate) fn entries(&self) -> u16 {
        self.trace.landings.iter().map(|landing| landing.entry + 1).max().unwrap_or(0)
    }
}

/// The name of a queue or stream.
pub(crate) fn name_of(topology: &Topology, id: QueueId) -> Option<Name> {
    let queue = topology.queues().find(|(_, queue)| queue.id == id).map(|(name, _)| name);
    queue.or_else(|| topology.streams().find(|(_, stream)| stream.id == id).map(|(name, _)| name)).cloned()
}
