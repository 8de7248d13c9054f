//! What is told of a message that is traced.

use std::time::Duration;

use wharf_node::{TRACE, Trace, TraceConfig, TraceFilter, TraceKey, TraceVerdict, Verdict, Why};
use wharf_protocol::{Receipt, Stored};

use crate::broker::{GUEST, TestBroker, me, message, name};

/// Longer than any test takes.
const PATIENCE: Duration = Duration::from_secs(60);
const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

const CHECK: &str = "
[[stage]]
plugin = \"guest\"
kind = \"validator\"
on-failure = \"dead-letter\"
";

async fn trace_of(broker: &TestBroker, key: TraceKey) -> Trace {
    broker.node.trace(&me(), key, PATIENCE).await.expect("there is one").remove(0)
}

fn stored(receipt: Receipt) -> Stored {
    match receipt {
        Receipt::Stored(stored) => stored,
        other => panic!("it was not stored: {other:?}"),
    }
}

#[tokio::test]
async fn a_message_that_asks_for_it_has_an_account_of_every_stage() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    let stages = "ingress = \"in\"\n[[stage]]\nplugin = \"guest\"\nkind = \"validator\"\n\
                  [[stage]]\nname = \"convert\"\nplugin = \"xml-to-json\"\nkind = \"transformer\"\n";
    broker.apply("intake", stages).await;

    let sent = message("in", "<order><total>12</total></order>", &[(TRACE, ID)]);
    let place = stored(broker.publish(sent).await);

    let trace = trace_of(&broker, ID.parse().expect("an id")).await;
    assert_eq!((trace.why, trace.verdict, trace.by.as_str()), (Why::Asked, TraceVerdict::Stored, "wharf"));
    assert_eq!(trace.messages, place.ids().collect::<Vec<_>>());
    assert_eq!((trace.landings[0].queue.as_str(), trace.landings[0].dead), ("q", false));
    let pass = &trace.passes[0];
    assert_eq!((pass.pipeline.as_str(), pass.number, &pass.on_way_to), ("intake", 1, &None));
    let steps: Vec<_> = pass.steps.iter().map(|step| (step.stage.as_str(), step.verdict)).collect();
    assert_eq!(steps, [("guest", Verdict::Passed), ("convert", Verdict::Changed)]);
    assert!(pass.steps[1].outputs[0].payload.is_some(), "the payload before and after");
    let by_message = trace_of(&broker, TraceKey::Message(trace.messages[0])).await;
    assert_eq!(by_message, trace);
    assert_eq!(
        broker.take("q").await[0].message.headers.text(TRACE),
        Some(ID),
        "its headers are as they came"
    );
}

#[tokio::test]
async fn a_traced_batch_is_stored_as_an_untraced_one() {
    let broker = TestBroker::start().await;
    broker.apply("check", CHECK).await;
    broker.queue("q", "in", Some("check")).await;
    let behaviours = ["", "reject", "", "panic", "", ""];
    let batch = |traced: bool| {
        let message = |(n, behave): (usize, &&str)| {
            let mut headers = vec![("behave", *behave)];
            // Some among others, so that both ways through a pipeline meet in one batch.
            if traced && n % 2 == 1 {
                headers.push((TRACE, "1"));
            }
            message("in", &n.to_string(), &headers).into()
        };
        behaviours.iter().enumerate().map(message).collect::<Vec<_>>()
    };
    let mut outcomes = Vec::new();
    for traced in [false, true] {
        let receipts = broker.node.publish(&me(), batch(traced)).await.await;
        assert!(receipts.into_iter().all(|receipt| stored(receipt).entries == 1));
        let payload = |delivery: &wharf_protocol::Delivery| delivery.message.payload.clone();
        let through: Vec<_> = broker.take("q").await.iter().map(payload).collect();
        let dead: Vec<_> = broker.take("dead-letters").await.iter().map(payload).collect();
        outcomes.push((through, dead));
    }
    assert_eq!(outcomes[0], outcomes[1]);
    assert_eq!((outcomes[0].0.len(), outcomes[0].1.len()), (4, 2));
}

