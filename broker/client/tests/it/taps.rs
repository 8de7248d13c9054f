//! Live messages by datagrams.

use wharf_client::{Client, ConsumeError, Message};

use crate::broker::TestBroker;
use crate::publish::order;
use crate::relay::Relay;

/// Longer than a datagram of any path.
const LONG_BYTES: usize = 100_000;

async fn publish(client: &Client, message: Message) {
    client.publish(message).await.expect("sent").await.expect("stored");
}

#[tokio::test]
async fn live_messages_come_by_datagrams_and_long_ones_beside_them() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    let mut tap = client.tap("orders.*").datagrams().await.expect("a tap");
    let publisher = client.publisher().await.expect("a publisher");
    let mut expected = Vec::new();
    for n in 0..300 {
        let payload = if n % 100 == 50 { "x".repeat(LONG_BYTES + n) } else { n.to_string() };
        publisher.publish(order(payload.clone())).await.expect("sent");
        expected.push(payload);
    }

    let mut seen = Vec::new();
    for _ in 0..expected.len() {
        seen.push(String::from_utf8(tap.next().await.expect("a message").payload.to_vec()).expect("text"));
    }

    seen.sort_unstable();
    expected.sort_unstable();
    assert_eq!(seen, expected);
    assert_eq!(tap.missed(), 0);
}

#[tokio::test]
async fn a_lost_datagram_is_not_sent_again_but_counted() {
    let broker = TestBroker::start().await;
    let relay = Relay::to(broker.address()).await;
    let watcher = Client::connect(broker.options_by(relay.address)).await.expect("a connection");
    let publisher = broker.connect().await;
    let mut tap = watcher.tap("orders.*").datagrams().await.expect("a tap");
    publish(&publisher, order("before")).await;
    assert_eq!(tap.next().await.expect("a message").payload, "before");

    // Whatever the broker sends meanwhile, most of it is these.
    relay.lose(5);
    let mut lost = 0;
    while relay.left_to_lose() > 0 {
        publish(&publisher, order("lost?")).await;
        lost += 1;
        assert!(lost < 10_000, "the broker sends the watcher nothing");
    }
    // On the stream, so that it comes whatever happens.
    publish(&publisher, order("x".repeat(LONG_BYTES))).await;

    let mut came = 0;
    while tap.next().await.expect("a message").payload.len() < LONG_BYTES {
        came += 1;
    }
    // What is still under way overtakes nothing: this path keeps the order of datagrams.
    publish(&publisher, order("after")).await;
    let mut after = tap.next().await.expect("a message");
    while after.payload != "after" {
        came += 1;
        after = tap.next().await.expect("a message");
    }
    assert!(tap.missed() > 0, "nothing was lost of {lost}, of which {came} came");
    assert_eq!(tap.missed(), lost - came);
}

#[tokio::test]
async fn two_taps_of_one_connection_get_their_own_datagrams() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    let mut orders = client.tap("orders.*").datagrams().await.expect("a tap");
    let mut all = client.tap("#").datagrams().await.expect("a tap");
    publish(&client, order("one")).await;
    publish(&client, Message::new("orders".parse().expect("a topic"), "two")).await;

    assert_eq!(orders.next().await.expect("a message").payload, "one");
    assert_eq!(all.next().await.expect("a message").payload, "one");
    assert_eq!(all.next().await.expect("a message").payload, "two");
    drop(orders);
    publish(&client, order("three")).await;
    assert_eq!(all.next().await.expect("a message").payload, "three");
}

#[tokio::test]
async fn a_tap_of_datagrams_goes_on_after_the_connection_is_lost() {
    let mut broker = TestBroker::start().await;
    let client = broker.connect().await;
    let mut tap = client.tap("orders.*").datagrams().await.expect("a tap");
    publish(&client, order("one")).await;
    assert_eq!(tap.next().await.expect("a message").payload, "one");

    broker.close_door().await;
    broker.open_door().await;

    // What is published before the tap is back is missed.
    let mut answers = 0;
    loop {
        publish(&client, order("two")).await;
        answers += 1;
        tokio::select! {
            biased;
            message = tap.next() => break assert_eq!(message.expect("a message").payload, "two"),
            () = tokio::task::yield_now() => assert!(answers < 10_000, "the tap does not come back"),
        }
    }
}

#[tokio::test]
async fn a_pattern_that_is_none_is_refused_here() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    let refused = client.tap("").datagrams().await.expect_err("no pattern");
    assert!(matches!(refused, ConsumeError::Pattern(_)), "{refused:?}");
}
