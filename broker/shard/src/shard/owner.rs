//! The thread that owns a log and its state: drain, write together, sync once, apply, carry out.

use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::{self, Runtime};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use wharf_log::{AppendError, Batch, LocalLog, LogEngine, Replay};
use wharf_protocol::{Message, MessageId, Timestamp};
use wharf_queue::{Durability, Effect, Record, Stamped, State, Topology};

use super::consumers::Consumers;
use super::done::Done;
use super::keeper::Keeper;
use super::pending::{Pending, Reply, attached, moves_a_lease};
use super::recent::Recent;
use super::streams::{Committed, Streams};
use super::upkeep::Upkeep;
use super::{Changed, Claimed, Command, Queued, ROOM_UNITS, Shard, log_durability};
use crate::error::chain;
use crate::seeded::{self, Fault};
use crate::{OpenError, Options, ShardError};

/// Commands taken together.
const COMMANDS_MAX: usize = 4096;
/// Bytes of payload written together.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long records that a full disk held back wait before they are tried again.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(200);

struct Owner {
    log: LocalLog,
    state: State,
    commands: mpsc::UnboundedReceiver<Queued>,
    consumers: Consumers,
    recent: Recent,
    streams: Streams,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// The stamp of the last record: time never goes back in a log.
    now: Timestamp,
    topology: Arc<ArcSwap<Topology>>,
    batch: Batch,
    effects: Vec<Effect>,
    /// Leases that moved while the disk was full, in order.
    held_back: Vec<Record>,
    upkeep: Upkeep,
}

/// Why the owner ends.
enum End {
    /// It was told to, and somebody waits for it.
    Stopped(oneshot::Sender<()>),
    /// Every handle is gone.
    Abandoned,
    /// The log takes no more.
    Failed(String),
}

/// Opens the log, folds the state from it, and starts the thread that owns both.
pub(super) async fn start(folder: PathBuf, options: Options) -> Result<Shard, OpenError> {
    let (commands, receiver) = mpsc::unbounded_channel();
    let (failed, failure) = watch::channel(None);
    let (opened, outcome) = oneshot::channel();
    let thread = std::thread::Builder::new().name("wharf-shard".into());
    let poke = commands.downgrade();
    let run = move || {
        let timer = runtime::Builder::new_current_thread().enable_time().build();
        let open = timer
            .map_err(OpenError::Thread)
            .and_then(|timer| Owner::open(&folder, options, receiver, poke).map(|owner| (timer, owner)));
        match open {
            Ok((timer, mut owner)) => {
                // Nobody waits for the outcome any more: the channel of commands is closed as well.
                let tails = owner.streams.tails.clone();
                let _ = opened.send(Ok((
                    owner.log.reader(),
                    Arc::clone(&owner.topology),
                    tails,
                    owner.state.kv().clone(),
                )));
                let end = owner.run(&timer);
                owner.close(end, &failed);
            }
            Err(error) => drop(opened.send(Err(error))),
        }
    };
    thread.spawn(run).map_err(OpenError::Thread)?;
    let (reader, topology, tails, kv) = outcome.await.map_err(|_| OpenError::Recovery)??;
    Ok(Shard {
        commands,
        room: Arc::new(Semaphore::new(ROOM_UNITS)),
        reader,
        topology,
        failure,
        consumers: Arc::new(AtomicU64::new(1)),
        tails,
        kv,
    })
}

