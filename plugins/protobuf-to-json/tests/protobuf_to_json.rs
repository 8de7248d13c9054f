//! Natively, and as a component. The bytes are those of the encoding's own description.

use protobuf_to_json::ProtobufToJson;
use serde_json::json;
use wharf_plugin::harness::Harness;

const ORDER: &str = r#"
syntax = "proto3";
message Order { int64 id = 1; string note = 2; repeated Line lines = 3; }
message Line { string sku = 1; uint32 qty = 2; }
"#;

fn native(fields: &str) -> Harness<ProtobufToJson> {
    let schema = format!(
        "syntax = \"proto3\"; message M {{ {fields} }} enum E {{ ZERO = 0; ONE = 1; }} message N {{ int32 a = 1; int32 b = 2; }}"
    );
    Harness::native().config(json!({"schema": schema, "unknown": "reject"}))
}

fn payload(fields: &str, bytes: &[u8]) -> String {
    native(fields).send(bytes.to_vec()).assert_one().text().into_owned()
}

#[test]
fn the_example_of_the_documentation() {
    Harness::each(|plugin: Harness<ProtobufToJson>| {
        let plugin = plugin.config(json!({"schema": ORDER, "message": "Order"}));
        plugin
            .send(b"\x08\x07\x12\x02hi\x1a\x05\x0a\x01A\x10\x02".to_vec())
            .assert_payload(r#"{"id":"7","note":"hi","lines":[{"sku":"A","qty":2}]}"#);
    });
}

#[test]
fn every_type_is_read() {
    assert_eq!(payload("int32 a = 1;", b"\x08\x96\x01"), r#"{"a":150}"#);
    assert_eq!(payload("int32 a = 1;", b"\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"), r#"{"a":-2}"#);
    assert_eq!(payload("sint32 a = 1;", b"\x08\x03"), r#"{"a":-2}"#);
    assert_eq!(
        payload("sint64 a = 1;", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        r#"{"a":"-9223372036854775808"}"#
    );
    assert_eq!(
        payload("uint64 a = 1;", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        r#"{"a":"18446744073709551615"}"#
    );
    assert_eq!(payload("fixed32 a = 1;", b"\x0d\x01\0\0\0"), r#"{"a":1}"#);
    assert_eq!(payload("sfixed64 a = 1;", b"\x09\xff\xff\xff\xff\xff\xff\xff\xff"), r#"{"a":"-1"}"#);
    assert_eq!(payload("float a = 1;", b"\x0d\0\0\xc0\x3f"), r#"{"a":1.5}"#);
    assert_eq!(payload("double a = 1;", b"\x09\0\0\0\0\0\0\xf8\x7f"), r#"{"a":"NaN"}"#);
    assert_eq!(
        payload("bool a = 1; bytes b_c = 2;", b"\x08\x01\x12\x02\xfb\xff"),
        r#"{"a":true,"bC":"+/8="}"#
    );
    assert_eq!(payload("E a = 1; E b = 2;", b"\x08\x01\x10\x05"), r#"{"a":"ONE","b":5}"#);
    assert_eq!(payload("repeated int32 a = 1;", b"\x0a\x03\x01\xac\x02\x08\x03"), r#"{"a":[1,300,3]}"#);
    assert_eq!(
        payload("map<string, int32> a = 1;", b"\x0a\x05\x0a\x01x\x10\x01\x0a\x00"),
        r#"{"a":{"":0,"x":1}}"#
    );
    assert_eq!(payload("int32 a = 1 [json_name = \"z\", deprecated = true];", b"\x08\x01"), r#"{"z":1}"#);
    assert_eq!(payload("", b""), "{}");
}

#[test]
fn the_last_of_a_field_and_of_a_oneof_counts_and_messages_merge() {
    assert_eq!(payload("int32 a = 1;", b"\x08\x01\x08\x02"), r#"{"a":2}"#);
    assert_eq!(payload("oneof x { int32 a = 1; int32 b = 2; }", b"\x08\x01\x10\x02"), r#"{"b":2}"#);
    assert_eq!(payload("N a = 1;", b"\x0a\x02\x08\x01\x0a\x02\x10\x02"), r#"{"a":{"a":1,"b":2}}"#);
}

#[test]
fn what_is_wrong_is_rejected() {
    let reject = |fields: &str, bytes: &[u8], code: &str| {
        native(fields).send(bytes.to_vec()).assert_rejected(code);
    };
    reject("int32 a = 1;", b"\x08", "truncated");
    reject("string a = 1;", b"\x0a\x05x", "truncated");
    reject("string a = 1;", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "truncated");
    reject("string a = 1;", b"\x0a\x01\xff", "not-utf8");
    reject("int32 a = 1;", b"\x0d\0\0\0\0", "wrong-wire-type");
    reject("int32 a = 1;", b"\x0b\x0c", "not-protobuf");
    reject("int32 a = 1;", &[0xff; 12], "not-protobuf");
    reject("int32 a = 1;", b"\x10\x01", "unknown-field");
    reject("int32 a = 1;", b"\x00\x01", "not-protobuf");
    let mut deep = Vec::new();
    for _ in 0..200 {
        let mut outer = vec![0x0a];
        let mut length = deep.len();
        while length > 0x7f {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.append(&mut deep);
        deep = outer;
    }
    reject("M a = 1;", &deep, "too-deep");
    let lenient = json!({"schema": "syntax = \"proto3\"; message M {}"});
    Harness::<ProtobufToJson>::native().config(lenient).send(b"\x08\x01".to_vec()).assert_payload("{}");
}

#[test]
fn what_is_no_schema_refuses_the_configuration() {
    for schema in [
        "",
        "message",
        "message M { int32 a = 0; }",
        "message M { int32 a = 1; int32 b = 1; }",
        "message M { X a = 1; }",
        "import \"a.proto\"; message M {}",
        "message M { map<double, int32> a = 1; }",
        "enum E {}",
        "message M { /* }",
        "message M { string a = 1 [json_name = \"x }",
        "message M {} message M {",
    ] {
        let plugin = Harness::<ProtobufToJson>::native().config(json!({"schema": schema}));
        plugin.assert_refused("bad-config", Some("/schema"));
    }
    let nested = "message M {".repeat(1000);
    Harness::<ProtobufToJson>::native()
        .config(json!({"schema": nested}))
        .assert_refused("bad-config", Some("/schema"));
}

#[test]
fn names_are_looked_for_from_the_inside_out() {
    let schema = r#"
        syntax = "proto2"; package a.b;
        option java_package = "x"; // a comment
        message M { message N { optional int32 in = 1; } required N n = 1; optional .a.b.N m = 2; reserved 3 to 5; }
        message N { optional int32 out = 1; }
        service S { rpc Get (M) returns (N) { option (x) = { y: 1 }; } }
    "#;
    let plugin = Harness::<ProtobufToJson>::native().config(json!({"schema": schema, "message": "a.b.M"}));
    plugin
        .send(b"\x0a\x02\x08\x01\x12\x02\x08\x02".to_vec())
        .assert_payload(r#"{"n":{"in":1},"m":{"out":2}}"#);
    plugin.send("").assert_rejected("missing-field");
}

#[test]
fn what_is_wrong_is_told_with_the_path_of_its_field() {
    let at = |fields: &str, bytes: &[u8]| {
        let outcome = native(fields).send(bytes.to_vec());
        let wharf_plugin::harness::Result::Rejected(problem) = &outcome.result else { panic!("{outcome:?}") };
        problem.path.clone()
    };
    assert_eq!(at("repeated string a = 1;", b"\x0a\x01x\x0a\x01\xff").as_deref(), Some("/a/1"));
    assert_eq!(at("map<string, string> a = 1;", b"\x0a\x06\x0a\x01k\x12\x01\xff").as_deref(), Some("/a/k"));
    assert_eq!(at("repeated N a = 1;", b"\x0a\x02\x0d\0").as_deref(), Some("/a/0"));
}

#[test]
fn zeros_can_be_written() {
    let schema = "syntax = \"proto3\"; enum E { ZERO = 0; } message M { int64 a = 1; string b = 2; repeated E c = 3; \
                  map<string, M> d = 4; M e = 5; E f = 6; optional int32 g = 7; oneof x { int32 h = 8; } bytes i = 9; }";
    Harness::<ProtobufToJson>::native()
        .config(json!({"schema": schema, "zeros": true}))
        .send("")
        .assert_payload(r#"{"a":"0","b":"","c":[],"d":{},"f":"ZERO","i":""}"#);
}

#[test]
fn a_schema_that_is_lent_is_used() {
    Harness::each(|plugin: Harness<ProtobufToJson>| {
        let config = json!({"schema-name": "order", "message": "Line"});
        let plugin = plugin.config(config).schema("order", ORDER);
        plugin.send(b"\x0a\x01A".to_vec()).assert_payload(r#"{"sku":"A"}"#);
    });
    Harness::each(|plugin: Harness<ProtobufToJson>| {
        let plugin = plugin.config(json!({"schema-name": "order"})).schema("order", "message {");
        let problem = plugin.send("").assert_retried("bad-schema").clone();
        assert_eq!(
            problem.message,
            "schema `order` cannot be used: a message's name was expected (at line 1)"
        );
    });
}

#[test]
fn one_schema_is_to_be_given() {
    let refused = |config: serde_json::Value, path: Option<&str>| {
        Harness::<ProtobufToJson>::native().config(config).assert_refused("bad-config", path);
    };
    refused(json!({}), None);
    refused(json!({"schema": ORDER, "schema-name": "order"}), None);
    refused(json!({"schema": ORDER, "message": "Nothing"}), Some("/schema"));
    refused(json!({"descriptors": "?"}), Some("/descriptors"));
    refused(json!({"descriptors": "/w=="}), Some("/descriptors"));
}
