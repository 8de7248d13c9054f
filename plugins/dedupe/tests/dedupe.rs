//! Natively, and as a component; what a message leaves in `kv` is there for the next one.

use dedupe::Dedupe;
use serde_json::{Value, json};
use wharf_plugin::harness::{Harness, Input};

fn native(config: Value) -> Harness<Dedupe> {
    Harness::native().config(config)
}

#[test]
fn the_example_of_the_documentation() {
    Harness::each(|plugin: Harness<Dedupe>| {
        let plugin = plugin.config(json!({"by": ["/order/id", "/order/version"]}));
        plugin.send(r#"{"order":{"id":7,"version":1}}"#).assert_routed([]);
        plugin.send(r#"{"order":{"version":1,"id":7},"x":1}"#).assert_dropped();
        plugin.send(r#"{"order":{"id":7,"version":2}}"#).assert_routed([]);
        plugin.send(r#"{"order":{"id":"7","version":1}}"#).assert_routed([]);
        assert_eq!(plugin.memory().len(), 3);
    });
}

#[test]
fn a_message_is_forgotten_when_its_window_ends() {
    Harness::each(|plugin: Harness<Dedupe>| {
        let plugin = plugin.config(json!({"window-s": 10})).now(1_000_000);
        plugin.send("x").assert_routed([]);
        plugin.send("x").assert_dropped();
        let plugin = plugin.now(1_009_999);
        plugin.send("x").assert_dropped();
        let plugin = plugin.now(1_010_000);
        plugin.send("x").assert_routed([]);
    });
}

#[test]
fn of_one_batch_the_first_passes() {
    Harness::each(|plugin: Harness<Dedupe>| {
        let outcomes = plugin.config(json!({})).send_all(["x", "y", "x"]);
        outcomes[0].assert_routed([]);
        outcomes[1].assert_routed([]);
        outcomes[2].assert_dropped();
    });
}

#[test]
fn what_is_rejected_is_not_remembered() {
    Harness::each(|plugin: Harness<Dedupe>| {
        let plugin = plugin.config(json!({"duplicate": "reject"}));
        assert_eq!(plugin.send("x").changes.len(), 1);
        let before = plugin.memory();
        let again = plugin.send("x");
        again.assert_rejected("duplicate");
        assert!(again.changes.is_empty());
        assert_eq!(plugin.memory(), before, "the count of what was rejected is not kept");
    });
}

#[test]
fn topics_headers_and_payloads_tell_messages_apart() {
    let plugin = native(json!({"headers": ["id"]}));
    let input = |topic: &str, id: &str| Input::new("x").topic(topic).header("id", id);
    plugin.send(input("a", "1")).assert_routed([]);
    plugin.send(input("b", "1")).assert_routed([]);
    plugin.send(input("a", "1")).assert_dropped();
    plugin.send("x").assert_routed([]);
    plugin.send("x").assert_routed([]);

    let plugin = native(json!({"topic": false}));
    plugin.send(Input::new("whole").topic("a")).assert_routed([]);
    plugin.send(Input::new("whole").topic("b")).assert_dropped();
}

#[test]
fn no_two_lists_of_fields_look_the_same() {
    let plugin = native(json!({"headers": ["a", "b"]}));
    plugin.send(Input::new("x").header("a", "12").header("b", "3")).assert_routed([]);
    plugin.send(Input::new("x").header("a", "1").header("b", "23")).assert_routed([]);
}

#[test]
fn a_duplicate_is_dropped_rejected_or_sent_elsewhere() {
    let plugin = native(json!({"duplicate": "reject", "topic": false}));
    plugin.send("again").assert_routed([]);
    plugin.send("again").assert_rejected("duplicate");

    let plugin = native(json!({"duplicate": {"to": "twice"}, "headers": ["h"]})).outputs(["twice"]);
    plugin.send(Input::new("").header("h", "elsewhere")).assert_routed([]);
    plugin.send(Input::new("").header("h", "elsewhere")).assert_routed(["twice"]);
}

#[test]
fn a_message_without_a_field_passes_or_is_rejected() {
    native(json!({"by": ["/a"]})).send("{}").assert_routed([]);
    let outcome = native(json!({"by": ["/a"], "missing": "reject"})).send(r#"{"a":null}"#);
    assert_eq!(outcome.assert_rejected("no-field").path.as_deref(), Some("/a"));
    native(json!({"headers": ["a"], "missing": "reject"})).send("x").assert_rejected("no-field");
    native(json!({"by": ["/a"]})).send("{").assert_rejected("not-json");
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place() {
    native(json!({"window-s": 0})).assert_refused("bad-config", Some("/window-s"));
    native(json!({"duplicate": {"to": "x"}})).assert_refused("no-such-output", Some("/duplicate/to"));
    native(json!({"by": ["a"]})).assert_refused("bad-config", Some("/by/0"));
}

/// The compiled half had panicked: no pipeline is made of a plugin whose stage does not grant what it imports.
#[test]
fn without_the_grant_of_kv_it_breaks() {
    Harness::each(|plugin: Harness<Dedupe>| {
        let plugin = plugin.config(json!({})).deny("kv");
        for outcome in plugin.send_all(["x", "y"]) {
            assert!(outcome.assert_fault("plugin-grant").message.contains("add \"kv\""));
            assert!(outcome.changes.is_empty());
        }
    });
}
