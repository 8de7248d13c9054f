//! What a trace tells of a message after its publisher was told: pipelines on the way out, deliveries, settlements.

use wharf_node::{
    Again, QueuePolicy, RerunOptions, SEQUELS_MAX, Sequel, SequelKind, SubscribeOptions, Subscription, TRACE,
    Trace, TraceKey, Verdict,
};
use wharf_protocol::{Delivery, MessageId, Outcome, Receipt, Settlement};

use crate::broker::{TestBroker, me, message, name};

use SequelKind::{Acked, DeadLettered, Delivered, Filtered, Nacked, Stale};

const OUT: &str =
    "delivery = [\"q\"]\n[[stage]]\nplugin = \"guest\"\nkind = \"enricher\"\ngrants = [\"clock\"]\n";
const CHECK_OUT: &str = "delivery = [\"q\"]\n[[stage]]\nplugin = \"guest\"\nkind = \"router\"\n";

/// Publishes a message that is traced, or one that is not.
async fn publish(broker: &TestBroker, payload: &str, behave: &str, traced: bool) -> MessageId {
    let mut headers = vec![("behave", behave)];
    headers.extend(traced.then_some((TRACE, "1")));
    let Receipt::Stored(stored) = broker.publish(message("in", payload, &headers)).await else {
        panic!("it is stored")
    };
    stored.ids().next().expect("one queue")
}

async fn consumer(broker: &TestBroker) -> Subscription {
    consumer_with(broker, 1_000).await
}

async fn consumer_with(broker: &TestBroker, credit: u32) -> Subscription {
    let options = SubscribeOptions { credit, ..SubscribeOptions::default() };
    broker.node.subscribe(&me(), &name("q"), options).await.expect("subscribed")
}

/// The next so many deliveries.
async fn take(consumer: &mut Subscription, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while deliveries.len() < count {
        consumer.next(&mut deliveries).await.expect("open");
    }
    deliveries
}

async fn settle(consumer: &Subscription, tag: u64, outcome: Outcome) {
    let settled = consumer.controls().settle(vec![Settlement { first: tag, last: tag, outcome }]).await;
    settled.expect("open").await.expect("durable");
}

/// The trace of a message, once so much became of it.
async fn trace(broker: &TestBroker, id: MessageId, sequels: usize) -> Trace {
    let patience = std::time::Duration::from_secs(60);
    let look = async {
        loop {
            let found = broker.node.trace(&me(), TraceKey::Message(id), patience).await.expect("it is kept");
            if found[0].sequels.len() >= sequels {
                return found.into_iter().next().expect("one");
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(patience, look).await.expect("it came to that")
}

fn told(trace: &Trace) -> Vec<(SequelKind, u32)> {
    trace.sequels.iter().map(|sequel| (sequel.kind, sequel.attempt)).collect()
}

const NOW: Outcome = Outcome::Nack { delay: Some(std::time::Duration::ZERO) };

#[tokio::test]
async fn each_delivery_and_what_its_consumer_said_is_told_of_the_message_that_is_traced() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    let mut consumer = consumer(&broker).await;
    let first = publish(&broker, "a", "", true).await;
    publish(&broker, "b", "", false).await;
    let third = publish(&broker, "c", "", true).await;

    let tags: Vec<u64> = take(&mut consumer, 3).await.iter().map(|delivery| delivery.tag).collect();
    settle(&consumer, tags[0], NOW).await;
    settle(&consumer, tags[1], Outcome::Ack).await;
    settle(&consumer, tags[2], Outcome::DeadLetter { reason: "no customer".into() }).await;
    let again = take(&mut consumer, 1).await;
    assert_eq!((again.len(), again[0].id, again[0].attempt), (1, first, 2));
    settle(&consumer, again[0].tag, Outcome::Ack).await;

    let of_first = trace(&broker, first, 4).await;
    assert_eq!(told(&of_first), [(Delivered, 1), (Nacked, 1), (Delivered, 2), (Acked, 2)]);
    assert!(of_first.sequels.iter().all(|sequel| sequel.message == first && sequel.queue == name("q")));
    let of_third = trace(&broker, third, 2).await;
    assert_eq!(told(&of_third), [(Delivered, 1), (DeadLettered, 1)]);
    assert_eq!(of_third.sequels[1].note.as_deref(), Some("no customer"));
}

#[tokio::test]
async fn an_ack_after_its_lease_is_told_as_too_late() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    let policy = QueuePolicy { lease_ms: 50, ..QueuePolicy::default() };
    broker.node.set_policy(&me(), &name("q"), policy).await.expect("set");
    let id = publish(&broker, "a", "", true).await;
    let mut slow = consumer_with(&broker, 1).await;
    let late = take(&mut slow, 1).await.remove(0);
    let mut other = consumer(&broker).await;
    // It comes to another when its lease has ended, which is what is waited for.
    let again = take(&mut other, 1).await.remove(0);
    assert_eq!((again.id, again.attempt), (id, 2));

    let tag = Settlement { first: late.tag, last: late.tag, outcome: Outcome::Ack };
    let stale = slow.controls().settle(vec![tag]).await.expect("open").await.expect("answered");
    assert_eq!(stale, [late.tag]);
    let of_it = trace(&broker, id, 3).await;
    assert_eq!(told(&of_it), [(Delivered, 1), (Delivered, 2), (Stale, 1)]);
}

#[tokio::test]
async fn a_nack_too_many_says_where_the_message_went() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    let policy = QueuePolicy { max_attempts: 2, ..QueuePolicy::default() };
    broker.node.set_policy(&me(), &name("q"), policy).await.expect("set");
    let id = publish(&broker, "a", "", true).await;
    let mut consumer = consumer(&broker).await;
    for attempt in [1, 2] {
        let delivery = take(&mut consumer, 1).await.remove(0);
        assert_eq!(delivery.attempt, attempt);
        settle(&consumer, delivery.tag, NOW).await;
    }
    let of_it = trace(&broker, id, 5).await;
    let expected = [(Delivered, 1), (Nacked, 1), (Delivered, 2), (Nacked, 2), (DeadLettered, 2)];
    assert_eq!(told(&of_it), expected);
    assert_eq!(broker.take("dead-letters").await[0].id, id, "it is where the trace says");
}