#[tokio::test]
async fn a_dead_letter_has_the_step_on_which_it_failed_though_nobody_traced_it() {
    let broker = TestBroker::start().await;
    broker.apply("check", CHECK).await;
    broker.queue("q", "in", Some("check")).await;

    let place = stored(broker.publish(message("in", "no order", &[("behave", "reject")])).await);

    let letter = place.ids().next().expect("one");
    let trace = trace_of(&broker, TraceKey::Message(letter)).await;
    assert_eq!((trace.why, trace.verdict), (Why::DeadLetter, TraceVerdict::DeadLettered));
    assert_eq!(trace.stage.as_deref(), Some("check/guest"));
    let step = &trace.passes[0].steps[0];
    assert_eq!((step.verdict, step.given.topic.as_str()), (Verdict::Rejected, "in"));
    assert_eq!((trace.passes[0].number, step.plugin.name.as_str()), (1, GUEST));
    assert!(step.problem.as_ref().is_some_and(|problem| problem.message.contains("asked to be rejected")));
}

#[tokio::test]
async fn what_is_refused_dropped_or_goes_nowhere_says_so() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    broker.apply("route", "ingress = \"in\"\n[[stage]]\nplugin = \"guest\"\nkind = \"router\"\n").await;
    let verdict = async |topic: &str, behave: &str| {
        let id = wharf_node::TraceId::random();
        broker.publish(message(topic, "x", &[(TRACE, &id.to_string()), ("behave", behave)])).await;
        trace_of(&broker, TraceKey::Trace(id)).await.verdict
    };
    assert_eq!(verdict("in", "drop").await, TraceVerdict::Dropped);
    assert_eq!(verdict("in", "panic").await, TraceVerdict::Rejected);
    assert_eq!(verdict("elsewhere", "").await, TraceVerdict::Unrouted);
}

#[tokio::test]
async fn a_trace_goes_on_from_the_publishers_and_several_messages_may_share_it() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    let parent = format!("00-{ID}-00f067aa0ba902b7-01");
    let headers = [(TRACE, "1"), ("traceparent", parent.as_str()), ("tracestate", "rojo=1")];
    for payload in ["a", "b"] {
        broker.publish(message("in", payload, &headers)).await;
    }
    let malformed = parent.replace("00f067aa0ba902b7", "0000000000000000");
    broker.publish(message("in", "c", &[(TRACE, "1"), ("traceparent", &malformed)])).await;

    let all = async || broker.node.traces(&me(), TraceFilter::default(), 10).await.expect("allowed");
    while all().await.len() < 3 {
        tokio::task::yield_now().await;
    }
    let shared = broker.node.trace(&me(), ID.parse().expect("an id"), PATIENCE).await.expect("there are");
    assert_eq!(shared.len(), 2);
    assert_eq!(shared[0].parent.map(|span| span.to_string()).as_deref(), Some("00f067aa0ba902b7"));
    assert_eq!(shared[0].state.as_deref(), Some("rojo=1"));
    assert_ne!(shared[0].span, shared[1].span);
}

#[tokio::test]
async fn a_sample_is_traced_without_being_asked_for() {
    let trace = TraceConfig { sample: 1.0, ..TraceConfig::default() };
    let broker = TestBroker::start_with(|config| config.trace = trace).await;
    broker.queue("q", "in", None).await;
    let place = stored(broker.publish(message("in", "x", &[])).await);
    let trace = trace_of(&broker, TraceKey::Message(place.ids().next().expect("one"))).await;
    assert_eq!(trace.why, Why::Sampled);

    let broker = TestBroker::start().await;
    broker.apply("check", &format!("ingress = \"in\"\ntrace-sample = 1.0\n{CHECK}")).await;
    broker.queue("q", "#", None).await;
    stored(broker.publish(message("else", "x", &[])).await);
    let place = stored(broker.publish(message("in", "x", &[])).await);
    let trace = trace_of(&broker, TraceKey::Message(place.ids().next().expect("one"))).await;
    assert_eq!((trace.why, trace.passes[0].pipeline.clone()), (Why::Sampled, name("check")));
    let all = broker.node.traces(&me(), TraceFilter::default(), 10).await.expect("allowed");
    assert_eq!(all.len(), 1, "what passes no such pipeline is not in its sample");
}
