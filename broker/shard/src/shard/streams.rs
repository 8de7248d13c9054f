//! Streams of a shard: read by anybody, and by the members of groups.

use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use wharf_log::{LogReader, ReadError};
use wharf_protocol::{Message, MessageId};
use wharf_queue::{
    Assignment, Commit, ConsumerId, Durability, JoinGroup, QueueId, Record, ResetGroup, Stamped, State,
    Waiting,
};

use super::pending::{Pending, Reply};
use super::recent::Recent;
use super::{Changed, Command, Shard};
use crate::outlet::Closed;
use crate::stream::{Found, Tails};
use crate::{STREAM_READ_MESSAGES_MAX, ShardError, StreamMessage, StreamRead, StreamRun, Tail};

/// Messages read from the log together; bytes are counted after each such run.
const LOG_RUN_MESSAGES: usize = 512;

/// A member of a group, until it is dropped.
pub struct Member {
    /// Its number.
    pub id: ConsumerId,
    /// What it has.
    pub membership: watch::Receiver<Membership>,
    shard: Shard,
}

impl Drop for Member {
    fn drop(&mut self) {
        // A departure has to get through when nothing else does. The owner being gone means that its members are.
        let _ = self.shard.send_at_once(Command::Stream(Request::Leave { member: self.id }));
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The answer to a commit: numbers of its ranges from 0, and then of its failures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Those that were refused: another member has the partition. Rising.
    pub stale: Vec<u32>,
    /// Failures that were one too many: these messages are settled. Rising.
    pub given_up: Vec<u32>,
}

/// What a member of a group has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Its partitions.
    pub assignments: Vec<Assignment>,
    /// It is no member any more.
    pub closed: Option<Closed>,
}

/// What the owner is asked of streams.
pub(super) enum Request {
    Read {
        read: StreamRead,
        reply: oneshot::Sender<Option<Found>>,
    },
    Join {
        join: JoinGroup,
        membership: watch::Sender<Membership>,
        reply: oneshot::Sender<Result<(), ShardError>>,
    },
    Leave {
        member: ConsumerId,
    },
    Commit {
        commit: Commit,
        durability: Durability,
        reply: oneshot::Sender<Result<Committed, ShardError>>,
    },
}

impl Shard {
    /// Reads messages of a stream, from memory or from the log; none when there are none yet.
    ///
    /// # Errors
    /// The stream is gone, a message cannot be read, or the shard stopped.
    pub async fn read_stream(&self, read: StreamRead) -> Result<StreamRun, ShardError> {
        let (reply, answer) = oneshot::channel();
        let read = StreamRead { messages_max: read.messages_max.clamp(1, STREAM_READ_MESSAGES_MAX), ..read };
        self.send(Command::Stream(Request::Read { read, reply }), 0).await?;
        let found = self.answer(answer).await?;
        let unknown = || wharf_queue::Refusal {
            code: wharf_protocol::ErrorCode::NotFound,
            reason: "the stream was deleted, or has no such partition".into(),
        };
        let found = found.ok_or_else(unknown)?;
        if found.bodies.iter().all(Option::is_some) {
            return bodies(found, read, |_, _| Ok(Vec::new()));
        }
        let log = Arc::clone(&self.reader);
        let run = move || bodies(found, read, |places, max| read_run(&*log, places, max));
        let run = tokio::task::spawn_blocking(run).await;
        run.map_err(|error| ShardError::Stopped(error.to_string()))?
    }

    /// Told whenever `stream` has more.
    pub fn watch_stream(&self, stream: QueueId) -> watch::Receiver<Tail> {
        self.tails.watch(stream)
    }

