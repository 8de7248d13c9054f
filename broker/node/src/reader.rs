//! One reader of a stream, alone or as a member of a group: deliveries out, credit and settlements back.
//!
//! A reader keeps its own place and reads ahead of it in the background; nothing of it is stored. A member has the
//! partitions that its group gives it: what it settles is a record, and another member goes on from there.

mod held;
mod part;
mod settled;

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use wharf_protocol::{Delivery, Name, Outcome, Settlement, Start, Timestamp};
use wharf_queue::{Commit, ConsumerId, Durability, JoinGroup, Passed, QueueId};
use wharf_shard::{Closed, Member, Shard, StreamMessage, StreamRead, Tail};

use self::held::{Deliveries, Held, Told};
use self::part::Part;
use self::settled::Awaited;
use crate::watcher::Watcher;
use crate::way_out::{Settler, WayOut};
use crate::{Action, Event, Node, NodeError, Principal};

pub use self::settled::ReaderSettled;

/// Deliveries handed over together.
const DELIVERIES_MAX: usize = 512;
/// The most credit that a reader can have.
const CREDIT_MAX: u64 = 65_536;

/// How a stream is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// As a member of this group, made when there is none; a group has its place at the broker.
    pub group: Option<Name>,
    /// Where to begin; a group that is there goes on where it is.
    pub start: Start,
    /// How many messages may come before the first credit.
    pub credit: u32,
    /// Of these partitions alone; none: of all. Not for a group.
    pub partitions: Vec<u16>,
    /// Where to begin in some partitions instead. Not for a group.
    pub resume: Vec<(u16, u64)>,
    /// Tell with [`Event::Empty`] when all that was there at the beginning is delivered. Not for a group.
    pub until_end: bool,
    /// Deliver with the pauses with which the messages were stored. Not for a group.
    pub original_pace: bool,
    /// Nothing but the last message of this key, then [`Event::Empty`].
    pub last_of: Option<Bytes>,
}

/// One reader. Dropped, a member leaves its group, and others go on with its partitions.
pub struct Reader {
    shard: Shard,
    stream: QueueId,
    name: Name,
    partitions: u16,
    tail: watch::Receiver<Tail>,
    parts: Vec<Part>,
    /// Whose turn it is.
    turn: usize,
    next_tag: u64,
    /// Comes before everything else.
    single: Option<Delivery>,
    ends: bool,
    told_empty: bool,
    pace: Option<Pace>,
    member: Option<Member>,
    way_out: WayOut,
    /// The group said something new of the member.
    reassigned: bool,
    controls: ReaderControls,
    watcher: Watcher,
}

/// Credit and settlements of one reader, from any task.
#[derive(Clone)]
pub struct ReaderControls {
    shard: Shard,
    desk: Arc<Desk>,
    member: Option<ConsumerId>,
    durability: Durability,
}

