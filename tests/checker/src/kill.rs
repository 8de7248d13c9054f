//! The real binary under load over QUIC, killed with `kill -9` at random times.
//!
//! ```text
//! steady        publishers with a session that ride through the restarts: each message once, in order per key; some
//!               in batches
//! hasty         publishers that die with the broker and send what was unknown again, by message id
//! batcher       a publisher that dies with the broker and sends nothing again: each batch is stored whole, or not
//! consumers     two for each of two queues, two members of a group: ack most, nack some, forget some
//! transformers  two of a queue, two of another group: ack inputs and publish outputs in one transaction
//! readers       one through all restarts, one after the last: a stream's offsets are dense, and the same for all
//! ```
//!
//! One topic is bound to the queues and the stream, so each message must come out of each of them.

mod broker;
mod consumer;
mod journal;
mod publisher;
mod source;
mod transformer;

use std::collections::BTreeSet;
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
use journal::Journal;
use publisher::{Batcher, Hasty};
use source::{FOLLOWING, MILLING, PARTITIONS, STREAM, Source};
use transformer::Transformer;

/// The queues that are bound to [`TOPIC`], as the stream is. The last is consumed by transformers.
const QUEUES: [Queue; 3] = ["work", "audit", "inputs"];
/// The topic of every message that a publisher sends.
const TOPIC: &str = "load";
/// Where transactions publish to, and the queue that is bound to it.
const MADE: &str = "made";
const OUTPUTS: Queue = "outputs";
/// Who takes part. A number is one of a kind: in the labels, and among the consumers.
const STEADY: [u32; 2] = [1, 2];
const HASTY: [u32; 2] = [11, 12];
const BATCHER: u32 = 21;
const TRANSFORMERS: [(u32, Source); 4] =
    [(31, Source::Queue("inputs")), (32, Source::Queue("inputs")), (33, MILLING), (34, MILLING)];
const CONSUMERS: [(u32, Source); 8] = [
    (41, Source::Queue("work")),
    (42, Source::Queue("audit")),
    (43, Source::Queue("work")),
    (44, Source::Queue("audit")),
    (45, FOLLOWING),
    (46, FOLLOWING),
    (47, Source::Queue(OUTPUTS)),
    (48, Source::Queue(OUTPUTS)),
];
const READERS: [u32; 2] = [51, 52];
/// Who consumes what is left at the end.
const DRAINERS: [(u32, Source); 6] = [
    (61, Source::Queue("work")),
    (62, Source::Queue("audit")),
    (63, Source::Queue("inputs")),
    (64, FOLLOWING),
    (65, MILLING),
    (66, Source::Queue(OUTPUTS)),
];
/// How long a broker lives under load, in milliseconds.
const LIFE_MS: std::ops::Range<u64> = 30..600;
/// Messages that wait in all queues and groups before publishers wait for consumers.
const UNSETTLED_MAX: u64 = 12_000;
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

/// What all clients of a run write down.
#[derive(Clone)]
struct Shared(Arc<Notes>);

#[derive(Debug)]
struct Notes {
    history: Mutex<History>,
    journal: Mutex<Journal>,
    settled: Notify,
}

