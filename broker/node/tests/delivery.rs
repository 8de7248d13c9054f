//! What the node promises of messages, through its handle, with a real log.

use std::time::Duration;

use tempfile::TempDir;
use wharf_node::{
    Binding, Config, Event, Node, Principal, Publication, QueuePolicy, SubscribeOptions, Subscription,
};
use wharf_protocol::{Delivery, Message, Outcome, Receipt, Settlement};

struct Broker {
    node: Node,
    folder: TempDir,
}

fn me() -> Principal {
    Principal::system()
}

impl Broker {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let node = start(&folder).await;
        Self { node, folder }
    }

    async fn restart(self) -> Self {
        self.node.shutdown().await;
        let node = start(&self.folder).await;
        Self { node, folder: self.folder }
    }

    async fn queue(&self, name: &str, pattern: &str) {
        let queue: wharf_protocol::Name = name.parse().expect("a name");
        self.node.create_queue(&me(), queue.clone(), QueuePolicy::default()).await.expect("created");
        let pattern = pattern.parse().expect("a pattern");
        self.node.bind(&me(), Binding { pattern, queue, pipeline: None }).await.expect("bound");
    }

    async fn publish(&self, topic: &str, payload: &str) -> Receipt {
        let message = Message::new(topic.parse().expect("a topic"), payload.to_owned());
        let batch = vec![Publication::from(message)];
        self.node.publish(&me(), batch).await.await.remove(0)
    }

    async fn consume(&self, queue: &str, credit: u32) -> Subscription {
        let options = SubscribeOptions { credit, notify_empty: true, ..SubscribeOptions::default() };
        let queue = queue.parse().expect("a name");
        self.node.subscribe(&me(), &queue, options).await.expect("subscribed")
    }
}

async fn start(folder: &TempDir) -> Node {
    Node::start(Config { segment_bytes: 1 << 20, ..Config::new(folder.path()) }).await.expect("it starts")
}

/// All deliveries until the queue is empty.
async fn drain(subscription: &mut Subscription) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while subscription.next(&mut deliveries).await.expect("open") != Event::Empty {}
    deliveries
}

async fn settle(subscription: &Subscription, delivery: &Delivery, outcome: Outcome) -> Vec<u64> {
    let settlement = Settlement { first: delivery.tag, last: delivery.tag, outcome };
    subscription.controls().settle(vec![settlement]).await.expect("open").await.expect("durable")
}

fn payloads(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|d| String::from_utf8_lossy(&d.message.payload).into_owned()).collect()
}

#[tokio::test]
async fn a_message_goes_to_every_queue_bound_to_its_topic() {
    let broker = Broker::start().await;
    broker.queue("all", "orders.#").await;
    broker.queue("eu", "orders.eu.*").await;

    assert!(matches!(broker.publish("orders.eu.new", "a").await, Receipt::Stored(s) if s.entries == 1));
    assert!(matches!(broker.publish("prices", "b").await, Receipt::Stored(s) if s.entries == 0));

    assert_eq!(payloads(&drain(&mut broker.consume("all", 10).await).await), ["a"]);
    assert_eq!(payloads(&drain(&mut broker.consume("eu", 10).await).await), ["a"]);
}

#[tokio::test]
async fn what_was_confirmed_is_there_after_a_restart_and_what_was_acked_is_not() {
    let broker = Broker::start().await;
    broker.queue("orders", "orders").await;
    for payload in ["a", "b", "c"] {
        broker.publish("orders", payload).await;
    }
    let mut consumer = broker.consume("orders", 2).await;
    let mut deliveries = Vec::new();
    consumer.next(&mut deliveries).await.expect("open");
    assert!(settle(&consumer, &deliveries[0], Outcome::Ack).await.is_empty());
    drop(consumer);

    let broker = broker.restart().await;
    let again = drain(&mut broker.consume("orders", 10).await).await;
    assert_eq!(payloads(&again), ["b", "c"]);
    assert_eq!((again[0].redelivered, again[0].attempt), (true, 2));
    assert_eq!((again[1].redelivered, again[1].attempt), (false, 1));
}

#[tokio::test]
async fn bodies_that_left_memory_are_read_from_the_log_in_order() {
    let broker = Broker::start().await;
    broker.queue("big", "big").await;
    let body = "x".repeat(100_000);
    for i in 0..400 {
        broker.publish("big", &format!("{i} {body}")).await;
    }
    let deliveries = drain(&mut broker.consume("big", 1000).await).await;
    assert_eq!(deliveries.len(), 400);
    for (i, delivery) in deliveries.iter().enumerate() {
        assert!(delivery.message.payload.starts_with(format!("{i} x").as_bytes()));
    }
}

#[tokio::test]
async fn a_stale_ack_says_so_and_settles_nothing() {
    let broker = Broker::start().await;
    broker.queue("orders", "orders").await;
    broker.publish("orders", "a").await;
    let mut consumer = broker.consume("orders", 1).await;
    let delivery = drain_one(&mut consumer).await;
    settle(&consumer, &delivery, Outcome::Nack { delay: Some(Duration::ZERO) }).await;

    assert_eq!(settle(&consumer, &delivery, Outcome::Ack).await, [delivery.tag]);
    let view = broker.node.queue(&me(), &"orders".parse().expect("a name")).await.expect("there");
    assert_eq!(view.settled, 0);
}

