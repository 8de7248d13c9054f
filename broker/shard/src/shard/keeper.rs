//! The thread that keeps the log short: it writes snapshots and rewrites segments that are mostly dead, while
//! the owner goes on.
//!
//! ```text
//! owner    encode ── begin ──────────────────── trim ── what lives? ─────────────── what lives? …
//!                        │                     ↑                   │             ↑
//! keeper                 └─ write, sync, rename┘                   └─ copy, sync ┘
//! ```
//!
//! One job at a time. What the owner gives up is decided by the state that the snapshot holds, not by the one
//! it has when the snapshot is durable: what is settled in between may be undone by a crash.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use tokio::sync::mpsc::WeakUnboundedSender;
use wharf_log::{Compacted, Compaction, Snapshot, Written};

use super::{Command, Queued};

/// What the keeper is given to do.
pub(super) enum Job {
    /// To write a snapshot.
    Snapshot {
        snapshot: Snapshot,
        state: Vec<u8>,
        /// The first record that this state needs.
        needed: u64,
    },
    /// To rewrite segments.
    Compaction(Compaction),
}

/// What came of it.
pub(super) enum Kept {
    Snapshot { written: Written, needed: u64 },
    Compaction(Compacted),
}

/// The owner's end. Dropping it waits for the job under way.
pub(super) struct Keeper {
    /// `None`: each job is done at once, by who gives it.
    thread: Option<Thread>,
    done: Option<Kept>,
    busy: bool,
}

struct Thread {
    /// `None` once it is to end.
    jobs: Option<Sender<Job>>,
    outcomes: Receiver<Kept>,
    handle: Option<JoinHandle<()>>,
}

impl Job {
    fn carry_out(self) -> Kept {
        match self {
            Self::Snapshot { snapshot, state, needed } => {
                Kept::Snapshot { written: snapshot.write(&state), needed }
            }
            Self::Compaction(part) => Kept::Compaction(part.run()),
        }
    }
}

impl Keeper {
    /// With a thread of its own when `apart`; it tells `owner` when a job is done.
    pub(super) fn new(apart: bool, owner: WeakUnboundedSender<Queued>) -> Self {
        let thread = apart.then(|| Thread::spawn(owner)).and_then(|spawned| {
            let warn =
                |error| tracing::warn!(%error, "no thread for snapshots: they are written between commits");
            spawned.map_err(warn).ok()
        });
        Self { thread, done: None, busy: false }
    }

    /// A job is under way, or its outcome is not taken yet.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Begins a job.
    ///
    /// # Panics
    /// When one is under way.
    pub(super) fn begin(&mut self, job: Job) {
        assert!(!self.busy, "the keeper does one job at a time");
        self.busy = true;
        let jobs = self.thread.as_ref().and_then(|thread| thread.jobs.as_ref());
        // A thread that is gone has panicked, which the panic hook reported: the work goes on without it.
        let back = match jobs {
            Some(jobs) => jobs.send(job).err().map(|unsent| unsent.0),
            None => Some(job),
        };
        self.done = back.map(Job::carry_out);
    }

    /// The outcome of the job that was begun, once it is done.
    pub(super) fn take(&mut self) -> Option<Kept> {
        if !self.busy {
            return None;
        }
        let received = match &self.thread {
            Some(thread) if self.done.is_none() => thread.outcomes.try_recv(),
            _ => Ok(self.done.take()?),
        };
        if let Err(TryRecvError::Disconnected) = received {
            self.thread = None;
        }
        self.busy = matches!(received, Err(TryRecvError::Empty));
        received.ok()
    }

    /// Waits for the job under way, and takes its outcome.
    pub(super) fn wait(&mut self) -> Option<Kept> {
        if !self.busy {
            return None;
        }
        self.busy = false;
        self.done.take().or_else(|| self.thread.as_ref()?.outcomes.recv().ok())
    }
}

impl Thread {
    fn spawn(owner: WeakUnboundedSender<Queued>) -> std::io::Result<Self> {
        let (jobs, to_do) = channel::<Job>();
        let (done, outcomes) = channel();
        let run = move || {
            for job in to_do {
                let Ok(()) = done.send(job.carry_out()) else { return };
                if let Some(owner) = owner.upgrade() {
                    // The owner has ended, or waits for the outcome itself.
                    let _ = owner.send(Queued { command: Command::Kept, _room: None });
                }
            }
        };
        let handle = std::thread::Builder::new().name("wharf-keeper".into()).spawn(run)?;
        Ok(Self { jobs: Some(jobs), outcomes, handle: Some(handle) })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(handle) = self.handle.take() {
            // A panic of the thread has been reported by the panic hook.
            drop(handle.join());
        }
    }
}