impl Shared {
    fn new(history: History) -> Self {
        let (history, journal) = (Mutex::new(history), Mutex::new(Journal::default()));
        Self(Arc::new(Notes { history, journal, settled: Notify::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.0.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.0.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the consumers are close behind the publishers.
    async fn room(&self) {
        loop {
            let settled = self.0.settled.notified();
            if self.lock().unsettled() < UNSETTLED_MAX {
                return;
            }
            settled.await;
        }
    }

    /// Somebody settled something.
    fn settled(&self) {
        self.0.settled.notify_waiters();
    }

    /// What a group has not settled for good, of what was read from the stream.
    fn left(&self, source: Source) -> BTreeSet<(Queue, u64)> {
        let Source::Group { partitions, .. } = source else { return BTreeSet::new() };
        let (history, journal) = (self.lock(), self.journal());
        let queue = |partition: u16| partitions[usize::from(partition)];
        let places = journal.places().map(|(partition, offset, label)| (queue(partition), offset, label));
        let open = places.filter(|(queue, offset, label)| {
            label.is_none_or(|label| !history.may_be_settled(queue, *offset, label))
        });
        open.map(|(queue, offset, _)| (queue, offset)).collect()
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
    let queue = Promises::default();
    let stream = Promises { stream: true, ..queue };
    let queues = QUEUES.into_iter().chain([OUTPUTS]).map(|name| (name, queue));
    let partitions = [source::FOLLOWERS, source::MILL, source::READER].into_iter().flatten();
    let shared = Shared::new(History::new(queues.chain(partitions.map(|name| (name, stream)))));
    let folder = tempfile::tempdir()?;
    let mut broker = Broker::start(&options.binary, folder.path(), None).await?;
    for queue in QUEUES {
        broker.command(&["queue", "add", queue])?;
        broker.command(&["bind", TOPIC, queue])?;
    }
    broker.command(&["stream", "add", STREAM, "--partitions", &PARTITIONS.to_string()])?;
    broker.command(&["bind", TOPIC, STREAM])?;
    broker.command(&["queue", "add", OUTPUTS])?;
    broker.command(&["bind", MADE, OUTPUTS])?;
    let address = broker.context()?.address;

    let (stop, stopped) = watch::channel(false);
    let (stop_steady, steady_stopped) = watch::channel(false);
    let mut steady = JoinSet::new();
    for producer in STEADY {
        let (client, random) = (broker.connect().await?, Random(random.number()));
        steady.spawn(publisher::steady(client, producer, random, shared.clone(), steady_stopped.clone()));
    }
    let mut consumers = JoinSet::new();
    for (number, source) in CONSUMERS {
        let consumer = Consumer { number, source, random: Random(random.number()), shared: shared.clone() };
        consumers.spawn(consumer.run(broker.connect().await?, stopped.clone()));
    }
    for (number, source) in TRANSFORMERS {
        let transformer =
            Transformer { number, source, random: Random(random.number()), shared: shared.clone() };
        consumers.spawn(transformer.run(broker.connect().await?, stopped.clone()));
    }
    consumers.spawn(journal::follow(broker.connect().await?, READERS[0], shared.clone(), stopped.clone()));

    let mut hasty = HASTY.map(Hasty::new);
    let mut batcher = Batcher::new(BATCHER);
    let mut restart_max = Duration::ZERO;
    for _ in 0..options.cycles {
        let life = Duration::from_millis(LIFE_MS.start + random.below(LIFE_MS.end - LIFE_MS.start));
        let lives = async {
            let [one, two] = &mut hasty;
            let clients = [broker.connect().await?, broker.connect().await?, broker.connect().await?];
            let ([first, second, third], random) = (clients, Random(random.number()));
            let batches = batcher.live(third, random, &shared);
            tokio::join!(one.live(first, &shared), two.live(second, &shared), batches);
            anyhow::Ok(())
        };
        tokio::select! {
            () = tokio::time::sleep(life) => {}
            lives = lives => lives?,
        }
        broker.kill()?;
        batcher.end(&shared);
        let restarting = Instant::now();
        broker = Broker::start(&options.binary, folder.path(), Some(&address)).await?;
        restart_max = restart_max.max(restarting.elapsed());
    }

    for hasty in &mut hasty {
        hasty.settle_up(&broker.connect().await?, &shared).await;
    }
    let drained = async {
        // First those who publish: the others are to find all that there is.
        stop_steady.send_replace(true);
        steady.join_all().await;
        stop.send_replace(true);
        consumers.join_all().await;
        journal::read_all(broker.connect().await?, READERS[1], &shared).await?;
        for (number, source) in DRAINERS {
            loop {
                let drainer = Consumer { number, source, random: Random(0), shared: shared.clone() };
                drainer.drain(broker.connect().await?, shared.left(source)).await?;
                // What a consumer held when it left comes back once the broker has heard that.
                if broker.is_drained(source)? {
                    break;
                }
            }
        }
        anyhow::Ok(())
    };
    let draining = Instant::now();
    let drained = tokio::time::timeout(DRAIN_MAX, drained).await;
    let drained_in = draining.elapsed();

    let case = Case { seed: options.seed, at: options.cycles };
    let mut report = report(&shared, case);
    match drained {
        Ok(drained) => drained?,
        Err(_) => {
            // What is still waiting is not lost: the one thing shown is that it does not drain.
            let what = format!("not all is consumed {DRAIN_MAX:?} after the last restart");
            report.violations.retain(|(_, violation)| violation.promise != "lost");
            report.violations.push((case, Violation::new("stuck", what)));
        }
    }
    broker.stop()?;
    report.cases = options.cycles;
    report.add("drained at the end in, ms", drained_in.as_millis() as u64);
    report.add("slowest restart, ms", restart_max.as_millis() as u64);
    report.took = begun.elapsed();
    Ok(report)
}

fn report(shared: &Shared, case: Case) -> Report {
    let (history, mut journal) = (shared.lock(), shared.journal());
    let mut report = Report::new("kill", "kills");
    report.kinds = history.kinds().collect();
    report.kinds.iter().for_each(|(_, tally)| report.tally += *tally);
    report.add("messages confirmed", history.confirmed());
    let (deliveries, again) = history.deliveries();
    report.add("deliveries", deliveries);
    report.add("of them marked redelivered", again);
    report.add("messages of the stream", journal.places().count() as u64);
    report.add("compared between its readers", journal.compared);
    let violations = history.violations().into_iter().chain(journal.violations.drain(..));
    report.violations = violations.map(|violation| (case, violation)).collect();
    report
}
