//! What the node promises of schedules and of messages that name their moment, with a real log and clock.

use std::collections::BTreeSet;
use std::time::Duration;

use tempfile::TempDir;
use wharf_node::{
    Binding, Config, Credentials, Event, Identity, Node, NodeError, Principal, Publication, QueuePolicy,
    ScheduleSpec, SubscribeOptions,
};
use wharf_protocol::{
    DELIVER_AT, Delivery, ErrorCode, HeadersBuilder, Message, Name, Outcome, ProducerId, Receipt, Session,
    Settlement, Timestamp,
};

fn me() -> Principal {
    Principal::system()
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// Longer than any test takes.
const PATIENCE: Duration = Duration::from_secs(30);

async fn start(folder: &TempDir) -> Node {
    Node::start(Config { segment_bytes: 1 << 20, ..Config::new(folder.path()) }).await.expect("it starts")
}

async fn bound(node: &Node, queue: &str, pattern: &str) {
    node.create_queue(&me(), name(queue), QueuePolicy::default()).await.expect("created");
    let pattern = pattern.parse().expect("a pattern");
    node.bind(&me(), Binding { pattern, queue: name(queue), pipeline: None }).await.expect("bound");
}

fn every_second(topic: &str) -> ScheduleSpec {
    let message = Message::new(topic.parse().expect("a topic"), "go");
    ScheduleSpec { cron: "* * * * * *".into(), time_zone: "Europe/Berlin".into(), message }
}

/// Takes and acks `count` messages.
async fn take(node: &Node, queue: &str, count: usize) -> Vec<Delivery> {
    let options = SubscribeOptions { credit: 100, ..SubscribeOptions::default() };
    let mut subscription = node.subscribe(&me(), &name(queue), options).await.expect("subscribed");
    let mut deliveries = Vec::new();
    while deliveries.len() < count {
        assert_eq!(subscription.next(&mut deliveries).await.expect("open"), Event::Deliveries);
    }
    let last = deliveries.last().expect("some").tag;
    let acked = vec![Settlement { first: 1, last, outcome: Outcome::Ack }];
    subscription.controls().settle(acked).await.expect("open").await.expect("durable");
    deliveries
}

fn due(delivery: &Delivery) -> Timestamp {
    let text = delivery.message.headers.text("wharf-scheduled-at").expect("the broker says when it was due");
    text.parse().expect("a moment")
}

#[tokio::test]
async fn a_schedule_publishes_its_message_when_it_is_due() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = start(&folder).await;
    bound(&node, "reports", "reports.#").await;

    let view = node.put_schedule(&me(), name("daily"), every_second("reports.daily")).await.expect("put");
    let delivery = take(&node, "reports", 1).await.remove(0);

    assert_eq!(delivery.message.payload, "go");
    assert_eq!(delivery.message.headers.text("wharf-schedule"), Some("daily"));
    assert!(due(&delivery) > view.since && delivery.stored_at >= due(&delivery), "not early");
    let view = node.schedule(&me(), &name("daily")).await.expect("known");
    assert!(view.last >= Some(due(&delivery)) && view.next > view.last && view.problem.is_none());
    node.shutdown().await;
}

#[tokio::test]
async fn a_restart_publishes_no_occurrence_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut seen = BTreeSet::new();
    for life in 0..3 {
        let node = start(&folder).await;
        if life == 0 {
            bound(&node, "reports", "reports.#").await;
            node.put_schedule(&me(), name("daily"), every_second("reports.daily")).await.expect("put");
        }
        for delivery in take(&node, "reports", 2).await {
            assert!(seen.insert(due(&delivery)), "{} came before", due(&delivery));
        }
        node.shutdown().await;
    }
    assert!(seen.len() >= 6);
}

#[tokio::test]
async fn an_occurrence_without_a_queue_is_past_when_one_is_bound() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = start(&folder).await;
    node.put_schedule(&me(), name("daily"), every_second("reports.daily")).await.expect("put");
    // The event to wait for is an occurrence that leaves no message.
    let noted = async {
        loop {
            if let Some(last) = node.schedule(&me(), &name("daily")).await.expect("known").last {
                break last;
            }
            tokio::task::yield_now().await;
        }
    };
    let past = tokio::time::timeout(PATIENCE, noted).await.expect("what went nowhere is noted too");
    node.shutdown().await;

    let node = start(&folder).await;
    bound(&node, "reports", "reports.#").await;
    assert!(due(&take(&node, "reports", 1).await[0]) > past);
    node.shutdown().await;
}

