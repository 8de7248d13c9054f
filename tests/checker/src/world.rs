//! One shard on a simulated disk, with its clients and its clock: driven by a seed, and every answer noted.
//!
//! What the clients send in one step is held back until all of it is there, and then written by the shard as one
//! batch: so a seed repeats a run operation by operation, though the shard's owner is a thread of its own.
//!
//! Five queues and two streams, each with a promise of its own:
//!
//! | queue | |
//! |---|---|
//! | `plain` | synced; short leases, three attempts, then dead-lettered to `dead` |
//! | `fancy` | synced; priorities, delays, times to live; purged at times |
//! | `quick` | handed to the system only: what is confirmed survives the process and not the machine |
//! | `once` | synced; settled on delivery |
//! | `trail` | a stream of two partitions, read from any offset at times, and by a group whose members come and go |
//! | `ledger` | a compacted stream: the last message of each key stays |
//! | `dead` | dead letters of `plain` and `fancy`; sent on their way again at times |

mod books;
mod consume;
mod drain;
mod group;
mod observe;
mod publish;
mod trail;
mod transact;
mod work;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as blocking;

use anyhow::{Context as _, Result};
use tokio::sync::oneshot;
use wharf_disk::{Random, SimulatedDisk};
use wharf_protocol::{Name, Timestamp};
use wharf_queue::{Change, ConsumerId, Durability, Publish, QueuePolicy, StreamPolicy};
use wharf_shard::{Member, OpenError, Options, Outlet, Shard, ShardError};

use crate::history::{Promises, Queue, Seen};
use crate::{History, Label, Violation};
use books::Books;

/// Where the shard's log lies on the simulated disk.
pub(crate) const FOLDER: &str = "/shard";
/// The queues.
pub(crate) const QUEUES: [Queue; 5] = ["plain", "fancy", "quick", "once", "dead"];
/// A run begins at this moment.
const BEGIN: u64 = 1_700_000_000_000;
/// Small, so that a run of a hundred steps rolls, seals and recycles several.
const SEGMENT_BYTES: u32 = 8 * 1024;
/// Small, so that it meets snapshots, trimming and compaction.
const SNAPSHOT_LOG_TIMES: usize = 4;

/// A shard and all who use it.
pub(crate) struct World {
    pub(crate) disk: SimulatedDisk,
    pub(crate) history: History,
    /// Broken promises that are seen as they happen.
    pub(crate) violations: Vec<Violation>,
    /// The state's hash after a record, as the live shard said it.
    pub(crate) hashes: BTreeMap<u64, u64>,
    random: Random,
    clock: Arc<AtomicU64>,
    shard: Option<Live>,
    /// How often the power was cut.
    boot: u32,
    producers: Vec<Producer>,
    /// Publishes without an answer that may be sent again, in order.
    unanswered: Vec<(Label, Publish, Durability)>,
    consumers: Vec<Consumer>,
    consumers_made: u32,
    books: Books,
    /// The shard's time when it was last looked at.
    books_now: u64,
    /// The failure of the disk that had happened when the step began, when it is one after which nothing may be
    /// confirmed.
    failed_before: Option<String>,
    /// What was read of the streams, and what their group settled.
    trail: trail::Trail,
    ledger: trail::Ledger,
    members: Vec<Member>,
    settled_by_group: group::Settled,
    /// The disk's failures are not of the kind that passes, as want of room does.
    pub(crate) failure_is_final: bool,
}

/// An open shard.
struct Live {
    shard: Shard,
    /// Resolves when the owner's thread has let go of the disk.
    gone: oneshot::Receiver<()>,
}

/// How a producer makes its resends exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exactness {
    Session,
    MessageId,
    Nothing,
}

#[derive(Clone)]
struct Producer {
    number: u32,
    exactness: Exactness,
    /// Of the last message.
    last: u64,
    /// Confirmed messages that may be sent again, to be known as duplicates.
    confirmed: Vec<(Publish, Durability)>,
}

