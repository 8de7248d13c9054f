//! Natively, and as a component.

use avro_check::AvroCheck;
use serde_json::json;
use wharf_plugin::harness::Harness;

#[test]
fn the_example_of_the_documentation() {
    Harness::each(|plugin: Harness<AvroCheck>| {
        let schema = json!({"type": "record", "name": "Order", "fields": [
            {"name": "id", "type": "long"}, {"name": "note", "type": ["null", "string"], "default": null},
        ]});
        let plugin = plugin.config(json!({"schema": schema.to_string()}));
        plugin.send(b"\x0e\x02\x04hi".to_vec()).assert_passed();
        let outcome = plugin.send(b"\x0e\x06\x04hi".to_vec());
        let problem = outcome.assert_rejected("not-avro");
        assert_eq!(
            (problem.message.as_str(), problem.path.as_deref()),
            ("there is no branch 3: the schema has 2, counted from 0", Some("byte 2"))
        );
    });
}
