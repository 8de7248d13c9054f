//! Natively, and as a component; and back through `xml-to-json`.

use json_to_xml::{Config, JsonToXml, convert};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use wharf_plugin::harness::{Harness, Input};

#[test]
fn an_order_becomes_xml() {
    Harness::each(|plugin: Harness<JsonToXml>| {
        let order =
            r##"{"order":{"@id":"7","line":[{"@sku":"A-1","#text":"2"},{"@sku":"B-9"}],"total":19.90}}"##;

        plugin
            .send(Input::new(order))
            .assert_payload(concat!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
                r#"<order id="7"><line sku="A-1">2</line><line sku="B-9"/><total>19.90</total></order>"#,
            ))
            .assert_header("content-type", "application/xml");
    });
}

#[test]
fn numbers_keep_all_their_digits() {
    // They went through doubles: an id of 20 digits came out as another one.
    let plugin = Harness::<JsonToXml>::native().config(json!({"declaration": false}));
    plugin
        .send(r#"{"a":{"@id":12345678901234567890123,"b":[0.10,1E5,-0]}}"#)
        .assert_payload(r#"<a id="12345678901234567890123"><b>0.10</b><b>1E5</b><b>-0</b></a>"#);
    plugin.send(r#"{"a":{"b":1,"b":2}}"#).assert_rejected("duplicate-member");
}

#[test]
fn a_root_can_be_configured() {
    Harness::each(|plugin: Harness<JsonToXml>| {
        let plugin = plugin.config(json!({"root": "order", "declaration": false}));

        plugin
            .send(r#"{"b":1,"a":[true,{}],"none":[]}"#)
            .assert_payload("<order><b>1</b><a>true</a><a/></order>");
        plugin.send("7").assert_payload("<order>7</order>");
    });
}

#[test]
fn what_xml_cannot_say_is_rejected_with_its_place() {
    let cases = [
        (json!([1]), "not-one-root", None),
        (json!({"a": 1, "b": 2}), "not-one-root", None),
        (json!({"a": [1, 2]}), "not-one-root", None),
        (json!({"a": {"b": [1, [2]]}}), "nested-array", Some("/a/b/1")),
        (json!({"a": {"1st": 1}}), "bad-name", Some("/a/1st")),
        (json!({"a": {"b/c": 1}}), "bad-name", Some("/a/b~1c")),
        (json!({"a": {"@": 1}}), "bad-name", Some("/a/@")),
        (json!({"a": {"@b": {}}}), "bad-attribute", Some("/a/@b")),
        (json!({"a": {"#text": [1]}}), "bad-text", Some("/a/#text")),
        (json!({"a": {"b": "\u{1}"}}), "bad-character", Some("/a/b")),
    ];
    let plugin = Harness::<JsonToXml>::native();
    for (json, code, path) in cases {
        let outcome = plugin.send(Input::json(&json));
        assert_eq!(outcome.assert_rejected(code).path.as_deref(), path, "{json}");
    }
}

#[test]
fn a_root_that_is_no_name_refuses_the_configuration() {
    Harness::<JsonToXml>::native().config(json!({"root": "a b"})).assert_refused("bad-config", Some("/root"));
}

/// What `xml-to-json` makes: trimmed text, arrays of two or more, no object without members or with text alone.
fn element() -> impl Strategy<Value = Value> {
    let text = "[a-z<>&\"'\\]é€\t\n ]{0,12}".prop_map(|text| match text.trim() {
        "" => Value::Null,
        text => Value::String(text.to_owned()),
    });
    text.prop_recursive(4, 32, 4, |inner| {
        let children = prop::collection::btree_map("[a-z:_é][a-z0-9.-]{0,4}", member(inner), 0..4);
        let attributes = prop::collection::btree_map("@[a-z_]{1,4}", "[a-z<>&\"'\t\n\r ]{0,8}", 0..3);
        (attributes, children, prop::option::of("[a-z]([a-z<>&\r ]{0,8}[a-z])?")).prop_map(
            |(attributes, children, text)| {
                let mut object = Map::new();
                object.extend(attributes.into_iter().map(|(name, value)| (name, Value::String(value))));
                object.extend(children);
                match (object.is_empty(), text) {
                    (true, Some(text)) => Value::String(text),
                    (true, None) => Value::Null,
                    (false, text) => {
                        object.extend(text.map(|text| ("#text".to_owned(), Value::String(text))));
                        Value::Object(object)
                    }
                }
            },
        )
    })
}

fn member(inner: impl Strategy<Value = Value> + Clone + 'static) -> impl Strategy<Value = Value> {
    prop_oneof![inner.clone(), prop::collection::vec(inner, 2..4).prop_map(Value::Array)]
}

proptest! {
    #[test]
    fn xml_to_json_gives_back_what_went_in(root in "[a-z]{1,6}", value in element()) {
        let json = json!({ root: value });
        let written = json.to_string();
        let value = json_value::read(written.as_bytes()).expect("it is JSON");
        let xml = convert(&value, &Config::default()).expect("XML can say it");
        let back = xml_to_json::convert(&xml, &xml_to_json::Config::default()).expect("it is XML");
        prop_assert_eq!(serde_json::from_slice::<Value>(&back).unwrap(), json, "by way of {}", xml);
    }
}
