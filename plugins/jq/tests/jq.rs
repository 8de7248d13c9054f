//! Natively, and as a component.

use jq::Jq;
use serde_json::json;
use wharf_plugin::harness::{Harness, Input, Outcome, Result};

fn native(program: &str) -> Harness<Jq> {
    Harness::native().config(json!({"program": program}))
}

fn payloads(outcome: &Outcome) -> Vec<String> {
    outcome.assert_passed().iter().map(|one| one.text().into_owned()).collect()
}

#[test]
fn the_example_of_the_documentation() {
    Harness::each(|plugin: Harness<Jq>| {
        let program = ".lines[] | {sku, cost: (.qty * .price), order: $topic}";
        let json = r#"{"lines":[{"sku":"A-1","qty":2,"price":3},{"sku":"B-9","qty":1,"price":5}]}"#;
        let outcome = plugin.config(json!({"program": program})).send(Input::new(json).topic("orders.new"));
        assert_eq!(
            payloads(&outcome),
            [
                r#"{"sku":"A-1","cost":6,"order":"orders.new"}"#,
                r#"{"sku":"B-9","cost":5,"order":"orders.new"}"#
            ]
        );
    });
}

#[test]
fn numbers_that_are_only_moved_stay_as_they_were_written() {
    Harness::each(|plugin: Harness<Jq>| {
        let json = "[1.10,12345678901234567890123,1e400,9007199254740993]";
        plugin.config(json!({"program": "."})).send(json).assert_payload(json);
    });
}

#[test]
fn integers_that_are_counted_with_keep_all_their_digits() {
    Harness::each(|plugin: Harness<Jq>| {
        plugin
            .config(json!({"program": "[.[0] + 1, .[1] * .[1]]"}))
            .send("[9223372036854775807,4294967296]")
            .assert_payload("[9223372036854775808,18446744073709551616]");
    });
}

