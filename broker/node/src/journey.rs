//! A batch on its way through pipelines and bindings, before it is stored.
//!
//! Each publication is one *origin*. It may become several travellers (a pipeline splits it, a router copies it),
//! and what becomes of them is decided together: all of them are stored in one record, or the publisher is told
//! why none is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use wharf_pipeline::{Failure, FailureKind, Item, OnFailure, Output, Processed, Target};
use wharf_protocol::{
    Death, DeathCause, ErrorCode, Message, MessageId, Name, PipelineVersion, Receipt, Rejection, Session,
    Timestamp, Topic, VERSIONS_TOLD_MAX,
};
use wharf_queue::{DEAD_LETTERS, Destination, Durability, Entry, KvPart, QueueId, Topology};

use self::bounds::no_such_queue;
use self::remembering::Recalled;
use self::route::{Route, durability};
use crate::memories::Turn;
use crate::pipelines::{Entered, Run, Tried};
use crate::trace::Accounts;
use crate::{Node, Principal};

mod bounds;
mod entrance;
mod mark;
mod remembering;
mod route;
mod traced;
mod traveller;

pub(crate) use self::entrance::Entrance;
pub(crate) use self::mark::mark;
pub(crate) use self::traveller::Traveller;

/// Everything that is known of the batch.
pub(crate) struct Journey {
    topology: Arc<Topology>,
    now: Timestamp,
    decided: Vec<Option<Receipt>>,
    places: Vec<Place>,
    /// Pipelines held at one version until the batch has its place in the log.
    entered: Held,
    /// Its turn among those whose pipelines remember.
    turn: Option<Turn>,
    /// What those read and changed, by publication: mostly nothing.
    recalled: BTreeMap<usize, Recalled>,
    /// Those of its publications that are traced: mostly none.
    traced: Accounts,
    /// The versions that each publication passed so far; empty when nobody asked for them.
    versions: Vec<Vec<PipelineVersion>>,
    who: Principal,
    /// What canaries made of its messages, and of which publication each was: their trials are told when it is over.
    tried: Vec<(Tried, Vec<usize>)>,
    /// What the last topic resolved to: publishers mostly stay with one.
    last: Option<(Topic, Arc<Route>)>,
}

/// Pipelines by name, each at one version; `None`: it was gone when it was entered.
pub(crate) type Held = Vec<(Name, Option<Entered>)>;

/// What becomes of one publication.
pub(crate) struct Place {
    pub(crate) session: Option<Session>,
    pub(crate) dedup: Option<u128>,
    pub(crate) revision: u64,
    /// A request: it is refused when nobody is there to answer it.
    pub(crate) request: bool,
    /// What its pipelines read and changed of what they remember.
    pub(crate) kv: Option<Box<KvPart>>,
    pub(crate) entries: Vec<Entry>,
    /// How many messages it has become so far.
    made: u32,
    pub(crate) durability: Durability,
    /// What live taps are shown of it, when there are any.
    pub(crate) live: Vec<Message>,
    /// A stage dropped something of it on purpose.
    pub(crate) dropped: bool,
}

impl Journey {
    pub(crate) fn new(who: &Principal, topology: Arc<Topology>, publications: usize) -> Self {
        Self {
            topology,
            now: Timestamp::wall_clock(),
            decided: vec![None; publications],
            places: Vec::with_capacity(publications),
            entered: Vec::new(),
            turn: None,
            recalled: BTreeMap::new(),
            traced: Accounts::new(),
            versions: Vec::new(),
            who: who.clone(),
            tried: Vec::new(),
            last: None,
        }
    }

    /// When it began.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// Says by what the next publication is known.
    pub(crate) fn identify(&mut self, session: Option<Session>, dedup: Option<u128>, request: bool) {
        self.places.push(Place {
            session,
            dedup,
            revision: self.topology.revision(),
            request,
            kv: None,
            entries: Vec::new(),
            made: 0,
            durability: Durability::Memory,
            live: Vec::new(),
            dropped: false,
        });
    }

    /// Keeps from now on which versions its publications pass.
    pub(crate) fn tell_versions(&mut self) {
        self.versions.resize_with(self.decided.len(), Vec::new);
    }

