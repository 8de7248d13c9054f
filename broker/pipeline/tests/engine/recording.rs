//! Recordings of what a stage takes and says.

use wharf_pipeline::harness::Outcome;
use wharf_pipeline::{Kind, RecordError};

use crate::stand::{NOW, run, stage};

#[tokio::test]
async fn what_a_stage_takes_and_says_is_recorded() {
    let outputs = "name = \"choose\"\nconfig = { a = 1 }\noutputs = { eu = \"queue:eu\", us = \"topic:us\" }";
    let pipeline = stage(Kind::Router, outputs);
    run(&pipeline, &["both"]);

    let mut recording = pipeline.record(Some(&"choose".parse().expect("a name")), 7).expect("it records");
    run(&pipeline, &["both", "panic"]);

    assert_eq!((recording.head.version, recording.head.stage.as_str()), (7, "choose"));
    assert_eq!(recording.head.outputs, ["eu", "us"]);
    assert_eq!(recording.head.config["a"], 1);
    let first = recording.next().await.expect("what came since");
    assert_eq!((first.now_ms, first.message.topic.as_str()), (NOW.0, "a.b"));
    let Outcome::Passed(passed) = first.result else { panic!("{:?}", first.result) };
    let to: Vec<_> = passed.iter().map(|output| output.to.as_deref()).collect();
    assert_eq!(to, [Some("eu"), Some("us")]);
    let second = recording.next().await.expect("the second");
    assert!(matches!(second.result, Outcome::Fault(problem) if problem.code == "plugin-trap"));
}

#[tokio::test]
async fn a_stage_is_recorded_by_one_at_a_time_and_by_another_afterwards() {
    let pipeline = stage(Kind::Validator, "");
    let first = pipeline.record(None, 1).expect("it records");
    assert!(matches!(pipeline.record(None, 1), Err(RecordError::Busy(_))));
    let nowhere = pipeline.record(Some(&"nowhere".parse().expect("a name")), 1);
    assert!(nowhere.err().expect("no such stage").to_string().contains("guest"));

    drop(first);
    run(&pipeline, &["log"]);

    let mut second = pipeline.record(None, 1).expect("nobody records any more");
    run(&pipeline, &["log"]);
    assert!(second.next().await.is_some());
    drop(pipeline);
    assert!(second.next().await.is_none(), "the stage is gone");
}

#[test]
fn a_reader_who_is_too_slow_misses_messages_and_is_told() {
    let pipeline = stage(Kind::Validator, "");
    let recording = pipeline.record(None, 1).expect("it records");

    for _ in 0..40 {
        run(&pipeline, &["log"; 50]);
    }

    assert_eq!(recording.missed(), 2000 - 1024);
}