/// Where the two sides of a reader meet.
#[derive(Debug, Default)]
struct Desk {
    given: Mutex<Given>,
    /// Credit came, or a nack, or what was read in the background.
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Given {
    credit: u64,
    deliveries: Deliveries,
    /// Answers about nacks for which nobody waits any more but the reader; at most one for each nack.
    unheard: Vec<Awaited>,
}

/// When which message is to be delivered: as long after the first as it was stored after that.
#[derive(Clone, Copy, Debug)]
struct Pace {
    origin: Option<(Timestamp, Instant)>,
}

impl Node {
    /// Reads `stream`.
    ///
    /// # Errors
    /// No such stream or partition; not allowed; options that do not go together; the node is stopping.
    pub async fn read_stream(
        &self,
        who: &Principal,
        stream: &Name,
        options: ReadOptions,
    ) -> Result<Reader, NodeError> {
        who.check(Action::Consume(stream.as_str()))?;
        let shard = self.shard().clone();
        let missing = || NodeError::NotFound { kind: "stream", name: stream.to_string() };
        let info = shard.topology().stream(stream.as_str()).cloned().ok_or_else(missing)?;
        options.check(info.policy.partitions)?;
        let tail = shard.watch_stream(info.id);
        let mut controls = ReaderControls {
            shard: shard.clone(),
            desk: Arc::new(Desk::default()),
            member: None,
            durability: info.policy.durability,
        };
        controls.desk.lock().credit = u64::from(options.credit).min(CREDIT_MAX);
        let mut member = None;
        if let Some(group) = options.group.clone() {
            let (stream, start) = (stream.clone(), options.start);
            let joined =
                shard.join_group(JoinGroup { member: ConsumerId::default(), stream, group, start }).await?;
            controls.member = Some(joined.id);
            member = Some(joined);
        }
        let mut reader = Reader {
            shard,
            stream: info.id,
            name: stream.clone(),
            partitions: info.policy.partitions,
            tail,
            parts: Vec::new(),
            turn: 0,
            next_tag: 1,
            single: None,
            ends: options.until_end || options.last_of.is_some(),
            told_empty: false,
            pace: options.original_pace.then_some(Pace { origin: None }),
            member,
            way_out: WayOut::new(self, stream.clone()),
            reassigned: true,
            controls,
            watcher: Watcher::new(self.tracing(), stream.clone()),
        };
        match options.last_of {
            Some(key) => reader.single = reader.find_last(key).await?,
            None if reader.member.is_none() => reader.begin(options).await?,
            None => {}
        }
        Ok(reader)
    }
}

impl ReadOptions {
    fn check(&self, partitions: u16) -> Result<(), NodeError> {
        let alone =
            !self.partitions.is_empty() || !self.resume.is_empty() || self.until_end || self.original_pace;
        if self.group.is_some() && (alone || self.last_of.is_some()) {
            let reason =
                "a member of a group is given its partitions and has no end; read without a group for that";
            return Err(NodeError::Invalid(reason.into()));
        }
        let named = self.partitions.iter().chain(self.resume.iter().map(|(partition, _)| partition));
        match named.copied().find(|partition| *partition >= partitions) {
            Some(partition) => {
                let reason =
                    format!("there is no partition {partition}: the stream has {partitions}, from 0");
                Err(NodeError::Invalid(reason))
            }
            None => Ok(()),
        }
    }
}

impl Reader {
    /// Waits for at least one delivery and appends what is there, at most 512 and never more than the credit, to
    /// `out`.
    ///
    /// # Errors
    /// The stream was deleted, or the group; the node is stopping; a stored message cannot be read.
    ///
    /// # Cancel safety
    /// What is not appended stays, in order.
    pub async fn next(&mut self, out: &mut Vec<Delivery>) -> Result<Event, NodeError> {
        let before = out.len();
        loop {
            if self.way_out.is_busy() {
                self.way_out.finish(out).await?;
                if out.len() > before {
                    self.watcher.delivered(&out[before..], false, false);
                    return Ok(Event::Deliveries);
                }
            }
            self.take_assignments()?;
            let tail = self.tail.borrow_and_update().clone();
            if tail.gone {
                return Err(self.gone());
            }
            for part in &mut self.parts {
                part.arrive()?;
            }
            // The group says that a partition is another member's before anything is stored that this one did not
            // hear of: so what has arrived is looked at once more with what the group says by now.
            self.take_assignments()?;
            for part in &mut self.parts {
                part.read_ahead(&self.shard, self.stream, tail.version, &self.controls.desk.changed);
            }
            self.deliver_again(out, before + DELIVERIES_MAX).await?;
            self.deliver(out, before + DELIVERIES_MAX);
            if out.len() > before {
                if self.way_out.is_clear() {
                    self.watcher.delivered(&out[before..], false, false);
                    return Ok(Event::Deliveries);
                }
                let (deliveries, controls) = (out.split_off(before), self.controls.clone());
                self.way_out.begin(deliveries, Settler::Stream { controls, member: self.member.is_some() });
                continue;
            }
            if self.ends && !self.told_empty && self.single.is_none() && self.parts.iter().all(Part::is_done)
            {
                self.told_empty = true;
                return Ok(Event::Empty);
            }
            self.wait().await;
        }
    }