struct Consumer {
    number: u32,
    id: ConsumerId,
    queue: Queue,
    outlet: Arc<Outlet>,
    /// How many deliveries it may still get.
    credit: u64,
    held: Vec<(u64, Seen)>,
}

/// Tells when the last handle on the clock is gone: the owner's.
struct Farewell(Option<oneshot::Sender<()>>);

impl Drop for Farewell {
    fn drop(&mut self) {
        if let Some(gone) = self.0.take() {
            // Nobody may wait for it.
            let _ = gone.send(());
        }
    }
}

impl World {
    /// A world on an empty disk. Nothing runs yet.
    pub(crate) fn new(seed: u64) -> Self {
        let producer = |number, exactness| Producer { number, exactness, last: 0, confirmed: Vec::new() };
        Self {
            disk: SimulatedDisk::default(),
            history: History::new(
                QUEUES.into_iter().chain([trail::TRAIL]).map(|each| (each, promises(each))),
            ),
            violations: Vec::new(),
            hashes: BTreeMap::new(),
            random: Random(seed),
            clock: Arc::new(AtomicU64::new(BEGIN)),
            shard: None,
            boot: 0,
            producers: vec![
                producer(1, Exactness::Session),
                producer(2, Exactness::MessageId),
                producer(3, Exactness::Nothing),
                producer(4, Exactness::Session),
            ],
            unanswered: Vec::new(),
            consumers: Vec::new(),
            consumers_made: 0,
            books: Books::default(),
            books_now: BEGIN,
            failed_before: None,
            trail: trail::Trail::new(),
            ledger: trail::Ledger::new(),
            members: Vec::new(),
            settled_by_group: group::Settled::default(),
            failure_is_final: true,
        }
    }

    /// Opens the shard, and makes its queues where they are not there yet.
    ///
    /// # Errors
    /// [`OpenError`] when it does not open. One that stops while its queues are made has stopped, as at any time.
    pub(crate) async fn open(&mut self) -> Result<(), OpenError> {
        let (farewell, gone) = oneshot::channel();
        let (clock, farewell) = (Arc::clone(&self.clock), Farewell(Some(farewell)));
        let clock = move || {
            let _ = &farewell;
            Timestamp(clock.load(Ordering::SeqCst))
        };
        let options = Options {
            log: log_options(&self.disk),
            clock: Arc::new(clock),
            snapshot_log_bytes_min: 1,
            snapshot_log_times: SNAPSHOT_LOG_TIMES,
        };
        let opened = Shard::open(Path::new(FOLDER), options).await;
        let shard = match opened {
            Ok(shard) => shard,
            Err(error) => {
                // The thread may not have dropped its files yet.
                let _ = gone.await;
                return Err(error);
            }
        };
        self.shard = Some(Live { shard, gone });
        self.failed_before = None;
        for queue in QUEUES {
            let change = Change::CreateQueue { name: name(queue), policy: policy(queue) };
            if self.shard().change(change).await.is_err() {
                break;
            }
        }
        let trail = StreamPolicy { partitions: trail::PARTITIONS, ..StreamPolicy::default() };
        let ledger = StreamPolicy { compact: true, ..StreamPolicy::default() };
        for (stream, policy) in [(trail::TRAIL, trail), (trail::LEDGER, ledger)] {
            let stream = Change::CreateStream { name: name(stream), policy };
            // When it has stopped, the look says so.
            let _ = self.shard().change(stream).await;
        }
        self.look().await;
        Ok(())
    }

    /// Ends the process: whatever it did not say is unknown, and all consumers are gone.
    pub(crate) async fn end(&mut self) {
        while let Some(member) = self.members.pop() {
            self.leave_group(member).await;
        }
        if let Some(Live { shard, gone }) = self.shard.take() {
            drop(shard);
            // An error is as good: the other end is gone.
            let _ = gone.await;
        }
        self.consumers.clear();
        self.books.everybody_left();
        // What was settled by being delivered may have been on its way.
        self.history.excuse_all("once");
    }

