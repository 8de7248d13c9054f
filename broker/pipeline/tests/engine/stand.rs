//! One engine for all tests, and short ways to say what goes in and what came out.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use wharf_pipeline::{
    Engine, EngineConfig, Failure, FailureKind, Fault, Item, Kind, Output, Pipeline, PipelineSpec, Plugin,
    PrepareError, Processed,
};
use wharf_protocol::{HeadersBuilder, Message, Timestamp};

pub(crate) const NOW: Timestamp = Timestamp(1_767_225_600_000);

pub(crate) static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    Engine::new(EngineConfig { threads: 3, instances: 40, ..EngineConfig::default() }).expect("an engine")
});

static GUEST: LazyLock<Arc<Plugin>> =
    LazyLock::new(|| ENGINE.load(&component(wharf_test_artifacts::GUEST)).expect("the guest loads"));

pub(crate) fn component(path: &str) -> Bytes {
    std::fs::read(path).expect("the component was built").into()
}

/// A pipeline of one stage, the guest as a `kind`, with more lines for its stage.
pub(crate) fn stage(kind: Kind, more: &str) -> Arc<Pipeline> {
    prepare(&format!("[[stage]]\nplugin = \"guest@1\"\nkind = \"{kind}\"\n{more}")).expect("it fits")
}

/// A pipeline of these stages, the guest in each.
pub(crate) fn prepare(stages: &str) -> Result<Arc<Pipeline>, PrepareError> {
    let spec = PipelineSpec::from_toml(&format!("name = \"test\"\n{stages}")).expect("a pipeline");
    let plugins = spec.stages.iter().map(|_| Arc::clone(&GUEST)).collect();
    ENGINE.prepare(spec, plugins)
}

/// A message that asks for `behaviour`.
pub(crate) fn asking(behaviour: &str) -> Item {
    let mut message = Message::new("a.b".parse().expect("a topic"), "body");
    message.headers = HeadersBuilder::default().set("behave", behaviour).build().expect("small");
    Item::new(message)
}

pub(crate) fn run(pipeline: &Pipeline, behaviours: &[&str]) -> Vec<Processed> {
    pipeline.run_blocking(behaviours.iter().map(|behaviour| asking(behaviour)).collect(), NOW)
}

pub(crate) fn run_one(pipeline: &Pipeline, behaviour: &str) -> Processed {
    run(pipeline, &[behaviour]).pop().expect("one message has one answer")
}

#[track_caller]
pub(crate) fn passed(processed: Processed) -> Vec<Output> {
    match processed {
        Processed::Passed(outputs) => outputs,
        other => panic!("it did not pass: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn failed(processed: Processed) -> Failure {
    match processed {
        Processed::Failed(failure) => *failure,
        other => panic!("it did not fail: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn assert_fault(processed: Processed, fault: Fault, text: &str) {
    let failure = failed(processed);
    assert_eq!(failure.kind, FailureKind::Fault(fault), "{}", failure.problem);
    assert_eq!(failure.problem.code, fault.code());
    assert!(
        failure.problem.message.contains(text),
        "{:?} does not contain {text:?}",
        failure.problem.message
    );
}
