//! Natively, and as a component.

use enrich::Enrich;
use serde_json::{Value, json};
use wharf_plugin::harness::{Harness, Input};

fn customers(missing: Value) -> Value {
    let gold = json!({"members": {"tier": "gold", "country": "NL"}, "headers": {"tier": "gold"}});
    json!({
        "key": {"json": "/customer/id"},
        "into": "/customer",
        "missing": missing,
        "table": {"c-17": gold, "18": {"headers": {"tier": "none"}}},
    })
}

#[test]
fn members_and_headers_are_added() {
    Harness::each(|plugin: Harness<Enrich>| {
        let outcome = plugin
            .config(customers(json!("reject")))
            .send(Input::new(r#"{"customer":{"id":"c-17","tier":"?"},"total":12}"#).header("tier", "?"));

        outcome
            .assert_json(json!({"customer": {"id": "c-17", "tier": "gold", "country": "NL"}, "total": 12}))
            .assert_header("tier", "gold");
    });
}

#[test]
fn an_entry_of_headers_leaves_the_payload_as_it_came() {
    Harness::each(|plugin: Harness<Enrich>| {
        let outcome = plugin.config(customers(json!("reject"))).send(r#"{ "customer": {"id": 18} }"#);

        outcome.assert_payload(r#"{ "customer": {"id": 18} }"#).assert_header("tier", "none");
    });
}

#[test]
fn a_key_that_is_not_in_the_table_is_skipped_rejected_or_given_a_default() {
    let send =
        |missing| Harness::<Enrich>::native().config(customers(missing)).send(r#"{"customer":{"id":"x"}}"#);

    send(json!("skip")).assert_payload(r#"{"customer":{"id":"x"}}"#);
    let outcome = send(json!("reject"));
    let problem = outcome.assert_rejected("unknown-key");
    assert_eq!(
        problem.to_string(),
        "unknown-key: `x`, from the payload, is not in the table (at /customer/id)"
    );
    send(json!({"default": {"members": {"tier": "none"}}}))
        .assert_json(json!({"customer": {"id": "x", "tier": "none"}}));
}

#[test]
fn a_key_can_be_a_header_of_a_payload_that_is_no_json() {
    Harness::each(|plugin: Harness<Enrich>| {
        let config = json!({
            "key": {"header": "customer"}, "missing": "reject", "table": {"c-17": {"headers": {"tier": "gold"}}},
        });
        let plugin = plugin.config(config);

        plugin
            .send(Input::new("<xml/>").header("customer", "c-17"))
            .assert_payload("<xml/>")
            .assert_header("tier", "gold");
        plugin.send("<xml/>").assert_rejected("no-key");
    });
}

#[test]
fn a_payload_without_the_object_is_rejected_with_its_place() {
    let config = json!({"key": {"header": "k"}, "into": "/a", "table": {"1": {"members": {"b": 2}}}});
    let outcome = Harness::<Enrich>::native().config(config).send(Input::new("[]").header("k", "1"));

    assert_eq!(outcome.assert_rejected("no-object").path.as_deref(), Some("/a"));
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place() {
    Harness::each(|plugin: Harness<Enrich>| {
        let plugin = plugin.config(json!({"key": {"header": "k"}, "table": {"a": {"memebrs": {}}}}));
        plugin.assert_refused("bad-config", Some("/table/a/memebrs"));
        let refused = |config| plugin.refusal_of(&config).expect("it is refused").path;
        assert_eq!(refused(json!({"key": {"json": "id"}, "table": {}})).as_deref(), Some("/key/json"));
        assert_eq!(refused(json!({"key": {"json": ""}, "into": "a", "table": {}})).as_deref(), Some("/into"));
    });
}

#[test]
fn a_reference_table_says_what_is_added() {
    Harness::each(|plugin: Harness<Enrich>| {
        let config = json!({"key": {"json": "/id"}, "lookup": "customers", "missing": "reject"});
        let plugin =
            plugin.config(config).table("customers", [("c-17", r#"{"tier":"gold"}"#), ("bad", "gold")]);

        plugin.send(r#"{"id":"c-17"}"#).assert_payload(r#"{"id":"c-17","tier":"gold"}"#);
        plugin.send(r#"{"id":"x"}"#).assert_rejected("unknown-key");
        plugin.send(r#"{"id":"bad"}"#).assert_rejected("lookup-not-json");
    });
    Harness::each(|plugin: Harness<Enrich>| {
        let config = json!({"key": {"header": "id"}, "lookup": "customers"});
        let plugin = plugin.config(config).unavailable("lookup:customers");
        plugin.send(Input::new("{}").header("id", "1")).assert_retried("table-unavailable");
    });
}

#[test]
fn the_values_of_a_reference_table_have_a_form() {
    let with = |value: Value, entry: &'static str| {
        let config = json!({"key": {"header": "id"}, "lookup": "t", "value": value});
        let plugin = Harness::<Enrich>::native().config(config).table("t", [("1", entry)]);
        plugin.send(Input::new("{}").header("id", "1"))
    };
    with(json!({"member": "tier"}), "gold").assert_payload(r#"{"tier":"gold"}"#);
    with(json!({"header": "tier"}), "gold").assert_payload("{}").assert_header("tier", "gold");
    with(json!("entry"), r#"{"members":{"a":1},"headers":{"b":"c"}}"#)
        .assert_payload(r#"{"a":1}"#)
        .assert_header("b", "c");
    for wrong in
        ["[]", r#"{"memebrs":{}}"#, r#"{"members":1}"#, r#"{"headers":{"a":1}}"#, r#"{"headers":[]}"#]
    {
        with(json!("entry"), wrong).assert_rejected("lookup-not-json");
    }
    with(json!("members"), "7").assert_rejected("lookup-not-json");
}

#[test]
fn one_table_is_to_be_given() {
    let refused = |config: Value| {
        Harness::<Enrich>::native().config(config).assert_refused("bad-config", None);
    };
    refused(json!({"key": {"header": "id"}}));
    refused(json!({"key": {"header": "id"}, "table": {}, "lookup": "t"}));
}

#[test]
fn what_is_not_added_stays_as_it_was_written() {
    // The payload went through numbers of 64 bits: an id of 20 digits came out rounded, and prices lost their zeros.
    Harness::each(|plugin: Harness<Enrich>| {
        let config = json!({"key": {"json": "/id"}, "lookup": "t", "missing": "reject"});
        let plugin = plugin.config(config).table("t", [("12345678901234567890", r#"{"limit":1.10,"a":2}"#)]);

        plugin
            .send(r#"{"z":1e400,"id":12345678901234567890,"price":19.90}"#)
            .assert_payload(r#"{"z":1e400,"id":12345678901234567890,"price":19.90,"limit":1.10,"a":2}"#);
        plugin.send(r#"{"id":1,"id":2}"#).assert_rejected("duplicate-member");
    });
}

#[test]
fn configured_members_keep_their_order() {
    let config = json!({"key": {"header": "k"}, "table": {"1": {"members": {"b": {"d": 1, "c": 2.5}}}}});
    let outcome = Harness::<Enrich>::native().config(config).send(Input::new("{}").header("k", "1"));

    outcome.assert_payload(r#"{"b":{"d":1,"c":2.5}}"#);
}
