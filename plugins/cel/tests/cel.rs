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
fn texts_are_searched_by_regular_expressions_and_times_are_known_as_a_component_too() {
    Harness::each(|plugin: Harness<Cel>| {
        let plugin = plugin.config(when("payload.sku.matches('^[A-Z]-[0-9]{1,3}$') && matches(topic, 'es')"));
        plugin.send(r#"{"sku":"A-17"}"#).assert_dropped();
        plugin.send(r#"{"sku":"A-1712"}"#).assert_routed([]);
        let plugin = plugin.config(when("'abc'.matches(payload.pattern)"));
        plugin.send(r#"{"pattern":"b"}"#).assert_dropped();
        let outcome = plugin.send(r#"{"pattern":"("}"#);
        assert!(outcome.assert_rejected("cel").message.contains("no regular expression"), "{outcome:?}");
        for n in 0..100 {
            plugin.send(format!("{{\"pattern\":\"b|{n}\"}}").into_bytes()).assert_dropped();
        }
        let old = "timestamp('2026-11-24T12:00:00Z') - timestamp(payload.at) > duration('24h')";
        let plugin = plugin.config(when(old));
        plugin.send(r#"{"at":"2026-11-23T01:40:11.052+01:00"}"#).assert_dropped();
        // Takes ages where a search goes back.
        let plugin = plugin.config(when("payload.matches('^(a+)+$')"));
        plugin.send(format!("\"{}!\"", "a".repeat(10_000)).into_bytes()).assert_routed([]);
    });
}

#[test]
fn times_are_compared_added_and_taken_apart() {
    let json = r#"{"at":"2026-11-23T01:40:11.052+01:00","later":"2026-11-24T00:40:11.052Z","s":1795394411}"#;
    for condition in [
        "timestamp(payload.later) - timestamp(payload.at) == duration('24h')",
        "timestamp(payload.at) + duration('1h30m') > timestamp('2026-11-23T02:10:11Z')",
        "timestamp(payload.at) < timestamp(payload.later) && timestamp(payload.later) - duration('24h') == timestamp(payload.at)",
        "string(timestamp(payload.at)) == '2026-11-23T00:40:11.052Z'",
        "int(timestamp(payload.at)) == 1795394411 && timestamp(payload.s) < timestamp(payload.at)",
        "timestamp(payload.at).getFullYear() == 2026 && timestamp(payload.at).getMonth() == 10",
        "timestamp(payload.at).getDate() == 23 && timestamp(payload.at).getDayOfMonth() == 22",
        "timestamp(payload.at).getDayOfWeek() == 1 && timestamp(payload.at).getDayOfYear() == 326",
        "timestamp(payload.at).getHours() == 0 && timestamp(payload.at).getHours('-01:00') == 23",
        "timestamp(payload.at).getDate('-01:00') == 22 && timestamp(payload.at).getMinutes('+05:30') == 10",
        "timestamp(payload.at).getSeconds() == 11 && timestamp(payload.at).getMilliseconds() == 52",
        "timestamp('1969-12-31T23:59:59.9Z').getMilliseconds() == 900 && int(timestamp('1969-12-31T23:59:59Z')) == -1",
        "duration('1h30m') == duration('5400s') && duration('-1.5s') == -duration('1500ms')",
        "duration('90m').getHours() == 1 && duration('90m').getMinutes() == 90 && duration('1.5s').getMilliseconds() == 1500",
        "string(duration('1h')) == '3600s' && string(duration('-1.5s')) == '-1.5s' && duration('0') == duration('0s')",
        "duration('1us') + duration('1ns') > duration('1.000us') && duration('.5s') == duration('500ms')",
        "timestamp('0001-01-01T00:00:00Z') < timestamp('9999-12-31T23:59:59Z') && type(duration('1s')) != type(1)",
        "[timestamp(payload.at)].exists(at, at == timestamp(payload.at)) && timestamp(timestamp(1)) == timestamp(1)",
        "timestamp(payload.at) != duration('1s')",
    ] {
        let outcome = native(when(condition)).send(json);
        assert_eq!(outcome.result, wharf_plugin::harness::Result::Dropped, "{condition}");
    }
    for condition in [
        "timestamp(payload.s * 1000) > timestamp(0)",
        "timestamp('9999-12-31T23:59:59Z') + duration('1s') > timestamp(0)",
        "timestamp(0) < duration('1s')",
        "timestamp(0) + 1 == timestamp(1)",
        "timestamp(payload.s).getHours('Europe/Paris') == 1",
        "timestamp(payload.s).getHours('+1:00') == 1",
        "duration('87660000h') + duration('87660000h') > duration('0')",
        "timestamp(string(payload.s)) > timestamp(0)",
    ] {
        native(when(condition)).send(json).assert_rejected("cel");
    }
}

#[test]
fn a_literal_that_cannot_be_read_refuses_the_configuration() {
    let refused = |condition: &str| {
        let problem = native(json!({})).refusal_of(&when(condition)).expect("it is refused");
        assert_eq!(problem.path.as_deref(), Some("/rules/0/when"));
        problem.message
    };
    assert!(refused("payload.a.matches('(')").starts_with("`(` is no regular expression: "));
    assert!(refused("payload.l.all(a, a.matches('(a{1000}){1000}'))").contains("no regular expression"));
    assert!(refused("{'a': timestamp('2026-13-01T00:00:00Z')}.a > timestamp(0)").contains("RFC 3339"));
    for wrong in
        ["", "-", "1", "1x", "1h 2m", "1.2.3s", "h", ".s", "1e3s", "99999999999999999999s", "999999999h"]
    {
        assert!(refused(&format!("duration('{wrong}') > duration('0')")).contains("duration"), "{wrong}");
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
    assert_eq!(function("payload.a.matched('x+')"), "there is no function `matched`");
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
