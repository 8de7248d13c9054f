//! Short batches run on the thread that brings them. What breaks there is judged as on any other.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use wharf_pipeline::{Engine, EngineConfig, Fault, Kind, Pipeline, PipelineSpec, Processed};

use crate::stand::{NOW, asking, assert_fault, component, passed, stage};

/// As many batches as it takes to be known as short.
async fn warm(pipeline: &Pipeline) {
    for _ in 0..64 {
        pipeline.run(vec![asking("ok"); 64], NOW).await;
    }
}

/// The answers, if they are there without waiting.
async fn at_once(pipeline: &Pipeline, behaviour: &str) -> Option<Vec<Processed>> {
    let mut run = pin!(pipeline.run(vec![asking(behaviour)], NOW));
    poll_fn(|context| match run.as_mut().poll(context) {
        Poll::Ready(answers) => Poll::Ready(Some(answers)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// An engine with one thread for guests, and two pipelines of the guest in it.
fn two_on_one_thread() -> [Arc<Pipeline>; 2] {
    let engine = Engine::new(EngineConfig { threads: 1, instances: 10, ..EngineConfig::default() });
    let engine = engine.expect("an engine");
    let guest = engine.load(&component(wharf_test_artifacts::GUEST)).expect("the guest loads");
    ["short", "looping"].map(|name| {
        let toml = format!(
            "name = \"{name}\"\n[[stage]]\nplugin = \"guest@1\"\nkind = \"validator\"\ndeadline-ms = 2000"
        );
        let spec = PipelineSpec::from_toml(&toml).expect("a pipeline");
        engine.prepare(spec, vec![Arc::clone(&guest)]).expect("it fits")
    })
}

#[tokio::test]
async fn a_short_batch_needs_no_thread_of_guests() {
    // A busy machine makes it look long at times.
    for _ in 0..20 {
        let [short, looping] = two_on_one_thread();
        warm(&short).await;
        let mut looped = pin!(looping.run(vec![asking("loop")], NOW));
        tokio::select! {
            biased;
            _ = &mut looped => panic!("it loops for two seconds"),
            () = std::future::ready(()) => {}
        }
        let answers = at_once(&short, "ok").await;
        if let Some(mut answers) = answers {
            passed(answers.remove(0));
            assert_fault(looped.await.remove(0), Fault::Deadline, "2000 ms");
            return;
        }
        looped.await;
    }
    panic!("it waited for the only thread each time");
}

#[tokio::test]
async fn what_breaks_here_is_judged_as_elsewhere() {
    let broken = [
        ("loop", Fault::Deadline, "longer than 50 ms"),
        ("panic", Fault::Trap, "asked for a panic"),
        ("exit", Fault::Trap, "exit"),
        ("sleep", Fault::Grant, "sleep"),
        ("recurse", Fault::Stack, "stack"),
        ("out-of-batch", Fault::Answer, "4294967295"),
    ];
    for (behaviour, fault, text) in broken {
        let deadline_ms = if behaviour == "loop" { 50 } else { 10_000 };
        let pipeline = stage(Kind::Validator, &format!("deadline-ms = {deadline_ms}"));
        warm(&pipeline).await;
        let batch = ["count", behaviour, "ok"].map(asking).to_vec();
        let mut answers = pipeline.run(batch, NOW).await;
        passed(answers.remove(2));
        assert_fault(answers.remove(1), fault, text);
        passed(answers.remove(0));
        let stats = &pipeline.stats()[0];
        assert_eq!(stats.verdicts.faults, 1, "{behaviour}");
        assert_eq!(stats.counters["asked"], 2, "{behaviour}: what did not count is not counted");
    }
}

#[tokio::test]
async fn a_plugin_may_print_here() {
    let pipeline = stage(Kind::Validator, "deadline-ms = 10000");
    warm(&pipeline).await;
    for behaviour in ["stdout-flood", "log-flood", "log-forged"] {
        passed(pipeline.run(vec![asking(behaviour)], NOW).await.remove(0));
        assert_eq!(pipeline.stats()[0].verdicts.faults, 0, "{behaviour}");
    }
}
