//! The messages of a batch on their way through the stages of a pipeline.
//!
//! ```text
//!  batch ─▶ units ─▶ stage ─▶ units ─▶ stage ─▶ … ─▶ one Processed a message
//!                      └ what is settled of a message: a failure, or who dropped it
//! ```
//!
//! A message may become several units; all of them come through, or the message has failed.

use std::sync::Arc;

use wharf_protocol::{Name, Timestamp};

use crate::host::Unit;
use crate::instance::{Answer, Report};
use crate::stage::Stage;
use crate::trace::Step;
use crate::{Failure, FailureKind, Fault, Item, OnFailure, Output, Problem, Processed, Target, limits};

/// The messages of a batch between two stages.
pub(crate) struct Flow {
    pub(crate) units: Vec<Unit>,
    /// How many stages have answered.
    pub(crate) stages: usize,
    /// Of each message that came in, what is settled so far: a failure, or who dropped it last.
    failed: Vec<Option<Box<Failure>>>,
    dropped_by: Vec<Option<Name>>,
    /// Messages of which a stage failed that lets them pass then, each as often as it happened: mostly none.
    bypassed: Vec<usize>,
    /// How many messages one message may become.
    outputs_max: usize,
}

/// A batch that is through.
#[derive(Default)]
pub(crate) struct Through {
    /// An answer for each message, in order.
    pub(crate) processed: Vec<Processed>,
    /// Messages of which a stage failed that lets them pass then: their places in the batch, each once or more.
    pub(crate) bypassed: Vec<usize>,
}

impl Through {
    /// Adds the messages behind these.
    pub(crate) fn extend(&mut self, next: Self) {
        let before = self.processed.len();
        self.processed.extend(next.processed);
        self.bypassed.extend(next.bypassed.into_iter().map(|place| before + place));
    }
}

impl Flow {
    pub(crate) fn new(batch: Vec<Item>, outputs_max: usize) -> Self {
        let mut failed = Vec::new();
        failed.resize_with(batch.len(), || None);
        let units = batch.into_iter().enumerate();
        Self {
            failed,
            dropped_by: vec![None; units.len()],
            bypassed: Vec::new(),
            units: units.map(|(origin, item)| Unit { item, origin, to: None }).collect(),
            stages: 0,
            outputs_max,
        }
    }

    /// The messages, before any stage has answered.
    pub(crate) fn into_batch(self) -> Vec<Item> {
        self.units.into_iter().map(|unit| unit.item).collect()
    }

    /// The units, for the next stage to answer for: give them back by [`answered`](Self::answered), or by
    /// [`not_answered`](Self::not_answered).
    pub(crate) fn ask(&mut self) -> Arc<Vec<Unit>> {
        Arc::new(std::mem::take(&mut self.units))
    }

    pub(crate) fn not_answered(&mut self, units: Arc<Vec<Unit>>) {
        self.units = Arc::unwrap_or_clone(units);
    }

    /// What the answers of a stage make of the units that it was asked about.
    pub(crate) fn answered(
        &mut self,
        stage: &Stage,
        units: Arc<Vec<Unit>>,
        answers: Vec<Answer>,
        reports: &[Report],
        now: Timestamp,
    ) {
        self.stages += 1;
        if stage.tap.is_on() {
            stage.tap.offer(&units, &answers, stage.output_names(), now);
        }
        let units = Arc::unwrap_or_clone(units);
        if answers.iter().all(|answer| matches!(answer, Answer::Keep)) {
            self.units = units;
            return;
        }
        let alone = (units.len() == 1).then(|| units[0].origin);
        self.units.reserve(units.len());
        for (unit, answer) in units.into_iter().zip(answers) {
            self.take(stage, unit, answer);
        }
        if let (Some(origin), [report]) = (alone, reports) {
            self.note(origin, stage, report);
        }
        self.settle();
    }

