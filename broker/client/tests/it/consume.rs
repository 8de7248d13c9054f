use std::collections::BTreeSet;
use std::time::Duration;

use wharf_client::{
    Client, ConsumeError, ConsumeOptions, Consumer, Delivery, ErrorCode, SettleError, ack_all, nack_all,
};

use crate::broker::TestBroker;
use crate::publish::order;

async fn publish(client: &Client, count: usize) {
    let publisher = client.publisher().await.expect("a publisher");
    for n in 0..count {
        publisher.publish(order(n.to_string())).await.expect("sent");
    }
    publisher.flush().await.expect("stored");
}

async fn consume(client: &Client, options: ConsumeOptions) -> Consumer {
    client.consume("orders", options).await.expect("a consumer")
}

#[tokio::test]
async fn what_was_published_is_delivered_in_order_and_gone_once_acked() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    publish(&client, 5000).await;

    let until_empty = ConsumeOptions { until_empty: true, prefetch: 100, ..Default::default() };
    let mut consumer = consume(&client, until_empty).await;
    let mut expected = 0;
    while let Some(delivery) = consumer.next().await {
        assert_eq!(delivery.message.payload, expected.to_string());
        assert_eq!((delivery.offset, delivery.attempt, delivery.redelivered), (expected, 1, false));
        expected += 1;
        delivery.ack();
    }
    consumer.flush().await;

    assert_eq!(expected, 5000);
    assert!(consumer.end().is_none());
    assert_eq!(broker.depth("orders").await, 0);
}

#[tokio::test]
async fn an_awaited_ack_is_durable() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    publish(&client, 3).await;
    let mut consumer = consume(&client, Default::default()).await;

    for _ in 0..3 {
        consumer.next().await.expect("a delivery").ack().await.expect("settled");
    }

    assert_eq!(broker.depth("orders").await, 0);
}

#[tokio::test]
async fn never_more_than_the_prefetch_are_unsettled() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    publish(&client, 20).await;
    let mut slow = consume(&client, ConsumeOptions { prefetch: 2, ..Default::default() }).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(slow.next().await.expect("a delivery"));
    }

    // The rest goes to another; nothing of it is stuck at the slow one.
    let until_empty = ConsumeOptions { until_empty: true, ..Default::default() };
    let mut quick = consume(&client, until_empty).await;
    let mut others = 0;
    while let Some(delivery) = quick.next().await {
        delivery.ack();
        others += 1;
    }

    assert_eq!(others, 18);
    for delivery in held {
        delivery.ack().await.expect("still leased");
    }
}

#[tokio::test]
async fn competing_consumers_share_a_queue() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    let options = ConsumeOptions { prefetch: 10, ..Default::default() };
    let (mut one, mut two) = (consume(&client, options).await, consume(&client, options).await);
    publish(&client, 20).await;

    let mut seen = BTreeSet::new();
    for _ in 0..10 {
        for consumer in [&mut one, &mut two] {
            let delivery = consumer.next().await.expect("a delivery");
            seen.insert(delivery.id);
            delivery.ack().await.expect("settled");
        }
    }

    assert_eq!(seen.len(), 20);
}

#[tokio::test]
async fn a_nacked_delivery_comes_again_with_another_attempt() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    publish(&client, 1).await;
    let mut consumer = consume(&client, Default::default()).await;

    consumer.next().await.expect("a delivery").nack(Some(Duration::ZERO)).await.expect("settled");

    let again = consumer.next().await.expect("again");
    assert_eq!((again.attempt, again.redelivered), (2, true));
}

#[tokio::test]
async fn a_dead_letter_keeps_its_reason() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    publish(&client, 1).await;
    let mut consumer = consume(&client, Default::default()).await;
    consumer.next().await.expect("a delivery").dead_letter("no address").await.expect("settled");

    let mut dead = client.consume("dead-letters", ConsumeOptions::default()).await.expect("a consumer");
    let delivery = dead.next().await.expect("a dead letter");

    let death = delivery.death.as_ref().expect("its death");
    assert_eq!((death.queue.as_str(), death.reason.as_str()), ("orders", "no address"));
}

#[tokio::test]
async fn an_unacked_delivery_returns_when_its_consumer_leaves() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    publish(&client, 1).await;
    let mut consumer = consume(&client, Default::default()).await;
    let held = consumer.next().await.expect("a delivery");
    drop(consumer);

    let mut other = consume(&client, Default::default()).await;
    let again = other.next().await.expect("again");

    assert!(again.redelivered);
    assert_eq!(held.ack().await, Err(SettleError::Stale));
}

#[tokio::test]
async fn what_is_settled_automatically_is_gone_when_it_is_delivered() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    publish(&client, 100).await;
    let options = ConsumeOptions { auto_settle: true, until_empty: true, prefetch: 8, ..Default::default() };
    let mut consumer = consume(&client, options).await;
    let mut count = 0;
    while consumer.next().await.is_some() {
        count += 1;
    }
    assert_eq!(count, 100);
    assert_eq!(broker.depth("orders").await, 0);
}

