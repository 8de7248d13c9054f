//! One log and the state folded from it, behind a handle.
//!
//! A thread of its own owns both ([`owner`]): it drains what waits, writes it together, syncs once, applies it,
//! and carries the effects out. The handle hides the channel; waiting for room in it is the back-pressure.

mod consumers;
mod done;
mod exact;
mod keeper;
mod owner;
mod pending;
mod recent;
mod streams;
mod upkeep;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use wharf_log::LogReader;
use wharf_protocol::{Message, MessageId, Receipt, Settlement, Stored, Timestamp};
use wharf_queue::{
    Attach, Change, ConsumerId, Durability, Edit, Kv, KvChange, Move, Publish, Record, Redrive, Refused,
    Resolve, Stamped, State, Topology,
};

use crate::stream::Tails;
use crate::{OpenError, Outlet, ShardError};

pub use exact::Claimed;
pub use streams::{Committed, Member, Membership};

/// How a shard runs.
#[derive(Clone)]
pub struct Options {
    /// How its log is kept.
    pub log: wharf_log::Options,
    /// What tells it the time; it may jump, and the shard's own time still never goes back.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// A snapshot is due after so many bytes of log, or so many [times](Self::snapshot_log_times) its own size, whichever
    /// is more; and when the last one is old. With what two snapshots do not cover, twice as much, this is how long the log is at least.
    pub snapshot_log_bytes_min: usize,
    /// After how many times its own size of log a snapshot is due. It walks over all that waits, for which as many more
    /// messages pay as there are more that wait; and one that waits takes three bytes of snapshot, so that the log which
    /// none covers stays short beside what is live.
    pub snapshot_log_times: usize,
}

/// What may wait for the owner, in units of [`ROOM_UNIT_BYTES`]; a command takes one, and one more for each
/// unit of messages that it carries.
const ROOM_UNITS: usize = 64 * 1024;
const ROOM_UNIT_BYTES: usize = 1024;

/// The handle of a shard. Cheap to clone.
#[derive(Clone)]
pub struct Shard {
    commands: mpsc::UnboundedSender<Queued>,
    /// What bounds `commands`: all but a departure wait for room.
    room: Arc<Semaphore>,
    reader: Arc<dyn LogReader>,
    topology: Arc<ArcSwap<Topology>>,
    failure: watch::Receiver<Option<String>>,
    consumers: Arc<AtomicU64>,
    tails: Tails,
    kv: Kv,
}

/// Is shown an answer on the owner's thread, before the first delivery of what it tells of: it must not wait.
pub type Seen<T> = Box<dyn FnOnce(&T) + Send>;

/// Who is told an answer.
struct Told<T> {
    sender: oneshot::Sender<T>,
    seen: Option<Seen<T>>,
}

impl<T> Told<T> {
    fn new(seen: Option<Seen<T>>) -> (Self, oneshot::Receiver<T>) {
        let (sender, answer) = oneshot::channel();
        (Self { sender, seen }, answer)
    }

    /// Whoever stopped waiting does not need it.
    fn send(self, answer: T) {
        if let Some(seen) = self.seen {
            seen(&answer);
        }
        drop(self.sender.send(answer));
    }
}

/// A command that waits for the owner, and the room that it takes meanwhile.
struct Queued {
    command: Command,
    _room: Option<OwnedSemaphorePermit>,
}

/// Run on the owner's thread, between two commits.
type Question = Box<dyn FnOnce(&State, &wharf_log::Stats) + Send>;

/// What the owner is asked to do.
enum Command {
    Publish {
        records: Vec<Publish>,
        durability: Durability,
        reply: Told<Vec<Receipt>>,
    },
    Settle {
        consumer: ConsumerId,
        settlements: Vec<Settlement>,
        durability: Durability,
        reply: oneshot::Sender<Result<Vec<u64>, ShardError>>,
    },
    Refuse {
        consumer: ConsumerId,
        refused: Vec<Refused>,
        durability: Durability,
        reply: oneshot::Sender<Result<Vec<u64>, ShardError>>,
    },
    Attach {
        attach: Attach,
        outlet: Arc<Outlet>,
        reply: oneshot::Sender<Result<(), ShardError>>,
    },
    Renew {
        consumer: ConsumerId,
        tags: Vec<(u64, u64)>,
        reply: oneshot::Sender<Result<Vec<u64>, ShardError>>,
    },
    Credit {
        consumer: ConsumerId,
        add: u32,
        bytes: u64,
    },
    Detach {
        consumer: ConsumerId,
    },
    Change {
        record: Record,
        reply: Told<Result<Changed, ShardError>>,
    },
    /// A transaction or a claim.
    Exact {
        record: Record,
        durability: Durability,
        reply: exact::Reply,
    },
    Stream(streams::Request),
    Query(Question),
    /// The keeper has done its job.
    Kept,
    Stop(oneshot::Sender<()>),
}

