//! Natively, and as a component.

use cloudevents::CloudEvents;
use serde_json::{Value, json};
use wharf_plugin::harness::{Harness, Input};

const EVENT: &str = "application/cloudevents+json";

fn native(config: Value) -> Harness<CloudEvents> {
    Harness::native().config(config)
}

fn event(json: &str) -> Input {
    Input::new(json).header("content-type", EVENT)
}

#[test]
fn a_message_becomes_an_event_in_structured_mode() {
    Harness::each(|plugin: Harness<CloudEvents>| {
        let config =
            json!({"action": "wrap", "source": "/shop", "subject": "/id", "extensions": {"tenant": "eu"}});
        let input = Input::new(r#"{"id":7,"total":1.10}"#).topic("orders.created").message_id("m-7");
        let outcome = plugin.config(config).send(input);

        let one = outcome.assert_one();
        assert_eq!(one.header("content-type"), Some(EVENT.as_bytes()));
        let mut event: Value = serde_json::from_slice(&one.payload).expect("JSON");
        let time = event.as_object_mut().expect("an object").remove("time").expect("a time");
        assert!(time.as_str().expect("a text").ends_with('Z'), "{time}");
        assert_eq!(
            event,
            json!({
                "specversion": "1.0", "id": "m-7", "source": "/shop", "type": "orders.created", "subject": "7",
                "tenant": "eu", "datacontenttype": "application/json", "data": {"id": 7, "total": 1.1},
            })
        );
        assert!(one.text().contains(r#""total":1.10"#), "the digits stay: {}", one.text());
    });
}

#[test]
fn a_message_becomes_an_event_in_binary_mode_and_keeps_its_payload() {
    Harness::each(|plugin: Harness<CloudEvents>| {
        let config = json!({"action": "wrap", "mode": "binary", "source": "/shop", "type": "order"});
        let outcome =
            plugin.config(config).send(Input::new("<a/>").header("content-type", "application/xml"));

        outcome
            .assert_payload("<a/>")
            .assert_header("ce-specversion", "1.0")
            .assert_header("ce-type", "order")
            .assert_header("ce-source", "/shop")
            .assert_header("content-type", "application/xml");
        assert_eq!(outcome.assert_one().header("ce-id").map(<[u8]>::len), Some(32));
    });
}

#[test]
fn bytes_that_are_no_json_travel_in_base64_and_come_back() {
    let wrap = native(json!({"action": "wrap", "source": "/s"}));
    let wrapped = wrap.send(Input::new(b"\xfb\xff".to_vec()).header("content-type", "image/png"));
    let payload = wrapped.assert_one().payload.clone();
    assert!(String::from_utf8_lossy(&payload).contains(r#""data_base64":"+/8=""#));

    let unwrap = native(json!({"action": "unwrap"}));
    let outcome = unwrap.send(Input::new(payload).header("content-type", EVENT));
    outcome
        .assert_payload(b"\xfb\xff")
        .assert_header("content-type", "image/png")
        .assert_header("ce-source", "/s");
}

#[test]
fn an_event_changes_its_mode_and_nothing_else() {
    let wrap = native(json!({"action": "wrap", "source": "/other"}));
    let headers =
        [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t"), ("x", "y")];
    let input = headers.iter().fold(Input::new("[1]"), |input, (name, value)| input.header(*name, *value));
    let outcome = wrap.send(input);
    let one = outcome.assert_one();
    outcome.assert_json(json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": [1]}));
    assert_eq!((one.header("ce-id"), one.header("x")), (None, Some(&b"y"[..])));

    let again = wrap.send(Input::new(one.payload.clone()).header("content-type", EVENT));
    again.assert_payload(&one.payload);
}

#[test]
fn what_breaks_the_specification_is_rejected_with_the_attribute() {
    let check = native(json!({"action": "check"}));
    check
        .send(event(r#"{"specversion":"1.0","id":"1","source":"s","type":"t","n":1,"b":true,"x":null}"#))
        .assert_passed();
    for (json, attribute) in [
        (r#"{"specversion":"1.0","source":"s","type":"t"}"#, "id"),
        (r#"{"specversion":"0.3","id":"1","source":"s","type":"t"}"#, "specversion"),
        (r#"{"specversion":"1.0","id":"1","source":"","type":"t"}"#, "source"),
        (r#"{"specversion":"1.0","id":"1","source":"s","type":"t","time":"yesterday"}"#, "time"),
        (r#"{"specversion":"1.0","id":"1","source":"s","type":"t","Tenant":"x"}"#, "Tenant"),
        (r#"{"specversion":"1.0","id":"1","source":"s","type":"t","x":[]}"#, "x"),
        (
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data":1,"data_base64":""}"#,
            "data_base64",
        ),
        (r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"?"}"#, "data_base64"),
    ] {
        assert_eq!(
            check.send(event(json)).assert_rejected("bad-attribute").path.as_deref(),
            Some(attribute),
            "{json}"
        );
    }
    check.send("{}").assert_rejected("not-an-event");
    check.send(event("[]")).assert_rejected("not-an-event");
    check.send(event("{")).assert_rejected("not-json");
    check.send(Input::new("").header("ce-specversion", "1.0")).assert_rejected("bad-attribute");
}

#[test]
fn a_wrap_without_a_source_refuses_the_configuration() {
    native(json!({"action": "wrap"})).assert_refused("bad-config", Some("/source"));
    let config = json!({"action": "wrap", "source": "s", "extensions": {"Tenant": "x"}});
    native(config).assert_refused("bad-config", Some("/extensions"));
}
