//! The pipelines between a lease and a consumer: what they make of deliveries, and of those they stop.
//!
//! A batch of deliveries runs through the pipelines that sit at its queue or stream;
//! the next batch begins when it is through, so none overtakes another. Of each message comes one message or none:
//!
//! | outcome | of a queue | of a group of a stream | of a reader alone |
//! |---|---|---|---|
//! | passed, changed | delivered under its tag | the same | the same |
//! | dropped | acked here | acked here | passed over |
//! | rejected | dead letter with stage and plugin | dead letter with the reason | passed over |
//! | retry, after a while | nacked with that delay | nacked with that delay | passed over |
//! | fault, several outputs | by `on-failure`: `reject` nacks it, `dead-letter` gives it up | the same | passed over |
//!
//! What is settled here gives its credit back. A consumer that gets messages at most once has settled them before:
//! what does not come through is gone. A batch holds its pipelines at the version with which it began.
//!
//! A message whose trace goes on passes by itself, between runs of its neighbours, and its trace is told of it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use wharf_pipeline::{Failure, FailureKind, Item, OnFailure, Output, Processed};
use wharf_protocol::{DeathCause, Delivery, Name, Outcome, Settlement, Timestamp};
use wharf_queue::Refused;

use crate::journey::mark;
use crate::pipelines::{Entered, Run};
use crate::trace::{Given, Pass, Sequel, SequelKind};
use crate::{Controls, Node, NodeError, ReaderControls};

/// How long deliveries rest that meet a pipeline which does not run.
const BROKEN_REST: Duration = Duration::from_secs(5);

/// A batch in the pipelines, and what will have come through. Never locked: the mutex makes it [`Sync`].
type Work = Mutex<Pin<Box<dyn Future<Output = Result<Vec<Delivery>, NodeError>> + Send>>>;

/// The way of the deliveries of one consumer.
pub(crate) struct WayOut {
    node: Node,
    /// The queue, or the stream.
    from: Name,
    /// Which pipelines sit there, and as of which topology that is known.
    pipelines: Vec<Name>,
    revision: Option<u64>,
    at_work: Option<Work>,
}

/// Who settles what the pipelines stop.
pub(crate) enum Settler {
    /// The consumer of a queue; whether it holds its deliveries, or has settled them before.
    Queue { controls: Controls, held: bool },
    /// A reader of a stream; whether it is a member of a group.
    Stream { controls: ReaderControls, member: bool },
}

/// A delivery between pipelines, and what its message took when it was leased.
struct Traveller {
    delivery: Delivery,
    bytes: u64,
    /// Its trace goes on.
    traced: bool,
}

/// What a batch passes through.
struct Passage<'a> {
    node: &'a Node,
    /// The queue, or the stream.
    from: Name,
    /// A reader without a group: what does not come through is passed over.
    alone: bool,
}

/// What the pipelines stopped.
#[derive(Debug, Default)]
struct Stopped {
    settlements: Vec<Settlement>,
    refused: Vec<Refused>,
    messages: u32,
    bytes: u64,
}

impl WayOut {
    pub(crate) fn new(node: &Node, from: Name) -> Self {
        Self { node: node.clone(), from, pipelines: Vec::new(), revision: None, at_work: None }
    }

    /// Whether a batch is in the pipelines.
    pub(crate) fn is_busy(&self) -> bool {
        self.at_work.is_some()
    }

    /// Whether there is no pipeline here now.
    pub(crate) fn is_clear(&mut self) -> bool {
        let topology = self.node.shard().topology();
        if self.revision != Some(topology.revision()) {
            self.revision = Some(topology.revision());
            self.pipelines = topology.delivery(self.from.as_str()).map(|(name, _)| name.clone()).collect();
        }
        self.pipelines.is_empty()
    }

    /// Sends a batch on its way; none may be under way.
    pub(crate) fn begin(&mut self, deliveries: Vec<Delivery>, settler: Settler) {
        debug_assert!(self.at_work.is_none(), "one batch at a time, or one overtakes the other");
        let (node, from, pipelines) = (self.node.clone(), self.from.clone(), self.pipelines.clone());
        self.at_work = Some(Mutex::new(Box::pin(async move {
            let alone = matches!(settler, Settler::Stream { member: false, .. });
            let (passed, stopped) = Passage { node: &node, from, alone }.pass(&pipelines, deliveries).await;
            settler.settle(stopped).await?;
            Ok(passed)
        })));
    }

    /// Appends what came through of the batch that is under way.
    ///
    /// # Cancel safety
    /// The batch stays under way.
    pub(crate) async fn finish(&mut self, out: &mut Vec<Delivery>) -> Result<(), NodeError> {
        let Some(at_work) = &mut self.at_work else { return Ok(()) };
        let passed = at_work.get_mut().unwrap_or_else(PoisonError::into_inner).await;
        self.at_work = None;
        out.append(&mut passed?);
        Ok(())
    }
}