    /// Its credit and settlements, for another task.
    pub fn controls(&self) -> ReaderControls {
        self.controls.clone()
    }

    /// How many partitions the stream has.
    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    /// Where it goes on in each partition that it has.
    pub fn positions(&self) -> Vec<(u16, u64)> {
        self.parts.iter().map(|part| (part.number, part.position)).collect()
    }

    /// Finds where to begin in each partition, and where to end.
    async fn begin(&mut self, options: ReadOptions) -> Result<(), NodeError> {
        let (stream, start, ends) = (self.stream, options.start, options.until_end);
        let find = move |state: &wharf_queue::State, _: &wharf_log::Stats| {
            Some((state.offsets_at(stream, start)?, state.offsets_at(stream, Start::New)?))
        };
        let (from, next) = self.shard.query(find).await?.ok_or_else(|| self.gone())?;
        let chosen =
            |partition: &u16| options.partitions.is_empty() || options.partitions.contains(partition);
        let numbers: Vec<u16> = (0..self.partitions).filter(chosen).collect();
        for number in &numbers {
            let resumed = options.resume.iter().find(|(partition, _)| partition == number);
            let position = resumed.map_or(from[usize::from(*number)], |(_, offset)| *offset);
            let mut part = Part::new(*number, position, numbers.len());
            part.end = ends.then_some(next[usize::from(*number)]);
            self.parts.push(part);
        }
        Ok(())
    }

    async fn find_last(&self, key: Bytes) -> Result<Option<Delivery>, NodeError> {
        let name = self.name.clone();
        let knows = self.shard.topology().stream(name.as_str()).is_some_and(|info| info.policy.knows_keys());
        if !knows {
            let reason =
                format!("stream {name} does not know its keys; create it with index-keys or compact");
            return Err(NodeError::Invalid(reason));
        }
        let wanted = key.clone();
        let found = self.shard.query(move |state, _| state.last_of_key(name.as_str(), &wanted)).await?;
        let Some((partition, place)) = found else { return Ok(None) };
        let message = self.read_one(partition, place.offset).await?;
        // Another key of the same hash is no answer.
        let message = message.filter(|message| message.message.key.as_ref() == Some(&key));
        Ok(message.map(|message| delivery(1, partition, message, 1, false)))
    }

    async fn read_one(&self, partition: u16, offset: u64) -> Result<Option<StreamMessage>, NodeError> {
        let read = StreamRead { stream: self.stream, partition, from: offset, messages_max: 1, bytes_max: 1 };
        let run = self.shard.read_stream(read).await?;
        Ok(run.messages.into_iter().next().filter(|message| message.offset == offset))
    }

    /// Takes over what the group says that this member has.
    fn take_assignments(&mut self) -> Result<(), NodeError> {
        let Some(member) = &mut self.member else { return Ok(()) };
        // The sender goes with the shard, which tells so before.
        if !self.reassigned && !member.membership.has_changed().unwrap_or(false) {
            return Ok(());
        }
        self.reassigned = false;
        let membership = member.membership.borrow_and_update().clone();
        if let Some(why) = membership.closed {
            return Err(match why {
                Closed::QueueDeleted => {
                    NodeError::NotFound { kind: "group of stream", name: self.name.to_string() }
                }
                Closed::Stopping => self.shard.gone().into(),
            });
        }
        let mut given = self.controls.desk.lock();
        let assignments = &membership.assignments;
        self.parts.retain(|part| {
            let same = |each: &&wharf_queue::Assignment| {
                (each.partition, each.generation) == (part.number, part.generation)
            };
            let keep = assignments.iter().any(|each| same(&each));
            if !keep {
                given.deliveries.forget(part.number);
            }
            keep
        });
        for assignment in assignments {
            if !self.parts.iter().any(|part| part.number == assignment.partition) {
                self.parts.push(Part::assigned(assignment, assignments.len()));
            }
        }
        Ok(())
    }