#[tokio::test]
async fn a_paused_schedule_rests_and_a_removed_one_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = start(&folder).await;
    let daily = name("daily");
    node.put_schedule(&me(), daily.clone(), every_second("reports.daily")).await.expect("put");

    let paused = node.pause_schedule(&me(), &daily, true).await.expect("paused");
    assert!(paused.paused && paused.next.is_none());
    let resumed = node.pause_schedule(&me(), &daily, false).await.expect("resumed");
    assert!(resumed.next > Some(resumed.since));

    node.remove_schedule(&me(), &daily).await.expect("removed");
    assert!(node.schedules(&me()).await.expect("a list").is_empty());
    let gone = node.remove_schedule(&me(), &daily).await.expect_err("gone");
    assert!(matches!(gone, NodeError::NotFound { kind: "schedule", .. }));
    node.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_scheduled_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = start(&folder).await;
    let refused = |spec: ScheduleSpec| {
        let node = node.clone();
        async move { node.put_schedule(&me(), name("s"), spec).await.expect_err("refused").to_string() }
    };
    let spec = || every_second("reports.daily");
    let text = refused(ScheduleSpec { cron: "every day".into(), ..spec() }).await;
    assert!(text.contains("MON-FRI"), "{text}");
    let text = refused(ScheduleSpec { time_zone: "Berlin".into(), ..spec() }).await;
    assert!(text.contains("Europe/Berlin"), "{text}");
    let text = refused(ScheduleSpec { cron: "0 0 30 2 *".into(), ..spec() }).await;
    assert!(text.contains("never"), "{text}");
    let message = Message { message_id: Some("one".into()), ..spec().message };
    assert!(refused(ScheduleSpec { message, ..spec() }).await.contains("duplicates"));
    node.shutdown().await;
}

#[tokio::test]
async fn a_message_is_held_back_until_the_moment_that_it_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = start(&folder).await;
    bound(&node, "q", "t").await;
    let ahead = Timestamp::wall_clock().after(Duration::from_millis(300));
    let publish = |at: String| {
        let mut message = Message::new("t".parse().expect("a topic"), at.clone());
        message.headers = HeadersBuilder::default().set(DELIVER_AT, at).build().expect("small");
        let node = node.clone();
        async move { node.publish(&me(), vec![Publication::from(message)]).await.await.remove(0) }
    };
    publish(ahead.to_string()).await;
    publish("2001-01-01T00:00:00Z".into()).await;
    assert!(
        matches!(publish("soon".into()).await, Receipt::Rejected(why) if why.code == ErrorCode::Malformed)
    );

    assert_eq!(take(&node, "q", 1).await[0].message.payload, "2001-01-01T00:00:00Z");
    let later = take(&node, "q", 1).await.remove(0);
    assert_eq!(later.message.payload, ahead.to_string());
    assert!(Timestamp::wall_clock() >= ahead, "not before its moment");
    node.shutdown().await;
}

#[tokio::test]
async fn nobody_but_the_broker_publishes_as_one_of_its_own_producers() {
    use sha2::Digest as _;
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = Config::new(folder.path());
    config.principals = vec![Identity::administrator("shop", hex::encode(sha2::Sha256::digest("secret")))];
    let node = Node::start(config).await.expect("it starts");
    let credentials = Credentials { token: Some("secret"), certificate: None };
    let shop = node.authenticate(credentials).expect("known");
    let publication = || {
        let message = Message::new("t".parse().expect("a topic"), "x");
        let session = Some(Session { producer: ProducerId::reserved(7), epoch: 1, sequence: u64::MAX });
        Publication { session, ..Publication::from(message) }
    };

    let told = node.publish(&shop, vec![publication()]).await.await.remove(0);

    assert!(matches!(told, Receipt::Rejected(why) if why.code == ErrorCode::Forbidden));
    assert!(matches!(node.publish(&me(), vec![publication()]).await.await[..], [Receipt::Stored(_)]));
    node.shutdown().await;
}
