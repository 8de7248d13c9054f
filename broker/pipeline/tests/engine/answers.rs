//! What each kind may say, and what becomes of it.

use std::time::Duration;

use wharf_pipeline::{FailureKind, Fault, Kind, OnFailure, Processed, Target};
use wharf_protocol::{HeadersBuilder, Timestamp};

use crate::stand::{NOW, asking, assert_fault, failed, passed, prepare, run, run_one, stage};

const OUTPUTS: &str = "outputs = { a = \"topic:to.a\", b = \"queue:b\" }";

#[test]
fn a_validator_accepts_rejects_and_asks_to_try_again() {
    let validator = stage(Kind::Validator, "on-failure = \"dead-letter\"");
    let mut answers = run(&validator, &["ok", "reject", "retry", "ok"]);

    assert_eq!(passed(answers.remove(0))[0].message, asking("ok").message);
    let rejected = failed(answers.remove(0));
    assert_eq!((rejected.kind, rejected.policy), (FailureKind::Rejected, OnFailure::DeadLetter));
    assert_eq!(rejected.problem.to_string(), "asked: it asked to be rejected (at line 1, column 1)");
    assert_eq!((rejected.stage.as_str(), rejected.plugin.to_string().as_str()), ("guest", "guest@1"));
    let retried = failed(answers.remove(0));
    assert_eq!(retried.kind, FailureKind::Retry { after: Some(Duration::from_millis(250)) });
    passed(answers.remove(0));
}

#[test]
fn a_router_sends_copies_to_declared_outputs() {
    let router = stage(Kind::Router, OUTPUTS);
    let outputs = passed(run_one(&router, "both"));
    assert_eq!(outputs[0].to, Some(Target::Topic("to.a".parse().expect("a topic"))));
    assert_eq!(outputs[0].message.topic.as_str(), "to.a");
    assert_eq!(outputs[1].to, Some(Target::Queue("b".parse().expect("a queue"))));
    assert_eq!(outputs[1].message.topic.as_str(), "a.b");

    assert_eq!(passed(run_one(&router, "ok"))[0].to, None);
    assert!(matches!(run_one(&router, "drop"), Processed::Dropped { stage } if stage.as_str() == "guest"));
}

#[test]
fn a_router_that_names_no_or_unknown_outputs_is_at_fault() {
    let router = stage(Kind::Router, OUTPUTS);
    let mut answers = run(&router, &["ok", "unknown-output", "nowhere", "outputs-many", "ok"]);
    passed(answers.remove(0));
    assert_fault(answers.remove(0), Fault::Answer, "output 99 of 2 declared");
    assert_fault(answers.remove(0), Fault::Answer, "no output");
    assert_fault(answers.remove(0), Fault::Answer, "1000 outputs");
    passed(answers.remove(0));
}

#[test]
fn a_transformer_makes_none_one_or_many() {
    let transformer = stage(Kind::Transformer, OUTPUTS);
    let bodies = |behaviour| -> Vec<_> {
        passed(run_one(&transformer, behaviour)).into_iter().map(|output| output.message.payload).collect()
    };
    assert_eq!(bodies("ok"), ["body"]);
    assert_eq!(bodies("identity"), ["body"]);
    assert_eq!(bodies("same"), ["body"]);
    assert_eq!(bodies("first-byte"), ["b"]);
    assert_eq!(bodies("two"), ["one", "two"]);
    assert!(matches!(run_one(&transformer, "drop"), Processed::Dropped { .. }));

    let outputs = passed(run_one(&transformer, "headers"));
    let headers: Vec<_> = outputs[0].message.headers.iter().collect();
    assert_eq!(headers, [("added", &b"yes"[..])]);
    assert_eq!(passed(run_one(&transformer, "first"))[0].message.topic.as_str(), "to.a");
}

#[test]
fn outputs_that_the_contract_does_not_allow_are_faults() {
    let transformer = stage(Kind::Transformer, &format!("{OUTPUTS}\ndeadline-ms = 10000"));
    let behaviours =
        ["bad-range", "unknown-output", "outputs-many", "output-large", "kept-and-emitted", "two"];
    let mut answers = run(&transformer, &behaviours);
    assert_fault(answers.remove(0), Fault::Answer, "bad-range");
    assert_fault(answers.remove(0), Fault::Answer, "no-such-output");
    assert_fault(answers.remove(0), Fault::Answer, "too-many");
    assert_fault(answers.remove(0), Fault::Answer, "too-large");
    assert_fault(answers.remove(0), Fault::Answer, "kept or dropped");
    assert_eq!(passed(answers.remove(0)).len(), 2);
}

