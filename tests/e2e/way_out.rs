//! Pipelines between a lease and its consumer.

use std::time::Duration;

use wharf_node::{Event, Node, QueuePolicy, ReadOptions, StreamPolicy, SubscribeOptions, Subscription};
use wharf_protocol::{DeathCause, Delivery, Outcome, Settlement};

use crate::broker::{GUEST, TestBroker, me, message, name};

/// A queue whose deliveries pass the misbehaving plugin.
async fn with_way_out(kind: &str, rest: &str) -> TestBroker {
    let broker = TestBroker::start().await;
    broker.queue("orders.eu", "in", None).await;
    broker
        .apply(
            "out",
            &format!(
                "delivery = [\"orders.*\"]\n[[stage]]\nplugin = \"{GUEST}\"\nkind = \"{kind}\"\n{rest}\n"
            ),
        )
        .await;
    broker
}

async fn send(broker: &TestBroker, behaviours: &[&str]) {
    for (n, behave) in behaviours.iter().enumerate() {
        broker.publish(message("in", &n.to_string(), &[("behave", behave)])).await;
    }
}

async fn consume(node: &Node, credit: u32) -> Subscription {
    let options = SubscribeOptions { credit, notify_empty: true, ..SubscribeOptions::default() };
    node.subscribe(&me(), &name("orders.eu"), options).await.expect("subscribed")
}

/// All that comes until there is nothing more.
async fn all(consumer: &mut Subscription) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while consumer.next(&mut deliveries).await.expect("open") != Event::Empty {}
    deliveries
}

fn payloads(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|each| String::from_utf8_lossy(&each.message.payload).into_owned()).collect()
}

#[tokio::test]
async fn what_a_stage_drops_is_settled_and_gives_its_credit_back() {
    let broker = with_way_out("router", "").await;
    send(&broker, &["", "drop", "", "drop", "drop", ""]).await;
    let mut consumer = consume(&broker.node, 4).await;
    let deliveries = all(&mut consumer).await;
    assert_eq!(payloads(&deliveries), ["0", "2", "5"], "in order, and more came than there was credit for");
    assert_eq!(deliveries[0].message.headers.text("wharf-pipeline"), Some("out/1"));
    let acks =
        deliveries.iter().map(|each| Settlement { first: each.tag, last: each.tag, outcome: Outcome::Ack });
    let stale = consumer.controls().settle(acks.collect()).await.expect("open").await.expect("settled");
    assert!(stale.is_empty());
    let queue = broker.node.queue(&me(), &name("orders.eu")).await.expect("it is there");
    assert_eq!((queue.acked, queue.leased, queue.ready), (6, 0, 0));
}

#[tokio::test]
async fn a_refusal_is_a_dead_letter_with_its_stage_and_plugin() {
    let broker = with_way_out("validator", "").await;
    send(&broker, &["", "reject"]).await;
    let mut consumer = consume(&broker.node, 10).await;
    assert_eq!(payloads(&all(&mut consumer).await), ["0"]);
    let letters = broker.node.dead_letters(&me(), None, 0, 10).await.expect("allowed");
    assert_eq!(letters.len(), 1);
    let death = &letters[0].death;
    assert_eq!((death.queue.as_str(), death.cause), ("orders.eu", DeathCause::Stage));
    assert_eq!(death.stage.as_deref(), Some("out/guest"));
    assert!(death.plugin.as_ref().is_some_and(|digest| digest.len() == 64));
    assert!(death.reason.contains("asked to be rejected"), "{}", death.reason);
}

#[tokio::test]
async fn a_stage_that_asks_for_patience_or_breaks_gives_the_message_back() {
    let broker = with_way_out("validator", "").await;
    send(&broker, &["retry", "panic"]).await;
    let mut consumer = consume(&broker.node, 10).await;
    let empty = all(&mut consumer).await;
    assert!(empty.is_empty());
    let queue = broker.node.queue(&me(), &name("orders.eu")).await.expect("it is there");
    assert_eq!((queue.delayed + queue.ready + queue.leased, queue.dead_lettered), (2, 0));
    assert!(queue.failed >= 2, "each attempt counts");
}

