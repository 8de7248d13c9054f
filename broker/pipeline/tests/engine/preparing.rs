//! What is refused when a pipeline is applied.

use std::sync::Arc;

use wharf_pipeline::{
    FailureKind, Grant, Item, Kind, Pipeline, PipelineSpec, PluginRef, PrepareError, ReadsError, StageSpec,
};
use wharf_protocol::HeadersBuilder;

use crate::stand::{ENGINE, NOW, asking, component, failed, passed, prepare};

#[track_caller]
fn refused(stage: &str) -> PrepareError {
    let stages = format!("[[stage]]\nplugin = \"guest\"\n{stage}");
    prepare(&stages).err().expect("this must be refused")
}

#[test]
fn a_configuration_that_the_plugin_refuses() {
    let PrepareError::Config { stage, problem } = refused("kind = \"validator\"\nconfig = { refuse = 1 }")
    else {
        panic!("the plugin refuses it");
    };
    assert_eq!(stage.as_str(), "guest");
    assert_eq!(problem.path.as_deref(), Some("/refuse"));
}

#[test]
fn a_configuration_that_breaks_the_plugin() {
    let error = refused("kind = \"validator\"\nconfig = { trap = 1 }");
    assert!(matches!(&error, PrepareError::Init { .. }));
    assert!(error.to_string().contains("broke"), "{error}");
}

#[test]
fn a_plugin_that_is_several_needs_a_kind() {
    assert!(refused("").to_string().contains("say which with kind"));
}

#[test]
fn a_stage_with_a_configuration_grants_it() {
    // Who granted `kv` had to write down that the configuration beside it is to be read.
    let trap = "kind = \"validator\"\nconfig = { trap = 1 }";
    let error = refused(&format!("{trap}\ngrants = [\"log\"]"));
    assert_eq!(error.to_string(), refused(trap).to_string());
}

#[test]
fn outputs_that_lead_nowhere() {
    let validator = "kind = \"validator\"";
    let outputs = refused(&format!("{validator}\noutputs = {{ a = \"queue:a\" }}"));
    assert!(matches!(outputs, PrepareError::NoOutputs { kind: Kind::Validator, .. }));
    assert!(!Grant::defaults().contains(&Grant::Clock));
}

#[test]
fn another_number_of_plugins_than_stages() {
    let plugin: PluginRef = "guest".parse().expect("a name");
    let spec = PipelineSpec {
        name: "p".parse().expect("a name"),
        description: String::new(),
        trace_sample: None,
        ingress: None,
        cpu: None,
        delivery: Vec::new(),
        stages: vec![StageSpec::new(plugin)],
    };
    let error = ENGINE.prepare(spec, Vec::new()).err();
    assert!(matches!(error, Some(PrepareError::Plugins { stages: 1, plugins: 0 })));
}

/// A validator that says of its stage which header it reads.
fn reading(config: &str) -> Result<Arc<Pipeline>, PrepareError> {
    let plugin = ENGINE.load(&component(wharf_test_artifacts::GUEST_WITH_READING)).expect("it loads");
    let spec = format!(
        "name = \"test\"\n[[stage]]\nplugin = \"guest\"\nkind = \"validator\"\nconfig = {{ read = \"{config}\" }}"
    );
    ENGINE.prepare(PipelineSpec::from_toml(&spec).expect("a pipeline"), vec![plugin])
}

#[test]
fn what_a_configured_instance_reads_takes_the_place_of_its_description() {
    let validator = reading("other").expect("it fits");
    let with = |behave: &str, other: &str| {
        let mut item: Item = asking("ok");
        let headers = HeadersBuilder::default().set("behave", behave).set("other", other).build();
        item.message.headers = headers.expect("small");
        item
    };
    let mut answers = validator.run_blocking(vec![with("reject", "ok"), with("ok", "reject")], NOW);
    assert_eq!(
        failed(answers.remove(1)).kind,
        FailureKind::Rejected,
        "the header that it asked for is packed"
    );
    passed(answers.remove(0));
}

#[test]
fn what_an_instance_reads_has_the_bounds_of_its_description() {
    let refused = |config: &str| reading(config).err().expect("this must be refused");
    let many = refused("too-many");
    assert!(matches!(&many, PrepareError::Reads { error: ReadsError::TooMany(65), .. }));
    assert!(
        many.to_string().starts_with("stage guest: with this configuration, the plugin asks for 65"),
        "{many}"
    );
    assert!(matches!(refused("no-name"), PrepareError::Reads { error: ReadsError::HeaderName(_), .. }));
    assert!(matches!(refused("panic"), PrepareError::Init { .. }));
}
