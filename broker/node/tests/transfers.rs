//! What the node promises of messages that are looked at or moved, with a real log.

use std::time::{Duration, Instant};

use tempfile::TempDir;
use wharf_node::{
    Binding, Config, Event, MessagePlace, Node, NodeError, Principal, Publication, QueuePolicy,
    SubscribeOptions, Subscription, TransferEnd, TransferSpec, TransferView,
};
use wharf_protocol::{Delivery, Message, Name, Outcome, Settlement};

/// Longer than any test takes.
const PATIENCE: Duration = Duration::from_secs(60);

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

async fn start(folder: &TempDir) -> Node {
    Node::start(Config { segment_bytes: 1 << 20, ..Config::new(folder.path()) }).await.expect("it starts")
}

impl Broker {
    /// A node with these queues, each bound to the topic of its name.
    async fn with_queues(queues: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let node = start(&folder).await;
        for queue in queues {
            node.create_queue(&me(), name(queue), QueuePolicy::default()).await.expect("created");
            let pattern = queue.parse().expect("a pattern");
            node.bind(&me(), Binding { pattern, queue: name(queue), pipeline: None }).await.expect("bound");
        }
        Self { node, folder }
    }

    async fn restart(self) -> Self {
        self.node.shutdown().await;
        let node = start(&self.folder).await;
        Self { node, folder: self.folder }
    }

    async fn publish(&self, topic: &str, count: usize, change: impl Fn(usize, &mut Message)) {
        let publication = |n: usize| {
            let mut message = Message::new(topic.parse().expect("a topic"), n.to_string());
            change(n, &mut message);
            Publication::from(message)
        };
        self.node.publish(&me(), (0..count).map(publication).collect()).await.await;
    }

    async fn consume(&self, queue: &str, credit: u32) -> (Subscription, Vec<Delivery>) {
        let options = SubscribeOptions { credit, notify_empty: true, ..SubscribeOptions::default() };
        let mut subscription = self.node.subscribe(&me(), &name(queue), options).await.expect("subscribed");
        let mut deliveries = Vec::new();
        while deliveries.len() < credit as usize
            && subscription.next(&mut deliveries).await.expect("open") != Event::Empty
        {}
        (subscription, deliveries)
    }

    /// Waits for the first message of a queue, and leaves it there.
    async fn first(&self, queue: &str) -> Vec<Delivery> {
        let options = SubscribeOptions { credit: 1, ..SubscribeOptions::default() };
        let mut subscription = self.node.subscribe(&me(), &name(queue), options).await.expect("subscribed");
        let mut deliveries = Vec::new();
        assert_eq!(subscription.next(&mut deliveries).await.expect("open"), Event::Deliveries);
        deliveries
    }

    async fn ready(&self, queue: &str) -> u64 {
        self.node.queue(&me(), &name(queue)).await.expect("there").ready
    }

    async fn ended(&self, queue: &str) -> TransferView {
        self.node.transfer_of(&me(), &name(queue), PATIENCE).await.expect("there is one")
    }
}

fn payloads(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|d| String::from_utf8_lossy(&d.message.payload).into_owned()).collect()
}

#[tokio::test]
async fn what_waits_is_moved_in_its_order_and_what_is_held_stays() {
    let broker = Broker::with_queues(&["a", "b"]).await;
    broker.publish("a", 1000, |_, _| {}).await;
    let (_holds, held) = broker.consume("a", 2).await;

    broker.node.move_messages(&me(), &name("a"), name("b"), TransferSpec::default()).await.expect("begun");
    let told = broker.ended("a").await;

    assert_eq!((told.moved, told.kept, told.end), (998, 2, Some(TransferEnd::Done)));
    assert_eq!(payloads(&held), ["0", "1"]);
    assert_eq!((broker.ready("a").await, broker.ready("b").await), (0, 998));
    let (_, moved) = broker.consume("b", 998).await;
    assert!(payloads(&moved).iter().eq(&(2..1000).map(|n| n.to_string()).collect::<Vec<_>>()));
}

#[tokio::test]
async fn a_limit_or_ids_say_which_messages_go() {
    let broker = Broker::with_queues(&["a", "b"]).await;
    broker.publish("a", 10, |_, _| {}).await;
    let third = broker.node.browse(&me(), &name("a"), 2, 1, false).await.expect("there").remove(0);

    let ids = TransferSpec { ids: vec![third.id], ..TransferSpec::default() };
    let told = broker.node.move_messages(&me(), &name("a"), name("b"), ids).await.expect("done");
    assert_eq!((told.moved, told.kept, told.end), (1, 0, Some(TransferEnd::Done)));
    let limit = TransferSpec { limit: Some(3), ..TransferSpec::default() };
    broker.node.move_messages(&me(), &name("a"), name("b"), limit).await.expect("begun");
    assert_eq!(broker.ended("a").await.moved, 3);

    assert_eq!(payloads(&broker.consume("b", 4).await.1), ["2", "0", "1", "3"]);
}

#[tokio::test]
async fn a_slow_transfer_tells_its_progress_and_stops_when_it_is_told_to() {
    let broker = Broker::with_queues(&["a", "b"]).await;
    broker.publish("a", 1000, |_, _| {}).await;
    let begun = Instant::now();
    let slow = || TransferSpec { per_second: Some(1), ..TransferSpec::default() };
    broker.node.move_messages(&me(), &name("a"), name("b"), slow()).await.expect("begun");

    // The first goes at once; the next would a second later.
    let first = broker.first("b").await;
    let again =
        broker.node.move_messages(&me(), &name("a"), name("b"), slow()).await.expect_err("one at a time");
    let told = broker.node.stop_transfer(&me(), &name("a")).await.expect("stopped");

    assert!(matches!(again, NodeError::Conflict(_)), "{again}");
    assert_eq!(payloads(&first), ["0"]);
    assert_eq!(told.end, Some(TransferEnd::Stopped));
    assert!(told.moved <= 1 + begun.elapsed().as_secs(), "{} went, one a second", told.moved);
    assert_eq!(broker.ready("a").await, 1000 - told.moved);
    broker.node.move_messages(&me(), &name("a"), name("b"), TransferSpec::default()).await.expect("another");
    assert_eq!(broker.ended("a").await.moved, 1000 - told.moved);
}

