//! What a shard does so that its log stays short: snapshots, and segments rewritten, while it goes on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wharf_disk::SimulatedDisk;
use wharf_protocol::{Message, MessageId, Name, Receipt, Timestamp};
use wharf_queue::{Change, Destination, Durability, Entry, Publish, QueuePolicy};
use wharf_shard::{Options, Shard};

const SEGMENT_BYTES: u32 = 256 << 10;
const BODY_BYTES: usize = 8 << 10;
/// What takes so long will not come.
const STUCK: Duration = Duration::from_secs(60);

/// A shard on a disk in memory, whose clock stands until it is told to go on.
struct Trial {
    disk: SimulatedDisk,
    clock: Arc<AtomicU64>,
    apart: bool,
}

impl Trial {
    fn new(apart: bool) -> Self {
        Self { disk: SimulatedDisk::default(), clock: Arc::new(AtomicU64::new(1_000)), apart }
    }

    async fn open(&self) -> Shard {
        let clock = Arc::clone(&self.clock);
        let log = wharf_log::Options {
            segment_bytes: SEGMENT_BYTES,
            spares_max: 2,
            prepare_ahead: self.apart,
            disk: Arc::new(self.disk.clone()),
            ..Default::default()
        };
        let clock = Arc::new(move || Timestamp(clock.load(Ordering::SeqCst)));
        Shard::open(Path::new("/shard"), Options { log, clock, ..Options::default() }).await.unwrap()
    }

    fn pass(&self, time: Duration) {
        self.clock.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
    }

    /// What the records take on the disk.
    fn segment_bytes(&self) -> usize {
        let paths = self.disk.files().into_iter();
        let paths =
            paths.filter(|path| path.extension().is_some_and(|kind| kind == "segment" || kind == "sparse"));
        paths.filter_map(|path| self.disk.contents(&path)).map(|bytes| bytes.len()).sum()
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn body(number: u64) -> Vec<u8> {
    vec![number as u8; BODY_BYTES]
}

/// Stores a message in one queue.
async fn publish(shard: &Shard, queue: &str, number: u64) -> MessageId {
    let topology = shard.topology();
    let queue = topology.queue(queue).unwrap().id;
    let message = Message::new("orders".parse().unwrap(), body(number));
    let destinations = vec![Destination::from(queue)];
    let entry = Entry { message, destinations };
    let records = vec![Publish { topology: topology.revision(), ..Publish::from(entry) }];
    drop(topology);
    let receipts = shard.publish(records, BODY_BYTES, Durability::Fsync).await.unwrap().await.unwrap();
    let [Receipt::Stored(stored)] = &receipts[..] else { panic!("{receipts:?}") };
    MessageId { index: stored.index, entry: 0 }
}

/// Fills both queues, so that each segment has a message of the slow one; then the fast one is emptied.
async fn round(shard: &Shard, slow: &mut Vec<(u64, MessageId)>, numbers: std::ops::Range<u64>) {
    for number in numbers {
        if number % 25 == 0 {
            slow.push((number, publish(shard, "slow", number).await));
        } else {
            publish(shard, "fast", number).await;
        }
    }
    shard.change(Change::PurgeQueue { name: name("fast") }).await.unwrap();
}

async fn run(apart: bool) {
    let trial = Trial::new(apart);
    let shard = trial.open().await;
    for queue in ["slow", "fast"] {
        let policy = QueuePolicy::default();
        shard.change(Change::CreateQueue { name: name(queue), policy }).await.unwrap();
    }
    let mut slow = Vec::new();
    round(&shard, &mut slow, 0..400).await;
    assert!(trial.segment_bytes() >= 400 * BODY_BYTES);

    // Twice, since what the older of two snapshots does not cover stays as it is.
    for round_number in 1..=2 {
        round(&shard, &mut slow, round_number * 1_000..round_number * 1_000 + 200).await;
        trial.pass(Duration::from_secs(61));
        publish(&shard, "fast", 0).await;
        // Waits for the keeper, not for a time: without it this never ends.
        while shard.query(|_, log| log.snapshots).await.unwrap() < round_number as usize {
            tokio::task::yield_now().await;
        }
    }
    let live = slow.len() * (BODY_BYTES + 100);
    let newest = 2 * 200 * (BODY_BYTES + 100) + 2 * SEGMENT_BYTES as usize;
    while trial.segment_bytes() > 4 * live + newest {
        shard.query(|_, _| ()).await.unwrap();
        tokio::task::yield_now().await;
    }

    // All that is waited for is there: now, and after a crash.
    for crash in [false, true] {
        let shard = if crash {
            trial.disk.cut_power(7);
            trial.open().await
        } else {
            shard.clone()
        };
        let found = shard.read(slow.iter().map(|(_, id)| *id).collect()).await.unwrap();
        for (message, (number, _)) in found.iter().zip(&slow) {
            assert_eq!(message.payload, body(*number));
        }
        let waiting = shard.query(|state, _| state.queue("slow").unwrap().ready).await.unwrap();
        assert_eq!(waiting, slow.len() as u64);
        if crash {
            shard.stop().await;
        }
    }
}

#[tokio::test]
async fn a_slow_queue_does_not_pin_the_disk() {
    tokio::time::timeout(STUCK, run(false)).await.unwrap();
}

#[tokio::test]
async fn a_slow_queue_does_not_pin_the_disk_while_a_thread_of_its_own_keeps_the_log() {
    tokio::time::timeout(STUCK, run(true)).await.unwrap();
}
