//! Natively, and as a component.

use csv_to_json::CsvToJson;
use serde_json::{Value, json};
use wharf_plugin::harness::Harness;

fn native(config: Value) -> Harness<CsvToJson> {
    Harness::native().config(config)
}

#[test]
fn the_example_of_the_documentation() {
    Harness::each(|plugin: Harness<CsvToJson>| {
        let outcome = plugin
            .config(json!({"types": {"qty": "number"}}))
            .send("sku,qty,note\nA-1,2,\"two \"\"big\"\" ones\"\nB-9,1,\n");

        outcome
            .assert_payload(
                r#"[{"sku":"A-1","qty":2,"note":"two \"big\" ones"},{"sku":"B-9","qty":1,"note":null}]"#,
            )
            .assert_header("content-type", "application/json");
    });
}

#[test]
fn rows_become_messages() {
    Harness::each(|plugin: Harness<CsvToJson>| {
        let outcome = plugin.config(json!({"into": "messages", "columns": ["a"]})).send("1\r\n2\r\n");
        let payloads: Vec<_> = outcome.assert_passed().iter().map(|one| one.text().into_owned()).collect();
        assert_eq!(payloads, [r#"{"a":"1"}"#, r#"{"a":"2"}"#]);
    });
}

#[test]
fn lines_delimiters_and_marks_are_as_people_write_them() {
    native(json!({"delimiter": ";"}))
        .send("\u{feff}a;b\r\n\"x\r\ny\";1,5")
        .assert_payload(r#"[{"a":"x\r\ny","b":"1,5"}]"#);
    native(json!({"delimiter": "\t"})).send("a\tb\n\t\n").assert_payload(r#"[{"a":null,"b":null}]"#);
    native(json!({})).send("a\n").assert_payload("[]");
    native(json!({})).send("a,b\n\"\",\"\"\"\"").assert_payload(r#"[{"a":"","b":"\""}]"#);
}

#[test]
fn empty_cells_are_null_text_or_left_out() {
    native(json!({"empty": "text"})).send("a,b\n,1").assert_payload(r#"[{"a":"","b":"1"}]"#);
    native(json!({"empty": "omit"})).send("a,b\n,1").assert_payload(r#"[{"b":"1"}]"#);
}

#[test]
fn typed_cells_keep_every_digit() {
    let types = json!({"types": {"n": "number", "b": "boolean", "j": "json"}});
    native(types)
        .send("n,b,j\n12345678901234567890.10,true,\"{\"\"a\"\":[1]}\"\n")
        .assert_payload(r#"[{"n":12345678901234567890.10,"b":true,"j":{"a":[1]}}]"#);
}

#[test]
fn a_column_that_the_header_lacks_is_named_with_those_that_are_there() {
    // A misspelt name in `types` made texts of the numbers, and nobody was told.
    Harness::each(|plugin: Harness<CsvToJson>| {
        let plugin = plugin.config(json!({"types": {"qyt": "number"}}));
        let outcome = plugin.send("sku,qty\nA-1,2\n");
        let problem = outcome.assert_rejected("missing-column");
        assert_eq!(problem.message, "the header has no column `qyt`: its columns are `sku`, `qty`");
        assert_eq!(problem.path.as_deref(), Some("line 1"));
    });
    native(json!({"types": {"qyt": "number"}, "missing": "omit"}))
        .send("sku,qty\nA-1,2\n")
        .assert_payload(r#"[{"sku":"A-1","qty":"2"}]"#);
    native(json!({"columns": ["sku", "qty"], "types": {"a/b": "number"}}))
        .assert_refused("bad-config", Some("/types/a~1b"));
    let wide = (0..1000).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let outcome = native(json!({"types": {"qyt": "number"}})).send(wide.into_bytes());
    let problem = outcome.assert_rejected("missing-column");
    assert!(problem.message.ends_with("`15` and 984 more"), "{problem}");
}

#[test]
fn what_is_wrong_is_rejected_with_its_line() {
    let reject = |config: Value, csv: &str, code: &str, line: &str| {
        let outcome = native(config).send(csv);
        assert_eq!(outcome.assert_rejected(code).path.as_deref(), Some(line), "{csv}");
    };
    reject(json!({}), "a,b\n1\n", "ragged-row", "line 2");
    reject(json!({}), "a\n\"x\n\ny\"\n1,2", "ragged-row", "line 5");
    reject(json!({}), "a\n1\"2\n", "not-csv", "line 2");
    // Lines that end as those of old Macs were one header, and no row.
    reject(json!({}), "a\r1\r2\r", "not-csv", "line 1");
    reject(json!({}), "a\n1\r2\n", "not-csv", "line 2");
    reject(json!({}), "a\n\"1\n", "not-csv", "line 2");
    reject(json!({}), "a\n\"1\"2\n", "not-csv", "line 2");
    reject(json!({}), "a,a\n", "duplicate-column", "line 1");
    reject(json!({"types": {"a": "number"}}), "a\n01\n", "bad-cell", "line 2");
    reject(json!({"types": {"a": "boolean"}}), "a\nyes\n", "bad-cell", "line 2");
    reject(json!({}), &"a,".repeat(2000), "too-many-columns", "line 1");
    native(json!({})).send("").assert_rejected("no-header");
    native(json!({})).send(b"a\n\xff".to_vec()).assert_rejected("not-utf8");
}

#[test]
fn a_wrong_delimiter_refuses_the_configuration() {
    Harness::each(|plugin: Harness<CsvToJson>| {
        plugin.config(json!({"delimiter": "::"})).assert_refused("bad-config", Some("/delimiter"));
    });
}