#[tokio::test]
async fn dead_letters_go_back_to_where_they_died_at_a_rate() {
    let broker = Broker::with_queues(&["a"]).await;
    broker.publish("a", 5, |_, _| {}).await;
    let (subscription, deliveries) = broker.consume("a", 5).await;
    let outcome = Outcome::DeadLetter { reason: "no total".into() };
    let last = deliveries.last().expect("some").tag;
    let settled = subscription.controls().settle(vec![Settlement { first: 1, last, outcome }]).await;
    settled.expect("open").await.expect("durable");
    drop(subscription);

    let spec = TransferSpec { per_second: Some(1000), ..TransferSpec::default() };
    broker.node.redrive_queue(&me(), &name("dead-letters"), None, spec).await.expect("begun");
    let told = broker.ended("dead-letters").await;

    assert_eq!((told.moved, told.redrive, told.end), (5, true, Some(TransferEnd::Done)));
    assert_eq!(payloads(&broker.consume("a", 5).await.1), ["0", "1", "2", "3", "4"]);
}

/// A transfer is no record: it ends with its broker, and whoever wanted it asks again.
#[tokio::test]
async fn a_transfer_that_a_restart_ends_leaves_each_message_in_one_place_and_another_takes_the_rest() {
    const MESSAGES: u64 = 400;
    let broker = Broker::with_queues(&["a"]).await;
    broker.publish("a", MESSAGES as usize, |_, _| {}).await;
    let (subscription, deliveries) = broker.consume("a", MESSAGES as u32).await;
    let outcome = Outcome::DeadLetter { reason: "no total".into() };
    let last = deliveries.last().expect("some").tag;
    let settled = subscription.controls().settle(vec![Settlement { first: 1, last, outcome }]).await;
    settled.expect("open").await.expect("durable");
    drop(subscription);
    let begun = Instant::now();
    let slow = TransferSpec { per_second: Some(1), ..TransferSpec::default() };
    broker.node.redrive_queue(&me(), &name("dead-letters"), None, slow).await.expect("begun");
    assert_eq!(payloads(&broker.first("a").await), ["0"], "it is under way");

    let broker = broker.restart().await;

    let none = broker.node.transfer_of(&me(), &name("dead-letters"), PATIENCE).await;
    assert!(matches!(none, Err(NodeError::NotFound { kind: "transfer", .. })), "{none:?}");
    let moved = broker.ready("a").await;
    assert!(
        (1..=1 + begun.elapsed().as_secs()).contains(&moved),
        "{moved} went, one a second, and stay there"
    );
    assert_eq!(broker.ready("dead-letters").await, MESSAGES - moved);
    broker
        .node
        .redrive_queue(&me(), &name("dead-letters"), None, TransferSpec::default())
        .await
        .expect("begun");
    let told = broker.ended("dead-letters").await;
    assert_eq!((told.moved, told.kept, told.end), (MESSAGES - moved, 0, Some(TransferEnd::Done)));
    let (_holds, came) = broker.consume("a", 2 * MESSAGES as u32).await;
    let each_once = (0..MESSAGES).map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(payloads(&came), each_once);
}

#[tokio::test]
async fn a_transfer_needs_two_queues_that_are_there() {
    let broker = Broker::with_queues(&["a"]).await;
    let to = |to: &str| {
        let (node, to) = (broker.node.clone(), name(to));
        async move { node.move_messages(&me(), &name("a"), to, TransferSpec::default()).await }
    };
    assert!(matches!(to("a").await, Err(NodeError::Invalid(_))));
    assert!(matches!(to("nowhere").await, Err(NodeError::NotFound { kind: "queue", .. })));
    let none = broker.node.stop_transfer(&me(), &name("a")).await;
    assert!(matches!(none, Err(NodeError::NotFound { kind: "transfer", .. })));
}

#[tokio::test]
async fn looking_shows_every_message_where_it_is_and_takes_none() {
    let broker = Broker::with_queues(&["a"]).await;
    let unlike = |n: usize, message: &mut Message| match n {
        1 => message.delay = Some(PATIENCE),
        2 => message.priority = 7,
        _ => {}
    };
    broker.publish("a", 5, unlike).await;
    let next = broker.node.peek(&me(), &name("a"), 2).await.expect("there");
    assert_eq!(next.iter().map(|view| view.offset).collect::<Vec<_>>(), [2, 0], "as they would be delivered");

    let (_holds, held) = broker.consume("a", 1).await;
    let all = broker.node.browse(&me(), &name("a"), 0, 10, true).await.expect("there");

    assert_eq!(payloads(&held), ["2"]);
    assert_eq!(all.iter().map(|view| view.offset).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert!(matches!(all[1].place, MessagePlace::Delayed { .. }));
    assert_eq!((all[0].place, all[2].place), (MessagePlace::Ready, MessagePlace::Leased));
    assert!(all.iter().all(|view| view.message.as_ref().expect("shown").payload == view.offset.to_string()));
    assert_eq!(broker.ready("a").await, 3);
    let missing = broker.node.browse(&me(), &name("b"), 0, 10, true).await;
    assert!(matches!(missing, Err(NodeError::NotFound { .. })));
}