impl Passage<'_> {
    /// Runs deliveries through the pipelines, one after the other: what comes out, in order, and what does not.
    async fn pass(&self, pipelines: &[Name], deliveries: Vec<Delivery>) -> (Vec<Delivery>, Stopped) {
        let mut stopped = Stopped::default();
        let followed = self.node.tracing().followed();
        let any = !followed.is_idle();
        let travel = |delivery: Delivery| Traveller {
            bytes: delivery.message.encoded_bytes() as u64,
            traced: any && followed.knows(delivery.id),
            delivery,
        };
        let mut travellers: Vec<Traveller> = deliveries.into_iter().map(travel).collect();
        // Each pipeline is held until the batch is through all of them.
        let mut held = Vec::with_capacity(pipelines.len());
        for name in pipelines {
            // One that was removed meanwhile is passed over.
            let in_turn = self.node.pipelines_in_use().enter_in_turn(name, !held.is_empty()).await;
            let Some(entered) = in_turn else { continue };
            let mut run = match self.run(name, &entered, &travellers).await {
                Ok(run) => run,
                Err(reason) => {
                    tracing::error!(pipeline = %name, reason, "deliveries wait: their pipeline does not run");
                    for traveller in travellers.drain(..) {
                        stopped.again(&traveller, Some(BROKEN_REST));
                        self.tell(&traveller, SequelKind::Nacked, Some(format!("pipeline {name}: {reason}")));
                    }
                    break;
                }
            };
            held.push(entered);
            let processed = std::mem::take(&mut run.processed);
            let mut passed = Vec::with_capacity(travellers.len());
            for (i, (traveller, mut processed)) in travellers.into_iter().zip(processed).enumerate() {
                mark(&mut processed, name, run.number(i));
                if traveller.traced
                    && let Some((kind, reason)) = self.fate(&processed)
                {
                    self.tell(&traveller, kind, reason.map(|reason| format!("pipeline {name}: {reason}")));
                }
                if matches!(&processed, Processed::Passed(outputs) if !goes_on(outputs)) {
                    run.refused(i);
                }
                passed.extend(stopped.take(name, traveller, processed));
            }
            travellers = passed;
        }
        (travellers.into_iter().map(|traveller| traveller.delivery).collect(), stopped)
    }

    /// Runs a batch through one pipeline; the traced ones by themselves.
    async fn run(&self, name: &Name, entered: &Entered, batch: &[Traveller]) -> Result<Run, String> {
        let now = Timestamp::wall_clock();
        if batch.iter().all(|traveller| !traveller.traced) {
            return entered.run(batch.iter().map(Traveller::item).collect(), now).await;
        }
        let mut whole = Run::of(0, Vec::new());
        let mut rest = batch;
        while !rest.is_empty() {
            let plain = rest.iter().take_while(|traveller| !traveller.traced).count();
            let (these, later) = rest.split_at(plain.max(1));
            rest = later;
            whole.extend(match plain {
                0 => self.run_traced(name, entered, &these[0], now).await?,
                _ => entered.run(these.iter().map(Traveller::item).collect(), now).await?,
            });
        }
        Ok(whole)
    }

    async fn run_traced(
        &self,
        name: &Name,
        entered: &Entered,
        one: &Traveller,
        now: Timestamp,
    ) -> Result<Run, String> {
        let item = one.item();
        let given = Given::of(&item);
        let (run, told) = entered.trace(item, now).await?;
        let since = now.since(one.delivery.stored_at).as_micros();
        let pass = Pass {
            pipeline: name.clone(),
            number: run.number(0),
            on_way_to: None,
            on_way_from: Some(self.from.clone()),
            begun_us: u64::try_from(since).unwrap_or(u64::MAX),
            now,
            steps: told.steps,
            given,
            circumstances: Some(told.circumstances),
        };
        self.node.tracing().passed_out(one.delivery.id, pass);
        Ok(run)
    }

    /// What becomes of a delivery that does not come through, and why.
    fn fate(&self, processed: &Processed) -> Option<(SequelKind, Option<String>)> {
        let (kind, reason) = match processed {
            Processed::Passed(outputs) if goes_on(outputs) => return None,
            Processed::Passed(outputs) => (SequelKind::DeadLettered, Some(too_many(outputs))),
            Processed::Dropped { stage } => (SequelKind::Filtered, Some(format!("{stage} dropped it"))),
            Processed::Failed(failure) => {
                let kind = match gives_up(failure) {
                    Some(_) => SequelKind::DeadLettered,
                    None => SequelKind::Nacked,
                };
                (kind, Some(format!("{}: {}", failure.stage, failure.problem)))
            }
        };
        Some((if self.alone { SequelKind::Filtered } else { kind }, reason))
    }

    fn tell(&self, traveller: &Traveller, kind: SequelKind, note: Option<String>) {
        if traveller.traced {
            let Delivery { id: message, attempt, .. } = traveller.delivery;
            let (queue, at) = (self.from.clone(), Timestamp::wall_clock());
            let sequel = Sequel { message, queue, at, attempt, kind, note: None };
            self.node.tracing().sequel(sequel.noted(note));
        }
    }
}