async fn drain_one(consumer: &mut Subscription) -> Delivery {
    let mut deliveries = Vec::new();
    while deliveries.is_empty() {
        consumer.next(&mut deliveries).await.expect("open");
    }
    deliveries.remove(0)
}

#[tokio::test]
async fn a_message_that_is_nacked_too_often_lies_in_the_dead_letters_and_can_be_redriven() {
    let broker = Broker::start().await;
    let queue: wharf_protocol::Name = "orders".parse().expect("a name");
    let policy = QueuePolicy { max_attempts: 2, retry_min_ms: 0, retry_max_ms: 0, ..QueuePolicy::default() };
    broker.node.create_queue(&me(), queue.clone(), policy).await.expect("created");
    let binding =
        Binding { pattern: "orders".parse().expect("a pattern"), queue: queue.clone(), pipeline: None };
    broker.node.bind(&me(), binding).await.expect("bound");
    broker.publish("orders", "a").await;
    let mut consumer = broker.consume("orders", 10).await;
    for attempt in 1..=2 {
        let delivery = drain_one(&mut consumer).await;
        assert_eq!(delivery.attempt, attempt);
        settle(&consumer, &delivery, Outcome::Nack { delay: None }).await;
    }

    let letters = broker.node.dead_letters(&me(), None, 0, 10).await.expect("allowed");
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].death.queue, "orders");
    let (_, message) = broker.node.dead_letter(&me(), letters[0].id).await.expect("there");
    assert_eq!(message.payload, "a");

    let redriven = broker.node.redrive(&me(), None, None, None).await.expect("allowed");
    assert_eq!((redriven.moved, redriven.kept), (1, 0));
    assert_eq!(drain_one(&mut consumer).await.message.payload, "a");
}

#[tokio::test]
async fn a_queue_that_is_deleted_tells_its_consumers() {
    let broker = Broker::start().await;
    broker.queue("orders", "orders").await;
    let mut consumer = broker.consume("orders", 1).await;
    assert_eq!(consumer.next(&mut Vec::new()).await, Ok(Event::Empty));
    broker.node.delete_queue(&me(), &"orders".parse().expect("a name")).await.expect("deleted");
    let told = consumer.next(&mut Vec::new()).await.expect_err("deleted");
    assert_eq!(told.to_string(), "there is no queue \"orders\"");
}

#[tokio::test]
async fn a_full_disk_refuses_publishes_while_consuming_goes_on() {
    let broker = Broker::start().await;
    broker.queue("orders", "orders").await;
    broker.publish("orders", "a").await;
    broker.node.shutdown().await;
    let config = Config { disk_free_bytes_min: u64::MAX, ..Config::new(broker.folder.path()) };
    let node = Node::start(config).await.expect("it starts");
    let broker = Broker { node, folder: broker.folder };

    let refused = broker.publish("orders", "b").await;
    assert!(matches!(refused, Receipt::Rejected(r) if r.reason.contains("MiB left")));
    let mut consumer = broker.consume("orders", 1).await;
    let delivery = drain_one(&mut consumer).await;
    assert!(settle(&consumer, &delivery, Outcome::Ack).await.is_empty());
}

#[tokio::test]
async fn a_live_tap_sees_what_is_published_and_nothing_is_stored_for_it() {
    let broker = Broker::start().await;
    let mut tap = broker.node.tap(&me(), "orders.#".parse().expect("a pattern")).expect("open");
    broker.publish("orders.eu", "a").await;
    let mut seen = Vec::new();
    assert_eq!(tap.next(&mut seen).await, Ok(0));
    assert_eq!(seen[0].payload, "a");
}

#[tokio::test]
async fn publishes_are_counted_by_what_their_publishers_were_told() {
    let broker = Broker::start().await;
    broker.queue("small", "in").await;
    let policy = QueuePolicy { max_messages: 1, ..QueuePolicy::default() };
    broker.node.set_policy(&me(), &"small".parse().expect("a name"), policy).await.expect("set");
    assert!(matches!(broker.publish("in", "kept").await, Receipt::Stored(_)));
    assert!(matches!(broker.publish("in", "too many").await, Receipt::Rejected(_)));
    assert!(matches!(broker.publish("nowhere", "bound").await, Receipt::Stored(_)));
    broker.queue("more", "twice").await;
    for _ in 0..2 {
        let mut message = Message::new("twice".parse().expect("a topic"), "x");
        message.message_id = Some("one".into());
        broker.node.publish(&me(), vec![Publication::from(message)]).await.await;
    }

    let counts = broker.node.metrics().await.expect("open").publishes;
    assert_eq!((counts.accepted, counts.duplicates, counts.rejected, counts.unrouted), (3, 1, 1, 1));
}
