//! What the node promises of streams, through its handle, with a real log.

use std::collections::BTreeSet;
use std::time::Duration;

use tempfile::TempDir;
use wharf_node::{
    Binding, Config, EXPECT_KEY_OFFSET, Event, GiveUp, GiveUpTo, Node, NodeError, Principal, Publication,
    ReadOptions, Reader, StreamPolicy,
};
use wharf_protocol::{Delivery, HeadersBuilder, Message, Name, Outcome, Receipt, Settlement, Start};

struct Broker {
    node: Node,
    folder: TempDir,
}

fn me() -> Principal {
    Principal::system()
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

impl Broker {
    /// With a stream `events`, bound to `events.#`.
    async fn start(policy: StreamPolicy) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let node = start(&folder).await;
        node.create_stream(&me(), name("events"), policy).await.expect("created");
        let (pattern, queue) = ("events.#".parse().expect("a pattern"), name("events"));
        node.bind(&me(), Binding { pattern, queue, pipeline: None }).await.expect("bound");
        Self { node, folder }
    }

    async fn restart(self) -> Self {
        self.node.shutdown().await;
        let node = start(&self.folder).await;
        Self { node, folder: self.folder }
    }

    async fn publish(&self, message: Message) -> Receipt {
        self.node.publish(&me(), vec![Publication::from(message)]).await.await.remove(0)
    }

    async fn read(&self, options: ReadOptions) -> Reader {
        let options = ReadOptions { credit: 65_536, ..options };
        self.node.read_stream(&me(), &name("events"), options).await.expect("a reader")
    }

    async fn join(&self) -> Reader {
        self.read(ReadOptions { group: Some(name("g")), ..ReadOptions::default() }).await
    }

    /// Offset and payload of all that is there.
    async fn all(&self) -> Vec<(u64, String)> {
        let mut reader = self.read(ReadOptions { until_end: true, ..ReadOptions::default() }).await;
        let mut deliveries = Vec::new();
        while reader.next(&mut deliveries).await.expect("open") != Event::Empty {}
        deliveries.iter().map(place).collect()
    }
}

async fn start(folder: &TempDir) -> Node {
    Node::start(Config { segment_bytes: 1 << 20, ..Config::new(folder.path()) }).await.expect("it starts")
}

fn place(delivery: &Delivery) -> (u64, String) {
    (delivery.offset, String::from_utf8_lossy(&delivery.message.payload).into_owned())
}

fn event(key: Option<&str>, payload: impl ToString) -> Message {
    let mut message = Message::new("events.a".parse().expect("a topic"), payload.to_string());
    message.key = key.map(|key| key.to_owned().into());
    message
}

async fn take(reader: &mut Reader, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while deliveries.len() < count {
        reader.next(&mut deliveries).await.expect("open");
    }
    deliveries
}

async fn ack(reader: &Reader, first: u64, last: u64) -> Vec<u64> {
    let settlement = Settlement { first, last, outcome: Outcome::Ack };
    reader.controls().settle(vec![settlement]).await.expect("taken").await.expect("durable")
}

#[tokio::test]
async fn a_restart_keeps_messages_offsets_and_what_groups_settled() {
    let broker = Broker::start(StreamPolicy::default()).await;
    for n in 0..100 {
        broker.publish(event(None, n)).await;
    }
    let mut member = broker.join().await;
    take(&mut member, 100).await;
    assert_eq!(ack(&member, 1, 40).await, [0; 0]);
    assert_eq!(ack(&member, 61, 70).await, [0; 0]);
    assert_eq!(ack(&member, 61, 61).await, [61], "once");
    let before = broker.all().await;
    drop(member);

    let broker = broker.restart().await;
    assert_eq!(broker.all().await, before);
    broker.publish(event(None, "after")).await;
    let mut member = broker.join().await;
    let again = take(&mut member, 51).await;
    let expected: Vec<u64> = (40..60).chain(70..101).collect();
    assert_eq!(again.iter().map(|each| each.offset).collect::<Vec<_>>(), expected);
    let fresh: Vec<bool> = again.iter().map(|each| each.redelivered).collect();
    assert_eq!((fresh[0], fresh[49], fresh[50]), (true, true, false), "what may have been delivered says so");
}