#[test]
fn headers_and_the_key_are_variables() {
    let input = Input::new("{}").header("region", "eu").header("raw", b"\xff".to_vec()).key("k");
    native("[$headers, $key]").send(input).assert_payload(r#"[{"region":"eu"},"k"]"#);
    native("$key").send("{}").assert_payload("null");
}

#[test]
fn a_program_that_makes_nothing_settles_the_message() {
    native("select(.a > 1)").send(r#"{"a":1}"#).assert_dropped();
    native("select(.a > 1)").send(r#"{"a":2}"#).assert_payload(r#"{"a":2}"#);
}

#[test]
fn a_text_can_be_sent_as_it_is() {
    let plugin = Harness::<Jq>::native().config(json!({"program": ".a", "raw": true}));
    plugin.send(r#"{"a":"x\ny"}"#).assert_payload("x\ny");
    plugin.send(r#"{"a":1}"#).assert_payload("1");
}

#[test]
fn the_common_functions_are_there() {
    let makes = |program: &str, json: &str, to_be: &str| {
        native(program).send(json).assert_payload(to_be);
    };
    makes("map(select(.on) | .n) | add", r#"[{"on":true,"n":2},{"on":false,"n":3},{"on":true,"n":4}]"#, "6");
    makes("to_entries | map(\"\\(.key)=\\(.value)\") | join(\"&\")", r#"{"a":1,"b":"x"}"#, r#""a=1&b=x""#);
    makes(
        "group_by(.k) | map({k: .[0].k, n: length})",
        r#"[{"k":1},{"k":2},{"k":1}]"#,
        r#"[{"k":1,"n":2},{"k":2,"n":1}]"#,
    );
    makes("walk(if type == \"string\" then ascii_downcase else . end)", r#"{"a":["X"]}"#, r#"{"a":["x"]}"#);
    makes("[.[] | try tonumber catch \"none\"]", r#"["1","x"]"#, r#"[1,"none"]"#);
    makes("del(.a) | .b |= . + 1 | .c = (.d // 7)", r#"{"a":1,"b":2}"#, r#"{"b":3,"c":7}"#);
    makes("split(\",\") | [first, last, length]", r#""a,b,c""#, r#"["a","c",3]"#);
    makes(
        "[@base64, (@base64 | @base64d), @uri, (@uri | @urid), @html, @json]",
        r#""é <&'\"""#,
        r#"["w6kgPCYnIg==","é <&'\"","%C3%A9%20%3C%26%27%22","é <&'\"","é &lt;&amp;&#39;&quot;","\"é <&'\\\"\""]"#,
    );
    makes("[sqrt, pow(.; 2), floor]", "2.25", "[1.5,5.0625,2]");
}

#[test]
fn regular_expressions_are_those_of_jq() {
    let makes = |program: &str, json: &str, to_be: &str| {
        native(program).send(json).assert_payload(to_be);
    };
    Harness::each(|plugin: Harness<Jq>| {
        let program = r#"capture("(?<year>\\d{4})-(?<month>\\d\\d)")"#;
        plugin
            .config(json!({"program": program}))
            .send(r#""on 2024-02-29""#)
            .assert_payload(r#"{"year":"2024","month":"02"}"#);
    });
    makes(
        r#"[test("b"), test("B"), test("B"; "i"), test("^c$"), test("^c$"; "m")]"#,
        r#""ab\nc""#,
        "[true,false,true,false,true]",
    );
    makes(r#"[test("a.b"), test("a.b"; "s"), test("a b"; "x")]"#, r#""a\nb""#, "[false,true,false]");
    makes(
        r#"[match("(é)(?<x>b)?"; "g")]"#,
        r#""aéé""#,
        concat!(
            r#"[{"offset":1,"length":1,"string":"é","captures":[{"offset":1,"length":1,"string":"é"},"#,
            r#"{"offset":-1,"length":0,"string":null,"name":"x"}]},"#,
            r#"{"offset":2,"length":1,"string":"é","captures":[{"offset":2,"length":1,"string":"é"},"#,
            r#"{"offset":-1,"length":0,"string":null,"name":"x"}]}]"#,
        ),
    );
    makes(r#"[[scan("\\d+")], [scan("(a)(b)?")]]"#, r#""1a22ab""#, r#"[["1","22"],[["a",null],["a","b"]]]"#);
    makes(
        r#"[split(", *"; null), [splits("; ?")]]"#,
        r#""a, b,c; d""#,
        r#"[["a","b","c; d"],["a, b,c","d"]]"#,
    );
    makes(
        r#"[sub("a"; "x"), gsub("a"; "x"), gsub("(?<l>[a-z])"; "<\(.l)>")]"#,
        r#""aab""#,
        r#"["xab","xxb","<a><a><b>"]"#,
    );
    makes(
        r#"[gsub("^"; ">"), gsub(""; "-"), [match("x*"; "gn").string]]"#,
        r#""axb""#,
        r#"[">axb","-a-x-b-",["x"]]"#,
    );
    makes(r#"[range(40) as $n | test("^\($n)$")] | map(select(.)) | length"#, r#""39""#, "1");
    native(r#"test("(")"#).send("\"a\"").assert_rejected("jq");
    native(r#"test("a"; "q")"#).send("\"a\"").assert_rejected("jq");
    native(r#"test(1)"#).send("\"a\"").assert_rejected("jq");
    native(r#"test("a")"#).send("1").assert_rejected("jq");
    native(r#"test("((a{1000}){1000}){1000}")"#).send("\"a\"").assert_rejected("jq");
}

#[test]
fn no_text_takes_a_pattern_long() {
    let text = format!("\"{}!\"", "a".repeat(2_000));
    Harness::<Jq>::component()
        .config(json!({"program": r#"test("^(a+)+$")"#}))
        .send(text.as_str())
        .assert_payload("false");
}

#[test]
fn times_are_written_and_read_as_rfc_3339_has_them() {
    let makes = |program: &str, json: &str, to_be: &str| {
        native(program).send(json).assert_payload(to_be);
    };
    makes(
        "map(todate)",
        "[0, 1425599621, 1.5, -1]",
        r#"["1970-01-01T00:00:00Z","2015-03-05T23:53:41Z","1970-01-01T00:00:01.5Z","1969-12-31T23:59:59Z"]"#,
    );
    makes("map(fromdate)", r#"["2015-03-05T23:51:47Z","1970-01-01T01:00:00.5+01:00"]"#, "[1425599507,0.5]");
    native("fromdate").send("\"2015-02-29T00:00:00Z\"").assert_rejected("jq");
    native("todate").send("1e300").assert_rejected("jq");
}

#[test]
fn what_jaq_does_not_define_is_there() {
    let makes = |program: &str, json: &str, to_be: &str| {
        native(program).send(json).assert_payload(to_be);
    };
    makes("[IN(1, 2), IN(.; 3, 4)]", "3", "[false,true]");
    makes(
        "INDEX(.id)",
        r#"[{"id":1,"n":"a"},{"id":"x","n":"b"}]"#,
        r#"{"1":{"id":1,"n":"a"},"x":{"id":"x","n":"b"}}"#,
    );
    makes("[toarray, (65 | ascii)]", "1", r#"[[1],"A"]"#);
    makes("@csv", r#"["a\"b,",1.50,null,true]"#, r#""\"a\"\"b,\",1.50,,true""#);
    native("@tsv").send(r#"["a\tb\\",1]"#).assert_payload(r#""a\\tb\\\\\t1""#);
    native("@csv").send("[[1]]").assert_rejected("jq");
}

#[test]
fn what_goes_wrong_rejects_with_a_reason() {
    let said = native(".a + 1").send(r#"{"a":"x"}"#);
    assert!(said.assert_rejected("jq").message.contains("cannot calculate"), "{said:?}");
    assert_eq!(native("error(\"no total\")").send("{}").assert_rejected("jq").message, "no total");
    native("nan").send("{}").assert_rejected("not-json");
    native("{(.a): 1}").send(r#"{"a":7}"#).assert_rejected("not-json");
    native("tobytes").send("\"x\"").assert_rejected("not-json");
    native("reduce range(200) as $i (0; [.])").send("{}").assert_rejected("too-deep");
    native("@base64d").send("\"?\"").assert_rejected("jq");
    native("@urid").send("\"%f\"").assert_rejected("jq");
    native(".").send("{").assert_rejected("not-json");
    native(".").send(r#"{"a":1,"a":2}"#).assert_rejected("duplicate-member");
}

#[test]
fn a_long_value_in_an_error_is_cut() {
    let outcome = native("error").send(format!("\"{}\"", "x".repeat(10_000)).as_str());
    assert_eq!(outcome.assert_rejected("jq").message.chars().count(), 200);
}

#[test]
fn a_program_that_does_not_compile_refuses_the_configuration_with_its_place() {
    Harness::each(|plugin: Harness<Jq>| {
        let problem =
            plugin.refusal_of(&json!({"program": ".a\n | nothing_of_that_name"})).expect("it is refused");
        assert_eq!(
            problem.to_string(),
            "bad-config: there is no filter `nothing_of_that_name` (line 2, column 4) (at /program)"
        );
        let problem = plugin.refusal_of(&json!({"program": "{a: }"})).expect("it is refused");
        assert_eq!(
            problem.to_string(),
            "bad-config: the program is no jq: term was expected (line 1, column 5) (at /program)"
        );
    });
    for program in [".a[", "$x", "\"\\q\"", "1 +"] {
        native(program).assert_refused("bad-config", Some("/program"));
    }
    native(&" ".repeat(jq::PROGRAM_BYTES_MAX + 1)).assert_refused("bad-config", Some("/program"));
}

#[test]
fn what_a_stage_has_no_business_with_is_not_there() {
    for program in [
        "now",
        "$ENV",
        "env",
        "input",
        "debug",
        "halt",
        "halt(1)",
        "halt_error",
        "import \"a\" as a; .",
        "include \"a\"; .",
    ] {
        native(program).assert_refused("bad-config", Some("/program"));
    }
}

#[test]
fn a_program_without_an_end_is_stopped() {
    let component = |program: &str| Harness::<Jq>::component().config(json!({"program": program}));
    component("def f: f; f").send("{}").assert_fault("plugin-deadline");
    // Which of its limits is the first depends on the machine.
    for program in ["[repeat(1)]", "def f: 1 + f; f", "reduce range(1000000) as $i (0; [.])"] {
        let outcome = component(program).send("{}");
        assert!(matches!(outcome.result, Result::Fault(_)), "{program}: {outcome:?}");
    }
    component("repeat(1)").send("{}").assert_rejected("too-many-outputs");
    // Deep in itself: the text is short enough, and the parser recurses.
    let deep = format!("{}1{}", "(".repeat(30_000), ")".repeat(30_000));
    let refusal = component(&deep).refusal_of(&json!({"program": deep}));
    assert!(refusal.is_some(), "a program deeper than the stack is refused");
}
