//! What is refused when a pipeline is applied.

use wharf_pipeline::{Grant, Kind, PipelineSpec, PluginRef, PrepareError, StageSpec};

use crate::stand::{ENGINE, prepare};

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
fn a_bypassed_validator_outputs_that_lead_nowhere_and_a_hidden_configuration() {
    let validator = "kind = \"validator\"";
    let outputs = refused(&format!("{validator}\noutputs = {{ a = \"queue:a\" }}"));
    assert!(matches!(outputs, PrepareError::NoOutputs { kind: Kind::Validator, .. }));
    let config = refused(&format!("{validator}\nconfig = {{ a = 1 }}\ngrants = [\"log\"]"));
    assert!(matches!(config, PrepareError::ConfigNotGranted(_)));
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
