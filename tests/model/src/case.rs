//! One case: the same records through the state, the model and the history, compared after each.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use wharf_protocol::{MessageId, Receipt, Start, Timestamp, TransactionReceipt};
use wharf_queue::{CursorView, Effect, GroupView, QueueId, Stamped, State};

use crate::command::{KEYS, attachment, creation, stream_creation};
use crate::model::Stream;
use crate::{Command, Draw, History, Model, Place};

/// How many queues there are to begin with.
const QUEUES_AT_FIRST: usize = 4;
/// How many streams there are to begin with, after the queues.
const STREAMS_AT_FIRST: usize = 2;
/// How many consumers there are to begin with, one for each of the first queues, after the streams.
const CONSUMERS_AT_FIRST: usize = 2;
/// How many records come before the commands of a history.
pub const RECORDS_AT_FIRST: usize = QUEUES_AT_FIRST + STREAMS_AT_FIRST + CONSUMERS_AT_FIRST;

/// What a case did, so that nobody takes a history in which everything is refused for a proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is what its name says, counted")]
pub struct Tally {
    /// Records that did what they said.
    pub ok: u64,
    /// Records that were refused, in whole: by a limit, a conflict, or because what they name is not there.
    pub refused: u64,
    pub delivered: u64,
    pub redelivered: u64,
    pub acked: u64,
    pub dead_lettered: u64,
    pub expired: u64,
    pub purged: u64,
    pub redriven: u64,
    /// Dead letters that ended as what they became, or as nothing.
    pub resolved: u64,
    pub moved: u64,
    pub dropped: u64,
    pub rejected: u64,
    pub renewed: u64,
    pub cancelled: u64,
    pub appended: u64,
    pub committed: u64,
    pub passed: u64,
    pub assigned: u64,
    /// Messages that groups gave up after so many failures.
    pub given_up: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        let Self { ok, refused, delivered, redelivered, acked, dead_lettered, expired, .. } = other;
        let Self { purged, redriven, moved, dropped, rejected, renewed, cancelled, .. } = other;
        let Self { appended, committed, passed, assigned, given_up, resolved, .. } = other;
        self.ok += ok;
        self.refused += refused;
        self.delivered += delivered;
        self.redelivered += redelivered;
        self.acked += acked;
        self.dead_lettered += dead_lettered;
        self.expired += expired;
        self.purged += purged;
        self.redriven += redriven;
        self.moved += moved;
        self.dropped += dropped;
        self.rejected += rejected;
        self.renewed += renewed;
        self.cancelled += cancelled;
        self.appended += appended;
        self.committed += committed;
        self.passed += passed;
        self.assigned += assigned;
        self.given_up += given_up;
        self.resolved += resolved;
    }
}

/// State and model went different ways, or something that must hold did not.
#[derive(Clone, Debug)]
pub struct Disagreement {
    /// The seed of the case.
    pub seed: u64,
    /// The fewest records with which it still happens, in order; at the last of them it does.
    pub records: Vec<Stamped>,
    /// What differed.
    pub what: String,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, records, what } = self;
        writeln!(f, "seed {seed}: {what}")?;
        records.iter().try_for_each(|Stamped { at, record }| writeln!(f, "  {:>6} {record:?}", at.0))
    }
}

impl std::error::Error for Disagreement {}

/// The commands of a seed.
pub fn commands_of(seed: u64, length: usize) -> Vec<Command> {
    let mut draw = Draw::new(seed);
    (0..length).map(|_| Command::random(&mut draw)).collect()
}

/// Runs the case of a seed, of so many commands.
///
/// # Errors
/// The first disagreement, with as few commands as show it.
pub fn check(seed: u64, length: usize) -> Result<Tally, Box<Disagreement>> {
    let mut commands = commands_of(seed, length);
    let mut records = Vec::new();
    let mut what = match run(seed, &commands, &mut records) {
        Ok(tally) => return Ok(tally),
        Err(what) => what,
    };
    let mut at = commands.len();
    while at > 0 {
        at -= 1;
        let left_out = commands.remove(at);
        let mut fewer = Vec::new();
        match run(seed, &commands, &mut fewer) {
            Ok(_) => commands.insert(at, left_out),
            Err(found) => (what, records) = (found, fewer),
        }
    }
    Err(Box::new(Disagreement { seed, records, what }))
}