impl Owner {
    fn open(
        folder: &Path,
        options: Options,
        commands: mpsc::UnboundedReceiver<Queued>,
        poke: mpsc::WeakUnboundedSender<Queued>,
    ) -> Result<Self, OpenError> {
        let mut state = State::default();
        let mut effects = Vec::new();
        let keeper = Keeper::new(options.log.prepare_ahead, poke);
        let mut upkeep = Upkeep::new(keeper, (options.clock)(), &options);
        let log = LocalLog::open(folder, options.log, &mut |replay| {
            match replay {
                Replay::Snapshot { bytes, .. } => {
                    state = State::restore(bytes)?;
                    upkeep.restored(bytes.len());
                }
                Replay::Record { index, body } => {
                    effects.clear();
                    upkeep.wrote(body.len());
                    state.apply(index, &Stamped::decode(body)?, &mut effects);
                }
            }
            Ok(())
        })?;
        let mut owner = Self {
            topology: Arc::new(ArcSwap::new(Arc::clone(state.topology()))),
            log,
            now: state.now(),
            state,
            clock: options.clock,
            commands,
            consumers: Consumers::default(),
            recent: Recent::default(),
            streams: Streams::default(),
            batch: Batch::new(),
            effects,
            held_back: Vec::new(),
            upkeep,
        };
        owner.log.claim()?;
        let mut restart = Pending::default();
        restart.add(Record::Restart, Durability::Fsync, Reply::Nobody);
        owner.append(&mut restart).and_then(|batch| owner.carry_out(batch, restart))?;
        Ok(owner)
    }

    fn run(&mut self, timer: &Runtime) -> End {
        let mut commands = Vec::with_capacity(COMMANDS_MAX);
        loop {
            if !timer.block_on(self.drain(&mut commands)) {
                return End::Abandoned;
            }
            if let Err(end) = self.work_off(&mut commands) {
                return end;
            }
        }
    }

    /// Waits for commands, or for the state's next timer, and takes all that came; false when none will.
    async fn drain(&mut self, commands: &mut Vec<Queued>) -> bool {
        let pause = if self.held_back.is_empty() {
            let due = self.state.next_timer().into_iter().chain(self.upkeep.next_timer()).min();
            due.map(|due| due.since((self.clock)()))
        } else {
            Some(FULL_DISK_PAUSE)
        };
        let received = self.commands.recv_many(commands, COMMANDS_MAX);
        match pause {
            None => received.await > 0,
            Some(pause) => tokio::time::timeout(pause, received).await != Ok(0),
        }
    }

    /// Turns commands into batches of a bounded size, and answers questions between two batches.
    fn work_off(&mut self, commands: &mut Vec<Queued>) -> Result<(), End> {
        let mut pending = Pending::default();
        for record in mem::take(&mut self.held_back) {
            pending.add_record(record);
        }
        if self.state.next_timer().is_some_and(|due| due <= (self.clock)()) {
            pending.add_record(Record::Tick);
        }
        for Queued { command, _room } in commands.drain(..) {
            if pending.bytes >= BATCH_BYTES_MAX || !command.is_record() {
                self.commit(mem::take(&mut pending))?;
            }
            match command {
                Command::Publish { records, durability, reply } => {
                    pending.add_publish(records, durability, reply);
                }
                Command::Settle { consumer, settlements, durability, reply } => {
                    let record = Record::Settle { consumer, settlements };
                    pending.add(record, durability, Reply::Settle(reply));
                }
                Command::Refuse { consumer, refused, durability, reply } => {
                    let record = Record::Refuse { consumer, refused };
                    pending.add(record, durability, Reply::Settle(reply));
                }
                Command::Attach { attach, outlet, reply } => {
                    self.consumers.attach(&attach, outlet);
                    pending.add(Record::Attach(attach), Durability::Memory, Reply::Attach(reply));
                }
                Command::Renew { consumer, tags, reply } => {
                    let record = Record::Renew { consumer, tags };
                    pending.add(record, Durability::Memory, Reply::Settle(reply));
                }
                Command::Credit { consumer, add, bytes } => {
                    pending.add_record(Record::Credit { consumer, add, bytes });
                }
                Command::Detach { consumer } => {
                    self.consumers.detach(consumer);
                    pending.add_record(Record::Detach { consumer });
                }
                Command::Change { record, reply } => {
                    pending.bytes += record.payload_bytes().unwrap_or(0);
                    pending.add(record, Durability::Fsync, Reply::Change(reply));
                }
                Command::Exact { record, durability, reply } => {
                    pending.bytes += record.payload_bytes().unwrap_or(0);
                    pending.add(record, durability, Reply::Exact(reply));
                }
                Command::Stream(request) => {
                    self.streams.take(request, &self.state, &self.recent, &mut pending);
                }
                // It woke the owner, which is all that it is for.
                Command::Kept => {}
                Command::Query(ask) => ask(&self.state, &self.log.stats()),
                Command::Stop(reply) => return Err(End::Stopped(reply)),
            }
        }
        self.commit(pending)?;
        self.upkeep.go_on(&mut self.log, &self.state, (self.clock)());
        Ok(())
    }

