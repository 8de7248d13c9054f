//! The threads that run guest code: never those that serve sockets.
//!
//! ```text
//!  light jobs ──▶ ┌─────────┐   any thread
//!                 │ threads │
//!  heavy jobs ──▶ └─────────┘   all threads but one
//! ```
//!
//! A job is heavy when its pipeline took much time of late. One thread takes no heavy jobs, so that who takes little
//! waits for others who take little, however many there are who loop. Among those that may run, who came first is
//! first.
//!
//! All of them [make way](crate::way): where processors are short, whoever serves sockets and the log comes before guests.
//! What is short enough not to wait for them runs elsewhere ([`here`](crate::here)).

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::Semaphore;

use crate::way::become_guest;

type Job = Box<dyn FnOnce() + Send>;

/// How many jobs of a weight may wait for each thread; whoever brings more waits.
const JOBS_WAITING_PER_THREAD: usize = 4;

/// Whether a job may take the last thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// It may.
    Light,
    /// Its pipeline took much time of late.
    Heavy,
}

pub(crate) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    lines: Mutex<Lines>,
    /// There is a job, or none will come.
    changed: Condvar,
    /// Room in each line.
    room: [Semaphore; 2],
    heavy_max: usize,
}

#[derive(Default)]
struct Lines {
    /// Jobs by weight, each with its place in the order of arrival.
    waiting: [VecDeque<(u64, Job)>; 2],
    arrived: u64,
    heavy_running: usize,
    closed: bool,
}

impl Workers {
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let room = || Semaphore::new(count * JOBS_WAITING_PER_THREAD);
        let shared = Arc::new(Shared {
            lines: Mutex::default(),
            changed: Condvar::new(),
            room: [room(), room()],
            heavy_max: count.saturating_sub(1).max(1),
        });
        let spawn = |i| {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name(format!("wharf-guest-{i}")).spawn(move || work(&shared))
        };
        let threads = (0..count).map(spawn).collect::<io::Result<_>>()?;
        Ok(Self { shared, threads })
    }

    /// Hands `job` over as soon as there is room for it.
    pub(crate) async fn run(&self, weight: Weight, job: Job) {
        // Never closed: an error would drop the job, which tells its caller.
        let Ok(room) = self.shared.room[weight as usize].acquire().await else { return };
        room.forget();
        let mut lines = self.shared.lock();
        let place = lines.arrived;
        lines.arrived += 1;
        lines.waiting[weight as usize].push_back((place, job));
        drop(lines);
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job that may run; waits for one. `None`: there will be none.
    fn next(&self) -> Option<(Weight, Job)> {
        let mut lines = self.lock();
        loop {
            if let Some(weight) = lines.next_weight(self.heavy_max) {
                let (_, job) = lines.waiting[weight as usize].pop_front()?;
                lines.heavy_running += usize::from(weight == Weight::Heavy);
                self.room[weight as usize].add_permits(1);
                return Some((weight, job));
            }
            if lines.closed {
                return None;
            }
            lines = self.changed.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, weight: Weight) {
        if weight == Weight::Heavy {
            self.lock().heavy_running -= 1;
            // A heavy job may have waited for just this.
            self.changed.notify_one();
        }
    }
}

impl Lines {
    /// The weight of the job that came first among those that may run.
    fn next_weight(&self, heavy_max: usize) -> Option<Weight> {
        let first = |weight: Weight| self.waiting[weight as usize].front().map(|(place, _)| *place);
        let heavy = first(Weight::Heavy).filter(|_| self.heavy_running < heavy_max);
        match (first(Weight::Light), heavy) {
            (None, None) => None,
            (Some(light), Some(heavy)) if heavy < light => Some(Weight::Heavy),
            (Some(_), _) => Some(Weight::Light),
            (None, Some(_)) => Some(Weight::Heavy),
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
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

fn work(shared: &Shared) {
    become_guest();
    while let Some((weight, job)) = shared.next() {
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a job of the plugin engine panicked; its messages were not processed");
        }
        shared.done(weight);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn run(workers: &Workers, weight: Weight, job: impl FnOnce() + Send + 'static) {
        let mut handed_over = std::pin::pin!(workers.run(weight, Box::new(job)));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(handed_over.as_mut().poll(&mut context).is_ready(), "there is room");
    }

    #[test]
    fn heavy_jobs_leave_a_thread_to_light_ones() {
        let workers = Workers::start(3).expect("threads");
        let (hold, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let (began, begun) = mpsc::channel();
        for _ in 0..5 {
            let (held, began) = (Arc::clone(&held), began.clone());
            run(&workers, Weight::Heavy, move || {
                began.send("heavy").expect("somebody counts");
                let _ = held.lock().unwrap_or_else(PoisonError::into_inner).recv();
            });
        }
        assert_eq!([begun.recv(), begun.recv()], [Ok("heavy"), Ok("heavy")]);
        for _ in 0..3 {
            let began = began.clone();
            run(&workers, Weight::Light, move || began.send("light").expect("somebody counts"));
        }
        assert_eq!([begun.recv(), begun.recv(), begun.recv()], [Ok("light"), Ok("light"), Ok("light")]);
        drop(hold);
        assert_eq!([begun.recv(), begun.recv(), begun.recv()], [Ok("heavy"), Ok("heavy"), Ok("heavy")]);
    }

    #[test]
    fn who_came_first_is_first_and_a_job_that_panics_is_over() {
        let workers = Workers::start(1).expect("threads");
        let (tell, told) = mpsc::channel();
        for (n, weight) in
            [Weight::Light, Weight::Heavy, Weight::Light, Weight::Heavy].into_iter().enumerate()
        {
            let tell = tell.clone();
            run(&workers, weight, move || {
                tell.send(n).expect("somebody counts");
                if n == 1 {
                    panic!("as a test wants it");
                }
            });
        }
        drop(tell);
        let order: Vec<usize> = told.iter().collect();
        assert_eq!(order, [0, 1, 2, 3]);
    }
}
