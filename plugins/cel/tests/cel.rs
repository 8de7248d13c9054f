//! Natively, and as a component.

use cel::Cel;
use serde_json::{Value, json};
use wharf_plugin::harness::{Harness, Input};

fn when(condition: &str) -> Value {
    json!({"rules": [{"when": condition, "then": "drop"}]})
}

fn native(config: Value) -> Harness<Cel> {
    Harness::native().config(config)
}

#[test]
fn the_example_of_the_documentation() {
    Harness::each(|plugin: Harness<Cel>| {
        let config = json!({
            "rules": [
                {"when": "payload.total > 1000 && headers.region == 'eu'", "then": {"to": ["large"]}},
                {"when": "size(payload.lines) == 0", "then": "reject", "message": "an order has lines"},
            ],
        });
        let plugin = plugin.config(config).outputs(["large"]);
        let order = |json: &str| Input::new(json).header("region", "eu");

        plugin.send(order(r#"{"total":1200.5,"lines":[1]}"#)).assert_routed(["large"]);
        let outcome = plugin.send(order(r#"{"total":1,"lines":[]}"#));
        assert_eq!(outcome.assert_rejected("condition").message, "an order has lines");
        plugin.send(order(r#"{"total":1,"lines":[1]}"#)).assert_routed([]);
    });
}

#[test]
fn a_condition_sees_the_message() {
    let input = || {
        Input::new(r#"{"a":[1,{"b":"x"}],"n":9007199254740993,"u":18446744073709551615,"f":1.5}"#)
            .topic("orders.eu")
            .key("k")
            .header("region", "eu")
            .header("raw", b"\xff".to_vec())
    };
    for condition in [
        "topic.startsWith('orders.')",
        "key == 'k'",
        "attempt == 0",
        "headers.region in ['eu', 'us'] && !('raw' in headers)",
        "payload.a[1].b == 'x'",
        "has(payload.a) && !has(payload.c)",
        "payload.n == 9007199254740993",
        "payload.u == 18446744073709551615u",
        "payload.f * 2.0 == 3.0 && payload.f > 1",
        "payload.a.exists(each, each == 1)",
        "payload.a.filter(each, each == 1).map(each, each + 1) == [2]",
        "size(payload.a) == 2 && type(payload.f) == double",
        "{'eu': true}[headers.region] ? true : false",
        "optional.of(payload.f).hasValue() && optional.none().orValue(1) == 1",
        "'abc'.contains('b') && 'abc'.endsWith('c') && string(1) == '1' && int('1') == 1",
        "double('1.5') == 1.5 && uint(1) == 1u && bytes('a') == b'a' && dyn(1) == 1",
        "payload.a.exists_one(each, each == 1) && bool('true')",
    ] {
        let outcome = native(when(condition)).send(input());
        assert_eq!(outcome.result, wharf_plugin::harness::Result::Dropped, "{condition}");
    }
}

#[test]
fn the_payload_need_be_json_only_where_it_is_named() {
    native(when("topic == 'test'")).send("<a/>").assert_dropped();
    native(when("payload.a == 1")).send("<a/>").assert_rejected("not-json");
}

#[test]
fn a_condition_that_cannot_be_evaluated_rejects_or_does_not_hold() {
    let outcome = native(when("payload.a > 1")).send("{}");
    let message = &outcome.assert_rejected("cel").message;
    assert!(message.starts_with("the condition `payload.a > 1` cannot be evaluated: "), "{message}");
    native(when("payload.a")).send(r#"{"a":1}"#).assert_rejected("cel");
    native(when("payload.a / 0 == 1")).send(r#"{"a":1}"#).assert_rejected("cel");
    let lenient = json!({"rules": [{"when": "payload.a > 1", "then": "drop"}], "errors": "no-match"});
    native(lenient).send("{}").assert_routed([]);
    let outcome = native(when("payload.a > 1")).send(r#"{"a":18446744073709551616}"#);
    assert_eq!(outcome.assert_rejected("number-too-large").path.as_deref(), Some("/a"));
}

#[test]
fn a_wrong_rule_refuses_the_configuration_with_its_place() {
    let problem = native(json!({})).refusal_of(&when("payload.a >")).expect("it is refused");
    assert_eq!((problem.code.as_ref(), problem.path.as_deref()), ("bad-config", Some("/rules/0/when")));
    assert!(problem.message.contains("(line 1, column "), "{problem}");
    let problem = native(json!({})).refusal_of(&when("paylod.a == 1")).expect("it is refused");
    assert_eq!(
        problem.message,
        "there is no `paylod`: a condition sees payload, topic, key, headers, attempt"
    );
    // Only a message found out, and then every message did.
    let function = |condition| native(json!({})).refusal_of(&when(condition)).expect("it is refused").message;
    assert_eq!(function("payload.a.matches('x+')"), "there is no function `matches`");
    assert_eq!(function("has(payload.a) ? true : payload.l.all(a, now() > a)"), "there is no function `now`");
    native(when(&format!("'{}' == key", "x".repeat(20_000))))
        .assert_refused("bad-config", Some("/rules/0/when"));
    native(json!({"rules": [], "otherwise": {"to": ["x"]}}))
        .assert_refused("no-such-output", Some("/otherwise/to"));
    native(json!({"rules": [{"when": "true", "then": {"to": ["x"]}}]}))
        .assert_refused("no-such-output", Some("/rules/0/then/to"));
    let many = vec![json!({"when": "true", "then": "drop"}); 65];
    native(json!({"rules": many})).assert_refused("bad-config", Some("/rules"));
}

#[test]
fn a_condition_deep_in_itself_is_refused_and_breaks_nothing() {
    Harness::each(|plugin: Harness<Cel>| {
        for [open, close] in [["(", ")"], ["[", "]"], ["size(", ")"]] {
            let deep = format!("{}0{}", open.repeat(2000), close.repeat(2000));
            assert!(plugin.refusal_of(&when(&deep)).is_some());
        }
    });
}

#[test]
fn a_condition_that_takes_too_long_is_stopped() {
    let all = "payload.all(a, payload.all(b, payload.all(c, payload.all(d, a + b + c + d >= 0))))";
    let payload = format!("[{}0]", "0,".repeat(200));
    Harness::<Cel>::component().config(when(all)).send(payload.as_str()).assert_fault("plugin-deadline");
}