/// What a change did, where it has something to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Messages purged, redriven, moved or discarded.
    pub messages: u64,
    /// Messages that were to be redriven or moved and stay.
    pub kept: u64,
    /// The new id of a dead letter that was edited.
    pub edited: Option<MessageId>,
    /// Where what a dead letter became is stored.
    pub became: Option<Stored>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            log: wharf_log::Options::default(),
            clock: Arc::new(Timestamp::wall_clock),
            snapshot_log_bytes_min: 128 << 20,
            snapshot_log_times: 24,
        }
    }
}

impl Shard {
    /// Opens the log in `folder`, folds the state from it, and starts the owner.
    ///
    /// # Errors
    /// What keeps the log from opening, or the state from being folded.
    pub async fn open(folder: &Path, options: Options) -> Result<Self, OpenError> {
        owner::start(folder.to_owned(), options).await
    }

    /// The topology as of the last record applied.
    pub fn topology(&self) -> arc_swap::Guard<Arc<Topology>> {
        self.topology.load()
    }

    /// What pipelines remember, as of the last record applied.
    pub fn kv(&self) -> &Kv {
        &self.kv
    }

    /// Changes by hand what pipelines remember.
    pub async fn change_kv(&self, changes: Vec<KvChange>) -> Result<(), ShardError> {
        self.record(Record::ChangeKv(changes)).await.map(drop)
    }

    /// Gives `records` their place in the order of the log; the answer comes when they are durable.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, nothing was done; afterwards nothing undoes it.
    pub async fn publish(
        &self,
        records: Vec<Publish>,
        bytes: usize,
        durability: Durability,
    ) -> Result<oneshot::Receiver<Vec<Receipt>>, ShardError> {
        self.publish_seen(records, bytes, durability, None).await
    }

    /// As [`publish`](Self::publish), with somebody who sees the receipts before anything of these records is delivered.
    pub async fn publish_seen(
        &self,
        records: Vec<Publish>,
        bytes: usize,
        durability: Durability,
        seen: Option<Seen<Vec<Receipt>>>,
    ) -> Result<oneshot::Receiver<Vec<Receipt>>, ShardError> {
        let (reply, answer) = Told::new(seen);
        self.send(Command::Publish { records, durability, reply }, bytes).await?;
        Ok(answer)
    }

