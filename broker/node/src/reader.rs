//! One reader of a stream, alone or as a member of a group: deliveries out, credit and settlements back.
//!
//! A reader keeps its own place and reads ahead of it in the background; nothing of it is stored. A member has the
//! partitions that its group gives it: what it settles is a record, and another member goes on from there.

mod controls;
mod desk;
mod held;
mod options;
mod pace;
mod part;
mod settled;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::poll_fn;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use wharf_protocol::{Delivery, Name, Start};
use wharf_queue::{Commit, ConsumerId, JoinGroup, Passed, QueueId};
use wharf_shard::{Closed, Member, Shard, StreamMessage, StreamRead, Tail};

use self::held::Held;
use self::pace::Pace;
use self::part::Part;
use crate::watcher::Watcher;
use crate::way_out::{Settler, WayOut};
use crate::{Action, Event, Node, NodeError, Principal};

pub use self::controls::ReaderControls;
pub use self::options::ReadOptions;
pub use self::settled::ReaderSettled;

/// Deliveries handed over together.
const DELIVERIES_MAX: usize = 512;

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
        let mut controls = ReaderControls::new(shard.clone(), info.policy.durability, options.credit);
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
            pace: options.original_pace.then(Pace::default),
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

fn delivery(tag: u64, partition: u16, message: StreamMessage, attempt: u32, redelivered: bool) -> Delivery {
    let StreamMessage { offset, id, stored_at, message } = message;
    Delivery { tag, id, offset, attempt, redelivered, stored_at, partition, death: None, message }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("stream", &self.name)
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}
