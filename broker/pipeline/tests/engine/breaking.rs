//! A plugin that breaks costs the message that it broke on. The others of its batch, the next batch and the
//! other pipelines do not notice.

use std::time::{Duration, Instant};

use wharf_pipeline::{BreakerState, FAULTS_TO_OPEN, Fault, Item, Kind, OnFailure};

use crate::stand::{NOW, asking, assert_fault, failed, passed, run, run_one, stage};

/// Sends `behaviour` amid 20 others and asserts that it alone is charged, and that the next batch is fine.
#[track_caller]
fn assert_alone_at_fault(kind: Kind, behaviour: &str, fault: Fault, text: &str) {
    // Only a loop is to meet its deadline, however busy the machine.
    let deadline_ms = if behaviour == "loop" { 50 } else { 10_000 };
    let pipeline = stage(kind, &format!("deadline-ms = {deadline_ms}"));
    let mut behaviours = ["ok"; 21];
    behaviours[13] = behaviour;
    for (i, answer) in run(&pipeline, &behaviours).into_iter().enumerate() {
        if i == 13 {
            assert_fault(answer, fault, text);
        } else {
            assert_eq!(passed(answer)[0].message, asking("ok").message, "neighbour {i}");
        }
    }
    passed(run_one(&pipeline, "ok"));
    let stats = &pipeline.stats()[0];
    assert_eq!(
        (stats.messages, stats.verdicts.faults),
        (22, 1),
        "each is counted once, however often it was given"
    );
    assert!(!stats.starting.is_zero() && stats.calls > 2, "{stats:?}");
    assert_eq!(pipeline.stats()[0].breaker.state, BreakerState::Closed);
}

#[test]
fn a_panic() {
    assert_alone_at_fault(Kind::Validator, "panic", Fault::Trap, "asked for a panic");
}

#[test]
fn an_endless_loop() {
    assert_alone_at_fault(Kind::Validator, "loop", Fault::Deadline, "longer than 50 ms");
}

#[test]
fn endless_allocation() {
    assert_alone_at_fault(Kind::Validator, "allocate", Fault::Memory, "64 MiB");
}

#[test]
fn endless_recursion() {
    assert_alone_at_fault(Kind::Validator, "recurse", Fault::Stack, "stack");
}

#[test]
fn endless_recursion_with_locals() {
    assert_alone_at_fault(Kind::Validator, "recurse-with-locals", Fault::Trap, "deep recursion");
}

#[test]
fn an_exit() {
    assert_alone_at_fault(Kind::Validator, "exit", Fault::Trap, "exit");
}

#[test]
fn a_sleep() {
    let start = Instant::now();
    assert_alone_at_fault(Kind::Validator, "sleep", Fault::Grant, "sleep");
    assert!(start.elapsed() < Duration::from_secs(60), "nobody slept");
}

#[test]
fn a_verdict_too_few() {
    assert_alone_at_fault(Kind::Validator, "verdicts-missing", Fault::Answer, "0 verdicts for 1 messages");
}

#[test]
fn a_message_outside_the_batch() {
    assert_alone_at_fault(Kind::Validator, "out-of-batch", Fault::Answer, "4294967295");
}

#[test]
fn an_output_larger_than_may_cross() {
    assert_alone_at_fault(Kind::Transformer, "output-huge", Fault::Answer, "");
}

#[test]
fn an_output_for_an_unknown_parent_is_not_taken() {
    let transformer = stage(Kind::Transformer, "");
    assert_fault(run_one(&transformer, "unknown-parent"), Fault::Answer, "of no message of its batch");
}

#[test]
fn several_in_one_batch_are_each_charged() {
    let pipeline = stage(Kind::Validator, "");
    let behaviours = ["ok", "panic", "ok", "ok", "recurse", "ok", "panic", "ok"];
    for (answer, behaviour) in run(&pipeline, &behaviours).into_iter().zip(behaviours) {
        match behaviour {
            "ok" => drop(passed(answer)),
            "panic" => assert_fault(answer, Fault::Trap, "panic"),
            _ => assert_fault(answer, Fault::Stack, "stack"),
        }
    }
}