    /// Writes, syncs, applies, carries out. A full disk is told to those who wait, and ends nothing.
    fn commit(&mut self, mut pending: Pending) -> Result<(), End> {
        if pending.is_empty() {
            return Ok(());
        }
        match self.append(&mut pending) {
            Ok(written) => self.carry_out(written, pending).map_err(|error| End::Failed(chain(&error))),
            Err(AppendError::Full(failure)) => {
                self.refuse_for_want_of_room(pending, &failure.to_string());
                Ok(())
            }
            Err(AppendError::TooLarge { bytes, max }) => {
                self.refuse(pending, &ShardError::TooLarge { bytes, max });
                Ok(())
            }
            Err(error @ (AppendError::Conflict { .. } | AppendError::Failed(_))) => {
                let reason = chain(&error);
                self.refuse(pending, &ShardError::Stopped(reason.clone()));
                Err(End::Failed(reason))
            }
        }
    }

    /// Stamps and writes the records; returns them with the index of the first.
    fn append(&mut self, pending: &mut Pending) -> Result<(u64, Vec<Stamped>), AppendError> {
        let at = self.now.max((self.clock)());
        let records = mem::take(&mut pending.records);
        let stamped: Vec<Stamped> = records.into_iter().map(|record| Stamped { at, record }).collect();
        self.batch.clear();
        for each in &stamped {
            self.batch.push(|out| each.encode(out));
        }
        let bytes = self.batch.bytes();
        let next = self.log.next();
        let durability =
            if seeded::is(Fault::ConfirmBeforeFsync) { Durability::Memory } else { pending.durability };
        match self.log.append(next, &mut self.batch, log_durability(durability)) {
            Ok(indexes) => {
                self.now = at;
                self.upkeep.wrote(bytes);
                Ok((indexes.start, stamped))
            }
            Err(AppendError::Failed(_)) if seeded::is(Fault::ConfirmOnFailedSync) => {
                Ok((next.max(self.state.applied() + 1), stamped))
            }
            Err(error) => {
                pending.records = stamped.into_iter().map(|each| each.record).collect();
                Err(error)
            }
        }
    }

    /// Applies what was written and tells everybody concerned.
    fn carry_out(
        &mut self,
        (first, stamped): (u64, Vec<Stamped>),
        pending: Pending,
    ) -> Result<(), AppendError> {
        let mut effects = mem::take(&mut self.effects);
        let mut next = 0;
        for mut part in pending.parts {
            let mut done = Done::default();
            for each in &stamped[next..next + part.records] {
                self.state.apply(first + next as u64, each, &mut effects);
                next += 1;
                for effect in effects.drain(..) {
                    self.effect(effect, first, &stamped[..next], &mut part.reply, &mut done);
                }
            }
            done.tell(part.reply);
        }
        self.effects = effects;
        self.settle_before_delivery()?;
        self.consumers.fill_outlets();
        for (each, index) in stamped.into_iter().zip(first..) {
            self.recent.push(index, each.record);
        }
        self.streams.wake();
        Ok(())
    }

    /// At most once: what a delivery settles is settled durably before it is sent, whatever record caused it.
    fn settle_before_delivery(&mut self) -> Result<(), AppendError> {
        if self.consumers.wait_for_sync(self.state.topology()) { self.log.sync() } else { Ok(()) }
    }