    /// The versions that each publication passed; nothing when nobody asked for them.
    pub(crate) fn take_versions(&mut self) -> Vec<Vec<PipelineVersion>> {
        std::mem::take(&mut self.versions)
    }

    /// Notes that version `number` of a pipeline handled a publication, where that is asked for. 0 is none: the
    /// pipeline was removed.
    fn note_version(&mut self, origin: usize, pipeline: &Name, number: u32) {
        let Some(passed) = self.versions.get_mut(origin) else { return };
        let known = passed.iter().any(|each| each.pipeline == *pipeline && each.number == number);
        if number != 0 && !known && passed.len() < VERSIONS_TOLD_MAX {
            passed.push(PipelineVersion { pipeline: pipeline.clone(), number });
        }
    }

    /// Decides a publication: none of its messages is stored.
    pub(crate) fn reject(&mut self, origin: usize, rejection: Rejection) {
        self.decided[origin].get_or_insert(Receipt::Rejected(rejection));
    }

    /// What was decided, what is to be stored, and the pipelines to hold until it has its place in the log.
    pub(crate) fn finish(mut self) -> (Vec<Option<Receipt>>, Vec<Place>, Held) {
        self.settle_recalled();
        (self.decided, self.places, self.entered)
    }

    /// What a run made of a publication ended it. Where that was a canary, it failed for all of the publication that it
    /// was given: a loop is many answers of which none is wrong by itself, and nothing of it is stored.
    fn refused(&mut self, run: Option<usize>, origin: usize) {
        let Some(seen) = run.map(|run| self.tried[run].0.trial()) else { return };
        for (tried, origins) in self.tried.iter_mut().filter(|(tried, _)| tried.trial() == seen) {
            let those = origins.iter().enumerate().filter(|(_, each)| **each == origin);
            those.for_each(|(i, _)| tried.refused(i));
        }
    }

    fn route(&mut self, topic: &Topic) -> Arc<Route> {
        if let Some((last, route)) = &self.last
            && last == topic
        {
            return Arc::clone(route);
        }
        let route = Arc::new(Route::new(&self.topology, topic));
        self.last = Some((topic.clone(), Arc::clone(&route)));
        route
    }

    fn store(&mut self, origin: usize, message: Message, to: Vec<Destination>, durability: Durability) {
        let place = &mut self.places[origin];
        place.durability = place.durability.max(durability);
        place.entries.push(Entry { message, destinations: to });
    }

    /// Stores a message in the queue that a stage named.
    fn store_in(&mut self, origin: usize, message: Message, queue: &Name) {
        let Some(id) = self.topology.backlog(queue.as_str()) else {
            self.reject(origin, no_such_queue(queue));
            return;
        };
        let durability = durability(&self.topology, queue);
        self.store(origin, message, vec![Destination::from(id)], durability);
    }

    /// Stores a message that a stage refused or broke on, as it came, in the dead-letter queue of `queue`.
    fn dead_letter(
        &mut self,
        origin: usize,
        message: Message,
        queue: QueueId,
        stage: String,
        failure: Failure,
    ) {
        let cause = match failure.kind {
            FailureKind::Rejected | FailureKind::Retry { .. } => DeathCause::Stage,
            FailureKind::Fault(_) => DeathCause::StageFault,
        };
        let death = Death {
            queue: String::new(),
            cause,
            reason: failure.problem.to_string(),
            stage: Some(stage),
            plugin: Some(failure.digest),
            attempts: 0,
            first_at: self.now,
            last_at: self.now,
            original: MessageId { index: 0, entry: 0 },
        };
        let destination = Destination { queue, death: Some(Box::new(death)) };
        self.store(origin, message, vec![destination], Durability::Fsync);
    }

    /// Live taps saw its messages before; only a request still has to find somebody.
    pub(crate) fn was_heard(&mut self) {
        self.places.iter_mut().filter(|place| !place.request).for_each(|place| place.live.clear());
    }

    /// Holds a pipeline at one version for the rest of the journey, once it has its share of processor time.
    async fn enter(&mut self, node: &Node, name: &Name) {
        if self.entered.iter().all(|(each, _)| each != name) {
            let pipelines = node.pipelines_in_use();
            let entered = match &self.turn {
                Some(turn) if turn.was_paid(name) => pipelines.enter(name).await,
                _ => pipelines.enter_in_turn(name, !self.entered.is_empty()).await,
            };
            self.entered.push((name.clone(), entered));
        }
    }