#[test]
fn a_stage_that_always_breaks_is_left_alone() {
    let pipeline = stage(Kind::Validator, "on-failure = \"dead-letter\"");
    let answers = run(&pipeline, &["panic"; 64]);
    let codes: Vec<_> = answers.into_iter().map(|answer| failed(answer).problem.code).collect();
    let called = codes.iter().filter(|code| *code == Fault::Trap.code()).count();
    assert_eq!(called, FAULTS_TO_OPEN as usize);
    assert!(codes[called..].iter().all(|code| code == Fault::Open.code()));

    let calls = pipeline.stats()[0].calls;
    let suspended = failed(run_one(&pipeline, "ok"));
    assert_eq!(suspended.problem.code, Fault::Open.code());
    assert_eq!(suspended.policy, OnFailure::DeadLetter, "the policy applies at once");
    assert_eq!(pipeline.stats()[0].calls, calls, "it was not called");
    let stats = &pipeline.stats()[0];
    assert_eq!((stats.breaker.state, stats.breaker.opened), (BreakerState::Open, 1));
    let last = stats.breaker.last_fault.as_ref().expect("it broke");
    assert!(last.problem.message.contains("asked for a panic"), "{last:?}");
    assert_eq!(stats.faults[Fault::Trap.code()], u64::from(FAULTS_TO_OPEN));
    assert_eq!(stats.faults[Fault::Open.code()], 60);
    assert_eq!(stats.messages, 65, "as many as there are verdicts");
    assert!(suspended.problem.message.contains("plugin-trap"), "it says why: {}", suspended.problem);
}

#[test]
fn what_a_plugin_keeps_in_memory_is_gone_with_a_fresh_stage() {
    let calls = |processed| passed(processed)[0].message.headers.text("calls").expect("set").to_owned();
    let reused = stage(Kind::Enricher, "");
    assert_eq!(calls(run_one(&reused, "calls")), "0");
    assert_eq!(calls(run_one(&reused, "calls")), "1");
    let fresh = stage(Kind::Enricher, "fresh = true");
    assert_eq!(calls(run_one(&fresh, "calls")), "0");
    assert_eq!(calls(run_one(&fresh, "calls")), "0");
}

#[test]
fn an_instance_that_broke_is_not_used_again() {
    let enricher = stage(Kind::Enricher, "");
    for broken in ["panic", "headers-large"] {
        run(&enricher, &["calls"]);
        run(&enricher, &[broken]);
        let answer = run_one(&enricher, "calls");
        assert_eq!(passed(answer)[0].message.headers.text("calls"), Some("0"), "after {broken}");
    }
}

#[tokio::test]
async fn a_looping_pipeline_does_not_hold_up_another() {
    let (looping, good) = (stage(Kind::Validator, "deadline-ms = 1000"), stage(Kind::Validator, ""));
    let loops = |_| looping.run(vec![asking("loop")], NOW);
    let [mut a, mut b, mut c] = [0, 1, 2].map(|i| Box::pin(loops(i)));
    let answer = tokio::select! {
        biased;
        _ = &mut a => panic!("it loops for a second"),
        _ = &mut b => panic!("it loops for a second"),
        _ = &mut c => panic!("it loops for a second"),
        answer = good.run(vec![asking("ok")], NOW) => answer,
    };
    passed(answer.into_iter().next().expect("one answer"));
    let mut looped = a.await;
    assert_fault(looped.remove(0), Fault::Deadline, "1000 ms");
}

#[tokio::test]
async fn a_large_batch_is_answered_in_order() {
    let pipeline = stage(Kind::Transformer, "");
    let item = |i: usize| {
        let mut item = asking(if i % 50 == 7 { "panic" } else { "identity" });
        item.message.payload = i.to_string().into_bytes().into();
        item
    };
    let batch: Vec<Item> = (0..200).map(item).collect();
    for (i, answer) in pipeline.run(batch, NOW).await.into_iter().enumerate() {
        match i % 50 {
            7 => assert_fault(answer, Fault::Trap, "panic"),
            _ => assert_eq!(passed(answer)[0].message.payload, i.to_string()),
        }
    }
}