#[test]
fn an_enricher_sets_headers_and_nothing_else() {
    let enricher = stage(Kind::Enricher, "");
    let mut answers = run(&enricher, &["set", "headers-large", "ok"]);
    let mut expected = asking("set").message;
    expected.headers = expected.headers.edit().set("added", "yes").build().expect("small");
    assert_eq!(passed(answers.remove(0))[0].message, expected);
    assert_fault(answers.remove(0), Fault::Answer, "too large");
    passed(answers.remove(0));
}

#[test]
fn stages_follow_each_other_and_one_failed_part_fails_the_whole() {
    let pipeline = prepare(
        "[[stage]]\nname = \"split\"\nplugin = \"guest@1\"\nkind = \"transformer\"\n\
         [[stage]]\nname = \"check\"\nplugin = \"guest@1\"\nkind = \"validator\"\n",
    )
    .expect("it fits");
    let mut answers = run(&pipeline, &["two", "reject", "drop", "ok"]);
    // Both parts carry the parent's headers, so both are checked.
    assert_eq!(passed(answers.remove(0)).len(), 2);
    assert_eq!(failed(answers.remove(0)).stage.as_str(), "split");
    assert!(matches!(answers.remove(0), Processed::Dropped { .. }));
    passed(answers.remove(0));
}

#[test]
fn one_message_never_becomes_more_than_the_limit_in_a_pipeline() {
    let split =
        |n| format!("[[stage]]\nname = \"split-{n}\"\nplugin = \"guest@1\"\nkind = \"transformer\"\n");
    let four: String = (0..4).map(split).collect();
    assert_eq!(passed(run_one(&prepare(&four).expect("it fits"), "two")).len(), 16);
    let five: String = (0..5).map(split).collect();
    assert_fault(run_one(&prepare(&five).expect("it fits"), "two"), Fault::Answer, "became more");
}

#[test]
fn bypass_lets_a_message_go_on_as_it_was() {
    let enricher = stage(Kind::Enricher, "on-failure = \"bypass\"");
    let answers = run(&enricher, &["reject", "panic", "set"]);
    assert_eq!(answers.len(), 3);
    for answer in answers {
        passed(answer);
    }
}

#[test]
fn a_plugin_reads_through_the_handle_what_its_view_lacks() {
    passed(run_one(&stage(Kind::Validator, ""), "handle"));
}

#[test]
fn time_and_random_bits_repeat_whatever_the_batch() {
    let enricher = stage(Kind::Enricher, "grants = [\"clock\", \"random\"]");
    let header = |processed, name: &str| -> String {
        passed(processed)[0].message.headers.text(name).expect("it is set").to_owned()
    };
    assert_eq!(header(run_one(&enricher, "clock"), "now"), NOW.0.to_string());

    let alone = header(run_one(&enricher, "random"), "bits");
    let mut beside = run(&enricher, &["ok", "panic", "random"]);
    assert_eq!(header(beside.remove(2), "bits"), alone, "even after a bisection");
    let mut other = asking("random");
    other.message.headers =
        HeadersBuilder::default().set("behave", "random").set("x", "y").build().expect("small");
    let other = enricher.run_blocking(vec![other], NOW).remove(0);
    assert_ne!(header(other, "bits"), alone);
    let later = enricher.run_blocking(vec![asking("random")], Timestamp(NOW.0 + 1)).remove(0);
    assert_ne!(header(later, "bits"), alone);
}

#[test]
fn a_capability_that_is_not_granted_is_refused_by_name() {
    let enricher = stage(Kind::Enricher, "");
    let mut answers = run(&enricher, &["clock", "random", "set"]);
    assert_fault(answers.remove(0), Fault::Grant, "add \"clock\" to the stage's grants");
    assert_fault(answers.remove(0), Fault::Grant, "add \"random\"");
    passed(answers.remove(0));
    let silent = stage(Kind::Validator, "grants = []");
    assert_fault(run_one(&silent, "log"), Fault::Grant, "add \"log\"");
    assert_fault(run_one(&silent, "count"), Fault::Grant, "add \"metrics\"");
}