    /// What one answer makes of one message.
    pub(crate) fn take(&mut self, stage: &Stage, unit: Unit, answer: Answer) {
        match answer {
            Answer::Keep => self.units.push(unit),
            Answer::Drop => self.dropped_by[unit.origin] = Some(stage.name.clone()),
            Answer::Headers(headers) => {
                let mut unit = unit;
                unit.item.message.headers = headers;
                self.units.push(unit);
            }
            Answer::To(ids) => {
                let (origin, count) = (unit.origin, ids.len());
                // Most go to one place: the message itself, and copies before it only where there are more.
                let units = std::iter::repeat_n(unit, count);
                let made = units.zip(ids).map(|(mut unit, id)| {
                    unit.send_to(&stage.targets[usize::from(id)]);
                    unit
                });
                self.spread(stage, origin, count, made);
            }
            Answer::Emitted(emitted) => self.spread(
                stage,
                unit.origin,
                emitted.len(),
                emitted.into_iter().map(|output| {
                    let Item { attempt, published_at, .. } = unit.item;
                    let item = Item { message: output.message, attempt, published_at };
                    let mut made = Unit { item, origin: unit.origin, to: unit.to.clone() };
                    if let Some(id) = output.to {
                        made.send_to(&stage.targets[id]);
                    }
                    made
                }),
            ),
            Answer::Reject(problem) => self.fail(stage, unit, FailureKind::Rejected, problem),
            Answer::Retry(problem, after) => {
                let failure = stage.failure(FailureKind::Retry { after }, problem);
                self.failed[unit.origin].get_or_insert(failure);
            }
            Answer::Fault(fault, message) => {
                self.fail(stage, unit, FailureKind::Fault(fault), fault.problem(message));
            }
        }
    }

    /// One message becomes several, while there is room.
    fn spread(&mut self, stage: &Stage, origin: usize, count: usize, made: impl Iterator<Item = Unit>) {
        // Messages of one origin lie together, and the latest are last.
        let before = self.units.iter().rev().take_while(|unit| unit.origin == origin).count();
        if count <= self.outputs_max.saturating_sub(before) {
            self.units.extend(made);
            return;
        }
        let message = format!(
            "one message became more than a pipeline may make of it: {}",
            limits::outputs_text(self.outputs_max)
        );
        let problem = Fault::Answer.problem(message);
        let failure = stage.failure(FailureKind::Fault(Fault::Answer), problem);
        self.failed[origin].get_or_insert(failure);
    }

    fn fail(&mut self, stage: &Stage, unit: Unit, kind: FailureKind, problem: Problem) {
        match stage.policy {
            OnFailure::Bypass => {
                self.bypassed.push(unit.origin);
                self.units.push(unit);
            }
            _ if self.failed[unit.origin].is_some() => {}
            policy => {
                let mut failure = stage.failure(kind, problem);
                if policy == OnFailure::DeadLetter {
                    // Whoever looks at the dead letter will ask what the stage was given.
                    failure.step = Some(Box::new(Step::failed(stage, &unit, &failure)));
                }
                self.failed[unit.origin] = Some(failure);
            }
        }
    }

    /// Adds what the call took and wrote, which is known of a message that a stage was given alone.
    fn note(&mut self, origin: usize, stage: &Stage, report: &Report) {
        let failure = self.failed[origin].as_mut().filter(|failure| failure.stage == stage.name);
        if let Some(step) = failure.and_then(|failure| failure.step.as_mut()) {
            step.note(report);
        }
    }

    /// All or nothing: what is left of a message of which a part failed goes no further.
    pub(crate) fn settle(&mut self) {
        let failed = &self.failed;
        self.units.retain(|unit| failed[unit.origin].is_none());
    }

    /// One answer a message, and those of them that a failure of a stage was kept from.
    pub(crate) fn finish(self) -> Through {
        let bypassed = self.bypassed;
        let mut outputs: Vec<Vec<Output>> = Vec::new();
        outputs.resize_with(self.failed.len(), Vec::new);
        for unit in self.units {
            let outputs = &mut outputs[unit.origin];
            // Most messages stay one: room for four of them would be a kilobyte.
            outputs.reserve_exact(usize::from(outputs.is_empty()));
            outputs.push(Output { message: unit.item.message, to: unit.to });
        }
        let settled = outputs.into_iter().zip(self.failed).zip(self.dropped_by);
        let processed = settled.map(|((outputs, failed), dropped_by)| match (failed, dropped_by) {
            (Some(failure), _) => Processed::Failed(failure),
            (None, Some(stage)) if outputs.is_empty() => Processed::Dropped { stage },
            (None, _) => Processed::Passed(outputs),
        });
        Through { processed: processed.collect(), bypassed }
    }
}

impl Unit {
    fn send_to(&mut self, target: &Target) {
        if let Target::Topic(topic) = target {
            self.item.message.topic = topic.clone();
        }
        self.to = Some(target.clone());
    }
}

impl Stage {
    pub(crate) fn failure(&self, kind: FailureKind, problem: Problem) -> Box<Failure> {
        Box::new(Failure {
            stage: self.name.clone(),
            plugin: self.plugin_ref.clone(),
            digest: self.plugin.digest().to_owned(),
            problem,
            kind,
            policy: self.policy,
            step: None,
        })
    }
}
