//! Quotas on what principals have made, through the node's handle and its restarts; and the alarm of memory.

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use wharf_node::{
    Binding, Config, Credentials, Identity, Node, NodeError, Principal, Publication, QueuePolicy, Quota,
    StreamPolicy, SubscribeOptions,
};
use wharf_protocol::{Message, Name, Outcome, Receipt, Settlement};

/// A node that knows an administrator `shop`, with `quota`.
async fn start(folder: &TempDir, quota: Quota) -> (Node, Principal) {
    let shop = Identity {
        quota,
        subscribe: vec!["prices.#".parse().expect("a pattern")],
        ..Identity::administrator("shop", hex::encode(Sha256::digest("secret")))
    };
    let mut config = Config { segment_bytes: 1 << 20, ..Config::new(folder.path()) };
    config.principals = vec![shop];
    config.disk_free_bytes_min = 0;
    let node = Node::start(config).await.expect("it starts");
    let credentials = Credentials { token: Some("secret"), certificate: None };
    let shop = node.authenticate(credentials).expect("known");
    (node, shop)
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

async fn make(node: &Node, who: &Principal, queue: &str) -> Result<(), NodeError> {
    node.create_queue(who, name(queue), QueuePolicy::default()).await.map(|_| ())
}

/// Publishes `bytes` of payload to the queue of that name.
async fn publish(node: &Node, who: &Principal, queue: &str, bytes: usize) -> Receipt {
    let message = Message::new(queue.parse().expect("a topic"), vec![b'x'; bytes]);
    node.publish(who, vec![Publication::from(message)]).await.await.remove(0)
}

#[tokio::test]
async fn one_queue_too_many_is_refused_whoever_asks_for_it_and_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let quota = Quota { queues: Some(2), ..Quota::default() };
    let (node, shop) = start(&folder, quota).await;
    make(&node, &shop, "one").await.expect("made");
    node.create_stream(&shop, name("two"), StreamPolicy::default()).await.expect("made");
    make(&node, &Principal::system(), "the-brokers-own").await.expect("nobody's");
    node.shutdown().await;

    let (node, shop) = start(&folder, quota).await;
    let pattern = "prices.#".parse().expect("a pattern");
    for refused in [
        make(&node, &shop, "three").await,
        node.create_stream(&shop, name("three"), StreamPolicy::default()).await.map(|_| ()),
        node.keep_subscription(&shop, &name("three"), &pattern, None).await,
    ] {
        let refused = refused.expect_err("one too many").to_string();
        assert!(refused.contains("shop has made 2 queues and streams, and its quota is 2"), "{refused}");
    }
    node.delete_queue(&shop, &name("one")).await.expect("deleted");
    node.keep_subscription(&shop, &name("three"), &pattern, None).await.expect("room again");
    let status = node.status(&shop).await.expect("allowed");
    assert_eq!((status.principals[0].queues, status.principals[0].stored_bytes), (2, None));
}

#[tokio::test]
async fn a_publish_over_the_stored_bytes_of_an_owner_is_refused_until_it_follows_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let quota = Quota { stored_bytes: Some(3_000), ..Quota::default() };
    let (node, shop) = start(&folder, quota).await;
    for queue in ["one", "two"] {
        make(&node, &shop, queue).await.expect("made");
        let binding =
            Binding { pattern: queue.parse().expect("a pattern"), queue: name(queue), pipeline: None };
        node.bind(&shop, binding).await.expect("bound");
    }
    assert!(matches!(publish(&node, &shop, "one", 1_000).await, Receipt::Stored(_)));
    assert!(matches!(publish(&node, &Principal::system(), "two", 1_000).await, Receipt::Stored(_)));
    let Receipt::Rejected(refused) = publish(&node, &shop, "one", 1_000).await else { panic!("over") };
    assert!(refused.reason.contains("over its quota of 3000 stored bytes"), "{}", refused.reason);
    node.shutdown().await;

    // The same again after a restart, and with a larger quota no more.
    let (node, shop) = start(&folder, quota).await;
    let held = node.status(&shop).await.expect("allowed").principals[0].stored_bytes;
    assert!(held.is_some_and(|held| (2_000..3_000).contains(&held)), "{held:?}");
    assert!(matches!(publish(&node, &shop, "two", 1_000).await, Receipt::Rejected(_)));
    node.shutdown().await;
    let (node, shop) = start(&folder, Quota { stored_bytes: Some(4_000), ..Quota::default() }).await;
    assert!(matches!(publish(&node, &shop, "two", 1_000).await, Receipt::Stored(_)));
    node.shutdown().await;
    let (node, shop) = start(&folder, Quota::default()).await;
    assert!(matches!(publish(&node, &shop, "two", 5_000).await, Receipt::Stored(_)));
    assert_eq!(node.status(&shop).await.expect("allowed").principals[0].stored_bytes, None);
}

/// One byte is less than any process has.
#[tokio::test]
async fn over_its_memory_a_node_refuses_publishes_with_a_reason_and_lets_consumers_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let (node, shop) = start(&folder, Quota::default()).await;
    make(&node, &shop, "orders").await.expect("made");
    let (pattern, queue) = ("orders".parse().expect("a pattern"), name("orders"));
    node.bind(&shop, Binding { pattern, queue, pipeline: None }).await.expect("bound");
    assert!(matches!(publish(&node, &shop, "orders", 1).await, Receipt::Stored(_)));
    node.shutdown().await;

    let mut config = Config { segment_bytes: 1 << 20, ..Config::new(folder.path()) };
    config.memory_bytes_max = Some(1);
    config.disk_free_bytes_min = 0;
    let node = Node::start(config).await.expect("it starts");
    // The alarm is raised by a task that looks around as soon as it is run.
    let reason = loop {
        match publish(&node, &Principal::system(), "orders", 1).await {
            Receipt::Rejected(rejection) => break rejection.reason,
            _ => tokio::task::yield_now().await,
        }
    };
    assert!(reason.contains("memory, over its limit of 0 MiB"), "{reason}");
    let options = SubscribeOptions { credit: 1, ..SubscribeOptions::default() };
    let mut orders =
        node.subscribe(&Principal::system(), &name("orders"), options).await.expect("a consumer");
    let mut deliveries = Vec::new();
    while deliveries.is_empty() {
        orders.next(&mut deliveries).await.expect("open");
    }
    let ack = Settlement { first: 1, last: 1, outcome: Outcome::Ack };
    let settled = orders.controls().settle(vec![ack]).await.expect("taken");
    assert_eq!(settled.await.expect("durable"), [0; 0]);
}
