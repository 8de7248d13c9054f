//! The pipelines between a lease and a consumer: what they make of deliveries, and of those they stop.
//!
//! A batch of deliveries runs through the pipelines that sit at its queue or stream, on the plugins' own threads;
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

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use wharf_pipeline::{Failure, FailureKind, Item, OnFailure, Processed};
use wharf_protocol::{DeathCause, Delivery, Name, Outcome, Settlement, Timestamp};
use wharf_queue::Refused;

use crate::journey::mark;
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
        let (node, pipelines) = (self.node.clone(), self.pipelines.clone());
        self.at_work = Some(Mutex::new(Box::pin(async move {
            let (passed, stopped) = pass(&node, &pipelines, deliveries).await;
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

/// Runs deliveries through the pipelines, one after the other: what comes out, in order, and what does not.
async fn pass(node: &Node, pipelines: &[Name], deliveries: Vec<Delivery>) -> (Vec<Delivery>, Stopped) {
    let mut stopped = Stopped::default();
    let travel = |delivery: Delivery| Traveller { bytes: delivery.message.encoded_bytes() as u64, delivery };
    let mut travellers: Vec<Traveller> = deliveries.into_iter().map(travel).collect();
    // Each pipeline is held until the batch is through all of them.
    let mut held = Vec::with_capacity(pipelines.len());
    for name in pipelines {
        // One that was removed meanwhile is passed over.
        let in_turn = node.pipelines_in_use().enter_in_turn(name, !held.is_empty()).await;
        let Some(entered) = in_turn else { continue };
        let items = travellers.iter().map(|Traveller { delivery, .. }| Item {
            message: delivery.message.clone(),
            attempt: delivery.attempt.saturating_sub(1),
            published_at: Some(delivery.stored_at),
        });
        let mut run = match entered.run(items.collect(), Timestamp::wall_clock()).await {
            Ok(run) => run,
            Err(reason) => {
                tracing::error!(pipeline = %name, reason, "deliveries wait: their pipeline does not run");
                for traveller in travellers.drain(..) {
                    stopped.again(&traveller, Some(BROKEN_REST));
                }
                break;
            }
        };
        held.push(entered);
        let processed = std::mem::take(&mut run.processed);
        let mut passed = Vec::with_capacity(travellers.len());
        for (i, (traveller, mut processed)) in travellers.into_iter().zip(processed).enumerate() {
            mark(&mut processed, name, run.number(i));
            passed.extend(stopped.take(name, traveller, processed));
        }
        travellers = passed;
    }
    (travellers.into_iter().map(|traveller| traveller.delivery).collect(), stopped)
}

impl Stopped {
    /// The delivery with what a pipeline made of its message, unless it stops here.
    fn take(&mut self, pipeline: &Name, traveller: Traveller, processed: Processed) -> Option<Traveller> {
        match processed {
            Processed::Passed(mut outputs) if outputs.len() == 1 && outputs[0].to.is_none() => {
                let message = outputs.pop()?.message;
                Some(Traveller { delivery: Delivery { message, ..traveller.delivery }, ..traveller })
            }
            Processed::Passed(outputs) => {
                let reason = format!(
                    "pipeline {pipeline} made {} messages of a delivery, which becomes one or none",
                    outputs.len()
                );
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
        let cause = match (failure.kind, failure.policy) {
            (FailureKind::Retry { after }, _) => return self.again(traveller, after),
            (FailureKind::Fault(_), OnFailure::Reject | OnFailure::Bypass) => {
                return self.again(traveller, None);
            }
            (FailureKind::Fault(_), OnFailure::DeadLetter) => DeathCause::StageFault,
            (FailureKind::Rejected, _) => DeathCause::Stage,
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