/// A restart goes through the snapshot that the stop wrote and one that replays the log alike.
#[tokio::test]
async fn keys_are_known_after_a_restart() {
    let broker = Broker::start(StreamPolicy { index_keys: true, ..StreamPolicy::default() }).await;
    for n in 0..10 {
        broker.publish(event(Some(&(n % 3).to_string()), n)).await;
    }
    let broker = broker.restart().await;
    let last = broker.node.last_of_key(&me(), &name("events"), "1".into()).await.expect("it knows keys");
    assert_eq!(last.expect("a message").message.offset, 7);
    let expecting = |offset: &str| {
        let headers = HeadersBuilder::default().set(EXPECT_KEY_OFFSET, offset).build().expect("small");
        Message { headers, ..event(Some("1"), "x") }
    };
    assert!(matches!(broker.publish(expecting("6")).await, Receipt::Rejected(_)));
    assert!(matches!(broker.publish(expecting("7")).await, Receipt::Stored(_)));
}

#[tokio::test]
async fn retention_gives_the_disk_back_and_readers_go_on_at_what_is_left() {
    let broker = Broker::start(StreamPolicy { max_messages: 20, ..StreamPolicy::default() }).await;
    let body = "x".repeat(64 * 1024);
    for n in 0..100 {
        broker.publish(event(None, format!("{n} {body}"))).await;
    }
    let mut member = broker.join().await;
    let first = take(&mut member, 1).await.remove(0).offset;
    assert!((75..=80).contains(&first), "{first}");
    let broker = broker.restart().await;
    let broker = broker.restart().await;
    let log = broker.node.status(&me()).await.expect("a status").log;
    assert!(log.bytes < 30 << 20, "{} bytes hold 25 messages of 64 KiB", log.bytes);
    assert_eq!(broker.all().await.len(), 25.min(100 - usize::try_from(first).expect("small")));
}

#[tokio::test]
async fn a_reset_takes_members_with_it() {
    let broker = Broker::start(StreamPolicy::default()).await;
    for n in 0..5 {
        broker.publish(event(None, n)).await;
    }
    let mut member = broker.join().await;
    take(&mut member, 5).await;
    ack(&member, 1, 5).await;
    broker.node.reset_group(&me(), name("events"), name("g"), Start::Offset(3), None).await.expect("reset");
    let again = take(&mut member, 2).await;
    assert_eq!(again.iter().map(|each| (each.offset, each.tag)).collect::<Vec<_>>(), [(3, 6), (4, 7)]);
    broker.node.delete_group(&me(), name("events"), name("g")).await.expect("deleted");
    assert!(member.next(&mut Vec::new()).await.is_err(), "its group is gone");
}

