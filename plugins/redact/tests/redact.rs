//! Natively, and as a component.

use redact::Redact;
use serde_json::{Value, json};
use wharf_plugin::harness::{Harness, Input};

fn native(config: Value) -> Harness<Redact> {
    Harness::native().config(config)
}

#[test]
fn the_example_of_the_documentation() {
    Harness::each(|plugin: Harness<Redact>| {
        let config = json!({
            "salt": "9f2c",
            "headers": ["authorization"],
            "rules": [
                {"at": "/customer/name", "drop": true},
                {"at": "/**/card", "mask": {"with": "*", "keep-last": 4}},
                {"at": "/**/email", "hash": 16},
                {"at": "/notes/*/text", "set": "null"},
            ],
        });
        let json = r#"{"customer":{"name":"Ada","card":"4111111111111111","email":"ada@example.org"},"notes":[{"text":"call"}]}"#;
        let outcome =
            plugin.config(config).send(Input::new(json).header("authorization", "x").header("a", "b"));

        let one = outcome.assert_one();
        // echo -n ada@example.org | openssl dgst -sha256 -hmac 9f2c
        let email = "c2e8108b5aa5b2b023707b8ab3ab9480";
        assert_eq!(
            one.text(),
            format!(
                r#"{{"customer":{{"card":"************1111","email":"{email}"}},"notes":[{{"text":null}}]}}"#
            )
        );
        assert_eq!((one.header("authorization"), one.header("a")), (None, Some(&b"b"[..])));
    });
}

#[test]
fn what_is_not_redacted_stays_as_it_was_written() {
    let config = json!({"rules": [{"at": "/b", "drop": true}]});
    native(config.clone())
        .send(r#"{"z":1.10,"b":1,"a":12345678901234567890123}"#)
        .assert_payload(r#"{"z":1.10,"a":12345678901234567890123}"#);
    native(config).send(r#"{ "z" : 1 }"#).assert_payload(r#"{ "z" : 1 }"#);
}

#[test]
fn numbers_and_booleans_are_redacted_as_their_text_and_null_stays() {
    let config = json!({"rules": [{"at": "/*", "mask": {}}]});
    native(config.clone()).send("[123,true,null]").assert_payload(r#"["***","****",null]"#);
    let outcome = native(config).send("[[1]]");
    assert_eq!(outcome.assert_rejected("not-text").path.as_deref(), Some("/*"));
}

#[test]
fn a_rule_that_finds_nothing_can_be_a_mistake() {
    let config = json!({"rules": [{"at": "/a", "drop": true}], "missing": "reject"});
    native(config).send("{}").assert_rejected("nothing-to-redact");
}

#[test]
fn a_payload_that_is_no_json_does_not_slip_through() {
    native(json!({"rules": [{"at": "/a", "drop": true}]})).send("<a/>").assert_rejected("not-json");
    native(json!({"rules": [{"at": "/a", "drop": true}]}))
        .send(r#"{"a":1,"a":2}"#)
        .assert_rejected("duplicate-member");
}

#[test]
fn a_header_is_removed_however_its_letters_are_written() {
    Harness::each(|plugin: Harness<Redact>| {
        let input =
            Input::new("x").header("Authorization", "a").header("AUTHORIZATION", "b").header("other", "c");
        let outcome = plugin.config(json!({"headers": ["authorization"]})).send(input);

        let headers = &outcome.assert_one().headers;
        assert_eq!(headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["other"]);
    });
}

#[test]
fn headers_alone_leave_any_payload_alone() {
    let outcome = native(json!({"headers": ["secret"]})).send(Input::new("<a/>").header("secret", "x"));
    assert_eq!(outcome.assert_one().header("secret"), None);
    outcome.assert_payload("<a/>");
}

#[test]
fn a_wrong_rule_refuses_the_configuration_with_its_place() {
    let refused = |rule: Value, path: &str| {
        native(json!({"rules": [{"at": "", "drop": true}, rule]})).assert_refused("bad-config", Some(path));
    };
    refused(json!({"at": "/a"}), "/rules/1");
    refused(json!({"at": "/a", "drop": true, "hash": 8}), "/rules/1");
    refused(json!({"at": "/a", "hash": 8}), "/rules/1/hash");
    refused(json!({"at": "/a", "set": "{"}), "/rules/1/set");
    refused(json!({"at": "a", "drop": true}), "/rules/1/at");
    native(json!({"salt": "x", "rules": [{"at": "/a", "hash": 4}]}))
        .assert_refused("bad-config", Some("/rules/0/hash"));
}
