//! What was released stays: the text of the contract, and what a plugin that was built for it is told.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use wharf_pipeline::{FailureKind, Item, Kind, LoadError, Pipeline, PipelineSpec, Plugin};
use wharf_protocol::{HeadersBuilder, Message};

use crate::stand::{ENGINE, NOW, failed, passed};

static FIRST: &[u8] = include_bytes!("../fixtures/0.1.0/plugin.wasm");

static PLUGIN: LazyLock<Arc<Plugin>> =
    LazyLock::new(|| ENGINE.load(&Bytes::from_static(FIRST)).expect("the host serves what it released"));

fn stage(kind: Kind, more: &str) -> Arc<Pipeline> {
    let text = format!(
        "name = \"old\"\n[[stage]]\nname = \"first\"\nplugin = \"first@1\"\nkind = \"{kind}\"\n{more}\n\
         [stage.config]\na = 1\n"
    );
    let spec = PipelineSpec::from_toml(&text).expect("a pipeline");
    ENGINE.prepare(spec, vec![Arc::clone(&PLUGIN)]).expect("it fits")
}

fn run(pipeline: &Pipeline, payload: &'static str) -> wharf_pipeline::Processed {
    let mut message = Message::new("a.b".parse().expect("a topic"), payload);
    message.headers = HeadersBuilder::default().set("x", "1").set("y", "2").build().expect("small");
    message.key = Some("k".into());
    message.message_id = Some("m-1".into());
    message.reply_to = Some("r".parse().expect("a topic"));
    let item = Item { attempt: 3, ..Item::new(message) };
    pipeline.run_blocking(vec![item], NOW).pop().expect("one message has one answer")
}

/// A released file is never touched: whoever changes a byte of it has to change this line, and should not.
#[test]
fn the_files_of_released_versions_are_as_they_were() {
    let digest = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    assert_eq!(
        digest(include_bytes!("../../../../wit/0.1.0/wharf.wit")),
        "61c4b22f671a4bd1f966e66c349b8a3017e3e19f55e85de06542b32929a32017",
    );
}

#[test]
fn a_validator_of_the_first_version_is_understood() {
    let validator = stage(Kind::Validator, "");
    assert_eq!(passed(run(&validator, "yes")).len(), 1);

    let refused = failed(run(&validator, "no"));
    assert_eq!((refused.kind, refused.problem.path.as_deref()), (FailureKind::Rejected, Some("/")));

    let later = failed(run(&validator, "later"));
    assert_eq!(later.kind, FailureKind::Retry { after: Some(Duration::from_millis(7)) });
}

#[test]
fn a_router_of_the_first_version_reaches_its_outputs() {
    let router = stage(Kind::Router, "outputs = { a = \"queue:qa\", b = \"topic:t.b\" }");
    let to = |payload| passed(run(&router, payload))[0].to.as_ref().map(ToString::to_string);
    assert_eq!(to("0").as_deref(), Some("queue:qa"));
    assert_eq!(to("1").as_deref(), Some("topic:t.b"));
    assert_eq!(to("pass"), None);
    assert!(matches!(run(&router, "-"), wharf_pipeline::Processed::Dropped { .. }));
}

#[test]
fn an_enricher_of_the_first_version_reads_the_packed_view() {
    let outputs = passed(run(&stage(Kind::Enricher, ""), "body"));
    let headers = &outputs[0].message.headers;
    assert_eq!((headers.text("topic"), headers.text("y")), (Some("a.b"), Some("1")));
}

#[test]
fn a_transformer_of_the_first_version_sees_every_field_as_it_did() {
    let grants = "grants = [\"log\", \"config\", \"metrics\", \"clock\", \"random\"]";
    let transformer = stage(Kind::Transformer, &format!("outputs = {{ a = \"queue:q\" }}\n{grants}"));
    let outputs = passed(run(&transformer, "body"));

    let seen = std::str::from_utf8(&outputs[0].message.payload).expect("text");
    let expected =
        format!("old|first|a|{{\"a\":1}}|a.b|k|m-1|r|1|x=1+y=2|4|body|3|{now}|{now}|true", now = NOW.0);
    assert_eq!(seen, expected);
    assert_eq!(&*outputs[1].message.payload, b"b");
    assert_eq!(outputs[0].message.headers.text("by"), Some("first"));
    assert_eq!(outputs[0].message.headers.text("x"), None);
    assert_eq!(transformer.stats()[0].counters.get("seen"), Some(&2));
}

/// The same component, made to want the next version: its interfaces are named in it as plain text.
#[test]
fn a_plugin_for_a_newer_version_is_refused_with_what_it_wants() {
    let (old, new) = (b"@0.1.0", b"@0.1.9");
    let mut newer = FIRST.to_vec();
    for at in 0..newer.len() - old.len() {
        if newer[at..].starts_with(old) {
            newer[at..at + old.len()].copy_from_slice(new);
        }
    }
    let refused = ENGINE.load(&newer.into()).expect_err("it is refused");
    assert!(matches!(&refused, LoadError::Contract { .. }), "{refused}");
    let text = refused.to_string();
    assert!(text.contains("@0.1.9") && text.contains(wharf_pipeline::CONTRACT_VERSION), "{text}");
    assert!(text.contains("upgrade the broker"), "it says what to do: {text}");
}

/// An interface that this version does not have is missing by name, whatever version it claims to be of.
#[test]
fn a_plugin_that_imports_an_interface_that_is_not_there_is_refused_by_its_name() {
    let (old, new) = (b"wharf:plugin/metrics@", b"wharf:plugin/gadgets@");
    let mut unknown = FIRST.to_vec();
    for at in 0..unknown.len() - old.len() {
        if unknown[at..].starts_with(old) {
            unknown[at..at + old.len()].copy_from_slice(new);
        }
    }
    let refused = ENGINE.load(&unknown.into()).expect_err("it is refused").to_string();
    assert!(refused.contains("wharf:plugin/gadgets@0.1.0"), "{refused}");
}