/// What a delivery pipeline stops is nacked, and nobody waits for the answer but the reader itself.
#[tokio::test]
async fn a_nack_whose_answer_nobody_waits_for_comes_again_and_is_given_up_in_the_end() {
    let give_up = GiveUp { max_attempts: 3, to: GiveUpTo::Skip };
    let broker = Broker::start(StreamPolicy { give_up, ..StreamPolicy::default() }).await;
    for n in 0..2 {
        broker.publish(event(None, n)).await;
    }
    let mut member = broker.join().await;
    let mut came = Vec::new();
    while came.len() < 4 {
        for Delivery { offset, attempt, tag, .. } in take(&mut member, 1).await {
            came.push((offset, attempt));
            if offset == 0 {
                let outcome = Outcome::Nack { delay: Some(Duration::ZERO) };
                let settlement = Settlement { first: tag, last: tag, outcome };
                drop(member.controls().settle(vec![settlement]).await.expect("taken"));
            }
        }
    }
    came.sort_unstable();
    assert_eq!(came, [(0, 1), (0, 2), (0, 3), (1, 1)]);
    // The answer is the reader's to hear; what it has said is in the log.
    let cursor = broker.node.groups(&me(), &name("events")).await.expect("there").remove(0).cursors[0];
    assert_eq!((cursor.floor, cursor.failing), (1, 0), "and no more than that");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_administrators_change_of_a_policy_at_once_is_both_changed() {
    let broker = Broker::start(StreamPolicy::default()).await;
    let stream = name("events");
    let asked = std::sync::atomic::AtomicU32::new(0);
    let other = std::sync::Mutex::new(Some(tokio::runtime::Handle::current()));
    let node = broker.node.clone();
    let next = |policy: &StreamPolicy| {
        asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        // The first time somebody else is faster.
        if let Some(runtime) = other.lock().expect("nobody panicked").take() {
            let (node, stream) = (node.clone(), stream.clone());
            let change = async move {
                let next = |policy: &StreamPolicy| {
                    Ok::<_, NodeError>(StreamPolicy { max_bytes: 1 << 20, ..policy.clone() })
                };
                node.change_stream_policy(&me(), &stream, next).await
            };
            let (done, wait) = std::sync::mpsc::channel();
            runtime.spawn(async move { done.send(change.await.is_ok()) });
            assert!(tokio::task::block_in_place(|| wait.recv()).expect("it ended"));
        }
        Ok::<_, NodeError>(StreamPolicy { max_messages: 7, ..policy.clone() })
    };
    let policy = broker.node.change_stream_policy(&me(), &stream, next).await.expect("changed").policy;
    assert_eq!((policy.max_messages, policy.max_bytes), (7, 1 << 20));
    assert_eq!(asked.into_inner(), 2, "asked again, from what is there now");
}

/// Found by killing the broker under load: a member that had lost a partition went on with what was stored after that,
/// and the member that had it now got the same without a mark.
#[tokio::test]
async fn a_member_that_lost_a_partition_delivers_nothing_more_of_it() {
    const MESSAGES: usize = 4_000;
    let broker = Broker::start(StreamPolicy { partitions: 4, ..StreamPolicy::default() }).await;
    let publish = async || {
        let batch = (0..MESSAGES).map(|n| Publication::from(event(None, n)));
        broker.node.publish(&me(), batch.collect()).await.await
    };
    publish().await;
    let mut one = broker.join().await;
    let mut deliveries = take(&mut one, 100).await;
    let mut two = broker.join().await;
    publish().await;

    // What it reads ahead has come before it needs it, so it never waits to hear what the group says.
    while deliveries.len() < MESSAGES {
        one.next(&mut deliveries).await.expect("open");
        for _ in 0..5 {
            broker.node.groups(&me(), &name("events")).await.expect("there");
        }
    }
    let (mut came, mut unmarked) = (BTreeSet::new(), BTreeSet::new());
    loop {
        for Delivery { partition, offset, redelivered, .. } in deliveries.drain(..) {
            came.insert((partition, offset));
            let first = redelivered || unmarked.insert((partition, offset));
            assert!(first, "{partition}/{offset} came twice without a mark");
        }
        if came.len() == 2 * MESSAGES {
            return;
        }
        let (mut first, mut second) = (Vec::new(), Vec::new());
        tokio::select! {
            told = one.next(&mut first) => drop(told.expect("open")),
            told = two.next(&mut second) => drop(told.expect("open")),
        }
        deliveries.extend(first.into_iter().chain(second));
    }
}

#[tokio::test]
async fn one_body_goes_to_a_queue_and_a_stream() {
    let broker = Broker::start(StreamPolicy::default()).await;
    broker.node.create_queue(&me(), name("work"), Default::default()).await.expect("created");
    let (pattern, queue) = ("events.a".parse().expect("a pattern"), name("work"));
    broker.node.bind(&me(), Binding { pattern, queue, pipeline: None }).await.expect("bound");
    let Receipt::Stored(stored) = broker.publish(event(None, "once")).await else { panic!("stored") };
    let mut reader = broker.read(ReadOptions::default()).await;
    assert_eq!(take(&mut reader, 1).await[0].id, stored.ids().next().expect("one"));
    assert_eq!(broker.node.queue(&me(), &name("work")).await.expect("there").ready, 1);
}
