//! Natively, as a component, and there and back.

use json_to_avro::JsonToAvro;
use serde_json::{Value, json};
use wharf_plugin::harness::Harness;

fn native(schema: &Value) -> Harness<JsonToAvro> {
    Harness::native().config(json!({"schema": schema.to_string()}))
}

fn order() -> Value {
    json!({"type": "record", "name": "Order", "fields": [
        {"name": "id", "type": "long"},
        {"name": "note", "type": ["null", "string"], "default": null},
    ]})
}

#[test]
fn the_example_of_the_documentation() {
    Harness::each(|plugin: Harness<JsonToAvro>| {
        let plugin = plugin.config(json!({"schema": order().to_string()}));
        plugin
            .send(r#"{"id":7,"note":"hi"}"#)
            .assert_payload(b"\x0e\x02\x04hi")
            .assert_header("content-type", "application/avro");
    });
}

#[test]
fn what_is_written_is_read_back() {
    for (schema, json) in [
        (order(), r#"{"id":-9223372036854775808,"note":null}"#),
        (json!(["null", "int", "long", "string"]), "4294967296"),
        (
            json!({"type": "map", "values": {"type": "array", "items": ["null", "boolean"]}}),
            r#"{"a":[true,null],"b":[]}"#,
        ),
        (json!({"type": "enum", "name": "E", "symbols": ["A", "B"]}), r#""B""#),
        (json!({"type": "fixed", "name": "F", "size": 2}), r#""+/8=""#),
        (json!("double"), "9007199254740992.0"),
        (json!("bytes"), r#""""#),
    ] {
        let avro = native(&schema).send(json).assert_one().payload.clone();
        let back = avro_value::Schema::parse(schema.to_string().as_bytes()).expect("a schema");
        let back = back.read(&avro).expect("it is Avro of it").to_json();
        assert_eq!(String::from_utf8(back).expect("JSON"), json);
    }
}

#[test]
fn a_missing_field_has_its_default() {
    native(&order()).send(r#"{"id":1}"#).assert_payload(b"\x02\0");
    let bytes = json!({"type": "record", "name": "B", "fields": [
        {"name": "a", "type": {"type": "record", "name": "I", "fields": [{"name": "raw", "type": "bytes"}]},
         "default": {"raw": "\u{ff}a"}},
        {"name": "b", "type": "bytes", "default": ""},
    ]});
    native(&bytes).send("{}").assert_payload(b"\x04\xffa\0");
    native(&bytes).send(r#"{"b":"/2E="}"#).assert_payload(b"\x04\xffa\x04\xffa");
}

#[test]
fn a_whole_number_is_an_integer_however_it_is_written_unless_a_float_is_nearer() {
    Harness::each(|plugin: Harness<JsonToAvro>| {
        let plugin = plugin.config(json!({"schema": json!("long").to_string()}));
        for number in ["7", "7.0", "7e0", "0.7E+1", "700e-2"] {
            plugin.send(number).assert_payload(b"\x0e");
        }
        // 2^53 + 1: a double has no such number.
        plugin.send("9007199254740993.0").assert_payload(b"\x82\x80\x80\x80\x80\x80\x80\x20");
        plugin.send("7.5").assert_rejected("wrong-type");
        plugin.send("1e99").assert_rejected("number-too-large");
    });
    let (seven_long, seven_double) = (b"\x00\x0e".as_slice(), b"\x02\0\0\0\0\0\0\x1c\x40".as_slice());
    native(&json!(["long", "double"])).send("7").assert_payload(seven_long);
    native(&json!(["long", "double"])).send("7.0").assert_payload(seven_double);
    native(&json!(["long", "null"])).send("7.0").assert_payload(seven_long);
}

#[test]
fn what_does_not_fit_is_rejected_with_its_place() {
    let reject = |schema: Value, json: &str, code: &str, path: &str| {
        let outcome = native(&schema).send(json);
        assert_eq!(outcome.assert_rejected(code).path.as_deref(), Some(path), "{json}");
    };
    reject(order(), r#"{"note":"x"}"#, "missing-field", "");
    reject(order(), r#"{"id":1,"x":2}"#, "unknown-field", "");
    reject(order(), r#"{"id":"1"}"#, "wrong-type", "/id");
    reject(order(), r#"{"id":1.5}"#, "wrong-type", "/id");
    reject(order(), r#"{"id":9223372036854775808}"#, "number-too-large", "/id");
    reject(order(), r#"{"id":1,"note":7}"#, "wrong-type", "/note");
    reject(json!("int"), "2147483648", "number-too-large", "");
    reject(json!("double"), "9007199254740993", "not-exact", "");
    reject(json!("float"), "16777217", "not-exact", "");
    reject(json!("float"), "1e39", "number-too-large", "");
    reject(json!("double"), "1e400", "number-too-large", "");
    reject(json!({"type": "fixed", "name": "F", "size": 2}), r#""+w==""#, "wrong-type", "");
    reject(json!("bytes"), r#""?""#, "not-base64", "");
    reject(
        json!({"type": "enum", "name": "E", "symbols": ["A"], "default": "A"}),
        r#""B""#,
        "wrong-type",
        "",
    );
    reject(
        json!({"type": "array", "items": ["null", {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}]}),
        r#"[{"a":"x"}]"#,
        "wrong-type",
        "/0/a",
    );
}

#[test]
fn unions_that_could_be_tried_without_an_end_are_given_up() {
    let schema = json!({"type": "record", "name": "A", "fields": [{"name": "a", "type": [
        "A", {"type": "record", "name": "B", "fields": [{"name": "a", "type": ["A", "B", "int"]}]}, "int",
    ]}]});
    let json = "{\"a\":".repeat(60) + "\"x\"" + &"}".repeat(60);
    native(&schema).send(&*json).assert_rejected("too-complex");
}
