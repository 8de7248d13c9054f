//! Natively, and as a component.

use json_to_csv::JsonToCsv;
use serde_json::{Value, json};
use wharf_plugin::harness::Harness;

fn native(config: Value) -> Harness<JsonToCsv> {
    Harness::native().config(config)
}

#[test]
fn the_example_of_the_documentation() {
    Harness::each(|plugin: Harness<JsonToCsv>| {
        let json = r#"[{"sku":"A-1","qty":2,"note":"two \"big\" ones"},{"sku":"B-9","qty":1,"note":null}]"#;
        plugin
            .config(json!({"line-end": "lf"}))
            .send(json)
            .assert_payload("sku,qty,note\nA-1,2,\"two \"\"big\"\" ones\"\nB-9,1,\n")
            .assert_header("content-type", "text/csv; charset=utf-8");
    });
}

#[test]
fn columns_are_chosen_by_name_and_pointer() {
    let config = json!({"columns": ["b", {"name": "id", "at": "/c/id"}], "line-end": "lf", "delimiter": ";"});
    native(config)
        .send(r#"{"a":1,"b":"x;y","c":{"id":12345678901234567890123}}"#)
        .assert_payload("b;id\n\"x;y\";12345678901234567890123\n");
}

#[test]
fn what_is_empty_can_be_told_apart() {
    native(json!({"header": false})).send(r#"[{"a":"","b":null,"c":true}]"#).assert_payload("\"\",,true\r\n");
    native(json!({"header": false})).send(r#"[{"a":null}]"#).assert_payload("\"\"\r\n");
    native(json!({})).send("[]").assert_payload("");
}

#[test]
fn nested_values_are_rejected_or_json() {
    let outcome = native(json!({})).send(r#"[{"a":1},{"a":[1]}]"#);
    assert_eq!(outcome.assert_rejected("nested-value").path.as_deref(), Some("/1"));
    native(json!({"nested": "json", "header": false}))
        .send(r#"{"a":["x"]}"#)
        .assert_payload("\"[\"\"x\"\"]\"\r\n");
}

#[test]
fn a_spreadsheet_runs_nothing_where_formulas_are_guarded() {
    let config = json!({"guard-formulas": true, "header": false});
    native(config).send(r#"{"a":"=1+1","b":-1,"c":"x"}"#).assert_payload("'=1+1,-1,x\r\n");
}

#[test]
fn rows_that_are_none_are_rejected_with_their_place() {
    let path = |json: &str, code: &str| native(json!({})).send(json).assert_rejected(code).path.clone();
    assert_eq!(path("[{},3]", "not-an-object").as_deref(), Some("/1"));
    assert_eq!(path("3", "not-an-object").as_deref(), Some(""));
    assert_eq!(path(r#"[{"a":1},{"b":1}]"#, "unknown-column").as_deref(), Some("/1"));
    assert_eq!(path(r#"[{"a":1,"a":2}]"#, "duplicate-member").as_deref(), Some("line 1, column 9"));
}