/// The same with given commands; an assertion that does not hold is told like a difference.
fn run(seed: u64, commands: &[Command], log: &mut Vec<Stamped>) -> Result<Tally, String> {
    catch_unwind(AssertUnwindSafe(|| play(seed, commands, log))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned())
    })
}

fn play(seed: u64, commands: &[Command], log: &mut Vec<Stamped>) -> Result<Tally, String> {
    let mut draw = Draw::new(!seed);
    let restore_every = 1 + draw.below(11) as usize;
    let (mut state, mut model, mut history) = (State::default(), Model::default(), History::default());
    let (mut effects, mut tally) = (Vec::new(), Tally::default());
    let streams = QUEUES_AT_FIRST + STREAMS_AT_FIRST;
    for step in 0..RECORDS_AT_FIRST + commands.len() {
        let (wait, record) = match step {
            queue if queue < QUEUES_AT_FIRST => (0, creation(&mut draw, queue)),
            stream if stream < streams => (0, stream_creation(&mut draw, stream - QUEUES_AT_FIRST)),
            consumer if consumer < RECORDS_AT_FIRST => (0, attachment(&mut draw, consumer - streams)),
            command => {
                let command = &commands[command - RECORDS_AT_FIRST];
                (command.wait, command.record(&state))
            }
        };
        let stamped = Stamped { at: Timestamp(state.now().0 + wait), record };
        let index = state.applied() + 1;
        log.push(stamped.clone());
        state.apply(index, &stamped, &mut effects);
        let expected = model.apply(index, &stamped);
        history.check(index, &stamped, &effects, &state);
        tally.count(&effects);
        let told = bare(std::mem::take(&mut effects));
        if told != expected {
            return Err(format!("record {index}\n state: {told:?}\n model: {expected:?}"));
        }
        state.verify();
        compare(&state, &model).map_err(|what| format!("record {index}: {what}"))?;
        if step % restore_every == 0 {
            let snapshot = state.snapshot();
            let restored = State::restore(&snapshot).map_err(|error| error.to_string())?;
            if restored.snapshot() != snapshot || restored.next_timer() != state.next_timer() {
                return Err(format!("I11: record {index}: a snapshot does not give the same state"));
            }
            state = restored;
        }
    }
    let mut replayed = State::default();
    for (index, stamped) in (1..).zip(&*log) {
        replayed.apply(index, stamped, &mut Vec::new());
    }
    if replayed.hash() != state.hash() {
        return Err("I11: the log alone does not give the same state".into());
    }
    tally.count_queues(&state);
    Ok(tally)
}

impl Tally {
    fn count(&mut self, effects: &[Effect]) {
        let mut refused = false;
        for effect in effects {
            match effect {
                Effect::Refused(_) => refused = true,
                Effect::Receipt(Receipt::Rejected(_)) => {
                    refused = true;
                    self.rejected += 1;
                }
                Effect::Deliver(deliver) => {
                    self.delivered += 1;
                    self.redelivered += u64::from(deliver.redelivered);
                }
                Effect::Renewed { renewed, .. } => self.renewed += renewed,
                Effect::Cancelled { .. } => self.cancelled += 1,
                Effect::Appended { .. } => self.appended += 1,
                Effect::Transacted(receipt) => match **receipt {
                    TransactionReceipt::Committed(_) => self.committed += 1,
                    TransactionReceipt::Duplicate(_) => {}
                    TransactionReceipt::Refused { .. } => refused = true,
                },
                Effect::Committed { stale, given_up, .. } => {
                    self.passed += u64::from(stale.is_empty());
                    self.given_up += given_up.len() as u64;
                }
                Effect::Assigned { .. } => self.assigned += 1,
                Effect::Resolved(_) => self.resolved += 1,
                _ => {}
            }
        }
        self.refused += u64::from(refused);
        self.ok += u64::from(!refused);
    }

    fn count_queues(&mut self, state: &State) {
        for queue in state.queues() {
            self.acked += queue.acked;
            self.dead_lettered += queue.dead_lettered;
            self.expired += queue.expired;
            self.purged += queue.purged;
            self.redriven += queue.redriven;
            self.moved += queue.moved;
            self.dropped += queue.dropped;
        }
    }
}

