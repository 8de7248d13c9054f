//! The threads that run guest code: never those that serve sockets.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;

type Job = Box<dyn FnOnce() + Send>;

/// How many jobs may wait for each thread; whoever brings more waits.
const JOBS_WAITING_PER_THREAD: usize = 4;

pub(crate) struct Workers {
    jobs: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let (jobs, receiver) = mpsc::channel(count * JOBS_WAITING_PER_THREAD);
        let receiver = Arc::new(Mutex::new(receiver));
        let spawn = |i| {
            let receiver = Arc::clone(&receiver);
            thread::Builder::new().name(format!("wharf-guest-{i}")).spawn(move || work(&receiver))
        };
        Ok(Self { jobs: Some(jobs), threads: (0..count).map(spawn).collect::<io::Result<_>>()? })
    }

    /// Hands `job` over as soon as there is room for it.
    pub(crate) async fn run(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // An error would mean that every worker has ended; dropping the job tells its caller.
            let _ = jobs.send(job).await;
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let current = thread::current().id();
        for thread in self.threads.drain(..) {
            // The last handle on the engine may be dropped by a job: that thread ends by itself.
            if thread.thread().id() != current {
                let _ = thread.join();
            }
        }
    }
}

/// Runs `work` on a thread of its own and waits: guest code may not run on a thread that serves a tokio
/// runtime, and whoever loads a plugin may be on one.
pub(crate) fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> thread::Result<T> {
    thread::scope(|scope| scope.spawn(work).join())
}

fn work(jobs: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(job) = job else { return };
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a job of the plugin engine panicked; its messages were not processed");
        }
    }
}
