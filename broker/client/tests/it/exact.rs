use std::collections::BTreeSet;

use wharf_client::{
    Client, CommitError, Confirmed, ConsumeOptions, Delivery, ErrorCode, Message, Part, PublishError,
    SettleError,
};

use crate::broker::TestBroker;
use crate::publish::order;

async fn next(client: &Client, queue: &str) -> (wharf_client::Consumer, Delivery) {
    let mut consumer = client.consume(queue, ConsumeOptions::default()).await.expect("a consumer");
    let delivery = consumer.next().await.expect("a delivery");
    (consumer, delivery)
}

fn invoice(payload: impl Into<String>) -> Message {
    Message::new("invoices.new".parse().expect("a topic"), payload.into())
}

/// The payloads that wait in `queue`.
async fn payloads(client: &Client, queue: &str) -> Vec<String> {
    let options = ConsumeOptions { until_empty: true, ..Default::default() };
    let mut consumer = client.consume(queue, options).await.expect("a consumer");
    let mut payloads = Vec::new();
    while let Some(delivery) = consumer.next().await {
        payloads.push(String::from_utf8_lossy(&delivery.message.payload).into_owned());
        delivery.ack().await.expect("settled");
    }
    payloads
}

#[tokio::test]
async fn inputs_are_acked_and_outputs_stored_together() {
    let broker = TestBroker::start().await;
    broker.queue("invoices", "invoices.#").await;
    let client = broker.connect().await;
    for n in 0..3 {
        client.publish(order(n.to_string())).await.expect("sent").await.expect("stored");
    }
    let mut orders = client.consume("orders", ConsumeOptions::default()).await.expect("a consumer");
    let mut transaction = client.transaction();
    for n in 0..3 {
        let delivery = orders.next().await.expect("a delivery");
        transaction.ack(&delivery);
        transaction.publish(invoice(n.to_string()));
    }
    transaction.publish(Message::new("nowhere".parse().expect("a topic"), ""));
    let receipt = transaction.commit().await.expect("committed");

    assert_eq!(receipt.stored.expect("known").entries, 3);
    assert_eq!((receipt.duplicates, receipt.unrouted), (vec![], vec![3]));
    assert_eq!((broker.depth("orders").await, broker.depth("invoices").await), (0, 3));
    assert_eq!(payloads(&client, "invoices").await, ["0", "1", "2"]);
}

