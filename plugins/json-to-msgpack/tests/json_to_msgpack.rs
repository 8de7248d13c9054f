//! Natively, as a component, and there and back.

use json_to_msgpack::JsonToMsgpack;
use serde_json::{Value, json};
use wharf_plugin::harness::Harness;

fn native(config: Value) -> Harness<JsonToMsgpack> {
    Harness::native().config(config)
}

fn bytes(json: &str) -> Vec<u8> {
    native(json!({})).send(json).assert_one().payload.clone()
}

#[test]
fn the_example_of_the_documentation() {
    Harness::each(|plugin: Harness<JsonToMsgpack>| {
        plugin
            .send(r#"{"id":18446744073709551615,"total":19.9}"#)
            .assert_payload(b"\x82\xa2id\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xa5total\xcb\x40\x33\xe6\x66\x66\x66\x66\x66")
            .assert_header("content-type", "application/msgpack");
    });
}

#[test]
fn integers_take_the_shortest_form() {
    assert_eq!(bytes("[0,127,128,255,256]"), b"\x95\x00\x7f\xcc\x80\xcc\xff\xcd\x01\x00");
    assert_eq!(bytes("[-1,-32,-33,-128,-129]"), b"\x95\xff\xe0\xd0\xdf\xd0\x80\xd1\xff\x7f");
    assert_eq!(bytes("[-32769,65536]"), b"\x92\xd2\xff\xff\x7f\xff\xce\x00\x01\x00\x00");
    assert_eq!(bytes("-2147483649"), b"\xd3\xff\xff\xff\xff\x7f\xff\xff\xff");
    assert_eq!(bytes("4294967296"), b"\xcf\0\0\0\x01\0\0\0\0");
}

#[test]
fn what_has_a_fraction_or_a_signed_zero_is_a_double() {
    assert_eq!(bytes("1.0"), b"\xcb\x3f\xf0\0\0\0\0\0\0");
    assert_eq!(bytes("-0"), b"\xcb\x80\0\0\0\0\0\0\0");
}

#[test]
fn integers_of_more_than_64_bits_are_never_rounded_unasked() {
    let large = "[1,18446744073709551616]";
    let outcome = native(json!({})).send(large);
    assert_eq!(outcome.assert_rejected("number-too-large").path.as_deref(), Some("/1"));
    native(json!({"large-integers": "text"})).send(large).assert_payload(b"\x92\x01\xb418446744073709551616");
    native(json!({"large-integers": "float"}))
        .send(large)
        .assert_payload(b"\x92\x01\xcb\x43\xf0\0\0\0\0\0\0");
    native(json!({})).send("1e999").assert_rejected("number-too-large");
}

#[test]
fn texts_in_base64_become_bytes_where_the_configuration_says() {
    let plugin = native(json!({"bytes": ["/*/raw"]}));
    plugin.send(r#"[{"raw":"+/8="}]"#).assert_payload(b"\x91\x81\xa3raw\xc4\x02\xfb\xff");
    plugin.send(r#"[{"raw":"?"}]"#).assert_rejected("not-base64");
}

#[test]
fn lengths_past_each_form_are_read_back() {
    for length in [0, 15, 16, 31, 32, 255, 256, 65_535, 65_536] {
        let json = json!([
            vec![0; length],
            "x".repeat(length),
            (0..length.min(300)).map(|n| (n.to_string(), n)).collect::<std::collections::BTreeMap<_, _>>()
        ]);
        let msgpack = bytes(&json.to_string());
        let back =
            msgpack_to_json::read(&msgpack, msgpack_to_json::Config::default()).expect("it is MessagePack");
        assert_eq!(serde_json::from_slice::<Value>(&back.to_json()).expect("JSON"), json);
    }
}
