//! Natively, and as a component.

use avro_to_json::AvroToJson;
use serde_json::{Value, json};
use wharf_plugin::harness::Harness;

fn native(schema: Value) -> Harness<AvroToJson> {
    Harness::native().config(json!({"schema": schema.to_string()}))
}

fn payload(schema: Value, avro: &[u8]) -> String {
    native(schema).send(avro.to_vec()).assert_one().text().into_owned()
}

fn order() -> Value {
    json!({"type": "record", "name": "Order", "fields": [
        {"name": "id", "type": "long"},
        {"name": "note", "type": ["null", "string"], "default": null},
    ]})
}

#[test]
fn the_example_of_the_documentation() {
    Harness::each(|plugin: Harness<AvroToJson>| {
        let plugin = plugin.config(json!({"schema": order().to_string()}));
        plugin.send(b"\x0e\x02\x04hi".to_vec()).assert_payload(r#"{"id":7,"note":"hi"}"#);
    });
}

#[test]
fn every_type_is_read() {
    assert_eq!(payload(json!("null"), b""), "null");
    assert_eq!(payload(json!("boolean"), b"\x01"), "true");
    assert_eq!(payload(json!("int"), b"\xff\xff\xff\xff\x0f"), "-2147483648");
    assert_eq!(payload(json!("long"), b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "-9223372036854775808");
    assert_eq!(payload(json!("float"), b"\0\0\xc0\x3f"), "1.5");
    assert_eq!(payload(json!("double"), &0.1_f64.to_le_bytes()), "0.1");
    assert_eq!(payload(json!("bytes"), b"\x04\xfb\xff"), r#""+/8=""#);
    assert_eq!(payload(json!({"type": "fixed", "name": "f", "size": 2}), b"\xfb\xff"), r#""+/8=""#);
    assert_eq!(payload(json!({"type": "enum", "name": "e", "symbols": ["A", "B"]}), b"\x02"), r#""B""#);
    assert_eq!(payload(json!({"type": "array", "items": "int"}), b"\x04\x02\x04\x02\x06\0"), "[1,2,3]");
    assert_eq!(payload(json!({"type": "array", "items": "int"}), b"\x03\x04\x02\x04\0"), "[1,2]");
    assert_eq!(payload(json!({"type": "map", "values": "int"}), b"\x02\x02a\x02\0"), r#"{"a":1}"#);
}

#[test]
fn types_name_one_another() {
    let list = json!({"type": "record", "name": "a.List", "fields": [
        {"name": "head", "type": "int"}, {"name": "tail", "type": ["null", "List"]},
    ]});
    assert_eq!(payload(list, b"\x02\x02\x04\0"), r#"{"head":1,"tail":{"head":2,"tail":null}}"#);
}

#[test]
fn a_frame_of_a_registry_is_checked() {
    let plugin = Harness::<AvroToJson>::native()
        .config(json!({"schema": "\"int\"", "framing": {"registry": {"id": 7}}}));
    plugin.send(b"\0\0\0\0\x07\x02".to_vec()).assert_payload("1");
    plugin.send(b"\0\0\0\0\x08\x02".to_vec()).assert_rejected("other-schema");
    plugin.send(b"\x02".to_vec()).assert_rejected("no-schema-id");
}

#[test]
fn what_is_wrong_is_rejected_with_its_byte() {
    let reject = |schema: Value, avro: &[u8], code: &str| {
        let outcome = native(schema).send(avro.to_vec());
        assert!(outcome.assert_rejected(code).path.as_deref().is_some_and(|path| path.starts_with("byte ")));
    };
    reject(order(), b"\x0e", "truncated");
    reject(order(), b"\x0e\0\0", "trailing-bytes");
    reject(order(), b"\x0e\x06", "not-avro");
    reject(json!("boolean"), b"\x02", "not-avro");
    reject(json!("int"), b"\x80\x80\x80\x80\x10", "not-avro");
    reject(json!("long"), &[0xff; 11], "not-avro");
    reject(json!("string"), b"\x01", "not-avro");
    reject(json!("string"), b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", "truncated");
    reject(json!("string"), b"\x02\xff", "not-utf8");
    reject(json!("double"), &f64::NAN.to_le_bytes(), "not-finite");
    reject(json!({"type": "map", "values": "null"}), b"\x04\x02a\x02a\0", "duplicate-member");
    reject(json!({"type": "array", "items": "null"}), b"\x80\x80\x80\x80\x10\0", "too-many-items");
    reject(json!({"type": "record", "name": "A", "fields": [{"name": "a", "type": "A"}]}), b"", "too-deep");
}

#[test]
fn a_schema_that_is_lent_is_used() {
    Harness::each(|plugin: Harness<AvroToJson>| {
        let plugin = plugin.config(json!({"schema-name": "order"})).schema("order", order().to_string());
        let outcomes = plugin.send_all([b"\x0e\x02\x04hi".to_vec(), b"\x0e\0".to_vec()]);
        outcomes[0].assert_payload(r#"{"id":7,"note":"hi"}"#);
        outcomes[1].assert_payload(r#"{"id":7,"note":null}"#);
        // Another version is seen by the next call.
        let plugin = plugin.schema("order", "\"int\"");
        plugin.send(b"\x0e".to_vec()).assert_payload("7");
    });
}

#[test]
fn a_message_waits_for_a_schema_that_is_missing_or_wrong() {
    Harness::each(|plugin: Harness<AvroToJson>| {
        let plugin = plugin.config(json!({"schema-name": "order"})).schema("order", "{}");
        let problem = plugin.send("x").assert_retried("bad-schema").clone();
        assert_eq!(problem.message, "schema `order` cannot be used: a type has a `type`");
    });
    Harness::each(|plugin: Harness<AvroToJson>| {
        let plugin = plugin.config(json!({"schema-name": "order"})).unavailable("schema:order");
        plugin.send("x").assert_retried("schema-unavailable");
    });
}

#[test]
fn what_is_no_schema_refuses_the_configuration() {
    Harness::each(|plugin: Harness<AvroToJson>| {
        plugin.config(json!({"schema": "{}"})).assert_refused("bad-config", Some("/schema"));
    });
    for schema in [
        json!("nope"),
        json!([]),
        json!([["null"]]),
        json!({"type": "record", "name": "A"}),
        json!({"type": "record", "name": "A", "fields": [{"name": "a", "type": "int"}, {"name": "a", "type": "int"}]}),
        json!({"type": "enum", "name": "E", "symbols": []}),
        json!({"type": "fixed", "name": "F"}),
        json!(7),
    ] {
        native(schema).assert_refused("bad-config", Some("/schema"));
    }
    let refused = |config: Value, path: Option<&str>| {
        Harness::<AvroToJson>::native().config(config).assert_refused("bad-config", path);
    };
    refused(json!({"schema": "{"}), Some("/schema"));
    refused(json!({}), None);
    refused(json!({"schema": "\"int\"", "schema-name": "order"}), Some("/schema-name"));
}