#[tokio::test]
async fn nothing_happens_when_one_part_cannot() {
    let broker = TestBroker::start().await;
    broker.queue("invoices", "invoices.#").await;
    let client = broker.connect().await;
    client.publish(order("a")).await.expect("sent").await.expect("stored");
    let (_consumer, delivery) = next(&client, "orders").await;

    let mut transaction = client.transaction();
    let large = Message::new("invoices.new".parse().expect("a topic"), vec![0; 1024 * 1024 - 100]);
    transaction.ack(&delivery).publish(invoice("a")).publish(large);
    assert!(matches!(transaction.commit().await, Err(CommitError::TooLarge { .. })));

    // One that may not publish there.
    let reader = Client::connect(broker.options().token("reader")).await.expect("a connection");
    let mut transaction = reader.transaction();
    transaction.publish(invoice("a"));
    let error = transaction.commit().await.expect_err("forbidden");
    let CommitError::Rejected { part: Part::Message(0), rejection, .. } = error else { panic!("{error:?}") };
    assert_eq!(rejection.code, ErrorCode::Forbidden);

    // And one that acks what it does not hold any more.
    let mut transaction = client.transaction();
    transaction.ack(&delivery).publish(invoice("a"));
    delivery.ack().await.expect("settled in another way");
    let error = transaction.commit().await.expect_err("stale");
    let CommitError::Rejected { part: Part::Settlement(0), rejection, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(rejection.code, ErrorCode::Conflict);
    assert_eq!(broker.depth("invoices").await, 0);
}

#[tokio::test]
async fn another_connections_consumer_is_nobodys_to_settle() {
    let mut broker = TestBroker::start().await;
    let client = broker.connect().await;
    client.publish(order("a")).await.expect("sent").await.expect("stored");
    let (mut consumer, delivery) = next(&client, "orders").await;
    let other = broker.connect().await;
    let mut transaction = other.transaction();
    transaction.ack(&delivery);
    assert!(matches!(transaction.commit().await, Err(CommitError::Rejected { .. })));
    delivery.ack().await.expect("still held");

    // Nor is one of a connection that was lost.
    client.publish(order("b")).await.expect("sent").await.expect("stored");
    let delivery = consumer.next().await.expect("a delivery");
    broker.close_door().await;
    broker.open_door().await;
    let mut transaction = client.transaction();
    transaction.ack(&delivery).publish(order("c"));
    assert!(matches!(
        transaction.commit().await,
        Err(CommitError::Rejected { part: Part::Settlement(0), .. })
    ));
    assert_eq!(delivery.ack().await, Err(SettleError::Stale));
}

/// I7: inputs acked if and only if outputs are there, each exactly once, whatever becomes of connections.
#[tokio::test]
async fn consume_transform_produce_is_exact_however_often_the_connection_is_lost() {
    const ORDERS: usize = 400;
    let mut broker = TestBroker::start().await;
    broker.queue("invoices", "invoices.#").await;
    let client = broker.connect().await;
    let publisher = client.publisher().await.expect("a publisher");
    let orders: Vec<_> = (0..ORDERS).map(|n| order(n.to_string())).collect();
    publisher.publish_all(&orders).await.expect("sent").await.expect("stored");

    let working = tokio::spawn(async move {
        let mut consumer = client.consume("orders", ConsumeOptions::default()).await.expect("a consumer");
        let (mut committed, mut refused) = (0, 0);
        while committed < ORDERS {
            let delivery = consumer.next().await.expect("a delivery");
            let mut transaction = client.transaction();
            let payload = String::from_utf8_lossy(&delivery.message.payload).into_owned();
            transaction.ack(&delivery).publish(invoice(payload));
            match transaction.commit().await {
                Ok(_) => committed += 1,
                Err(CommitError::Rejected { part: Part::Settlement(_), .. }) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        (client, refused)
    });
    for cut in 1..=3 {
        while broker.depth("invoices").await < cut * 100 {
            tokio::task::yield_now().await;
        }
        broker.close_door().await;
        broker.open_door().await;
    }
    let (client, _) = working.await.expect("all are committed");

    assert_eq!(broker.depth("orders").await, 0);
    let invoices = payloads(&client, "invoices").await;
    let distinct: BTreeSet<_> = invoices.iter().collect();
    assert_eq!((invoices.len(), distinct.len()), (ORDERS, ORDERS));
}

#[tokio::test]
async fn a_batch_is_stored_as_a_whole_in_order_with_its_neighbours() {
    let broker = TestBroker::start().await;
    let client = broker.connect().await;
    let publisher = client.publisher().await.expect("a publisher");
    let before = publisher.publish(order("before")).await.expect("sent");
    let batch: Vec<_> = (0..100).map(|n| order(n.to_string())).collect();
    let all = publisher.publish_all(&batch).await.expect("sent");
    let after = publisher.publish(order("after")).await.expect("sent");

    let Confirmed::Stored(stored) = all.await.expect("stored") else { panic!("stored now") };
    assert_eq!(stored.entries, 100, "one record");
    before.await.expect("stored");
    after.await.expect("stored");
    let found = payloads(&client, "orders").await;
    let expected: Vec<_> = std::iter::once("before".to_owned())
        .chain((0..100).map(|n| n.to_string()))
        .chain(std::iter::once("after".to_owned()))
        .collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn one_bad_message_rejects_its_whole_batch_and_nothing_else() {
    let broker = TestBroker::start().await;
    let reader = Client::connect(broker.options().token("reader")).await.expect("a connection");
    let publisher = reader.publisher().await.expect("a publisher");
    let refused = publisher.publish_all(&[order("a"), order("b")]).await.expect("sent").await;
    let Err(PublishError::Rejected(rejection)) = refused else { panic!("{refused:?}") };
    assert_eq!(rejection.code, ErrorCode::Forbidden);
    assert!(rejection.reason.starts_with("message 0 of the batch: "), "{}", rejection.reason);
    assert_eq!(broker.depth("orders").await, 0);
}

#[tokio::test]
async fn a_named_producer_goes_on_where_it_stopped_and_fences_its_earlier_life() {
    let mut broker = TestBroker::start().await;
    let first = broker.connect().await;
    let importer = first.publisher().producer("importer-7").await.expect("a publisher");
    assert_eq!(importer.last_sequence(), 0);
    for n in 1..=3 {
        let confirm = importer.publish(order(n.to_string())).await.expect("sent");
        assert_eq!(confirm.sequence(), n);
        confirm.await.expect("stored");
    }
    // A lost connection is not a new life.
    broker.close_door().await;
    broker.open_door().await;
    importer.publish(order("4")).await.expect("sent").await.expect("stored");

    let second = broker.connect().await;
    let heir = second.publisher().producer("importer-7").await.expect("a publisher");
    assert_eq!(heir.last_sequence(), 4);
    let confirm = heir.publish(order("5")).await.expect("sent");
    assert_eq!(confirm.sequence(), 5);
    confirm.await.expect("stored");

    let error = match importer.publish(order("zombie")).await {
        Ok(confirm) => confirm.await.expect_err("fenced"),
        Err(error) => error,
    };
    let PublishError::Refused(refusal) = error else { panic!("{error:?}") };
    assert_eq!(refusal.code, ErrorCode::Fenced);
    assert!(refusal.reason.contains("a newer life of it took over"), "{}", refusal.reason);
    importer.publish(order("zombie")).await.expect_err("the publisher has ended");
    assert_eq!(broker.depth("orders").await, 5);

    let other = second.publisher().producer("importer-8").await.expect("a publisher");
    assert_eq!(other.last_sequence(), 0, "another name is another producer");
}