    fn effect(
        &mut self,
        effect: Effect,
        first: u64,
        applied: &[Stamped],
        reply: &mut Reply,
        done: &mut Done,
    ) {
        match effect {
            Effect::Receipt(receipt) => done.receipt(receipt, reply),
            Effect::Deliver(deliver) => {
                let body = self.body(deliver.id, first, applied);
                self.consumers.deliver(deliver, body);
            }
            Effect::Settled { stale, .. } => done.stale = stale,
            Effect::Empty { consumer } => self.consumers.ran_empty(consumer),
            Effect::Cancelled { consumer } => {
                self.consumers.cancel(consumer);
                self.streams.cancelled(consumer);
            }
            Effect::TopologyChanged => self.topology.store(Arc::clone(self.state.topology())),
            Effect::Purged { messages, .. } => done.changed.messages = messages,
            Effect::Redriven { moved, kept } | Effect::Moved { moved, kept } => {
                done.changed = Changed { messages: moved, kept, ..Changed::default() };
            }
            Effect::Edited { id } => {
                done.changed = Changed { messages: 1, edited: Some(id), ..Changed::default() };
            }
            Effect::Resolved(stored) => {
                done.changed = Changed { messages: 1, became: Some(stored), ..Changed::default() };
            }
            Effect::Renewed { stale, .. } => done.stale = stale,
            Effect::Appended { stream, .. } => self.streams.grew(stream),
            Effect::Assigned { member, assignments } => self.streams.assigned(member, assignments),
            Effect::Committed { stale, given_up, .. } => done.committed = Committed { stale, given_up },
            Effect::StreamDeleted { stream } => self.streams.tails.gone(stream),
            Effect::Transacted(receipt) => done.exact.receipt = Some(*receipt),
            Effect::Claimed { epoch, last_sequence } => {
                done.exact.claimed = Some(Claimed { epoch, last_sequence });
            }
            Effect::Refused(refusal) => {
                if let Some(consumer) = applied.last().and_then(|last| attached(&last.record)) {
                    self.consumers.detach(consumer);
                }
                done.refuse(refusal, reply);
            }
        }
    }

    /// The message of a delivery while it is in memory: of this batch, which begins at `first`, or of one before.
    fn body(&self, id: MessageId, first: u64, applied: &[Stamped]) -> Option<Message> {
        match id.index.checked_sub(first) {
            None => self.recent.message(id),
            Some(place) => {
                let place = usize::try_from(place).ok()?;
                applied.get(place)?.record.message(id.entry).cloned()
            }
        }
    }

    /// Nothing was written: publishers and changes are refused, leases that moved are kept for later.
    fn refuse_for_want_of_room(&mut self, pending: Pending, why: &str) {
        tracing::warn!(why, "the disk is full: refusing publishes until there is room");
        let error = ShardError::Full(why.to_owned());
        let mut records = pending.records.into_iter();
        for part in pending.parts {
            for record in records.by_ref().take(part.records) {
                if let Some(consumer) = attached(&record) {
                    self.consumers.detach(consumer);
                }
                if moves_a_lease(&record) {
                    self.held_back.push(record);
                }
            }
            part.reply.refuse(part.records, &error);
        }
    }

    fn refuse(&mut self, pending: Pending, error: &ShardError) {
        for record in &pending.records {
            if let Some(consumer) = attached(record) {
                self.consumers.detach(consumer);
            }
        }
        for part in pending.parts {
            part.reply.refuse(part.records, error);
        }
    }

    fn close(mut self, end: End, failed: &watch::Sender<Option<String>>) {
        if let End::Failed(reason) = &end {
            tracing::error!(reason, "stopped after a failed write");
            failed.send_replace(Some(reason.clone()));
        } else {
            self.upkeep.finish(&mut self.log, &self.state);
        }
        self.consumers.close();
        self.streams.close();
        // A command that is sent just now must not lie in a channel that nobody reads: closed first and then read to
        // its end, each is dropped, and whoever waits for its answer is told that there is none.
        self.commands.close();
        while self.commands.blocking_recv().is_some() {}
        drop(self.log);
        if let End::Stopped(reply) = end {
            // Nobody waits any more: stopped all the same.
            let _ = reply.send(());
        }
    }
}
