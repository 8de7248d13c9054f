//! What other schemas wrote, read as the stage's has it.

use avro_to_json::AvroToJson;
use serde_json::{Value, json};
use wharf_plugin::harness::{Harness, Outcome};

/// What `reader` reads of what `writer` wrote.
fn read(writer: Value, reader: Value, avro: &[u8]) -> Outcome {
    let config = json!({
        "schema": reader.to_string(), "framing": {"registry": {"id": 9}}, "writers": {"7": writer.to_string()},
    });
    Harness::<AvroToJson>::native().config(config).send([b"\0\0\0\0\x07", avro].concat())
}

fn text(writer: Value, reader: Value, avro: &[u8]) -> String {
    read(writer, reader, avro).assert_one().text().into_owned()
}

/// Why the two refuse the pipeline.
fn refusal(writer: Value, reader: Value) -> String {
    let config = json!({
        "schema": reader.to_string(), "framing": {"registry": {"id": 9}}, "writers": {"7": writer.to_string()},
    });
    let problem = Harness::<AvroToJson>::native().config(json!({"schema": "\"int\""})).refusal_of(&config);
    let problem = problem.expect("it is refused");
    assert_eq!((problem.code.as_ref(), problem.path.as_deref()), ("bad-config", Some("/writers/7")));
    problem.message.trim_start_matches("`schema` cannot read what this one writes: ").to_owned()
}

fn record(fields: Value) -> Value {
    json!({"type": "record", "name": "Order", "namespace": "shop", "fields": fields})
}

#[test]
fn an_order_of_an_older_version_is_read_as_the_newest() {
    let old = record(json!([
        {"name": "id", "type": "int"},
        {"name": "gone", "type": {"type": "array", "items": "string"}},
        {"name": "customer", "type": "string"},
    ]));
    let new = record(json!([
        {"name": "buyer", "type": ["null", "string"], "aliases": ["customer"]},
        {"name": "id", "type": "long"},
        {"name": "mark", "type": "bytes", "default": "\u{ff}"},
        {"name": "lines", "type": {"type": "array", "items": "Order"}, "default": []},
    ]));
    let order = b"\x0e\x02\x02x\0\x04ab";
    let expected = r#"{"buyer":"ab","id":7,"mark":"/w==","lines":[]}"#;
    Harness::each(|plugin: Harness<AvroToJson>| {
        let config = json!({
            "schema": new.to_string(), "framing": {"registry": {"id": 9}}, "writers": {"7": old.to_string()},
        });
        let plugin = plugin.config(config);
        plugin.send([b"\0\0\0\0\x07", &order[..]].concat()).assert_payload(expected);
        let own = b"\0\0\0\0\x09\x02\x04ab\x0e\x02\xff\0";
        plugin.send(own.to_vec()).assert_payload(expected);
        let problem = plugin.send(b"\0\0\0\0\x08".to_vec());
        problem.assert_rejected("other-schema");
        plugin.send([b"\0\0\0\0\x07", &order[..], b"x"].concat()).assert_rejected("trailing-bytes");
        plugin.send([b"\0\0\0\0\x07", &order[..4]].concat()).assert_rejected("truncated");
    });
}