    /// Delivers nacked messages that are due, as far as there is credit and until `out` has `max`.
    async fn deliver_again(&mut self, out: &mut Vec<Delivery>, max: usize) -> Result<(), NodeError> {
        let Some(member) = self.controls.member else { return Ok(()) };
        while out.len() < max {
            let due = {
                let given = self.controls.desk.lock();
                given.deliveries.due(Instant::now()).filter(|_| given.credit > 0)
            };
            let Some(held) = due else { break };
            let message = self.read_one(held.partition, held.offset).await?;
            let Some(message) = message else {
                // Retention took it: done with, like what lies before it.
                let Held { partition, generation, first, offset: last, .. } = held;
                let passed = vec![Passed { partition, generation, first, last, dead_letter: None }];
                let commit = Commit { member, passed, failed: Vec::new() };
                drop(self.shard.commit(commit, self.controls.durability).await?);
                self.controls.desk.lock().deliveries.give_again(held, None);
                continue;
            };
            let mut given = self.controls.desk.lock();
            given.credit -= 1;
            given.deliveries.give_again(held, Some(self.next_tag));
            out.push(delivery(self.next_tag, held.partition, message, held.attempt, true));
            self.next_tag += 1;
        }
        Ok(())
    }

    /// Delivers what lies here, as far as there is credit and until `out` has `max`.
    fn deliver(&mut self, out: &mut Vec<Delivery>, max: usize) {
        let mut given = self.controls.desk.lock();
        if given.credit > 0
            && let Some(single) = self.single.take()
        {
            given.credit -= 1;
            self.next_tag += 1;
            out.push(single);
        }
        let now = Instant::now();
        let mut idle = 0;
        while out.len() < max && given.credit > 0 && idle < self.parts.len() {
            let place = self.turn % self.parts.len();
            let part = &mut self.parts[place];
            let goes_on = self.member.is_none() || given.deliveries.lets_go_on(part.number, part.position);
            let due = match (&mut self.pace, part.next_stored_at()) {
                (Some(pace), Some(at)) => pace.due(at, now) <= now,
                _ => true,
            };
            let Some((first, message)) = (goes_on && due).then(|| part.take()).flatten() else {
                self.turn += 1;
                idle += 1;
                continue;
            };
            idle = 0;
            let attempt = part.attempt(message.offset);
            let redelivered = attempt > 1;
            given.credit -= 1;
            if self.member.is_some() {
                let (partition, generation, offset) = (part.number, part.generation, message.offset);
                given.deliveries.give(self.next_tag, Held { partition, generation, first, offset, attempt });
            }
            out.push(delivery(self.next_tag, part.number, message, attempt, redelivered));
            self.next_tag += 1;
        }
    }

    /// Waits until there may be something to do.
    async fn wait(&mut self) {
        let nacked = self.controls.desk.lock().deliveries.next_due();
        let mut due = nacked;
        if let Some(pace) = &mut self.pace {
            let now = Instant::now();
            let next = self.parts.iter_mut().filter_map(Part::next_stored_at).map(|at| pace.due(at, now));
            // What came due since it was looked for is not passed over: then there is nothing to wait for.
            due = due.into_iter().chain(next).min();
        }
        let due = due.filter(|_| self.controls.desk.lock().credit > 0);
        let timer = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let assigned = async {
            match &mut self.member {
                Some(member) => drop(member.membership.changed().await),
                None => std::future::pending().await,
            }
        };
        let desk = &self.controls.desk;
        tokio::select! {
            () = desk.changed.notified() => {}
            () = poll_fn(|context| desk.hear(context)) => {}
            _ = self.tail.changed() => {}
            () = assigned => self.reassigned = true,
            () = timer => {}
        }
    }