    fn entered(&self, name: &Name) -> Option<&Entered> {
        self.entered.iter().find(|(each, _)| each == name)?.1.as_ref()
    }
}

impl Node {
    /// Sends every traveller through the ingress pipelines of its topic; those that came through, in order.
    pub(crate) async fn pass_ingress(
        &self,
        journey: &mut Journey,
        travellers: Vec<Traveller>,
    ) -> Vec<Traveller> {
        let mut arrived = Vec::with_capacity(travellers.len());
        let mut waiting = VecDeque::from(travellers);
        while let Some(mut first) = waiting.pop_front() {
            let Some(name) = first.next_pipeline(journey) else {
                arrived.push(first);
                continue;
            };
            let mut group = vec![first];
            while let Some(next) = waiting.front_mut() {
                if next.next_pipeline(journey).as_ref() != Some(&name) {
                    break;
                }
                group.extend(waiting.pop_front());
            }
            let mut through = Vec::with_capacity(group.len());
            let (answered, run) = self.run(journey, &name, None, group).await;
            for (traveller, processed) in answered {
                match processed {
                    Processed::Passed(outputs) => {
                        let mut fits = journey.became(traveller.origin, outputs.len());
                        for output in outputs {
                            let onward = traveller.go_on(output);
                            fits &= self.may_go_on(journey, &onward);
                            through.push(onward);
                        }
                        if !fits {
                            journey.refused(run, traveller.origin);
                        }
                    }
                    Processed::Dropped { .. } => journey.places[traveller.origin].dropped = true,
                    Processed::Failed(failure) => {
                        let queue = journey.topology.queue(DEAD_LETTERS).map(|queue| queue.id);
                        fail(journey, traveller, queue, &name, *failure);
                    }
                }
            }
            through.retain(|traveller| journey.decided[traveller.origin].is_none());
            through.into_iter().rev().for_each(|traveller| waiting.push_front(traveller));
        }
        arrived
    }

    /// Resolves each traveller to its queues, through the pipelines of their bindings. Returns those that a
    /// binding's pipeline sent on to another topic.
    pub(crate) async fn pass_bindings(
        &self,
        journey: &mut Journey,
        arrived: Vec<Traveller>,
    ) -> Vec<Traveller> {
        let mut piped: Vec<((Name, QueueId), Vec<Traveller>)> = Vec::new();
        for traveller in arrived {
            let Traveller { origin, message, hops, to, towards, .. } = traveller;
            if journey.decided[origin].is_some() {
                continue;
            }
            // Taps were shown what is on its way to one queue only when it came first.
            if self.taps().any() && towards.is_none() {
                journey.places[origin].live.push(message.clone());
            }
            if let Some(queue) = to {
                journey.store_in(origin, message, &queue);
                continue;
            }
            let mut route = journey.route(&message.topic);
            if let Some(towards) = towards {
                route = Arc::new(route.towards(&towards));
            }
            for way in &route.piped {
                let traveller = Traveller { hops, ..Traveller::new(origin, message.clone()) };
                match piped.iter_mut().find(|(each, _)| each == way) {
                    Some((_, group)) => group.push(traveller),
                    None => piped.push((way.clone(), vec![traveller])),
                }
            }
            if !route.direct.is_empty() {
                journey.store(origin, message, route.direct.clone(), route.durability);
            }
        }
        let mut sent_on = Vec::new();
        for ((name, queue), group) in piped {
            let (answered, run) = self.run(journey, &name, Some(queue), group).await;
            for (traveller, processed) in answered {
                match processed {
                    Processed::Passed(outputs) => {
                        let mut fits = journey.became(traveller.origin, outputs.len());
                        for output in outputs {
                            let to_topic = matches!(output.to, Some(Target::Topic(_)));
                            let onward = traveller.go_on(output);
                            fits &= self.may_go_on(journey, &onward);
                            if journey.decided[traveller.origin].is_some() {
                                break;
                            }
                            match to_topic {
                                true => sent_on.push(onward),
                                false => leave(journey, onward, queue),
                            }
                        }
                        if !fits {
                            journey.refused(run, traveller.origin);
                        }
                    }
                    Processed::Dropped { .. } => journey.places[traveller.origin].dropped = true,
                    Processed::Failed(failure) => fail(journey, traveller, Some(queue), &name, *failure),
                }
            }
        }
        sent_on.retain(|traveller| journey.decided[traveller.origin].is_none());
        sent_on
    }