/// Effects without the sentences for people that the model does not write.
fn bare(mut effects: Vec<Effect>) -> Vec<Effect> {
    for effect in &mut effects {
        match effect {
            Effect::Refused(refusal) => refusal.reason.clear(),
            Effect::Receipt(Receipt::Rejected(rejection)) => rejection.reason.clear(),
            Effect::Transacted(receipt) => {
                if let TransactionReceipt::Refused { rejection, .. } = &mut **receipt {
                    rejection.reason.clear();
                }
            }
            _ => {}
        }
    }
    effects
}

/// Compares everything that can be seen of either.
fn compare(state: &State, model: &Model) -> Result<(), String> {
    compare_queues(state, model)?;
    compare_topology(state, model)?;
    if state.streams().len() != model.streams.len() {
        return Err("not the same streams".into());
    }
    model.streams.iter().try_for_each(|(id, stream)| {
        compare_stream(state, *id, stream).map_err(|what| format!("stream {}: {what}", stream.name))
    })
}

/// Compares bindings, where topics lead, schedules and the window of message ids.
fn compare_topology(state: &State, model: &Model) -> Result<(), String> {
    let topology = state.topology();
    let bound: Vec<_> =
        topology.bindings().iter().map(|each| (each.pattern.clone(), each.queue.clone())).collect();
    if !bound.iter().eq(&model.bindings) {
        return Err(format!("bound are {bound:?}, and the model has {:?}", model.bindings));
    }
    for topic in ["orders.new", "orders", "orders.new.eu", "other"] {
        let topic = topic.parse().expect("a topic");
        let resolved = topology.resolve(&topic).into_iter();
        let resolved: Vec<_> = resolved.map(|each| (each.pattern.clone(), each.queue.clone())).collect();
        if resolved != model.resolve(&topic) {
            return Err(format!(
                "{topic} leads to {resolved:?}, and in the model {:?}",
                model.resolve(&topic)
            ));
        }
    }
    if !topology.schedules().eq(&model.schedules) || *topology.deduplication() != model.deduplication {
        return Err(format!("not the same schedules or windows: the model has {:?}", model.schedules));
    }
    Ok(())
}

/// Compares every message of a stream, what its readers are told, and how far its groups are.
fn compare_stream(state: &State, id: u32, stream: &Stream) -> Result<(), String> {
    let view = state.stream(stream.name.as_str()).ok_or("it is not there")?;
    for (number, (seen, run)) in view.partitions.iter().zip(&stream.partitions).enumerate() {
        let kept: Vec<(u64, MessageId, Timestamp)> =
            run.kept().map(|(offset, message)| (offset, message.id, message.at)).collect();
        let bytes: u64 = run.kept().map(|(_, message)| message.bytes).sum();
        let places = state.read_stream(QueueId(id), number as u16, 0, usize::MAX).ok_or("no partition")?;
        let found: Vec<_> = places.places.iter().map(|each| (each.offset, each.id, each.stored_at)).collect();
        let oldest = kept.first().map(|(.., at)| *at);
        if found != kept
            || (seen.first, seen.next, places.first, places.next)
                != (run.first(), run.next(), run.first(), run.next())
            || (seen.messages, seen.bytes, seen.oldest_at) != (kept.len() as u64, bytes, oldest)
        {
            return Err(format!("partition {number}: {seen:?} with {found:?}, and the model has {kept:?}"));
        }
        for start in [
            Start::First,
            Start::Last,
            Start::New,
            Start::Offset(3),
            Start::Time(Timestamp(state.now().0.saturating_sub(30))),
        ] {
            let (is, expected) = (state.offsets_at(QueueId(id), start), run.offset_of(start));
            if is.as_ref().map(|offsets| offsets[number]) != Some(expected) {
                return Err(format!("partition {number}: {start:?} is {is:?}, and in the model {expected}"));
            }
        }
    }
    for key in KEYS.iter().filter(|_| stream.policy.knows_keys()) {
        let last = state.last_of_key(stream.name.as_str(), key.as_bytes());
        let last = last.map(|(partition, waiting)| (usize::from(partition), waiting.offset));
        let lasts = stream.partitions.iter().enumerate();
        let mut lasts = lasts.filter_map(|(n, run)| Some((n, run.last_of(key.as_bytes())?)));
        let expected = lasts.next();
        if last != expected {
            return Err(format!("the last of key {key} is {last:?}, and in the model {expected:?}"));
        }
    }
    let groups: Vec<GroupView> = stream
        .groups
        .iter()
        .map(|(name, group)| {
            let cursor = |(cursor, run): (&crate::model::Cursor, &crate::model::Partition)| {
                let open = cursor.floor.max(run.first())..run.next();
                CursorView {
                    floor: cursor.floor,
                    lag: open.filter(|offset| !cursor.settled.contains(offset)).count() as u64,
                    owner: cursor.owner.map(wharf_queue::ConsumerId),
                    generation: cursor.generation,
                    failing: cursor.failing().len() as u64,
                }
            };
            let cursors = group.cursors.iter().zip(&stream.partitions).map(cursor).collect();
            let members = group.members.iter().copied().map(wharf_queue::ConsumerId).collect();
            GroupView { name: name.clone(), members, cursors }
        })
        .collect();
    let seen = state.groups(stream.name.as_str());
    if seen != groups {
        return Err(format!("groups are {seen:?}, and in the model {groups:?}"));
    }
    Ok(())
}