#[tokio::test]
async fn a_consumer_of_a_deleted_queue_ends_and_says_why() {
    let broker = TestBroker::start().await;
    broker.queue("short-lived", "short").await;
    let client = broker.connect().await;
    let mut consumer = client.consume("short-lived", ConsumeOptions::default()).await.expect("a consumer");

    let name = "short-lived".parse().expect("a name");
    let me = wharf_node::Principal::system();
    broker.node.unbind(&me, &"short".parse().expect("a pattern"), &name).await.expect("unbound");
    broker.node.delete_queue(&me, &name).await.expect("deleted");

    assert!(consumer.next().await.is_none());
    let Some(ConsumeError::Refused(refusal)) = consumer.end() else { panic!("{:?}", consumer.end()) };
    assert_eq!(refusal.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_tap_sees_what_is_published_and_takes_nothing() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    let mut tap = client.tap("orders.*").await.expect("a tap");
    publish(&client, 3).await;

    for n in 0..3 {
        assert_eq!(tap.next().await.expect("a message").payload, n.to_string());
    }
    assert_eq!(broker.depth("orders").await, 3);
}

async fn take(consumer: &mut Consumer, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while deliveries.len() < count {
        deliveries.push(consumer.next().await.expect("a delivery"));
    }
    deliveries
}

#[tokio::test]
async fn one_ack_settles_all_that_came_before_it() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    publish(&client, 10).await;
    let mut consumer = consume(&client, Default::default()).await;
    let mut deliveries = take(&mut consumer, 10).await;

    deliveries.remove(2).ack().await.expect("settled");
    deliveries.remove(7).ack_up_to().await.expect("settled, with those before it");

    assert_eq!(broker.depth("orders").await, 1);
    let last = deliveries.pop().expect("the tenth");
    last.ack().await.expect("it came after");
    assert_eq!(deliveries.remove(0).ack().await, Err(SettleError::Stale), "it was settled with the others");
    assert_eq!(broker.depth("orders").await, 0);
}

#[tokio::test]
async fn many_are_settled_together() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    publish(&client, 10).await;
    let mut consumer = consume(&client, Default::default()).await;
    let mut deliveries = take(&mut consumer, 10).await;

    nack_all(deliveries.split_off(7), Some(Duration::ZERO)).await.expect("settled");
    ack_all(deliveries).await.expect("settled");

    assert_eq!(broker.depth("orders").await, 3);
    assert!(take(&mut consumer, 3).await.iter().all(|again| again.attempt == 2));
}

#[tokio::test]
async fn never_more_bytes_are_unsettled_than_asked_for_but_for_one_message() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    publish(&client, 50).await;
    let bytes = order("0").encoded_bytes() as u64;
    let options = ConsumeOptions { prefetch_bytes: 3 * bytes, ..Default::default() };
    let mut consumer = consume(&client, options).await;

    let mut held = take(&mut consumer, 3).await;
    assert_eq!(broker.leased("orders").await, 3);
    held.remove(0).ack().await.expect("settled");
    held.extend(take(&mut consumer, 1).await);
    assert_eq!(broker.leased("orders").await, 3, "as much as was given back");

    drop(held);
    let mut rest = 0;
    while rest < 46 {
        consumer.next().await.expect("it goes on").ack();
        rest += 1;
    }
    consumer.flush().await;
}

#[tokio::test]
async fn a_lease_that_is_renewed_does_not_lapse() {
    let broker = TestBroker::start().await;
    broker.lease("orders", Duration::from_millis(300)).await;
    let client = broker.connect().await;
    publish(&client, 2).await;
    let mut renewing =
        consume(&client, ConsumeOptions { renew: true, prefetch: 1, ..Default::default() }).await;
    let held = renewing.next().await.expect("a delivery");
    let mut other = consume(&client, Default::default()).await;

    // What nobody renews lapses time and again: it tells how long the other is held.
    for attempt in 1..=4 {
        let lapsing = other.next().await.expect("a delivery");
        assert_eq!((lapsing.offset, lapsing.attempt), (1, attempt), "only the one that is not renewed");
    }
    held.renew().await.expect("it is held");
    held.ack().await.expect("it was held all the time");
}

#[tokio::test]
async fn a_lease_that_has_lapsed_cannot_be_renewed() {
    let broker = TestBroker::start().await;
    broker.lease("orders", Duration::from_millis(50)).await;
    let client = broker.connect().await;
    publish(&client, 1).await;
    let mut consumer = consume(&client, Default::default()).await;
    let lapsed = consumer.next().await.expect("a delivery");
    let again = consumer.next().await.expect("it lapsed");

    assert_eq!(lapsed.renew().await, Err(SettleError::Stale));
    assert_eq!(again.attempt, 2);
}

#[tokio::test]
async fn an_exclusive_queue_has_one_consumer_and_goes_with_it() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    broker.policy("orders", wharf_node::QueuePolicy { exclusive: true, ..Default::default() }).await;
    let first = consume(&client, Default::default()).await;

    let second = client.consume("orders", Default::default()).await.expect_err("refused");
    assert!(matches!(second, ConsumeError::Refused(why) if why.code == ErrorCode::Conflict));
    drop(first);

    // The event to wait for: the first has left, and nobody is refused for its sake any more.
    let gone = async {
        loop {
            match client.consume("orders", Default::default()).await {
                Err(ConsumeError::Refused(why)) if why.code == ErrorCode::Conflict => {}
                other => break other.map(drop),
            }
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(30), gone).await.expect("it leaves");
    assert!(matches!(gone, Err(ConsumeError::Refused(why)) if why.code == ErrorCode::NotFound));
}