    /// Joins a group, made when there is none; `join.member` is chosen here.
    ///
    /// # Cancel safety
    /// Dropped, it leaves again.
    ///
    /// # Errors
    /// The state refused, or the shard stopped.
    pub async fn join_group(&self, mut join: JoinGroup) -> Result<Member, ShardError> {
        let id = ConsumerId(self.consumers.fetch_add(1, Ordering::Relaxed));
        join.member = id;
        let (membership, assigned) = watch::channel(Membership::default());
        // From here on it leaves, whatever happens.
        let member = Member { id, membership: assigned, shard: self.clone() };
        let (reply, answer) = oneshot::channel();
        self.send(Command::Stream(Request::Join { join, membership, reply }), 0).await?;
        self.answer(answer).await??;
        Ok(member)
    }

    /// Hands on what a member is done with, and what it failed with.
    ///
    /// # Errors
    /// The shard stopped.
    pub async fn commit(
        &self,
        commit: Commit,
        durability: Durability,
    ) -> Result<oneshot::Receiver<Result<Committed, ShardError>>, ShardError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Stream(Request::Commit { commit, durability, reply }), 0).await?;
        Ok(answer)
    }

    /// Sets a group to another place.
    ///
    /// # Errors
    /// There is no such group, or the shard stopped.
    pub async fn reset_group(&self, reset: ResetGroup) -> Result<Changed, ShardError> {
        self.record(Record::ResetGroup(reset)).await
    }

    /// Forgets a group; its members are told.
    ///
    /// # Errors
    /// There is no such group, or the shard stopped.
    pub async fn delete_group(
        &self,
        stream: wharf_protocol::Name,
        group: wharf_protocol::Name,
    ) -> Result<Changed, ShardError> {
        self.record(Record::DeleteGroup { stream, group }).await
    }
}

/// What the owner knows of those who read streams.
#[derive(Default)]
pub(super) struct Streams {
    pub(super) tails: Tails,
    members: HashMap<ConsumerId, watch::Sender<Membership>>,
    /// Streams that the batch being applied appended to.
    grown: Vec<QueueId>,
}

impl Streams {
    /// Answers a read at once, and makes anything else a record.
    pub(super) fn take(&mut self, request: Request, state: &State, recent: &Recent, pending: &mut Pending) {
        match request {
            // Whoever stopped waiting does not need the answer.
            Request::Read { read, reply } => drop(reply.send(find(state, recent, read))),
            Request::Join { join, membership, reply } => {
                // Those that were refused, or are gone without a word, go when somebody comes.
                self.members.retain(|_, membership| membership.receiver_count() > 0);
                self.members.insert(join.member, membership);
                // Where a new group begins is remembered as durably as what it will settle.
                pending.add(Record::JoinGroup(join), Durability::Fsync, Reply::Attach(reply));
            }
            Request::Leave { member } => {
                self.members.remove(&member);
                pending.add_record(Record::LeaveGroup { member });
            }
            Request::Commit { commit, durability, reply } => {
                pending.add(Record::Commit(commit), durability, Reply::Commit(reply));
            }
        }
    }

    pub(super) fn assigned(&self, member: ConsumerId, assignments: Vec<Assignment>) {
        if let Some(membership) = self.members.get(&member) {
            membership.send_replace(Membership { assignments, closed: None });
        }
    }

    /// Its group or stream was deleted.
    pub(super) fn cancelled(&mut self, member: ConsumerId) {
        if let Some(membership) = self.members.remove(&member) {
            membership.send_modify(|membership| membership.closed = Some(Closed::QueueDeleted));
        }
    }

    pub(super) fn grew(&mut self, stream: QueueId) {
        if self.grown.last() != Some(&stream) {
            self.grown.push(stream);
        }
    }

    /// Wakes those who wait for more, once for a batch.
    pub(super) fn wake(&mut self) {
        let mut grown = mem::take(&mut self.grown);
        grown.sort_unstable();
        grown.dedup();
        grown.drain(..).for_each(|stream| self.tails.grew(stream));
        self.grown = grown;
    }

    pub(super) fn close(&self) {
        self.tails.close();
        for membership in self.members.values() {
            membership.send_modify(|membership| membership.closed = Some(Closed::Stopping));
        }
    }
}

