//! Natively, and as a component. Many of the cases are of RFC 8949, appendix A.

use cbor_to_json::CborToJson;
use serde_json::{Value, json};
use wharf_plugin::harness::Harness;

fn native(config: Value) -> Harness<CborToJson> {
    Harness::native().config(config)
}

fn payload(bytes: &[u8]) -> String {
    native(json!({})).send(bytes.to_vec()).assert_one().text().into_owned()
}

#[test]
fn the_example_of_the_documentation() {
    Harness::each(|plugin: Harness<CborToJson>| {
        plugin
            .send(b"\xa2\x62id\xc2\x49\x01\0\0\0\0\0\0\0\0\x63raw\x42\xfb\xff".to_vec())
            .assert_payload(r#"{"id":18446744073709551616,"raw":"-_8"}"#)
            .assert_header("content-type", "application/json");
    });
}

#[test]
fn integers_keep_their_digits() {
    assert_eq!(payload(b"\x84\x17\x18\x64\x19\x03\xe8\x1a\x00\x0f\x42\x40"), "[23,100,1000,1000000]");
    assert_eq!(payload(b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff"), "18446744073709551615");
    assert_eq!(payload(b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff"), "-18446744073709551616");
    assert_eq!(payload(b"\xc3\x49\x01\0\0\0\0\0\0\0\0"), "-18446744073709551617");
    assert_eq!(payload(b"\xc2\x40"), "0");
}

#[test]
fn floats_are_the_number_that_they_were() {
    assert_eq!(
        payload(b"\x84\xf9\x3c\x00\xf9\x7b\xff\xf9\x00\x01\xf9\xc4\x00"),
        "[1.0,65504.0,5.960464477539063e-8,-4.0]"
    );
    assert_eq!(payload(b"\x82\xfa\x47\xc3\x50\x00\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a"), "[100000.0,1.1]");
    native(json!({})).send(b"\xf9\x7c\x00".to_vec()).assert_rejected("not-finite");
    native(json!({"not-finite": "null"})).send(b"\xf9\x7e\x00".to_vec()).assert_payload("null");
}

#[test]
fn indefinite_lengths_end_with_a_break() {
    assert_eq!(payload(b"\x7f\x65strea\x64ming\xff"), r#""streaming""#);
    assert_eq!(payload(b"\x5f\x42\x01\x02\x41\x03\xff"), r#""AQID""#);
    assert_eq!(payload(b"\x9f\x01\x82\x02\x03\x9f\xff\xff"), "[1,[2,3],[]]");
    assert_eq!(payload(b"\xbf\x61a\x01\x01\xf7\xff"), r#"{"a":1,"1":null}"#);
}

#[test]
fn tags_say_how_bytes_are_written() {
    assert_eq!(payload(b"\x83\xd5\x42\xfb\xff\xd6\x42\xfb\xff\xd7\x42\xfb\xff"), r#"["-_8","+/8=","fbff"]"#);
    assert_eq!(payload(b"\xd9\xd9\xf7\xc1\x1a\x51\x4b\x67\xb0"), "1363896240");
}

#[test]
fn what_is_wrong_is_rejected_with_its_byte() {
    let reject = |bytes: &[u8], code: &str, byte: usize| {
        let outcome = native(json!({})).send(bytes.to_vec());
        assert_eq!(
            outcome.assert_rejected(code).path.as_deref(),
            Some(&*format!("byte {byte}")),
            "{bytes:x?}"
        );
    };
    reject(b"", "truncated", 0);
    reject(b"\x62x", "truncated", 1);
    reject(b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "truncated", 9);
    reject(b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff", "truncated", 9);
    reject(b"\x9f", "truncated", 1);
    reject(b"\xf6\xf6", "trailing-bytes", 1);
    reject(b"\xff", "not-cbor", 0);
    reject(b"\x1c", "not-cbor", 0);
    reject(b"\x1f", "not-cbor", 0);
    reject(b"\x5f\x61a\xff", "not-cbor", 1);
    reject(b"\xc2\x01", "not-cbor", 0);
    reject(b"\x61\xff", "not-utf8", 1);
    reject(b"\x7f\x61\xc3\x61\xa9\xff", "not-utf8", 1);
    reject(b"\xa1\xf6\xf6", "bad-key", 1);
    reject(b"\xa2\x61a\xf6\x61a\xf6", "duplicate-member", 0);
    reject(b"\xf0", "simple-value", 0);
    reject(&[0x81; 1000], "too-deep", 129);
    reject(&[0xc6; 1000], "too-deep", 129);
    let mut large = vec![0xc2, 0x59, 0x01, 0x00];
    large.resize(260, 0xff);
    reject(&large, "number-too-large", 0);
}

#[test]
fn no_bytes_at_all_break_the_component() {
    let plugin = Harness::<CborToJson>::component();
    let mut seed = 7_u32;
    let inputs = (0..512).map(|_| {
        let mut byte = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        (0..24).map(|_| byte()).collect::<Vec<u8>>()
    });
    for outcome in plugin.send_all(inputs.collect::<Vec<_>>()) {
        assert!(!matches!(outcome.result, wharf_plugin::harness::Result::Fault(_)), "{:?}", outcome.result);
    }
}
