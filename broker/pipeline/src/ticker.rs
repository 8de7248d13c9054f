//! The clock of deadlines: raises the engine's epoch while guest code runs, and sleeps while none does, so that an idle
//! broker costs nothing.
//!
//! It wakes up for each tick while calls run for long, and for every other one while they are short: a wake costs a
//! sixtieth of a processor at that pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a tick is: deadlines are met to within three of them.
pub(crate) const TICK: Duration = Duration::from_micros(500);

/// How many ticks are one wake while no call runs for long.
const TICKS_AT_ONCE: u32 = 2;

/// How many wakes without guest code go by before the thread parks: parking at once would wake it for each call.
const IDLE_WAKES: u32 = 20;

pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// How often the epoch was raised, and one more while it is.
    ticks: AtomicU64,
    running: AtomicUsize,
    /// A call was looked at since the last tick.
    looked: AtomicBool,
    parked: AtomicBool,
    stop: AtomicBool,
}

/// Counts the ticks; cheap to clone.
#[derive(Clone)]
pub(crate) struct Ticks(Arc<Shared>);

/// While one lives, the epoch rises.
pub(crate) struct Running<'a>(&'a Shared);

impl Ticker {
    pub(crate) fn start(engine: wasmtime::Engine) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let ticking = Arc::clone(&shared);
        let thread =
            thread::Builder::new().name("wharf-epoch".to_owned()).spawn(move || tick(&engine, &ticking))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(crate) fn running(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, SeqCst);
        // The ticker says that it parks before it looks for runners: one of the two sees the other.
        if self.shared.parked.load(SeqCst) {
            self.unpark();
        }
        Running(&self.shared)
    }

    pub(crate) fn ticks(&self) -> Ticks {
        Ticks(Arc::clone(&self.shared))
    }

    fn unpark(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Ticks {
    pub(crate) fn now(&self) -> u64 {
        self.0.ticks.load(SeqCst)
    }

    /// A call runs for long, and is looked at: the next tick comes by itself.
    pub(crate) fn look(&self) -> u64 {
        self.0.looked.store(true, SeqCst);
        self.now()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.unpark();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn tick(engine: &wasmtime::Engine, shared: &Shared) {
    let mut idle_wakes = 0;
    while !shared.stop.load(SeqCst) {
        if shared.running.load(SeqCst) > 0 {
            idle_wakes = 0;
        } else if idle_wakes < IDLE_WAKES {
            idle_wakes += 1;
        } else {
            shared.parked.store(true, SeqCst);
            while shared.running.load(SeqCst) == 0 && !shared.stop.load(SeqCst) {
                thread::park();
            }
            shared.parked.store(false, SeqCst);
            idle_wakes = 0;
        }
        let ticks = if shared.looked.swap(false, SeqCst) { 1 } else { TICKS_AT_ONCE };
        thread::sleep(TICK * ticks);
        // Before the epoch, so that who is looked at for this tick does not see the one before.
        shared.ticks.fetch_add(u64::from(ticks), SeqCst);
        (0..ticks).for_each(|_| engine.increment_epoch());
    }
}
