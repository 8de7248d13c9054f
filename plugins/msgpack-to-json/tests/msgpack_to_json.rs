//! Natively, and as a component.

use msgpack_to_json::MsgpackToJson;
use serde_json::{Value, json};
use wharf_plugin::harness::Harness;

fn native(config: Value) -> Harness<MsgpackToJson> {
    Harness::native().config(config)
}

fn payload(bytes: &[u8]) -> String {
    native(json!({})).send(bytes.to_vec()).assert_one().text().into_owned()
}

#[test]
fn the_example_of_the_documentation() {
    Harness::each(|plugin: Harness<MsgpackToJson>| {
        let bytes = b"\x82\xa2id\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xa3raw\xc4\x02\xfb\xff";
        plugin
            .send(bytes.to_vec())
            .assert_payload(r#"{"id":18446744073709551615,"raw":"+/8="}"#)
            .assert_header("content-type", "application/json");
    });
}

#[test]
fn every_form_of_a_value_is_read() {
    assert_eq!(payload(b"\x96\x7f\xe0\xc0\xc2\xc3\xa1x"), r#"[127,-32,null,false,true,"x"]"#);
    assert_eq!(payload(b"\xdc\x00\x02\xcc\xff\xd0\x80"), "[255,-128]");
    assert_eq!(payload(b"\xdd\x00\x00\x00\x02\xcd\xff\xff\xd1\x80\x00"), "[65535,-32768]");
    assert_eq!(payload(b"\x92\xce\xff\xff\xff\xff\xd2\x80\x00\x00\x00"), "[4294967295,-2147483648]");
    assert_eq!(payload(b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00"), "-9223372036854775808");
    assert_eq!(payload(b"\x93\xd9\x01a\xda\x00\x01b\xdb\x00\x00\x00\x01c"), r#"["a","b","c"]"#);
    assert_eq!(payload(b"\x92\xc5\x00\x01\xff\xc6\x00\x00\x00\x01\xff"), r#"["/w==","/w=="]"#);
    assert_eq!(payload(b"\xde\x00\x01\x01\xc0"), r#"{"1":null}"#);
    assert_eq!(payload(b"\xdf\x00\x00\x00\x01\xc3\xc0"), r#"{"true":null}"#);
}

#[test]
fn floats_are_the_number_that_they_were() {
    assert_eq!(payload(b"\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"), "0.1");
    assert_eq!(payload(b"\xca\x3d\xcc\xcc\xcd"), "0.10000000149011612");
    native(json!({})).send(b"\xca\x7f\xc0\0\0".to_vec()).assert_rejected("not-finite");
    native(json!({"not-finite": "null"})).send(b"\xca\x7f\xc0\0\0".to_vec()).assert_payload("null");
}

#[test]
fn timestamps_are_text() {
    assert_eq!(payload(b"\xd6\xff\0\0\0\0"), r#""1970-01-01T00:00:00Z""#);
    assert_eq!(
        payload(b"\xc7\x0c\xff\0\0\0\x01\xff\xff\xff\xff\xff\xff\xff\xff"),
        r#""1969-12-31T23:59:59.000000001Z""#
    );
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
    reject(b"\xa2x", "truncated", 1);
    reject(b"\xdd\xff\xff\xff\xff", "truncated", 5);
    reject(b"\xdf\xff\xff\xff\xff", "truncated", 5);
    reject(b"\xdb\xff\xff\xff\xff", "truncated", 5);
    reject(b"\xc0\xc0", "trailing-bytes", 1);
    reject(b"\xc1", "not-msgpack", 0);
    reject(b"\xa1\xff", "not-utf8", 1);
    reject(b"\x81\xc0\xc0", "bad-key", 1);
    reject(b"\x82\xa1a\xc0\xa1a\xc0", "duplicate-member", 0);
    reject(b"\xd4\x05\x00", "extension", 0);
    reject(&[0x91; 1000], "too-deep", 128);
}

#[test]
fn no_bytes_at_all_break_the_component() {
    let plugin = Harness::<MsgpackToJson>::component();
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
