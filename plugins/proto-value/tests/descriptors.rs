//! Sets of descriptors, written with the schema of descriptors themselves.

use proto_value::{Reading, Schema, Unknown};
use serde_json::{Value, json};

/// What of `google/protobuf/descriptor.proto` matters here.
const DESCRIPTORS: &str = r#"
    syntax = "proto2";
    message Set { repeated File file = 1; }
    message File {
        optional string name = 1; optional string package = 2; repeated Type message_type = 4;
        repeated EnumType enum_type = 5; optional string syntax = 12;
    }
    message Type {
        optional string name = 1; repeated Field field = 2; repeated Type nested_type = 3;
        repeated EnumType enum_type = 4; optional Options options = 7;
    }
    message Field {
        optional string name = 1; optional int32 number = 3; optional int32 label = 4; optional int32 type = 5;
        optional string type_name = 6; optional Options options = 8; optional int32 oneof_index = 9;
        optional string json_name = 10; optional bool proto3_optional = 17;
    }
    message Options { optional bool packed = 2; optional bool map_entry = 7; }
    message EnumType { optional string name = 1; repeated EnumValue value = 2; }
    message EnumValue { optional string name = 1; optional int32 number = 2; }
"#;

fn set(files: &Value) -> Vec<u8> {
    let schema = Schema::of_text(DESCRIPTORS, Some("Set")).expect("a schema");
    let json = json!({"file": files}).to_string();
    schema.write(&json_value::read(json.as_bytes()).expect("JSON"), Unknown::Reject).expect("a set")
}

fn field(name: &str, number: u32, label: u32, kind: u32) -> Value {
    json!({"name": name, "number": number, "label": label, "type": kind})
}

fn with(mut field: Value, name: &str, value: Value) -> Value {
    field[name] = value;
    field
}

fn shop() -> Value {
    let money = json!({"name": "money.proto", "package": "base", "syntax": "proto3", "message_type": [
        {"name": "Money", "field": [field("cents", 1, 1, 3)]},
    ]});
    let entry = json!({"name": "StockEntry", "options": {"map_entry": true},
        "field": [field("key", 1, 1, 9), with(field("value", 2, 1, 11), "type_name", json!(".base.Money"))]});
    let shop = json!({"name": "shop.proto", "package": "shop", "syntax": "proto3", "message_type": [{
        "name": "Order",
        "field": [
            field("line_count", 1, 1, 13),
            with(field("total", 2, 1, 11), "type_name", json!(".base.Money")),
            with(field("state", 3, 1, 14), "type_name", json!(".shop.Order.State")),
            field("tags", 4, 3, 5),
            with(field("stock", 5, 3, 11), "type_name", json!(".shop.Order.StockEntry")),
            with(with(field("note", 6, 1, 9), "proto3_optional", json!(true)), "oneof_index", json!(0)),
            with(field("raw", 7, 3, 17), "options", json!({"packed": false})),
            with(field("named", 8, 1, 8), "json_name", json!("is_named")),
        ],
        "nested_type": [entry],
        "enum_type": [{"name": "State", "value": [{"name": "NEW", "number": 0}, {"name": "PAID", "number": 1}]}],
    }]});
    json!([money, shop])
}

fn json_of(schema: &Schema, bytes: &[u8]) -> String {
    let read = schema.read(bytes, Reading { unknown: Unknown::Reject, zeros: false });
    String::from_utf8(read.expect("it is of the schema").to_json()).expect("JSON")
}

#[test]
fn a_set_with_imports_maps_enums_and_options_is_a_schema() {
    let schema = Schema::of_descriptors(&set(&shop()), None).expect("a schema");
    let json = r#"{"lineCount":2,"total":{"cents":"250"},"state":"PAID","tags":[1,-1],"stock":{"a":{"cents":"1"}},"note":"","raw":[-1],"is_named":true}"#;
    let bytes =
        schema.write(&json_value::read(json.as_bytes()).expect("JSON"), Unknown::Reject).expect("fits");
    assert_eq!(
        bytes,
        b"\x08\x02\x12\x03\x08\xfa\x01\x18\x01\x22\x0b\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\
          \x2a\x07\x0a\x01a\x12\x02\x08\x01\x32\x00\x38\x01\x40\x01"
    );
    assert_eq!(json_of(&schema, &bytes), json);
}

#[test]
fn a_message_is_found_by_its_name() {
    let set = set(&shop());
    let money = Schema::of_descriptors(&set, Some("base.Money")).expect("a schema");
    assert_eq!(json_of(&money, b"\x08\x01"), r#"{"cents":"1"}"#);
    let problem = Schema::of_descriptors(&set, Some("Bill")).expect_err("there is none");
    assert_eq!(problem.to_string(), "bad-schema: there is no message `Bill`");
}

#[test]
fn what_is_not_read_is_refused() {
    let refused = |files: Value, part: &str| {
        let problem = Schema::of_descriptors(&set(&files), None).expect_err("no schema");
        assert!(problem.message.contains(part), "{problem}");
    };
    let of = |field: Value| json!([{"message_type": [{"name": "M", "field": [field]}]}]);
    refused(json!([]), "no message");
    refused(json!([{"syntax": "editions", "message_type": [{"name": "M"}]}]), "editions");
    refused(of(field("g", 1, 1, 10)), "type 10");
    refused(of(with(field("m", 1, 1, 11), "type_name", json!(".Nothing"))), "--include_imports");
    refused(of(field("m", 0, 1, 5)), "number of a field");
    refused(
        json!([{"message_type": [{"name": "M", "field": [field("a", 1, 1, 5), field("b", 1, 1, 5)]}]}]),
        "number 1",
    );
    refused(json!([{"message_type": [{}]}]), "no name");
    refused(json!([{"message_type": [{"name": "M"}], "enum_type": [{"name": "E"}]}]), "no values");
    let nested = (0..40).fold(json!({"name": "M"}), |inner, _| json!({"name": "M", "nested_type": [inner]}));
    refused(json!([{"message_type": [nested]}]), "too deep");
    assert!(Schema::of_descriptors(b"\xff", None).is_err());
    assert!(Schema::of_descriptors(b"", None).is_err());
}
