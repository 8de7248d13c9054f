//! The real binary under load over QUIC, killed with `kill -9` at random times.
//!
//! ```text
//! steady     publishers with a session that ride through the restarts: each message once, in order per key
//! hasty      publishers that die with the broker and send what was unknown again, by message id
//! consumers  two for each of two queues: ack most, nack some, forget some
//! ```
//!
//! One topic is bound to both queues, so each message must come out of each of them.

mod broker;
mod consumer;
mod publisher;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use wharf_disk::Random;

use crate::History;
use crate::history::{Promises, Queue};
use crate::report::{Case, Report, Violation};
use broker::Broker;
use consumer::Consumer;
use publisher::Hasty;

/// The queues, both bound to [`TOPIC`].
const QUEUES: [Queue; 2] = ["work", "audit"];
/// The topic of every message.
const TOPIC: &str = "load";
/// The producers: each number is one in the labels.
const STEADY: [u32; 2] = [1, 2];
const HASTY: [u32; 2] = [11, 12];
/// How long a broker lives under load, in milliseconds.
const LIFE_MS: std::ops::Range<u64> = 30..600;
/// Messages that wait in the queues before publishers wait for consumers.
const UNSETTLED_MAX: u64 = 4_000;
/// How long draining the queues at the end may take.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `wharf` binary.
    pub binary: PathBuf,
    /// How often it is killed.
    pub cycles: u64,
    /// What the times of death and the consumers' choices are drawn from. Timing stays the machine's.
    pub seed: u64,
}

/// The history that all clients of a run write.
#[derive(Clone)]
struct Shared(Arc<(Mutex<History>, Notify)>);

impl Shared {
    fn new(history: History) -> Self {
        Self(Arc::new((Mutex::new(history), Notify::new())))
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the consumers are close behind the publishers.
    async fn room(&self) {
        loop {
            let settled = self.0.1.notified();
            if self.lock().unsettled() < UNSETTLED_MAX {
                return;
            }
            settled.await;
        }
    }

    /// Somebody settled something.
    fn settled(&self) {
        self.0.1.notify_waiters();
    }
}

/// Runs the check.
///
/// # Errors
/// When the broker does not start, or the machine does not let the check do its work.
pub fn run(options: &Options) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(check(options))
}

async fn check(options: &Options) -> Result<Report> {
    let begun = Instant::now();
    let mut random = Random(options.seed);
    let promises = QUEUES.map(|queue| (queue, Promises::default()));
    let history = Shared::new(History::new(promises));
    let folder = tempfile::tempdir()?;
    let mut broker = Broker::start(&options.binary, folder.path(), None).await?;
    for queue in QUEUES {
        broker.command(&["queue", "add", queue])?;
        broker.command(&["bind", TOPIC, queue])?;
    }
    let address = broker.context()?.address;

    let (stop, stopped) = watch::channel(false);
    let mut steady = JoinSet::new();
    for producer in STEADY {
        steady.spawn(publisher::steady(broker.connect().await?, producer, history.clone(), stopped.clone()));
    }
    let mut consumers = JoinSet::new();
    for (number, queue) in (0..).zip(QUEUES.into_iter().chain(QUEUES)) {
        let consumer = Consumer { number, queue, random: Random(random.number()), history: history.clone() };
        consumers.spawn(consumer.run(broker.connect().await?, stopped.clone()));
    }

    let mut hasty = HASTY.map(Hasty::new);
    let mut restart_max = Duration::ZERO;
    for _ in 0..options.cycles {
        let life = LIFE_MS.start + random.below(LIFE_MS.end - LIFE_MS.start);
        let (clients, life) =
            ([broker.connect().await?, broker.connect().await?], Duration::from_millis(life));
        let mut lives = hasty.iter_mut().zip(clients).map(|(hasty, client)| hasty.live(client, &history));
        let (one, two) = (lives.next().expect("two"), lives.next().expect("two"));
        tokio::select! {
            () = tokio::time::sleep(life) => {}
            ((), ()) = async { tokio::join!(one, two) } => {}
        }
        drop(lives);
        broker.kill()?;
        let restarting = Instant::now();
        broker = Broker::start(&options.binary, folder.path(), Some(&address)).await?;
        restart_max = restart_max.max(restarting.elapsed());
    }

    for hasty in &mut hasty {
        hasty.settle_up(&broker.connect().await?, &history).await;
    }
    stop.send_replace(true);
    let drained = async {
        steady.join_all().await;
        consumers.join_all().await;
        for (number, queue) in (10..).zip(QUEUES) {
            let consumer = Consumer { number, queue, random: Random(0), history: history.clone() };
            consumer.drain(broker.connect().await?).await?;
        }
        anyhow::Ok(())
    };
    let drained = tokio::time::timeout(DRAIN_MAX, drained).await;

    let case = Case { seed: options.seed, at: options.cycles };
    let mut report = report(&history.lock(), case);
    match drained {
        Ok(drained) => drained?,
        Err(_) => {
            // What is still waiting is not lost: the one thing shown is that it does not drain.
            let what = format!("queues are not empty {DRAIN_MAX:?} after the last restart");
            report.violations.retain(|(_, violation)| violation.promise != "lost");
            report.violations.push((case, Violation::new("stuck", what)));
        }
    }
    broker.stop()?;
    report.cases = options.cycles;
    report.add("slowest restart, ms", restart_max.as_millis() as u64);
    report.took = begun.elapsed();
    Ok(report)
}

fn report(history: &History, case: Case) -> Report {
    let mut report = Report::new("kill", "kills");
    report.tally = history.tally();
    report.add("messages confirmed", history.confirmed());
    let (deliveries, again) = history.deliveries();
    report.add("deliveries", deliveries);
    report.add("of them marked redelivered", again);
    report.violations = history.violations().into_iter().map(|violation| (case, violation)).collect();
    report
}
