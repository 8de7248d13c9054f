//! Natively, as a component, and there and back.

use json_to_protobuf::JsonToProtobuf;
use serde_json::json;
use wharf_plugin::harness::Harness;

const ORDER: &str = r#"
syntax = "proto3";
message Order { int64 id = 1; string note = 2; repeated Line lines = 3; }
message Line { string sku = 1; uint32 qty = 2; }
"#;

fn schema(fields: &str) -> String {
    format!(
        "syntax = \"proto3\"; message M {{ {fields} }} enum E {{ ZERO = 0; ONE = 1; }} message N {{ int32 a = 1; }}"
    )
}

fn native(fields: &str) -> Harness<JsonToProtobuf> {
    Harness::native().config(json!({"schema": schema(fields)}))
}

#[test]
fn the_example_of_the_documentation() {
    Harness::each(|plugin: Harness<JsonToProtobuf>| {
        let plugin = plugin.config(json!({"schema": ORDER, "message": "Order"}));
        plugin
            .send(r#"{"id":"7","note":"hi","lines":[{"sku":"A","qty":2}]}"#)
            .assert_payload(b"\x08\x07\x12\x02hi\x1a\x05\x0a\x01A\x10\x02")
            .assert_header("content-type", "application/protobuf");
    });
}

#[test]
fn what_is_written_is_read_back() {
    for (fields, json) in [
        (
            "int32 a = 1; sint32 b = 2; sint64 c = 3;",
            r#"{"a":-2147483648,"b":-2147483648,"c":"-9223372036854775808"}"#,
        ),
        (
            "uint64 a = 1; fixed64 b = 2; sfixed32 c = 3;",
            r#"{"a":"18446744073709551615","b":"18446744073709551615","c":-1}"#,
        ),
        ("double a = 1; float b = 2; double c = 3;", r#"{"a":0.1,"b":1.5,"c":"-Infinity"}"#),
        ("repeated int32 a = 1; repeated string b = 2;", r#"{"a":[1,300,-1],"b":["","x"]}"#),
        ("repeated int32 a = 1 [packed = false];", r#"{"a":[1,2]}"#),
        (
            "map<int32, N> a = 1; map<bool, E> b = 2;",
            r#"{"a":{"-1":{"a":2},"7":{}},"b":{"false":"ZERO","true":"ONE"}}"#,
        ),
        ("optional int32 a = 1; oneof x { string b = 2; }", r#"{"a":0,"b":""}"#),
        ("bytes a = 1; N b = 2;", r#"{"a":"+/8=","b":{}}"#),
    ] {
        let bytes = native(fields).send(json).assert_one().payload.clone();
        let back = proto_value::Schema::of_text(&schema(fields), None).expect("a schema");
        let back = back
            .read(&bytes, proto_value::Reading { unknown: proto_value::Unknown::Reject, zeros: false })
            .expect("it is of it")
            .to_json();
        assert_eq!(String::from_utf8(back).expect("JSON"), json);
    }
}

#[test]
fn zeros_of_proto3_are_not_written() {
    native("int32 a = 1; string b = 2; double c = 3;").send(r#"{"a":0,"b":"","c":0.0}"#).assert_payload("");
    native("int32 unit_price = 1;").send(r#"{"unit_price":"1"}"#).assert_payload(b"\x08\x01");
    native("int32 a = 1;").send(r#"{"a":null}"#).assert_payload("");
}

#[test]
fn a_whole_number_is_an_integer_however_it_is_written() {
    // Refused before; the JSON mapping of proto3 has exponents and fractions of zeros.
    Harness::each(|plugin: Harness<JsonToProtobuf>| {
        let plugin = plugin.config(json!({"schema": schema("int32 a = 1; uint64 b = 2; E c = 3;")}));
        for json in [r#"{"a":7.0}"#, r#"{"a":7e0}"#, r#"{"a":"0.7E+1"}"#, r#"{"a":700e-2}"#] {
            plugin.send(json).assert_payload(b"\x08\x07");
        }
        plugin.send(r#"{"c":1.0}"#).assert_payload(b"\x18\x01");
        // 2^53 + 1: a double has no such number.
        plugin.send(r#"{"b":9007199254740993.0}"#).assert_payload(b"\x10\x81\x80\x80\x80\x80\x80\x80\x10");
        plugin.send(r#"{"b":184467440737095516150e-1}"#).assert_one();
    });
    for (json, code) in [
        (r#"{"a":7.5}"#, "wrong-type"),
        (r#"{"a":7e-1}"#, "wrong-type"),
        (r#"{"a":"7."}"#, "wrong-type"),
        (r#"{"a":"7.0 "}"#, "wrong-type"),
        (r#"{"a":2147483648.0}"#, "number-too-large"),
        (r#"{"a":1e999999999}"#, "number-too-large"),
    ] {
        native("int32 a = 1;").send(json).assert_rejected(code);
    }
    let key = native("map<int32, int32> a = 1;").send(r#"{"a":{"1.0":1}}"#);
    assert_eq!(key.assert_rejected("wrong-type").path.as_deref(), Some("/a/1.0"), "a key has one spelling");
}

#[test]
fn what_does_not_fit_is_rejected_with_its_place() {
    let reject = |fields: &str, json: &str, code: &str, path: &str| {
        let outcome = native(fields).send(json);
        assert_eq!(outcome.assert_rejected(code).path.as_deref(), Some(path), "{json}");
    };
    reject("int32 a = 1;", r#"{"a":2147483648}"#, "number-too-large", "/a");
    reject("uint64 a = 1;", r#"{"a":"18446744073709551616"}"#, "number-too-large", "/a");
    reject("uint32 a = 1;", r#"{"a":-1}"#, "number-too-large", "/a");
    reject("int32 a = 1;", r#"{"a":1.5}"#, "wrong-type", "/a");
    reject("int32 a = 1;", r#"{"a":true}"#, "wrong-type", "/a");
    reject("int32 a = 1;", r#"{"b":1}"#, "unknown-field", "");
    reject("int32 a_b = 1;", r#"{"aB":1,"a_b":2}"#, "wrong-type", "");
    reject("repeated N a = 1;", r#"{"a":[{},{"a":"x"}]}"#, "wrong-type", "/a/1/a");
    reject("map<int32, int32> a = 1;", r#"{"a":{"x":1}}"#, "wrong-type", "/a/x");
    reject("oneof x { int32 a = 1; int32 b = 2; }", r#"{"a":1,"b":2}"#, "two-of-one", "");
    reject("bytes a = 1;", r#"{"a":"?"}"#, "not-base64", "/a");
    reject("E a = 1;", r#"{"a":"TWO"}"#, "wrong-type", "/a");
    reject("float a = 1;", r#"{"a":1e39}"#, "number-too-large", "/a");
    reject("float a = 1;", r#"{"a":16777217}"#, "not-exact", "/a");
    reject("double a = 1;", r#"{"a":"9007199254740993"}"#, "not-exact", "/a");
    reject("double a = 1;", r#"{"a":"x"}"#, "wrong-type", "/a");
    reject("int32 a = 1;", r#"{"a":"+1"}"#, "wrong-type", "/a");
    reject("", "[]", "wrong-type", "");
}

#[test]
fn members_that_are_no_fields_can_be_passed_over() {
    let config = json!({"schema": schema("int32 a = 1;"), "unknown": "ignore"});
    Harness::<JsonToProtobuf>::native().config(config).send(r#"{"b":{},"a":1}"#).assert_payload(b"\x08\x01");
}