    /// Runs a group through one pipeline, held at one version: an answer for each, and where the journey has
    /// what a canary did of it. Whose publication is decided stays behind.
    async fn run(
        &self,
        journey: &mut Journey,
        name: &Name,
        on_way_to: Option<QueueId>,
        mut group: Vec<Traveller>,
    ) -> (Vec<(Traveller, Processed)>, Option<usize>) {
        group.retain(|traveller| journey.decided[traveller.origin].is_none());
        journey.enter(self, name).await;
        self.sample(journey, name, &group);
        let items =
            || group.iter().map(|traveller| Item::new(traveller.message.clone())).collect::<Vec<Item>>();
        let outcome = match journey.entered(name) {
            Some(_) if journey.traces_any(&group) => journey.run_traced(name, on_way_to, &group).await,
            Some(active) if active.remembers() => journey.run_remembering(name, &group).await,
            Some(active) => active.run(items(), journey.now).await,
            // It was removed: its messages pass unprocessed from then on.
            None => Ok(Run::of(0, items().into_iter().map(|item| pass_unchanged(item.message)).collect())),
        };
        match outcome {
            Ok(mut run) => {
                let mut processed = std::mem::take(&mut run.processed);
                for (i, each) in processed.iter_mut().enumerate() {
                    mark(each, name, run.number(i));
                    journey.note_version(group[i].origin, name, run.number(i));
                    journey.note_failure(&group[i], name, run.number(i), each);
                }
                let tried = run.into_tried().map(|tried| {
                    journey.tried.push((tried, group.iter().map(|traveller| traveller.origin).collect()));
                    journey.tried.len() - 1
                });
                (group.into_iter().zip(processed).collect(), tried)
            }
            Err(reason) => {
                for traveller in group {
                    let text = format!("pipeline {name} does not run: {reason}");
                    journey.reject(traveller.origin, rejection(ErrorCode::Unavailable, text));
                }
                (Vec::new(), None)
            }
        }
    }
}

/// Stores what a binding's pipeline made of a message: in the queue that a stage named, or in the binding's.
fn leave(journey: &mut Journey, made: Traveller, queue: QueueId) {
    let Traveller { origin, message, to, .. } = made;
    match to {
        Some(other) => journey.store_in(origin, message, &other),
        None => {
            let durability = journey.topology.durability_of(queue).unwrap_or(Durability::Fsync);
            journey.store(origin, message, vec![Destination::from(queue)], durability);
        }
    }
}

/// Does what the stage's policy says about a failure: its publisher is told, or it is dead-lettered. A message
/// that may be tried again is its publisher's to send again: it was not stored.
fn fail(
    journey: &mut Journey,
    traveller: Traveller,
    queue: Option<QueueId>,
    pipeline: &Name,
    failure: Failure,
) {
    let stage = format!("{pipeline}/{}", failure.stage);
    let retry = match failure.kind {
        FailureKind::Retry { after } => Some(after),
        FailureKind::Rejected | FailureKind::Fault(_) => None,
    };
    match (failure.policy, queue) {
        (OnFailure::DeadLetter, Some(queue)) if retry.is_none() => {
            journey.dead_letter(traveller.origin, traveller.message, queue, stage, failure);
        }
        _ => {
            let code = match failure.kind {
                FailureKind::Rejected => ErrorCode::RejectedByStage,
                FailureKind::Retry { .. } | FailureKind::Fault(_) => ErrorCode::StageFailed,
            };
            let milliseconds =
                |after: std::time::Duration| u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
            journey.reject(
                traveller.origin,
                Rejection {
                    code,
                    stage: Some(stage),
                    reason: failure.problem.to_string(),
                    retry_after_ms: retry.flatten().map(milliseconds),
                },
            );
        }
    }
}

fn pass_unchanged(message: Message) -> Processed {
    Processed::Passed(vec![Output { message, to: None }])
}

fn rejection(code: ErrorCode, reason: String) -> Rejection {
    Rejection { code, stage: None, reason, retry_after_ms: None }
}