    fn gone(&self) -> NodeError {
        match self.shard.failure() {
            Some(_) => self.shard.gone().into(),
            None if self.shard.topology().stream(self.name.as_str()).is_some() => self.shard.gone().into(),
            None => NodeError::NotFound { kind: "stream", name: self.name.to_string() },
        }
    }
}

impl Pace {
    /// When a message stored at `at` is to be delivered.
    fn due(&mut self, at: Timestamp, now: Instant) -> Instant {
        let (first, begun) = *self.origin.get_or_insert((at, now));
        begun + at.since(first)
    }
}

fn delivery(tag: u64, partition: u16, message: StreamMessage, attempt: u32, redelivered: bool) -> Delivery {
    let StreamMessage { offset, id, stored_at, message } = message;
    Delivery { tag, id, offset, attempt, redelivered, stored_at, partition, death: None, message }
}

impl ReaderControls {
    /// Allows `add` more messages to come.
    pub fn credit(&self, add: u32) {
        let mut given = self.desk.lock();
        given.credit = (given.credit + u64::from(add)).min(CREDIT_MAX);
        drop(given);
        self.desk.changed.notify_one();
    }

    /// What a settlement says, for a transaction's record; nothing is settled by that.
    pub(crate) fn commit_of(&self, settlement: &Settlement) -> Result<Commit, String> {
        let member =
            self.member.ok_or("a reader without a group has nothing to settle; join a group for that")?;
        let Settlement { first, last, outcome } = settlement;
        if matches!(outcome, Outcome::Nack { .. }) {
            return Err("a message of a stream is nacked outside of a transaction".into());
        }
        let passed = self.desk.lock().deliveries.passed(settlement);
        let passed = passed.ok_or_else(|| {
            format!(
                "not all deliveries {first} to {last} are held: settled before, or another member has them"
            )
        })?;
        Ok(Commit { member, passed, failed: Vec::new() })
    }

    /// A transaction settled these.
    pub(crate) fn forget(&self, settlement: &Settlement) {
        if let Some(member) = self.member {
            let settlements = std::slice::from_ref(settlement);
            drop(self.desk.lock().deliveries.settle(member, settlements, Instant::now()));
            self.desk.changed.notify_one();
        }
    }

    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    /// Hands settlements on, in order. They are durable when what comes back resolves; what is nacked comes again
    /// after that, unless it was given up.
    ///
    /// # Errors
    /// The reader is no member of a group; the node is stopping.
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<ReaderSettled, NodeError> {
        let Some(member) = self.member else {
            let reason = "a reader without a group has nothing to settle; join a group for that";
            return Err(NodeError::Invalid(reason.into()));
        };
        let told = self.desk.lock().deliveries.settle(member, &settlements, Instant::now());
        self.desk.changed.notify_one();
        let Told { commit, tags, nacks, stale } = told;
        let mut awaited = None;
        if !commit.passed.is_empty() || !commit.failed.is_empty() {
            let answer = self.shard.commit(commit, self.durability).await?;
            awaited = Some(Awaited { answer, tags, nacks });
        }
        Ok(ReaderSettled { awaited, stale, desk: Arc::clone(&self.desk) })
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("stream", &self.name)
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ReaderControls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReaderControls").field("member", &self.member).finish_non_exhaustive()
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready when an answer has come that is for the reader alone.
    fn hear(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut given = self.lock();
        let Given { deliveries, unheard, .. } = &mut *given;
        let before = unheard.len();
        unheard.retain_mut(|awaited| awaited.poll(deliveries, context).is_pending());
        if unheard.len() < before { Poll::Ready(()) } else { Poll::Pending }
    }
}
