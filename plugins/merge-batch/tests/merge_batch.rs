//! Natively, and as a component; what a message leaves in `kv` is there for the next one.

use merge_batch::MergeBatch;
use serde_json::{Value, json};
use wharf_plugin::harness::Harness;

fn native(config: Value) -> Harness<MergeBatch> {
    Harness::native().config(config)
}

#[test]
fn the_example_of_the_documentation() {
    Harness::each(|plugin: Harness<MergeBatch>| {
        let plugin = plugin.config(json!({"count": 2, "by": "/order"}));
        plugin.send(r#"{"order":7,"sku":"A-1"}"#).assert_dropped();
        plugin.send(r#"{"order":8,"sku":"C-3"}"#).assert_dropped();
        plugin
            .send(r#" {"order":7,"sku":"B-9"} "#)
            .assert_payload(r#"[{"order":7,"sku":"A-1"},{"order":7,"sku":"B-9"}]"#)
            .assert_header("batch-size", "2");
        assert!(!plugin.memory().contains_key("merge-batch/=7"), "a batch that is sent is forgotten");
        assert!(plugin.memory().contains_key("merge-batch/=8"));
        plugin.send(r#"{"order":7,"sku":"D-4"}"#).assert_dropped();
    });
}

#[test]
fn a_batch_that_is_kept_goes_on_and_one_that_is_none_rejects() {
    // When it began (8 bytes), how many there are (4), and their JSON.
    let kept = b"\0\0\0\0\0\0\0\x01\0\0\0\x01[1]".to_vec();
    Harness::each(|plugin: Harness<MergeBatch>| {
        let plugin = plugin.config(json!({"count": 2})).kv("merge-batch/", kept.clone());
        plugin.send("[2]").assert_payload("[[1],[2]]");
        plugin.assert_kv("merge-batch/", None);
    });
    Harness::each(|plugin: Harness<MergeBatch>| {
        let plugin = plugin.config(json!({"count": 2})).kv("merge-batch/", "no batch");
        let outcome = plugin.send("[2]");
        assert!(outcome.assert_rejected("bad-batch").message.contains("merge-batch/"));
        plugin.assert_kv("merge-batch/", Some("no batch"));
    });
}

#[test]
fn a_message_can_complete_its_batch_early() {
    let plugin = native(json!({"count": 10, "last": "/last"}));
    plugin.send(r#"{"n":1.10}"#).assert_dropped();
    plugin.send(r#"{"n":2,"last":true}"#).assert_payload(r#"[{"n":1.10},{"n":2,"last":true}]"#);

    let plugin = native(json!({"count": 10, "window-s": 0}));
    plugin.send("1").assert_dropped();
    plugin.send("2").assert_payload("[1,2]");
}

#[test]
fn what_does_not_fit_completes_the_batch() {
    let plugin = native(json!({"count": 1000}));
    let large = format!("\"{}\"", "x".repeat(40_000));
    plugin.send(&*large).assert_dropped();
    assert_eq!(plugin.send(&*large).assert_one().payload.len(), 2 * large.len() + 3);
    plugin.send("1").assert_dropped();
}

#[test]
fn keys_of_any_length_are_kept_apart() {
    let plugin = native(json!({"count": 2, "by": "/k"}));
    let message = |end: &str| format!(r#"{{"k":"{}{end}"}}"#, "x".repeat(2000));
    plugin.send(&*message("a")).assert_dropped();
    plugin.send(&*message("b")).assert_dropped();
    plugin.send(&*message("a")).assert_header("batch-size", "2");
}

#[test]
fn what_cannot_be_merged_is_rejected() {
    let plugin = native(json!({"count": 2, "by": "/order"}));
    assert_eq!(plugin.send("{}").assert_rejected("no-field").path.as_deref(), Some("/order"));
    plugin.send("{").assert_rejected("not-json");
}

#[test]
fn a_wrong_count_refuses_the_configuration() {
    native(json!({"count": 1})).assert_refused("bad-config", Some("/count"));
    native(json!({})).assert_refused("bad-config", None);
}