#[tokio::test]
async fn the_stages_on_the_way_out_have_their_steps_and_run_again_to_the_same_bytes() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    broker.apply("out", OUT).await;
    let mut consumer = consumer(&broker).await;
    publish(&broker, "a", "clock", false).await;
    let id = publish(&broker, "b", "clock", true).await;
    publish(&broker, "c", "clock", false).await;

    let delivered = take(&mut consumer, 3).await;
    assert_eq!(
        delivered.iter().map(|each| &each.message.payload[..]).collect::<Vec<_>>(),
        [b"a", b"b", b"c"]
    );
    let of_it = trace(&broker, id, 1).await;
    let [pass] = &of_it.passes[..] else { panic!("one pipeline: {:?}", of_it.passes) };
    assert_eq!((pass.pipeline.as_str(), pass.number, &pass.on_way_from), ("out", 1, &Some(name("q"))));
    assert_eq!((pass.steps.len(), pass.steps[0].verdict), (1, Verdict::Changed));
    let now = format!("{:?}", pass.steps[0].outputs[0].headers_set["now"].shown);
    assert!(
        now.contains(delivered[1].message.headers.text("now").expect("a clock")),
        "the same as delivered"
    );

    let key = TraceKey::Message(id);
    let mut reruns = broker.node.rerun(&me(), key, RerunOptions::default()).await.expect("it runs");
    assert_eq!(reruns.remove(0).passes.remove(0).outcome, Again::Same);
}

#[tokio::test]
async fn what_a_pipeline_on_the_way_out_stops_is_told_with_the_stage() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    broker.apply("out", CHECK_OUT).await;
    let mut consumer = consumer(&broker).await;
    let mut of = async |behave: &str| -> Vec<Sequel> {
        let id = publish(&broker, "x", behave, true).await;
        // Whoever waits for deliveries takes them through the pipelines.
        tokio::select! {
            trace = trace(&broker, id, 1) => trace.sequels,
            through = take(&mut consumer, 1) => panic!("it came through: {through:?}"),
        }
    };
    let dropped = of("drop").await;
    assert_eq!(
        (dropped[0].kind, dropped[0].note.as_deref()),
        (Filtered, Some("pipeline out: guest dropped it"))
    );
    let refused = of("reject").await;
    assert_eq!(refused[0].kind, DeadLettered);
    assert!(
        refused[0].note.as_ref().is_some_and(|note| note.contains("asked to be rejected")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_dead_letter_that_goes_on_its_way_again_is_followed_from_there() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    let stage = |plugin: &str| format!("ingress = \"in\"\n[[stage]]\non-failure = \"dead-letter\"\n{plugin}");
    broker.apply("convert", &stage("plugin = \"guest\"\nkind = \"validator\"")).await;
    broker.publish(message("in", "<a/>", &[("behave", "reject"), (TRACE, "1")])).await;
    let letters = broker.node.dead_letters(&me(), None, 0, 9).await.expect("allowed");
    broker.apply("convert", &stage("plugin = \"xml-to-json\"")).await;

    // Its consumer waits, so that it is delivered by the record that stores it.
    let mut consumer = consumer(&broker).await;
    let redriven = broker.node.redrive(&me(), Some(vec![letters[0].id]), None, None).await.expect("allowed");
    assert_eq!(redriven.moved, 1);
    let delivery = take(&mut consumer, 1).await.remove(0);
    settle(&consumer, delivery.tag, Outcome::Ack).await;

    let again = trace(&broker, delivery.id, 2).await;
    assert_eq!(told(&again), [(Delivered, 1), (Acked, 1)]);
}

#[tokio::test]
async fn a_trace_is_complete_after_so_many_deliveries() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    let policy = QueuePolicy { max_attempts: 1_000, ..QueuePolicy::default() };
    broker.node.set_policy(&me(), &name("q"), policy).await.expect("set");
    let id = publish(&broker, "a", "", true).await;
    let mut consumer = consumer(&broker).await;
    for _ in 0..SEQUELS_MAX {
        let delivery = take(&mut consumer, 1).await.remove(0);
        settle(&consumer, delivery.tag, NOW).await;
    }
    let of_it = trace(&broker, id, SEQUELS_MAX).await;
    assert_eq!((of_it.sequels.len(), of_it.sequels_left_out), (SEQUELS_MAX, 0));
    assert_eq!(told(&of_it).last(), Some(&(Nacked, u32::try_from(SEQUELS_MAX / 2).expect("small"))));
}