#[tokio::test]
async fn a_broken_stage_that_says_so_lays_the_message_among_the_dead() {
    let broker = with_way_out("transformer", "on-failure = \"dead-letter\"").await;
    send(&broker, &["panic", "two", "identity"]).await;
    let mut consumer = consume(&broker.node, 10).await;
    assert_eq!(payloads(&all(&mut consumer).await), ["2"]);
    let letters = broker.node.dead_letters(&me(), None, 0, 10).await.expect("allowed");
    let causes: Vec<_> = letters.iter().map(|letter| letter.death.cause).collect();
    assert_eq!(causes, [DeathCause::StageFault, DeathCause::StageFault]);
    assert!(letters.iter().any(|letter| letter.death.reason.contains("becomes one or none")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_finish_with_the_version_they_began_with_and_keep_their_order() {
    let broker = with_way_out("transformer", "").await;
    let count = 400;
    for n in 0..count {
        broker.publish(message("in", &n.to_string(), &[("behave", "identity")])).await;
    }
    let mut consumer = consume(&broker.node, 16).await;
    let controls = consumer.controls();
    let spec =
        format!("delivery = [\"orders.*\"]\n[[stage]]\nplugin = \"{GUEST}\"\nkind = \"transformer\"\n");
    let swapping = async {
        for _ in 0..20 {
            broker.apply("out", &spec).await;
        }
    };
    let consuming = async {
        let mut got: Vec<Delivery> = Vec::new();
        while got.len() < count {
            let mut deliveries = Vec::new();
            consumer.next(&mut deliveries).await.expect("open");
            controls.credit(u32::try_from(deliveries.len()).expect("small"), 0).await.expect("open");
            got.extend(deliveries);
        }
        got
    };
    let ((), got) = tokio::join!(swapping, consuming);
    assert_eq!(payloads(&got), (0..count).map(|n| n.to_string()).collect::<Vec<_>>());
    let mut last = 0;
    for delivery in &got {
        let header = delivery.message.headers.text("wharf-pipeline").expect("it is marked");
        let number: u32 =
            header.strip_prefix("out/").and_then(|text| text.parse().ok()).expect("one version");
        assert!(number >= last, "an older version after a newer one");
        last = number;
    }
}

#[tokio::test]
async fn a_readers_place_moves_past_what_is_filtered_and_a_groups_too() {
    let broker = TestBroker::start().await;
    let stream = name("log");
    broker.node.create_stream(&me(), stream.clone(), StreamPolicy::default()).await.expect("created");
    let pattern = "in".parse().expect("a pattern");
    let binding = wharf_node::Binding { pattern, queue: stream.clone(), pipeline: None };
    broker.node.bind(&me(), binding).await.expect("bound");
    broker
        .apply("out", &format!("delivery = [\"log\"]\n[[stage]]\nplugin = \"{GUEST}\"\nkind = \"router\"\n"))
        .await;
    send(&broker, &["", "drop", "reject", "drop", ""]).await;

    let options = ReadOptions { credit: 2, until_end: true, ..ReadOptions::default() };
    let mut reader = broker.node.read_stream(&me(), &stream, options).await.expect("it reads");
    let mut deliveries = Vec::new();
    while reader.next(&mut deliveries).await.expect("open") != Event::Empty {}
    assert_eq!(payloads(&deliveries), ["0", "4"]);

    let options = ReadOptions { group: Some(name("billing")), credit: 2, ..ReadOptions::default() };
    let mut member = broker.node.read_stream(&me(), &stream, options).await.expect("it joins");
    let mut deliveries = Vec::new();
    while deliveries.len() < 2 {
        member.next(&mut deliveries).await.expect("open");
    }
    assert_eq!(payloads(&deliveries), ["0", "4"]);
    let acks =
        deliveries.iter().map(|each| Settlement { first: each.tag, last: each.tag, outcome: Outcome::Ack });
    member.controls().settle(acks.collect()).await.expect("a member").await.expect("settled");
    let letters = broker.node.dead_letters(&me(), None, 0, 10).await.expect("allowed");
    assert_eq!(letters.len(), 1);
    assert!(letters[0].death.reason.contains("out/guest: "), "{}", letters[0].death.reason);
}

#[tokio::test]
async fn a_queue_without_pipelines_is_as_it_was() {
    let broker = TestBroker::start().await;
    broker.node.create_queue(&me(), name("plain"), QueuePolicy::default()).await.expect("created");
    let options = SubscribeOptions { credit: 1, notify_empty: true, ..SubscribeOptions::default() };
    let mut consumer = broker.node.subscribe(&me(), &name("plain"), options).await.expect("subscribed");
    let next = tokio::time::timeout(Duration::from_secs(10), consumer.next(&mut Vec::new())).await;
    assert_eq!(next.expect("at once").expect("open"), Event::Empty);
}