#[test]
fn numbers_get_wider_and_bytes_are_texts() {
    assert_eq!(text(json!("int"), json!("long"), b"\x0e"), "7");
    assert_eq!(text(json!("int"), json!("float"), b"\x0e"), "7.0");
    assert_eq!(text(json!("long"), json!("float"), b"\x82\x80\x80\x10"), "16777216.0");
    assert_eq!(text(json!("long"), json!("double"), b"\x0e"), "7.0");
    assert_eq!(text(json!("float"), json!("double"), b"\0\0\xc0\x3f"), "1.5");
    assert_eq!(text(json!("bytes"), json!("string"), b"\x04hi"), r#""hi""#);
    assert_eq!(text(json!("string"), json!("bytes"), b"\x04hi"), r#""aGk=""#);
    read(json!("bytes"), json!("string"), b"\x02\xff").assert_rejected("not-utf8");
    assert_eq!(refusal(json!("long"), json!("int")), "a long is written, and an int is read");
    assert_eq!(refusal(json!("double"), json!("float")), "a double is written, and a float is read");
    assert_eq!(refusal(json!("string"), json!("int")), "a string is written, and an int is read");
}

#[test]
fn collections_are_resolved_inside() {
    let array = |items: &str| json!({"type": "array", "items": items});
    let map = |values: &str| json!({"type": "map", "values": values});
    assert_eq!(text(array("int"), array("double"), b"\x04\x02\x04\0"), "[1.0,2.0]");
    assert_eq!(text(map("int"), map("double"), b"\x02\x02a\x02\0"), r#"{"a":1.0}"#);
    read(map("int"), map("long"), b"\x04\x02a\x02\x02a\x02\0").assert_rejected("duplicate-member");
    assert_eq!(refusal(array("string"), array("int")), "a string is written, and an int is read");
}

#[test]
fn an_enum_has_a_default_for_symbols_that_are_not_read() {
    let of = |symbols: Value, default: Value| {
        let mut schema = json!({"type": "enum", "name": "State", "symbols": symbols});
        if !default.is_null() {
            schema["default"] = default;
        }
        schema
    };
    let written = of(json!(["NEW", "LOST", "PAID"]), Value::Null);
    let strict = of(json!(["PAID", "NEW"]), Value::Null);
    assert_eq!(text(written.clone(), strict.clone(), b"\x04"), r#""PAID""#);
    let outcome = read(written.clone(), strict, b"\x02");
    assert!(outcome.assert_rejected("not-in-schema").message.starts_with("`LOST` is none of the symbols"));
    assert_eq!(text(written.clone(), of(json!(["NEW", "OTHER"]), json!("OTHER")), b"\x02"), r#""OTHER""#);
    read(written, of(json!(["NEW", "OTHER"]), json!("OTHER")), b"\x06").assert_rejected("not-avro");
    let wrong = json!({"schema": of(json!(["A"]), json!("B")).to_string()});
    Harness::<AvroToJson>::native().config(wrong).assert_refused("bad-config", Some("/schema"));
}

#[test]
fn unions_are_resolved_by_what_was_written() {
    // Into a union: the branch of the same kind, and else the first that reads it.
    assert_eq!(text(json!("int"), json!(["null", "double", "int"]), b"\x0e"), "7");
    assert_eq!(text(json!("int"), json!(["null", "double"]), b"\x0e"), "7.0");
    // Out of one: what was written decides for each message.
    assert_eq!(text(json!(["null", "int"]), json!("int"), b"\x02\x0e"), "7");
    let outcome = read(json!(["null", "int"]), json!("int"), b"\0");
    assert_eq!(outcome.assert_rejected("not-in-schema").message, "null is written, and an int is read");
    assert_eq!(text(json!(["null", "int"]), json!(["string", "null", "long"]), b"\x02\x0e"), "7");
    read(json!(["null", "int"]), json!(["null", "long"]), b"\x04").assert_rejected("not-avro");
    assert_eq!(refusal(json!(["null", "string"]), json!("int")), "null is written, and an int is read");
    assert_eq!(
        refusal(json!("string"), json!(["null", "int"])),
        "a string is written, and no branch of the union reads it: a string is written, and null is read"
    );
}

#[test]
fn names_and_aliases_decide_what_is_the_same() {
    let fixed = |name: &str, size: u32, aliases: Value| json!({"type": "fixed", "name": name, "size": size, "aliases": aliases});
    assert_eq!(text(fixed("a.Key", 2, json!([])), fixed("b.Key", 2, json!([])), b"hi"), r#""aGk=""#);
    assert_eq!(text(fixed("Old", 2, json!([])), fixed("Key", 2, json!(["a.Old"])), b"hi"), r#""aGk=""#);
    assert_eq!(
        refusal(fixed("Old", 2, json!([])), fixed("Key", 2, json!([]))),
        "`Old` is written, and `Key` is read; `aliases` of `Key` may have `Old`"
    );
    assert_eq!(
        refusal(fixed("Key", 2, json!([])), fixed("Key", 3, json!([]))),
        "a fixed is written, and a fixed is read"
    );
    // A field's own name is before its aliases.
    let written = record(json!([{"name": "a", "type": "int"}, {"name": "b", "type": "int"}]));
    let reader = record(json!([{"name": "b", "type": "int", "aliases": ["a"]}]));
    assert_eq!(text(written, reader, b"\x02\x04"), r#"{"b":2}"#);
}

#[test]
fn a_field_that_nobody_writes_needs_a_default() {
    let empty = record(json!([]));
    let with = |field: Value| record(json!([field]));
    assert_eq!(
        refusal(empty.clone(), with(json!({"name": "a", "type": "int"}))),
        "field `a` is not written, and has no default"
    );
    assert_eq!(
        refusal(empty.clone(), with(json!({"name": "a", "type": "int", "default": "x"}))),
        "the default of field `a`: an int is to be here, and there is a string"
    );
    let inner =
        json!({"type": "record", "name": "Inner", "fields": [{"name": "b", "type": "int", "default": 2}]});
    let nested = with(json!({"name": "a", "type": inner, "default": {}}));
    assert_eq!(text(empty, nested, b""), r#"{"a":{"b":2}}"#);
    let field = |of: &str| record(json!([{"name": "a", "type": of}]));
    assert_eq!(refusal(field("string"), field("int")), "field `a`: a string is written, and an int is read");
}

#[test]
fn types_that_hold_themselves_are_resolved_and_bounded() {
    let list = |value: &str| {
        json!({"type": "record", "name": "List", "fields": [
            {"name": "value", "type": value}, {"name": "next", "type": ["null", "List"]},
        ]})
    };
    let expected = r#"{"value":1.0,"next":{"value":2.0,"next":null}}"#;
    assert_eq!(text(list("int"), list("double"), b"\x02\x02\x04\0"), expected);
    read(list("int"), list("double"), &b"\x02".repeat(1000)).assert_rejected("too-deep");
    assert!(refusal(list("string"), list("int")).contains("a string is written"));
    // Each level has two branches that only fail at the bottom, and each leads to both of the next one.
    let levels = 0..20;
    let written = levels.clone().rev().fold(json!("string"), |inner, level| {
        json!({"type": "record", "name": format!("w{level}"), "fields": [{"name": "f", "type": inner}]})
    });
    let branch = |name: String, level: u32, inner: Value| {
        let alias = format!("w{level}");
        json!({"type": "record", "name": name, "aliases": [alias], "fields": [{"name": "f", "type": inner}]})
    };
    let (read, _) = levels.rev().fold((json!("int"), json!("int")), |(first, again), level| {
        let [a, b] = [format!("a{level}"), format!("b{level}")];
        let names = json!([a, b]);
        (json!([branch(a, level, first), branch(b, level, again)]), names)
    });
    assert!(refusal(written, read).ends_with("more than 100000 pairs of types would have to be compared"));
}

#[test]
fn writers_that_are_lent_may_be_others_tomorrow() {
    Harness::each(|plugin: Harness<AvroToJson>| {
        let config = json!({
            "schema": "\"double\"", "framing": {"registry": {"id": 9}}, "writer-names": {"7": "old"},
        });
        // The first message of a call uses none of them.
        let batch =
            || [[&b"\0\0\0\0\x09"[..], &1.5_f64.to_le_bytes()].concat(), b"\0\0\0\0\x07\x0e".to_vec()];
        let plugin = plugin.config(config).schema("old", "\"int\"");
        plugin.send_all(batch())[1].assert_payload("7.0");
        let plugin = plugin.schema("old", r#"["int", "long"]"#);
        plugin.send_all(batch())[1].assert_rejected("not-avro");
        let plugin = plugin.schema("old", "\"string\"");
        let outcome = &plugin.send_all(batch())[1];
        assert_eq!(
            outcome.assert_rejected("schemas-differ").message,
            "schema 7 cannot be read by this stage's: a string is written, and a double is read"
        );
    });
}

#[test]
fn wrong_writers_refuse_the_configuration() {
    let refused = |config: Value, path: &str| {
        Harness::<AvroToJson>::native().config(config).assert_refused("bad-config", Some(path));
    };
    let registry = json!({"registry": {"id": 9}});
    refused(json!({"schema": "\"int\"", "writers": {"7": "\"int\""}}), "/framing");
    refused(json!({"schema": "\"int\"", "framing": registry, "writers": {"7": "{"}}), "/writers/7");
    refused(
        json!({"schema": "\"int\"", "framing": registry, "writers": {"7": "\"int\""}, "writer-names": {"7": "a"}}),
        "/writer-names/7",
    );
}