    /// Hands settlements on; the answer is the tags that were stale.
    pub async fn settle(
        &self,
        consumer: ConsumerId,
        settlements: Vec<Settlement>,
        durability: Durability,
    ) -> Result<oneshot::Receiver<Result<Vec<u64>, ShardError>>, ShardError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Settle { consumer, settlements, durability, reply }, 0).await?;
        Ok(answer)
    }

    /// Gives up deliveries that a pipeline refused on their way to a consumer; the answer is the tags that were stale.
    pub async fn refuse(
        &self,
        consumer: ConsumerId,
        refused: Vec<Refused>,
        durability: Durability,
    ) -> Result<oneshot::Receiver<Result<Vec<u64>, ShardError>>, ShardError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Refuse { consumer, refused, durability, reply }, 0).await?;
        Ok(answer)
    }

    /// Attaches a new consumer whose deliveries go to `outlet`.
    pub async fn attach(&self, mut attach: Attach, outlet: Arc<Outlet>) -> Result<ConsumerId, ShardError> {
        let consumer = ConsumerId(self.consumers.fetch_add(1, Ordering::Relaxed));
        attach.consumer = consumer;
        let (reply, answer) = oneshot::channel();
        self.send(Command::Attach { attach, outlet, reply }, 0).await?;
        self.answer(answer).await??;
        Ok(consumer)
    }

    /// Lets the leases of deliveries, as first and last tags, begin anew; the answer is the tags that were stale.
    ///
    /// # Errors
    /// The shard stopped.
    pub async fn renew(
        &self,
        consumer: ConsumerId,
        tags: Vec<(u64, u64)>,
    ) -> Result<oneshot::Receiver<Result<Vec<u64>, ShardError>>, ShardError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Renew { consumer, tags, reply }, 0).await?;
        Ok(answer)
    }

    /// Allows a consumer `add` more messages and `bytes` more bytes of them.
    ///
    /// # Errors
    /// The shard stopped.
    pub async fn credit(&self, consumer: ConsumerId, add: u32, bytes: u64) -> Result<(), ShardError> {
        self.send(Command::Credit { consumer, add, bytes }, 0).await
    }

    /// Lets a consumer go. Never waits: a departure has to get through when nothing else does.
    pub fn detach(&self, consumer: ConsumerId) {
        // The owner being gone means that its consumers are.
        let _ = self.send_at_once(Command::Detach { consumer });
    }

    /// Changes the topology; returns when the change is durable and [`Shard::topology`] shows it.
    pub async fn change(&self, change: Change) -> Result<Changed, ShardError> {
        self.record(Record::Topology(change)).await
    }

    /// Sends dead letters on their way again.
    pub async fn redrive(&self, redrive: Redrive) -> Result<Changed, ShardError> {
        self.record(Record::Redrive(redrive)).await
    }

    /// Takes waiting messages to another queue.
    pub async fn move_messages(&self, order: Move) -> Result<Changed, ShardError> {
        self.record(Record::Move(order)).await
    }

    /// Puts another message in the place of a dead letter; [`Changed::edited`] is its id.
    pub async fn edit(&self, edit: Edit) -> Result<Changed, ShardError> {
        self.record(Record::Edit(Box::new(edit))).await
    }

    /// Ends a dead letter: what it became is stored, and the letter goes, in one record. It has its place in the order
    /// of the log when this returns; the answer, with [`Changed::became`], comes when it is durable, and is seen by
    /// `seen` before anything of it is delivered.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, nothing was done; afterwards nothing undoes it.
    pub async fn resolve(
        &self,
        resolve: Resolve,
        seen: Option<Seen<Result<Changed, ShardError>>>,
    ) -> Result<oneshot::Receiver<Result<Changed, ShardError>>, ShardError> {
        let (reply, answer) = Told::new(seen);
        let record = Record::Resolve(Box::new(resolve));
        let bytes = record.payload_bytes().unwrap_or(0);
        self.send(Command::Change { record, reply }, bytes).await?;
        Ok(answer)
    }

    async fn record(&self, record: Record) -> Result<Changed, ShardError> {
        let (reply, answer) = Told::new(None);
        let bytes = record.payload_bytes().unwrap_or(0);
        self.send(Command::Change { record, reply }, bytes).await?;
        self.answer(answer).await?
    }

    /// Runs `ask` on the owner's thread, between two commits: keep it short.
    pub async fn query<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&State, &wharf_log::Stats) -> T + Send + 'static,
    ) -> Result<T, ShardError> {
        let (reply, answer) = oneshot::channel();
        let ask = Box::new(move |state: &State, log: &wharf_log::Stats| {
            // Nobody waits for the answer any more: fine.
            let _ = reply.send(ask(state, log));
        });
        self.send(Command::Query(ask), 0).await?;
        self.answer(answer).await
    }

    /// Reads stored messages back, in the order of `ids`. Files are touched off the async threads.
    pub async fn read(&self, ids: Vec<MessageId>) -> Result<Vec<Message>, ShardError> {
        let reader = Arc::clone(&self.reader);
        let read = tokio::task::spawn_blocking(move || read_bodies(&*reader, &ids));
        read.await.map_err(|error| ShardError::Stopped(error.to_string()))?
    }

    /// Takes no more, writes a snapshot, and ends the owner.
    pub async fn stop(&self) {
        let (reply, answer) = oneshot::channel();
        if self.send_at_once(Command::Stop(reply)).is_ok() {
            // An error means that it had stopped before.
            let _ = answer.await;
        }
    }

    /// Why the owner stopped by itself, once it has.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        let seen = failure.wait_for(Option::is_some).await;
        match seen {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// The reason, if the owner stopped by itself.
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Waits for room, for a command with `bytes` of messages.
    async fn send(&self, command: Command, bytes: usize) -> Result<(), ShardError> {
        let units = (1 + bytes / ROOM_UNIT_BYTES).min(ROOM_UNITS);
        let units = u32::try_from(units).expect("clamped to the room there is");
        let room = Arc::clone(&self.room).acquire_many_owned(units).await.map_err(|_| self.gone())?;
        self.commands.send(Queued { command, _room: Some(room) }).map_err(|_| self.gone())
    }

    fn send_at_once(&self, command: Command) -> Result<(), ShardError> {
        self.commands.send(Queued { command, _room: None }).map_err(|_| self.gone())
    }

    async fn answer<T>(&self, answer: oneshot::Receiver<T>) -> Result<T, ShardError> {
        answer.await.map_err(|_| self.gone())
    }

    /// Why there is no owner.
    pub fn gone(&self) -> ShardError {
        ShardError::Stopped(self.failure().unwrap_or_else(|| "it was told to".into()))
    }
}

fn read_bodies(reader: &dyn LogReader, ids: &[MessageId]) -> Result<Vec<Message>, ShardError> {
    let indexes: Vec<u64> = ids.iter().map(|id| id.index).collect();
    let mut bodies: Vec<Bytes> = Vec::with_capacity(ids.len());
    if let Err(error) = reader.read(&indexes, &mut bodies) {
        let id = ids[bodies.len().min(ids.len() - 1)];
        return Err(ShardError::Unreadable { id, reason: error.to_string() });
    }
    ids.iter().zip(bodies).map(|(id, body)| message_in(*id, body)).collect()
}

/// The message that `body`, a record, holds at `id`.
fn message_in(id: MessageId, body: Bytes) -> Result<Message, ShardError> {
    let unreadable = |reason: String| ShardError::Unreadable { id, reason };
    let stamped = Stamped::decode(body).map_err(|error| unreadable(error.to_string()))?;
    let message = stamped.record.message(id.entry).cloned();
    message.ok_or_else(|| unreadable("its record holds no such message".into()))
}

/// A durability by the name that the log gives it.
fn log_durability(durability: Durability) -> wharf_log::Durability {
    match durability {
        Durability::Memory => wharf_log::Durability::Memory,
        Durability::Os => wharf_log::Durability::Os,
        Durability::Fsync => wharf_log::Durability::Fsync,
    }
}
