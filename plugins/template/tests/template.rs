//! Natively, and as a component.

use serde_json::{Value, json};
use template::Template;
use wharf_plugin::harness::{Harness, Input};

fn native(template: &str, more: Value) -> Harness<Template> {
    let mut config = json!({"template": template});
    config.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    Harness::native().config(config)
}

#[test]
fn the_example_of_the_documentation() {
    Harness::each(|plugin: Harness<Template>| {
        let template = "Order {{ payload.id }} from {{ headers.region }}:\n{%- for line in payload.lines %}\n\
                        - {{ line.qty }} x {{ line.sku }}\n{%- endfor %}";
        let json = r#"{"id":7,"lines":[{"sku":"A-1","qty":2},{"sku":"B-9","qty":1}]}"#;
        plugin
            .config(json!({"template": template}))
            .send(Input::new(json).header("region", "eu"))
            .assert_payload("Order 7 from eu:\n- 2 x A-1\n- 1 x B-9")
            .assert_header("content-type", "text/plain; charset=utf-8");
    });
}

#[test]
fn values_are_written_as_the_configuration_says() {
    let json = r#"{"a":"<b> & \"c\""}"#;
    native("{{ payload.a }}", json!({})).send(json).assert_payload("<b> & \"c\"");
    native("{{ payload.a }}", json!({"escape": "html"}))
        .send(json)
        .assert_payload("&lt;b&gt; &amp; &quot;c&quot;");
    native(r#"{"x":{{ payload.a }}}"#, json!({"escape": "json"}))
        .send(json)
        .assert_json(json!({"x": "<b> & \"c\""}));
}

#[test]
fn integers_keep_their_digits_up_to_128_bits() {
    let plugin = native("{{ payload[0] }} {{ payload[1] }}", json!({}));
    plugin
        .send("[18446744073709551616,-9007199254740993]")
        .assert_payload("18446744073709551616 -9007199254740993");
    let outcome = plugin.send(format!("[1,{}]", "9".repeat(40)).into_bytes());
    assert_eq!(outcome.assert_rejected("number-too-large").path.as_deref(), Some("/1"));
}

#[test]
fn a_name_that_nothing_has_rejects_or_is_empty() {
    let outcome = native("a\n{{ payload.b }}", json!({})).send("{}");
    assert_eq!(outcome.assert_rejected("template").path.as_deref(), Some("template line 2"));
    native("a{{ payload.b }}", json!({"undefined": "empty"})).send("{}").assert_payload("a");
    native("{{ topic }} {{ key }}", json!({})).send(Input::new("1").key("k")).assert_payload("test k");
}

#[test]
fn what_is_undefined_is_named_with_its_line_and_no_value_of_the_message_is() {
    Harness::each(|plugin: Harness<Template>| {
        let plugin = plugin.config(json!({"template": "{% set x = 1 %}\n{{ payload.lines[0].cutsomer }}"}));
        let outcome = plugin.send(r#"{"lines":[{"customer":"hunter2"}]}"#);
        let problem = outcome.assert_rejected("template");
        assert_eq!(problem.message, "undefined value: `payload.lines[0].cutsomer` is undefined (line 2)");
        assert_eq!(problem.path.as_deref(), Some("template line 2"));
    });
    let named = |template: &str| {
        let outcome = native(template, json!({})).send(r#"{"secret":"hunter2"}"#);
        let problem = outcome.assert_rejected("template");
        assert!(!problem.message.contains("hunter2"), "{problem}");
        problem.message.clone()
    };
    assert!(named("{{ payload.customer.name }}").contains("`payload.customer` is undefined"));
    assert!(named("{{ payloda }}").contains("`payloda` is undefined"));
    assert!(named("{{ headers.region | upper }}").contains("`headers.region` is undefined"));
    assert!(named("{% set a = payload.b %}\n{{ a }}").contains("`payload.b` is undefined (from line 1)"));
    assert!(
        named("{% for a in payload.items %}{{ a }}{% endfor %}").contains("`payload.items` is undefined")
    );
}

#[test]
fn a_template_that_runs_too_long_or_makes_too_much_rejects() {
    Harness::each(|plugin: Harness<Template>| {
        let template = "{% for a in range(9000) %}{% for b in range(9000) %}x{% endfor %}{% endfor %}";
        let plugin = plugin.config(json!({"template": template}));
        assert_eq!(
            plugin.send("1").assert_rejected("template").message,
            "it runs for more than 500000 steps (line 1)"
        );
    });
    Harness::each(|plugin: Harness<Template>| {
        let template = "{% set x = 'y' * 1000000 %}{{ x * 1000000 }}";
        plugin.config(json!({"template": template})).send("1").assert_rejected("template");
    });
    Harness::each(|plugin: Harness<Template>| {
        let template = "{% macro again(n) %}{{ again(n + 1) }}{% endmacro %}{{ again(0) }}";
        plugin.config(json!({"template": template})).send("1").assert_rejected("template");
    });
}

#[test]
fn a_template_that_cannot_be_read_refuses_the_configuration_with_its_line() {
    Harness::each(|plugin: Harness<Template>| {
        let problem = plugin.refusal_of(&json!({"template": "a\n{% for %}"})).expect("it is refused");
        assert_eq!((problem.code.as_ref(), problem.path.as_deref()), ("bad-config", Some("/template")));
        assert!(problem.message.ends_with("(line 2)"), "{problem}");
        let deep = format!("{{{{ {}1{} }}}}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(plugin.refusal_of(&json!({"template": deep})).is_some());
    });
    native("{{ nothing_of_that_name() }}", json!({})).send("1").assert_rejected("template");
    native("{{ 1 | nothing }}", json!({})).send("1").assert_rejected("template");
    let long = " ".repeat(template::TEMPLATE_BYTES_MAX + 1);
    native(&long, json!({})).assert_refused("bad-config", Some("/template"));
}

#[test]
fn there_is_nothing_to_include() {
    native("{% include 'x' %}", json!({})).assert_refused("bad-config", Some("/template"));
}
