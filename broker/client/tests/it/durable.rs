use std::time::Duration;

use wharf_client::{Client, ConsumeError, ConsumeOptions, ErrorCode};

use crate::broker::TestBroker;
use crate::publish::order;

fn until_empty() -> ConsumeOptions {
    ConsumeOptions { until_empty: true, ..Default::default() }
}

#[tokio::test]
async fn what_is_published_while_a_durable_subscriber_is_away_waits_for_it() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    let mut audit = client.durable("audit", "orders.#", None, until_empty()).await.expect("a consumer");
    assert!(audit.next().await.is_none(), "nothing yet");
    drop(audit);

    client.publish(order("while away")).await.expect("sent").await.expect("stored");
    let mut audit = client.durable("audit", "orders.#", None, until_empty()).await.expect("a consumer");
    let delivery = audit.next().await.expect("what waited");
    assert_eq!(delivery.message.payload, "while away");
    delivery.ack().await.expect("settled");
}

#[tokio::test]
async fn a_durable_subscription_that_nobody_comes_for_expires() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    let expires = Some(Duration::from_millis(50));
    let consumer = client.durable("brief", "orders.#", expires, until_empty()).await.expect("a consumer");
    drop(consumer);
    let me = wharf_node::Principal::system();
    while broker.node.queues(&me).await.expect("queues").iter().any(|queue| queue.name.as_str() == "brief") {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn keeping_subscriptions_is_a_right_of_its_own() {
    let broker = TestBroker::start().await;
    let reader = Client::connect(broker.options().token("reader")).await.expect("a connection");
    for (name, pattern) in [("orders", "orders.#"), ("audit", "prices.#"), ("audit", "#")] {
        let refused = reader.durable(name, pattern, None, until_empty()).await.expect_err("forbidden");
        let ConsumeError::Refused(refusal) = refused else { panic!("{refused:?}") };
        assert_eq!(refusal.code, ErrorCode::Forbidden, "{name} {pattern}");
    }
    // The second connection is over its quota.
    let refused = Client::connect(broker.options().token("reader")).await.expect_err("one is allowed");
    assert!(format!("{:?}", refused).contains("its quota is 1"), "{refused:?}");
    reader.close().await;
}

/// One record, one body, whatever the number of queues.
#[tokio::test]
async fn fan_out_stores_a_body_once() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    for n in 0..10 {
        let name = format!("copy-{n}");
        client.durable(&name, "orders.#", None, until_empty()).await.expect("a consumer");
    }
    let records = || async {
        broker.node.status(&wharf_node::Principal::system()).await.expect("a status").log.bytes_appended
    };
    let before = records().await;
    client.publish(order("x".repeat(100_000))).await.expect("sent").await.expect("stored");
    let grown = records().await - before;
    assert!((100_000..110_000).contains(&grown), "eleven queues have it, and the log grew by {grown} bytes");
    assert_eq!(broker.depth("copy-9").await, 1);
}