    /// Asks the shard to stop in good order.
    pub(crate) async fn stop(&mut self) {
        while let Some(member) = self.members.pop() {
            self.leave_group(member).await;
        }
        if let Some(live) = &self.shard {
            live.shard.stop().await;
        }
        self.end().await;
    }

    /// The power is cut and comes back.
    pub(crate) fn cut_power(&mut self, seed: u64) {
        self.disk.cut_power(seed);
        self.boot += 1;
        self.history.excuse_all("quick");
        self.books.power_cut();
    }

    /// The same world on a disk of its own, whose further chances are drawn from `seed`. The shard is to be ended.
    pub(crate) fn fork(&self, seed: u64) -> Self {
        Self {
            disk: self.disk.copy(),
            history: self.history.clone(),
            violations: Vec::new(),
            hashes: self.hashes.clone(),
            random: Random(seed),
            clock: Arc::new(AtomicU64::new(self.clock.load(Ordering::SeqCst))),
            shard: None,
            boot: self.boot,
            producers: self.producers.clone(),
            unanswered: self.unanswered.clone(),
            consumers: Vec::new(),
            consumers_made: self.consumers_made,
            books: self.books.clone(),
            books_now: self.books_now,
            failed_before: None,
            trail: self.trail.clone(),
            ledger: self.ledger.clone(),
            members: Vec::new(),
            settled_by_group: self.settled_by_group.clone(),
            failure_is_final: self.failure_is_final,
        }
    }

    /// Whether the shard takes no more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.shard.as_ref().is_none_or(|live| live.shard.failure().is_some())
    }

    fn shard(&self) -> &Shard {
        &self.shard.as_ref().expect("the world was opened").shard
    }

    fn violation(&mut self, promise: &'static str, seen: impl Into<String>) {
        self.violations.push(Violation::new(promise, seen));
    }

    /// Makes the owner wait: what is sent until the guard goes is drained, and so written, together.
    async fn hold(&self) -> Result<Hold, ShardError> {
        let (started, begun) = oneshot::channel();
        let (release, released) = blocking::channel::<()>();
        let shard = self.shard().clone();
        let holding = tokio::spawn(async move {
            let wait = move |_: &_, _: &_| {
                let _ = started.send(());
                // An error says the same: the guard is gone.
                let _ = released.recv();
            };
            shard.query(wait).await
        });
        match begun.await {
            Ok(()) => Ok(Hold { _release: release }),
            Err(_) => Err(holding.await.map_or_else(
                |e| ShardError::Stopped(e.to_string()),
                |r| r.err().unwrap_or_else(|| ShardError::Stopped("it ended".into())),
            )),
        }
    }
}

/// While this lives the shard's owner waits.
struct Hold {
    _release: blocking::Sender<()>,
}

/// How the log of a world is kept: small, and with no thread that would make operations come in another order.
pub(crate) fn log_options(disk: &SimulatedDisk) -> wharf_log::Options {
    wharf_log::Options {
        segment_bytes: SEGMENT_BYTES,
        spares_max: 2,
        prepare_ahead: false,
        disk: Arc::new(disk.clone()),
        ..wharf_log::Options::default()
    }
}

fn promises(queue: Queue) -> Promises {
    Promises {
        survives_power: queue != "quick",
        // Partitions are read one after the other.
        fifo: !matches!(queue, "fancy" | "dead" | trail::TRAIL),
        at_most_once: queue == "once",
        stream: false,
    }
}

fn durability(queue: Queue) -> Durability {
    if queue == "quick" { Durability::Os } else { Durability::Fsync }
}

fn policy(queue: Queue) -> QueuePolicy {
    QueuePolicy {
        durability: durability(queue),
        lease_ms: LEASE_MS,
        max_attempts: if queue == "plain" { 3 } else { 20 },
        retry_min_ms: 50,
        retry_max_ms: 200,
        dead_letter: Some(name("dead")),
        ..QueuePolicy::default()
    }
}

/// How long a consumer may hold a message.
const LEASE_MS: u64 = 1_000;

fn name(queue: &str) -> Name {
    queue.parse().context(queue.to_owned()).expect("the constants are names")
}
