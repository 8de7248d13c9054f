//! Natively, and as a component.

use serde_json::{Value, json};
use wharf_plugin::harness::Harness;
use xml_check::XmlCheck;

fn orders() -> Value {
    json!({
        "root": "order",
        "elements": [
            {
                "at": "order",
                "attributes": {"id": {"required": true, "pattern": "[0-9]+"}},
                "children": {"customer": {"min": 1, "max": 1}, "line": {"min": 1}},
                "closed": true,
            },
            {"at": "**/qty", "text": {"required": true, "pattern": "[1-9][0-9]{0,3}"}, "children": {}, "closed": true},
        ],
    })
}

#[test]
fn the_example_of_the_documentation() {
    Harness::each(|plugin: Harness<XmlCheck>| {
        let plugin = plugin.config(orders());
        plugin.send(r#"<order id="7"><customer/><line><qty>2</qty></line></order>"#).assert_passed();

        let outcome = plugin.send(r#"<order id="x"><customer/><line><qty>2</qty></line></order>"#);
        let problem = outcome.assert_rejected("attribute");
        assert_eq!(problem.message, "attribute `id` of `order` is `x`, which is not of the pattern `[0-9]+`");
        assert_eq!(problem.path.as_deref(), Some("line 1, column 2"));
    });
}

#[test]
fn each_rule_is_followed_at_its_place() {
    let plugin = Harness::<XmlCheck>::native().config(orders());
    let rejected = |xml: &str, code: &str, path: &str, message: &str| {
        let outcome = plugin.send(xml);
        let problem = outcome.assert_rejected(code);
        assert_eq!((problem.message.as_str(), problem.path.as_deref()), (message, Some(path)), "{xml}");
    };
    rejected("<invoice/>", "root", "line 1, column 2", "the root is `invoice`, and is to be `order`");
    rejected("<order/>", "attribute", "line 1, column 2", "attribute `id` of `order` is missing");
    rejected(
        "<order id='1' x=''/>",
        "attribute",
        "line 1, column 2",
        "`order` has an attribute `x`, which is not allowed",
    );
    rejected(
        "<order id='1'><line/></order>",
        "children",
        "line 1, column 2",
        "`order` has 0 of `customer`, and is to have at least 1",
    );
    rejected(
        "<order id='1'><customer/><customer/><line/></order>",
        "children",
        "line 1, column 2",
        "`order` has 2 of `customer`, and is to have at most 1",
    );
    rejected(
        "<order id='1'><note/></order>",
        "children",
        "line 1, column 2",
        "`order` has a child `note`, which is not allowed",
    );
    rejected(
        "<order id='1'>\n<customer/><line>\n <qty>0</qty></line></order>",
        "text",
        "line 3, column 3",
        "the text of `qty` is `0`, which is not of the pattern `[1-9][0-9]{0,3}`",
    );
    rejected(
        "<order id='1'><customer><a><qty> </qty></a></customer><line/></order>",
        "text",
        "line 1, column 29",
        "the text of `qty` is missing",
    );
    rejected(
        "<order id='1'><customer/><line><qty>1<b/></qty></line></order>",
        "children",
        "line 1, column 33",
        "`qty` has a child `b`, which is not allowed",
    );
}

#[test]
fn without_rules_it_is_well_formedness_alone() {
    let plugin = Harness::<XmlCheck>::native();
    plugin.send("<a><b>&lt;</b></a>").assert_passed();
    for (xml, code) in [
        ("<a>", "not-xml"),
        ("<a></b>", "not-xml"),
        ("<a/><b/>", "not-xml"),
        ("<a x='1' x='2'/>", "not-xml"),
        ("<a>&nope;</a>", "not-xml"),
        ("x<a/>", "not-xml"),
        ("", "not-xml"),
        ("<a>\u{1}</a>", "not-xml"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "doctype-refused"),
    ] {
        plugin.send(xml).assert_rejected(code);
    }
    plugin.send("<a>".repeat(100_000).into_bytes()).assert_rejected("too-deep");
    plugin.send(b"<a>\xff</a>".to_vec()).assert_rejected("not-utf8");
}

#[test]
fn a_path_leads_past_what_was_closed_before() {
    // An element without children was left twice, so that its next sibling was at another path, and no rule was its own.
    Harness::each(|plugin: Harness<XmlCheck>| {
        let config = json!({"elements": [{"at": "order/line/qty", "text": {"pattern": "[0-9]+"}}]});
        let plugin = plugin.config(config);
        let order = |qty: &str| format!("<order><a/><b><c/></b><line><d/><qty>{qty}</qty></line></order>");
        plugin.send(order("2").into_bytes()).assert_passed();
        plugin.send(order("two").into_bytes()).assert_rejected("text");
    });
}

#[test]
fn the_end_of_cdata_in_text_is_refused_with_its_place_and_nowhere_else() {
    Harness::each(|plugin: Harness<XmlCheck>| {
        for (xml, place) in [
            ("<a>\n<b>x]]>y</b></a>", "line 2, column 5"),
            ("<a>]]></a>", "line 1, column 4"),
            ("<a><![CDATA[x]]>]]></a>", "line 1, column 17"),
            ("<a>&#93;]]]></a>", "line 1, column 10"),
        ] {
            let outcome = plugin.send(xml);
            let problem = outcome.assert_rejected("not-xml");
            assert_eq!(problem.path.as_deref(), Some(place), "{xml}: {problem}");
            assert!(problem.message.contains("`]]&gt;`"), "{problem}");
        }
        for xml in [
            "<a>]]&gt;</a>",
            "<a>]] ></a>",
            "<a>]&#93;></a>",
            "<a x=']]>'>]]</a>",
            "<a><!-- ]]> --><![CDATA[]]]]><![CDATA[>]]></a>",
        ] {
            plugin.send(xml).assert_passed();
        }
    });
}

#[test]
fn with_namespaces_every_prefix_is_declared_around_it() {
    Harness::each(|plugin: Harness<XmlCheck>| {
        let free = "<a><c:b/></a>";
        plugin.send(free).assert_passed();
        let plugin = plugin.config(json!({"namespaces": true}));
        for xml in [
            "<c:a xmlns:c='urn:c' c:x='1' xml:lang='en'><c:b/><b xmlns:d='urn:d'><d:e/></b></c:a>",
            "<a xmlns='urn:a'><b xmlns:c='1'><b xmlns:c='2'/><c:d/></b></a>",
        ] {
            plugin.send(xml).assert_passed();
        }
        for (xml, place, what) in [
            (free, "line 1, column 5", "the prefix of `c:b` is not declared: `xmlns:c` is missing"),
            ("<a c:x='1'/>", "line 1, column 2", "`c:x`"),
            ("<a><b xmlns:c='1'/><c:d/></a>", "line 1, column 21", "`c:d`"),
            ("<a><b xmlns:c='1'><b xmlns:c='2'/></b><c:d/></a>", "line 1, column 40", "`c:d`"),
            ("<a xmlns:c=''/>", "line 1, column 2", "`xmlns:c` declares nothing"),
            ("<a xmlns:xml='urn:a'/>", "line 1, column 2", "`xmlns:xml` declares nothing"),
            ("<a xmlns:c='1'><c:d:e/></a>", "line 1, column 17", "one colon"),
            ("<:a/>", "line 1, column 2", "one colon"),
        ] {
            let outcome = plugin.send(xml);
            let problem = outcome.assert_rejected("namespace");
            assert_eq!(problem.path.as_deref(), Some(place), "{xml}: {problem}");
            assert!(problem.message.contains(what), "{problem}");
        }
    });
}

#[test]
fn a_wrong_rule_refuses_the_configuration_with_its_place() {
    let refused = |config: Value, path: &str| {
        Harness::<XmlCheck>::native().config(config).assert_refused("bad-config", Some(path));
    };
    refused(json!({"elements": [{"at": "a//b"}]}), "/elements/0/at");
    refused(json!({"elements": [{"at": "a", "text": {"pattern": "("}}]}), "/elements/0/text/pattern");
    refused(
        json!({"elements": [{"at": "a", "attributes": {"x": {"pattern": "["}}}]}),
        "/elements/0/attributes/x/pattern",
    );
}
