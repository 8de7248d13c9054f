use std::collections::BTreeMap;

use wharf_client::{ConsumeOptions, SettleError};

use crate::broker::TestBroker;
use crate::publish::order;

#[tokio::test]
async fn every_message_is_stored_once_however_often_the_connection_is_lost() {
    const MESSAGES: usize = 6_000;
    let mut broker = TestBroker::start().await;
    let client = broker.connect().await;
    let publisher = client.publisher().await.expect("a publisher");

    let publishing = tokio::spawn(async move {
        let mut confirms = Vec::new();
        for n in 0..MESSAGES {
            confirms.push(publisher.publish(order(n.to_string())).await.expect("sent"));
        }
        for confirm in confirms {
            confirm.await.expect("stored");
        }
    });
    // Cut off in the midst of publishing: once there are some more messages than the last time.
    for cut in 1..=4 {
        while broker.depth("orders").await < cut * 1_000 {
            tokio::task::yield_now().await;
        }
        broker.close_door().await;
        broker.open_door().await;
    }
    publishing.await.expect("every message is confirmed");

    assert_eq!(broker.depth("orders").await, MESSAGES as u64);
    let options = ConsumeOptions { until_empty: true, ..Default::default() };
    let mut consumer = client.consume("orders", options).await.expect("a consumer");
    for n in 0..MESSAGES {
        let delivery = consumer.next().await.expect("a delivery");
        assert_eq!(delivery.message.payload, n.to_string(), "in order");
        delivery.ack();
    }
    assert!(consumer.next().await.is_none());
}

#[tokio::test]
async fn a_consumer_goes_on_after_a_lost_connection_and_old_deliveries_are_stale() {
    let mut broker = TestBroker::start().await;
    let client = broker.connect().await;
    for n in 0..10 {
        client.publish(order(n.to_string())).await.expect("sent").await.expect("stored");
    }
    let mut consumer = client.consume("orders", ConsumeOptions::default()).await.expect("a consumer");
    consumer.next().await.expect("a delivery").ack().await.expect("settled");
    let held = consumer.next().await.expect("a delivery");

    broker.close_door().await;
    broker.open_door().await;
    client.publish(order("after")).await.expect("sent").await.expect("stored");

    let mut seen = BTreeMap::new();
    while seen.len() < 10 {
        let delivery = consumer.next().await.expect("a delivery");
        let payload = String::from_utf8_lossy(&delivery.message.payload).into_owned();
        if delivery.ack().await.is_ok() {
            *seen.entry(payload).or_insert(0) += 1;
        }
    }
    assert!(seen.values().all(|count| *count == 1), "{seen:?}");
    assert!(!seen.contains_key("0"), "what was acked does not come again");
    assert!(matches!(held.ack().await, Err(SettleError::Stale)));
    assert_eq!(broker.depth("orders").await, 0);
}

#[tokio::test]
async fn a_tap_goes_on_after_a_lost_connection() {
    let mut broker = TestBroker::start().await;
    let client = broker.connect().await;
    let mut tap = client.tap("orders.#").await.expect("a tap");
    broker.close_door().await;
    broker.open_door().await;

    // What is published before the tap is back is missed: publish until something comes.
    let seen = loop {
        client.publish(order("live")).await.expect("sent").await.expect("stored");
        let soon = tokio::time::timeout(std::time::Duration::from_millis(50), tap.next());
        if let Ok(message) = soon.await {
            break message;
        }
    };
    assert_eq!(seen.expect("a message").payload, "live");
}