impl Traveller {
    fn item(&self) -> Item {
        Item {
            message: self.delivery.message.clone(),
            attempt: self.delivery.attempt.saturating_sub(1),
            published_at: Some(self.delivery.stored_at),
        }
    }
}

/// Whether what a pipeline made of a delivery is one message that goes on to its consumer.
fn goes_on(outputs: &[Output]) -> bool {
    matches!(outputs, [Output { to: None, .. }])
}

fn too_many(outputs: &[Output]) -> String {
    format!("made {} messages of a delivery, which becomes one or none", outputs.len())
}

/// Why a delivery that failed is given up; `None`: it comes again.
fn gives_up(failure: &Failure) -> Option<DeathCause> {
    match (failure.kind, failure.policy) {
        (FailureKind::Retry { .. }, _) => None,
        (FailureKind::Fault(_), OnFailure::Reject | OnFailure::Bypass) => None,
        (FailureKind::Fault(_), OnFailure::DeadLetter) => Some(DeathCause::StageFault),
        (FailureKind::Rejected, _) => Some(DeathCause::Stage),
    }
}

impl Stopped {
    /// The delivery with what a pipeline made of its message, unless it stops here.
    fn take(&mut self, pipeline: &Name, traveller: Traveller, processed: Processed) -> Option<Traveller> {
        match processed {
            Processed::Passed(mut outputs) if goes_on(&outputs) => {
                let message = outputs.pop()?.message;
                Some(Traveller { delivery: Delivery { message, ..traveller.delivery }, ..traveller })
            }
            Processed::Passed(outputs) => {
                let reason = format!("pipeline {pipeline} {}", too_many(&outputs));
                self.count(&traveller);
                let (stage, plugin) = (pipeline.to_string(), String::new());
                let (tag, cause) = (traveller.delivery.tag, DeathCause::StageFault);
                self.refused.push(Refused { tag, cause, reason, stage, plugin });
                None
            }
            Processed::Dropped { .. } => {
                self.settle(&traveller, Outcome::Ack);
                None
            }
            Processed::Failed(failure) => {
                self.fail(pipeline, &traveller, *failure);
                None
            }
        }
    }

    fn fail(&mut self, pipeline: &Name, traveller: &Traveller, failure: Failure) {
        let Some(cause) = gives_up(&failure) else {
            let after = match failure.kind {
                FailureKind::Retry { after } => after,
                FailureKind::Rejected | FailureKind::Fault(_) => None,
            };
            return self.again(traveller, after);
        };
        self.count(traveller);
        let stage = format!("{pipeline}/{}", failure.stage);
        let (reason, plugin) = (failure.problem.to_string(), failure.digest);
        let tag = traveller.delivery.tag;
        self.refused.push(Refused { tag, cause, reason, stage, plugin });
    }

    fn again(&mut self, traveller: &Traveller, delay: Option<Duration>) {
        self.settle(traveller, Outcome::Nack { delay });
    }

    fn settle(&mut self, traveller: &Traveller, outcome: Outcome) {
        self.count(traveller);
        let tag = traveller.delivery.tag;
        match self.settlements.last_mut() {
            Some(last) if last.last + 1 == tag && last.outcome == outcome => last.last = tag,
            _ => self.settlements.push(Settlement { first: tag, last: tag, outcome }),
        }
    }

    fn count(&mut self, traveller: &Traveller) {
        self.messages += 1;
        self.bytes += traveller.bytes;
    }
}

impl Settler {
    /// Settles what was stopped, and gives its credit back.
    async fn settle(self, stopped: Stopped) -> Result<(), NodeError> {
        let Stopped { mut settlements, refused, messages, bytes } = stopped;
        if messages == 0 {
            return Ok(());
        }
        match self {
            Self::Queue { controls, held } => {
                if held && !settlements.is_empty() {
                    // Nobody waits until it is durable: what a crash brings back passes here again.
                    drop(controls.settle(settlements).await?);
                }
                if held && !refused.is_empty() {
                    controls.refuse(refused).await?;
                }
                controls.credit(messages, bytes).await
            }
            Self::Stream { controls, member } => {
                settlements.extend(refused.into_iter().map(|refused| {
                    let Refused { tag, reason, stage, .. } = refused;
                    let outcome = Outcome::DeadLetter { reason: format!("{stage}: {reason}") };
                    Settlement { first: tag, last: tag, outcome }
                }));
                if member {
                    drop(controls.settle(settlements).await?);
                }
                controls.credit(messages);
                Ok(())
            }
        }
    }
}

impl fmt::Debug for WayOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WayOut")
            .field("from", &self.from)
            .field("pipelines", &self.pipelines)
            .finish_non_exhaustive()
    }
}
