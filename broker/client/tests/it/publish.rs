use wharf_client::{Confirmed, Message, PublishError};

use crate::broker::TestBroker;

pub(crate) fn order(payload: impl Into<String>) -> Message {
    Message::new("orders.eu".parse().expect("a topic"), payload.into())
}

#[tokio::test]
async fn a_confirmed_message_is_in_the_queue() {
    let broker = TestBroker::start().await;
    let publisher = broker.connect().await.publisher().await.expect("a publisher");

    let confirmed = publisher.publish(order("one")).await.expect("sent").await.expect("stored");

    let Confirmed::Stored(stored) = confirmed else { panic!("{confirmed:?}") };
    assert_eq!(stored.entries, 1);
    assert_eq!(broker.depth("orders").await, 1);
}

#[tokio::test]
async fn messages_are_pipelined_and_each_is_confirmed_in_order() {
    let broker = TestBroker::start().await;
    let publisher = broker.connect().await.publisher().await.expect("a publisher");

    let mut confirms = Vec::new();
    for n in 0..20_000 {
        confirms.push(publisher.publish(order(n.to_string())).await.expect("sent"));
    }
    let mut last = 0;
    for confirm in confirms {
        let Confirmed::Stored(stored) = confirm.await.expect("stored") else { panic!("a duplicate") };
        assert!(stored.index > last, "{} after {last}", stored.index);
        last = stored.index;
    }

    assert_eq!(broker.depth("orders").await, 20_000);
}

#[tokio::test]
async fn what_is_bound_to_nothing_is_confirmed_and_kept_nowhere() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    let message = Message::new("nowhere".parse().expect("a topic"), "x");
    let confirmed = client.publish(message).await.expect("sent").await.expect("confirmed");
    assert_eq!(confirmed.stored().expect("known").entries, 0);
}

#[tokio::test]
async fn a_message_id_that_comes_again_is_a_duplicate() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    let mut message = order("one");
    message.message_id = Some("order-1".into());

    let first = client.publish(message.clone()).await.expect("sent").await.expect("stored");
    let second = client.publish(message).await.expect("sent").await.expect("known");

    assert!(matches!(first, Confirmed::Stored(_)));
    assert!(matches!(second, Confirmed::Duplicate(_)), "{second:?}");
    assert_eq!(broker.depth("orders").await, 1);
}

#[tokio::test]
async fn a_message_over_the_bound_is_refused_before_it_is_sent() {
    let broker = TestBroker::start().await;
    let publisher = broker.connect().await.publisher().await.expect("a publisher");

    let error = publisher.publish(order("x".repeat(2 * 1024 * 1024))).await.expect_err("too large");

    assert!(matches!(error, PublishError::TooLarge { max: 1_048_576, .. }), "{error}");
    publisher.publish(order("small")).await.expect("sent").await.expect("stored");
}

#[tokio::test]
async fn a_key_or_priority_over_its_bound_is_refused_and_no_panic() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    let mut long_key = order("x");
    long_key.key = Some(vec![0; 2000].into());
    assert!(matches!(client.publish(long_key).await, Err(PublishError::Invalid(_))));
    let mut urgent = order("x");
    urgent.priority = 32;
    assert!(matches!(client.publish(urgent).await, Err(PublishError::Invalid(_))));
}

#[tokio::test]
async fn a_closed_client_has_sent_what_it_took() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    let publisher = client.publisher().await.expect("a publisher");
    for n in 0..1000 {
        publisher.publish(order(n.to_string())).await.expect("sent");
    }

    client.close().await;

    assert_eq!(broker.depth("orders").await, 1000);
    assert!(matches!(publisher.publish(order("late")).await, Err(PublishError::Closed)));
}
