//! Natively, and as a component.

use json_schema::JsonSchema;
use serde_json::{Value, json};
use wharf_plugin::harness::Harness;

fn order() -> Value {
    json!({
        "type": "object",
        "required": ["id", "total"],
        "properties": {
            "id": {"type": "string", "pattern": "^o-[0-9]+$"},
            "total": {"type": "number", "minimum": 0},
            "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
        },
        "$defs": {"line": {
            "type": "object",
            "required": ["sku"],
            "properties": {"sku": {"type": "string"}},
            "unevaluatedProperties": false,
        }},
    })
}

fn with(schema: Value) -> Harness<JsonSchema> {
    Harness::native().config(json!({"schema": schema}))
}

#[test]
fn what_the_schema_describes_is_accepted() {
    Harness::each(|plugin: Harness<JsonSchema>| {
        let plugin = plugin.config(json!({"schema": order()}));

        plugin.send(r#"{"id":"o-1","total":12.5,"lines":[{"sku":"a"}]}"#).assert_passed();
    });
}

#[test]
fn a_mistake_is_named_with_its_place_and_what_was_expected() {
    Harness::each(|plugin: Harness<JsonSchema>| {
        let plugin = plugin.config(json!({"schema": order()}));

        let outcome = plugin.send(r#"{"id":"o-1","total":"12"}"#);
        let problem = outcome.assert_rejected("schema");
        assert_eq!(problem.path.as_deref(), Some("/total"));
        assert_eq!(problem.message, "/total: want number, but got string");
    });
}

#[test]
fn several_mistakes_are_named_together() {
    let outcome = with(order()).send(r#"{"id":"x","lines":[{"sku":"a"},{"sku":1,"more":2}]}"#);

    let message = &outcome.assert_rejected("schema").message;
    for part in
        ["the payload: missing", "total", "/id: ", "/lines/1/sku: want string, but got number", "more"]
    {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn of_alternatives_the_one_that_came_furthest_is_explained() {
    let card = json!({"type": "object", "required": ["card"], "properties": {"card": {"type": "string"}}});
    let plugin = with(json!({"anyOf": [card, {"type": "null"}]}));

    let outcome = plugin.send(r#"{"card": 4}"#);
    assert_eq!(outcome.assert_rejected("schema").message, "/card: want string, but got number");
    let outcome = plugin.send("7");
    assert_eq!(
        outcome.assert_rejected("schema").message,
        "the payload: no alternative matches: want object, but got number, or want null, but got number",
    );
}

#[test]
fn a_payload_that_is_no_json_is_rejected_with_its_place() {
    let outcome = with(json!(true)).send("{\"a\":\n nope}");

    assert_eq!(outcome.assert_rejected("not-json").path.as_deref(), Some("line 2, column 3"));
}

#[test]
fn a_schema_that_refers_outside_is_refused() {
    Harness::each(|plugin: Harness<JsonSchema>| {
        for reference in ["https://example.com/order.json", "other.json", "file:///etc/passwd"] {
            let problem = plugin.refusal_of(&json!({"schema": {"$ref": reference}})).expect("it is refused");
            assert_eq!((problem.code.as_ref(), problem.path.as_deref()), ("schema-outside", Some("/schema")));
            assert!(problem.message.contains(reference), "{problem}");
        }
    });
}

#[test]
fn what_is_no_schema_is_refused_with_its_place() {
    with(json!({"type": "objekt"})).assert_refused("bad-schema", Some("/schema/type"));
    with(json!({"pattern": "("})).assert_refused("bad-schema", Some("/schema/pattern"));
}

#[test]
fn formats_are_checked_where_configured() {
    let with_formats = |formats: bool| {
        let config = json!({"schema": {"format": "date"}, "formats": formats});
        Harness::<JsonSchema>::native().config(config)
    };

    with_formats(false).send(r#""tomorrow""#).assert_passed();
    with_formats(true).send(r#""2026-02-28""#).assert_passed();
    with_formats(true).send(r#""tomorrow""#).assert_rejected("schema");
}

#[test]
fn two_members_of_one_name_are_rejected() {
    // The last one was checked, and another stage may take the first.
    Harness::each(|plugin: Harness<JsonSchema>| {
        let plugin = plugin.config(json!({"schema": {"properties": {"total": {"minimum": 0}}}}));

        let outcome = plugin.send(r#"{"lines":[{"total":-1,"a":"\u00e9","total":1}]}"#);
        let problem = outcome.assert_rejected("not-json");
        assert!(problem.message.contains("an object has two members `total`"), "{problem}");
        plugin
            .send(r#"{"total":1,"lines":[{"total":-1}, null, true, 1.5, "é", 18446744073709551615]}"#)
            .assert_passed();
    });
}
