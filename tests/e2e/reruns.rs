//! A traced message once more through its pipelines: the same bytes, or what differs.

use std::time::Duration;

use wharf_node::{Again, GIVEN_BYTES_MAX, RerunOptions, RunDifference, Shown, TRACE, TraceId, TraceKey};

use crate::broker::{TestBroker, me, message, name};

/// Longer than any test takes.
const PATIENCE: Duration = Duration::from_secs(60);

const ENRICH: &str = "ingress = \"in\"\n[[stage]]\nplugin = \"guest\"\nkind = \"enricher\"\ngrants = [\"clock\", \"random\"]\n";

/// Publishes a traced message, and waits until its trace is kept.
async fn traced(broker: &TestBroker, payload: &str, behave: &str) -> TraceKey {
    let id = TraceId::random();
    broker.publish(message("in", payload, &[(TRACE, &id.to_string()), ("behave", behave)])).await;
    broker.node.trace(&me(), TraceKey::Trace(id), PATIENCE).await.expect("it is kept");
    TraceKey::Trace(id)
}

async fn rerun(broker: &TestBroker, key: TraceKey, version: Option<u32>) -> Again {
    let options = RerunOptions { version, ..RerunOptions::default() };
    let mut reruns = broker.node.rerun(&me(), key, options).await.expect("it passed a pipeline");
    reruns.remove(0).passes.remove(0).outcome
}

fn text(shown: &Shown) -> &str {
    match shown {
        Shown::Text(text) | Shown::Hex(text) => text,
    }
}

#[tokio::test]
async fn clock_and_random_bits_of_then_make_the_same_bytes() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    broker.apply("enrich", ENRICH).await;
    for (behave, header) in [("clock", "now"), ("random", "bits")] {
        let key = traced(&broker, "x", behave).await;
        // The wall clock goes on: what reads it now would be told another millisecond.
        let then = broker.take("q").await.remove(0);
        while wharf_protocol::Timestamp::wall_clock() <= then.stored_at {
            tokio::task::yield_now().await;
        }

        let mut reruns = broker.node.rerun(&me(), key, RerunOptions::default()).await.expect("it runs");

        let pass = reruns.remove(0).passes.remove(0);
        assert_eq!((pass.outcome, pass.then, pass.now), (Again::Same, 1, 1), "{behave}");
        let now = text(&pass.steps[0].outputs[0].headers_set[header].shown);
        assert_eq!(then.message.headers.text(header), Some(now), "what was stored is what is made again");
        let traced = broker.node.trace(&me(), key, PATIENCE).await.expect("it is kept");
        assert_eq!(traced[0].passes[0].steps[0].fuel, None, "messages under way are not metered");
    }
    assert!(broker.take("q").await.is_empty(), "nothing was stored");
}

#[tokio::test]
async fn a_rerun_tells_the_fuel_of_each_stage_the_same_each_time_and_more_for_more() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    let convert = "ingress = \"in\"\n[[stage]]\nplugin = \"xml-to-json\"\n[[stage]]\nplugin = \"guest\"\nkind = \"enricher\"\n";
    broker.apply("convert", convert).await;
    let small = traced(&broker, "<a/>", "").await;
    let large = traced(&broker, &format!("<a>{}</a>", "<b>1</b>".repeat(100)), "").await;
    let fuel = async |key| {
        let mut reruns = broker.node.rerun(&me(), key, RerunOptions::default()).await.expect("it runs");
        let pass = reruns.remove(0).passes.remove(0);
        assert_eq!(pass.outcome, Again::Same);
        pass.steps.iter().map(|step| step.fuel.expect("it is counted")).collect::<Vec<_>>()
    };

    let first = fuel(small).await;
    assert_eq!(fuel(small).await, first, "the same message costs the same");
    assert!(first.len() == 2 && first.iter().all(|fuel| *fuel > 0), "{first:?}");
    let more = fuel(large).await;
    assert!(more[0] > 10 * first[0], "{first:?} {more:?}");
}

#[tokio::test]
async fn a_stage_that_hangs_on_anything_else_is_told_with_both_sides() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    broker.apply("enrich", ENRICH).await;
    for _ in 0..3 {
        broker.publish(message("in", "x", &[("behave", "calls")])).await;
    }
    let key = traced(&broker, "x", "calls").await;

    let Again::Differs { found, .. } = rerun(&broker, key, None).await else {
        panic!("a new instance counts anew")
    };
    let RunDifference { stage, what, then, now } = &found[0];
    assert_eq!((stage.as_ref(), what.as_str()), (Some(&name("guest")), "headers of output 0"));
    assert_eq!((then.as_str(), now.as_str()), ("calls=3", "calls=0"));
}

#[tokio::test]
async fn another_version_is_told_in_what_its_outcome_differs() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    let spec = |numbers: bool| {
        format!("ingress = \"in\"\n[[stage]]\nplugin = \"xml-to-json\"\nconfig = {{ numbers = {numbers} }}\n")
    };
    broker.apply("convert", &spec(false)).await;
    let key = traced(&broker, "<order><total>12</total></order>", "").await;
    broker.apply("convert", &spec(true)).await;
    broker.apply("convert", &spec(false)).await;

    assert_eq!(rerun(&broker, key, None).await, Again::Same, "it passed version 1, whatever is in use");
    assert_eq!(rerun(&broker, key, Some(3)).await, Again::Same);
    let Again::Differs { found, .. } = rerun(&broker, key, Some(2)).await else {
        panic!("numbers are not text")
    };
    assert_eq!((found[0].what.as_str(), found[0].stage.as_ref()), ("payload $.order.total", None));
    assert_eq!((found[0].then.as_str(), found[0].now.as_str()), ("\"12\"", "12"));
    let Again::Impossible(reason) = rerun(&broker, key, Some(9)).await else {
        panic!("there is no version 9")
    };
    assert!(reason.contains("convert/9"), "{reason}");
}

#[tokio::test]
async fn what_was_not_kept_whole_cannot_be_had_again_and_says_why() {
    let broker = TestBroker::start().await;
    broker.queue("q", "in", None).await;
    broker.apply("enrich", ENRICH).await;
    let large = traced(&broker, &"x".repeat(GIVEN_BYTES_MAX), "set").await;
    let Again::Impossible(reason) = rerun(&broker, large, None).await else { panic!("it is too large") };
    assert!(reason.contains("64 KiB"), "{reason}");

    let nowhere = TraceId::random();
    broker.publish(message("elsewhere", "x", &[(TRACE, &nowhere.to_string())])).await;
    let key = TraceKey::Trace(nowhere);
    broker.node.trace(&me(), key, PATIENCE).await.expect("it is kept");
    let refused = broker.node.rerun(&me(), key, RerunOptions::default()).await.expect_err("no pipeline");
    assert!(refused.to_string().contains("passed no pipeline"), "{refused}");
    let other = RerunOptions { pipeline: Some(name("other")), version: None };
    let refused = broker.node.rerun(&me(), large, other).await.expect_err("it passed another");
    assert!(refused.to_string().contains("it passed enrich"), "{refused}");
}
