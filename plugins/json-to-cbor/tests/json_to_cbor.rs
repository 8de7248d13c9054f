//! Natively, as a component, and there and back.

use json_to_cbor::JsonToCbor;
use serde_json::{Value, json};
use wharf_plugin::harness::Harness;

fn native(config: Value) -> Harness<JsonToCbor> {
    Harness::native().config(config)
}

fn bytes(json: &str) -> Vec<u8> {
    native(json!({})).send(json).assert_one().payload.clone()
}

fn back(cbor: &[u8]) -> String {
    let value = cbor_to_json::read(cbor, cbor_to_json::Config::default()).expect("it is CBOR");
    String::from_utf8(value.to_json()).expect("JSON is UTF-8")
}

#[test]
fn the_example_of_the_documentation() {
    Harness::each(|plugin: Harness<JsonToCbor>| {
        plugin
            .send(r#"{"id":18446744073709551616,"total":1.5}"#)
            .assert_payload(b"\xa2\x62id\xc2\x49\x01\0\0\0\0\0\0\0\0\x65total\xf9\x3e\x00")
            .assert_header("content-type", "application/cbor");
    });
}

#[test]
fn every_integer_comes_back_with_its_digits() {
    for digits in [
        "0",
        "23",
        "24",
        "255",
        "256",
        "65535",
        "65536",
        "4294967295",
        "4294967296",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "340282366920938463463374607431768211456",
        "-1",
        "-24",
        "-25",
        "-256",
        "-257",
        "-9223372036854775808",
        "-9223372036854775809",
        "-18446744073709551616",
        "-18446744073709551617",
        &"9".repeat(308),
    ] {
        assert_eq!(back(&bytes(digits)), digits);
    }
    assert_eq!(bytes("-18446744073709551616"), b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff");
    native(json!({})).send("9".repeat(309).into_bytes()).assert_rejected("number-too-large");
}

#[test]
fn floats_are_as_short_as_they_can_be() {
    for (json, length) in [
        ("0.0", 3),
        ("-0.0", 3),
        ("1.0", 3),
        ("65504.0", 3),
        ("5.960464477539063e-8", 3),
        ("6.103515625e-5", 3),
        ("65505.0", 5),
        ("100000.0", 5),
        ("3.4028234663852886e38", 5),
        ("1.1", 9),
        ("1e300", 9),
        ("5e-324", 9),
    ] {
        assert_eq!(bytes(json).len(), length, "{json}");
        assert_eq!(back(&bytes(json)), json);
    }
    native(json!({})).send("[1e999]").assert_rejected("number-too-large");
}

#[test]
fn every_half_is_written_as_one() {
    for bits in 0..=u16::MAX {
        if bits >> 10 & 31 == 31 {
            continue;
        }
        let cbor = [&[0xf9][..], &bits.to_be_bytes()].concat();
        assert_eq!(bytes(&back(&cbor)), cbor, "{bits:04x}");
    }
}

#[test]
fn deterministic_maps_are_sorted() {
    let plugin = native(json!({"deterministic": true}));
    plugin.send(r#"{"b":1,"aa":2,"a":3}"#).assert_payload(b"\xa3\x61a\x03\x61b\x01\x62aa\x02");
}

#[test]
fn texts_in_base64_become_bytes_where_the_configuration_says() {
    native(json!({"bytes": ["/raw"]})).send(r#"{"raw":"-_8"}"#).assert_payload(b"\xa1\x63raw\x42\xfb\xff");
}