/// Compares every message of every queue.
fn compare_queues(state: &State, model: &Model) -> Result<(), String> {
    if state.queues().len() != model.queues.len() {
        return Err("not the same queues".into());
    }
    for (id, queue) in &model.queues {
        let view = state.queue(&queue.name).ok_or_else(|| format!("queue {} is not there", queue.name))?;
        let count =
            |place: fn(&Place) -> bool| queue.messages.iter().filter(|m| place(&m.place)).count() as u64;
        let (there, bytes) = queue.count(|_| true);
        let found =
            [view.ready, view.leased, view.delayed, view.settled, view.bytes, view.dropped, view.moved];
        let enqueued = queue.messages.len() as u64;
        let expected = [
            count(|place| *place == Place::Ready),
            count(|place| *place == Place::Leased),
            count(|place| matches!(place, Place::Delayed(_))),
            enqueued - there,
            bytes,
            queue.dropped,
            queue.moved,
        ];
        if found != expected || (view.id.0, view.enqueued, view.active) != (*id, enqueued, queue.active()) {
            return Err(format!("queue {}: {view:?}, and the model has {expected:?}", queue.name));
        }
        let mut ready: Vec<_> = (0..).zip(&queue.messages).filter(|(_, m)| m.place == Place::Ready).collect();
        ready.sort_by_key(|(offset, message)| (31 - message.priority, *offset));
        let ready: Vec<u64> = ready.into_iter().map(|(offset, _)| offset).collect();
        let peeked: Vec<u64> = state.peek(&queue.name, usize::MAX).iter().map(|each| each.offset).collect();
        if peeked != ready {
            return Err(format!("queue {}: ready are {peeked:?}, and the model has {ready:?}", queue.name));
        }
        let browsed = state.browse(&queue.name, 0, usize::MAX);
        let there = (0..).zip(&queue.messages).filter(|(_, message)| message.place != Place::Gone);
        for ((offset, message), seen) in there.zip(&browsed) {
            let place = match seen.place {
                wharf_queue::Place::Ready => Place::Ready,
                wharf_queue::Place::Leased => Place::Leased,
                wharf_queue::Place::Delayed { until } => Place::Delayed(until),
            };
            let same = (seen.offset, seen.id, seen.stored_at, seen.bytes, place)
                == (offset, message.id, message.stored_at, message.bytes, message.place)
                && (seen.attempts, seen.failures, seen.priority)
                    == (message.attempts, message.failures, message.priority)
                && seen.expires == queue.expiry(message)
                && seen.death.as_ref() == message.death.as_deref();
            if !same {
                return Err(format!("queue {}: {seen:?}, and the model has {message:?}", queue.name));
            }
        }
        for dead in state.dead_letters(&queue.name, 0, usize::MAX) {
            let message = &queue.messages[dead.offset as usize];
            if (dead.past.redriven, &dead.past.deaths) != (message.redriven, &message.deaths) {
                return Err(format!("queue {}: {dead:?}, and the model has {message:?}", queue.name));
            }
        }
    }
    Ok(())
}