/// Where the messages lie that `read` asks for, and those that are still in memory.
fn find(state: &State, recent: &Recent, read: StreamRead) -> Option<Found> {
    let places = state.read_stream(read.stream, read.partition, read.from, read.messages_max)?;
    let mut left = read.bytes_max;
    let mut bodies = Vec::with_capacity(places.places.len());
    for place in &places.places {
        // What is past the bound will be asked for again.
        let body = recent.message(place.id).filter(|_| left > 0);
        left = left.saturating_sub(body.as_ref().map_or(0, |message| message.payload.len()));
        bodies.push(body);
    }
    Some(Found { places: places.places, bodies, first: places.first, next: places.next })
}

/// Brings places and bodies together, up to the bound in bytes; `from_log` reads those that are not in memory, in
/// order and as many as it likes.
fn bodies(
    found: Found,
    read: StreamRead,
    from_log: impl Fn(&[Waiting], usize) -> Result<Vec<Message>, ShardError>,
) -> Result<StreamRun, ShardError> {
    let Found { places, mut bodies, first, next } = found;
    let mut messages = Vec::with_capacity(places.len());
    let (mut bytes, mut at) = (0, 0);
    while at < places.len() && (bytes < read.bytes_max || messages.is_empty()) {
        let absent = bodies[at..].iter().take_while(|body| body.is_none()).count();
        let run = match bodies[at].take() {
            Some(message) => vec![message],
            None => from_log(&places[at..at + absent.min(LOG_RUN_MESSAGES)], read.bytes_max - bytes)?,
        };
        if run.is_empty() {
            break;
        }
        for message in run {
            bytes += message.payload.len();
            let Waiting { offset, id, stored_at } = places[at];
            messages.push(StreamMessage { offset, id, stored_at, message });
            at += 1;
        }
    }
    let after = match messages.last() {
        Some(last) => last.offset + 1,
        // Nothing there: all that was asked for is gone, or has yet to come.
        None if places.is_empty() => next.max(read.from),
        None => read.from.max(first),
    };
    Ok(StreamRun { messages, first, next, after })
}

/// Reads messages from the log, each record once. Fewer than asked for when some were given up meanwhile, or at
/// `bytes_max`.
fn read_run(log: &dyn LogReader, places: &[Waiting], bytes_max: usize) -> Result<Vec<Message>, ShardError> {
    let mut indexes: Vec<u64> = places.iter().map(|place| place.id.index).collect();
    indexes.dedup();
    let mut records: Vec<Bytes> = Vec::with_capacity(indexes.len());
    if let Err(error) = log.read(&indexes, &mut records)
        && records.is_empty()
    {
        if matches!(error, ReadError::Trimmed { .. } | ReadError::Compacted { .. }) {
            return Ok(Vec::new());
        }
        return Err(ShardError::Unreadable { id: places[0].id, reason: error.to_string() });
    }
    let (mut messages, mut bytes, mut rest) = (Vec::with_capacity(places.len()), 0, places);
    for record in records {
        let index = rest[0].id.index;
        let here = rest.iter().take_while(|place| place.id.index == index).count();
        let (here, after) = rest.split_at(here);
        for message in messages_of(record, here)? {
            bytes += message.payload.len();
            messages.push(message);
        }
        rest = after;
        if bytes >= bytes_max {
            break;
        }
    }
    Ok(messages)
}

/// The messages that a record holds at `places`.
fn messages_of(record: Bytes, places: &[Waiting]) -> Result<Vec<Message>, ShardError> {
    let unreadable = |id: MessageId, reason: String| ShardError::Unreadable { id, reason };
    let stamped = Stamped::decode(record).map_err(|error| unreadable(places[0].id, error.to_string()))?;
    let message = |place: &Waiting| {
        let message = stamped.record.message(place.id.entry);
        message.cloned().ok_or_else(|| unreadable(place.id, "its record does not hold it".into()))
    };
    places.iter().map(message).collect()
}
