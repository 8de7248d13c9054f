//! Natively, and as a component.

use protobuf_check::ProtobufCheck;
use serde_json::json;
use wharf_plugin::harness::Harness;

const ORDER: &str = r#"
syntax = "proto3";
message Order { int64 id = 1; string note = 2; repeated Line lines = 3; }
message Line { string sku = 1; uint32 qty = 2; }
"#;

#[test]
fn the_example_of_the_documentation() {
    Harness::each(|plugin: Harness<ProtobufCheck>| {
        let plugin = plugin.config(json!({"schema": ORDER, "unknown": "reject"}));
        plugin.send(b"\x08\x07\x1a\x03\x0a\x01A".to_vec()).assert_passed();
        let outcome = plugin.send(b"\x08\x07\x1a\x03\x0a\x01\xff".to_vec());
        assert_eq!(outcome.assert_rejected("not-utf8").path.as_deref(), Some("/lines/0/sku"));
        plugin.send(b"\x20\x01".to_vec()).assert_rejected("unknown-field");
    });
}
