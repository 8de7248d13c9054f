//! Natively, and as a component.

use serde_json::{Value, json};
use split::Split;
use wharf_plugin::harness::{Harness, Outcome};

fn native(config: Value) -> Harness<Split> {
    Harness::native().config(config)
}

fn payloads(outcome: &Outcome) -> Vec<String> {
    outcome.assert_passed().iter().map(|one| one.text().into_owned()).collect()
}

#[test]
fn the_example_of_the_documentation() {
    Harness::each(|plugin: Harness<Split>| {
        let config = json!({
            "at": "/lines", "keep": {"order": "/order"}, "headers": {"order": "/order"}, "index-header": "item",
        });
        let outcome = plugin.config(config).send(r#"{"order":"7","lines":[{"sku":"A-1"},{"sku":"B-9"}]}"#);

        assert_eq!(payloads(&outcome), [r#"{"sku":"A-1","order":"7"}"#, r#"{"sku":"B-9","order":"7"}"#]);
        let second = &outcome.assert_passed()[1];
        assert_eq!((second.header("order"), second.header("item")), (Some(&b"7"[..]), Some(&b"1"[..])));
    });
}

#[test]
fn items_keep_the_very_bytes_that_stood_in_the_payload() {
    Harness::each(|plugin: Harness<Split>| {
        let outcome = plugin
            .config(json!({"at": "/a"}))
            .send(r#"{"a": [ {"x": 1.10}, "[\"", 12345678901234567890123 ]}"#);
        assert_eq!(payloads(&outcome), [r#"{"x": 1.10}"#, r#""[\"""#, "12345678901234567890123"]);
    });
}

#[test]
fn a_message_without_items_is_dropped_kept_or_rejected() {
    native(json!({})).send("[]").assert_dropped();
    native(json!({"empty": "keep"})).send(" []").assert_payload(" []");
    native(json!({"empty": "reject"})).send("[]").assert_rejected("no-items");
}

#[test]
fn what_cannot_be_split_is_rejected_with_its_place() {
    let path =
        |config: Value, json: &str, code: &str| native(config).send(json).assert_rejected(code).path.clone();
    assert_eq!(path(json!({"at": "/a"}), "{}", "no-array").as_deref(), Some("/a"));
    assert_eq!(path(json!({"at": "/a"}), r#"{"a":1}"#, "no-array").as_deref(), Some("/a"));
    assert_eq!(
        path(json!({"at": "/a", "keep": {"b": "/b"}}), r#"{"a":[{},1],"b":2}"#, "not-an-object").as_deref(),
        Some("/a/1")
    );
    assert_eq!(path(json!({"headers": {"h": "/0"}}), "[[]]", "bad-header").as_deref(), Some("/0"));
    native(json!({})).send("[1,").assert_rejected("not-json");
}

#[test]
fn more_items_than_the_stage_may_send_reject_the_whole() {
    let many = json!(vec![0; 1000]).to_string().into_bytes();
    let outcome = Harness::<Split>::component().send(many);
    let problem = outcome.assert_rejected("too-many-outputs");
    assert!(problem.message.contains("at most 16 (`outputs` under [plugins]"), "{problem}");
}

#[test]
fn what_is_no_pointer_refuses_the_configuration() {
    native(json!({"keep": {"a": "b"}})).assert_refused("bad-config", Some("/keep/a"));
}
