//! Against `xmltodict`, against hostile documents, natively and as a component.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use wharf_plugin::harness::{Harness, Input, Result};
use xml_to_json::{Config, XmlToJson, convert};

#[test]
fn the_structure_is_that_of_xmltodict() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/xmltodict");
    let mut compared = 0;
    for entry in fs::read_dir(folder).expect("there are fixtures") {
        let file = entry.expect("it can be read").path();
        if file.extension().is_none_or(|extension| extension != "xml") {
            continue;
        }
        let xml = fs::read_to_string(&file).expect("it is text");
        let expected: Value =
            serde_json::from_slice(&fs::read(file.with_extension("json")).unwrap()).unwrap();
        let forced = xml.strip_prefix("<!-- force_list: ").and_then(|rest| rest.split_once(" -->"));
        let arrays =
            forced.map(|(names, _)| names.split(' ').map(str::to_owned).collect()).unwrap_or_default();

        let json = convert(&xml, &Config { arrays, ..Config::default() }).expect("it is XML");
        assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), expected, "{}", file.display());
        compared += 1;
    }
    assert!(compared >= 20, "only {compared} fixtures");
}

#[test]
fn an_order_becomes_json() {
    Harness::each(|plugin: Harness<XmlToJson>| {
        let order = include_str!("xmltodict/order.xml");

        let outcome =
            plugin.send(Input::new(order).header("content-type", "application/xml").header("a", "b"));
        outcome.assert_header("content-type", "application/json").assert_header("a", "b");
        outcome.assert_golden("tests/xmltodict/order.json");
        if let Some(memory) = outcome.usage.memory_bytes {
            assert!(memory < 2 << 20, "{memory} bytes for a small order");
        }
    });
}

#[test]
fn each_message_of_a_batch_is_answered_by_itself() {
    Harness::each(|plugin: Harness<XmlToJson>| {
        let outcomes = plugin.send_all(["<a>1</a>", "<a>", "<b/>"]);

        outcomes[0].assert_payload(r#"{"a":"1"}"#);
        outcomes[1].assert_rejected("not-xml");
        outcomes[2].assert_payload(r#"{"b":null}"#);
    });
}

fn with(config: Value, xml: &str) -> String {
    let outcome = Harness::<XmlToJson>::native().config(config).send(xml);
    outcome.assert_one().text().into_owned()
}

#[test]
fn members_keep_the_order_of_the_document() {
    let json = with(json!({}), "<z b='1' a='2'>t<y/><x/><y/></z>");
    assert_eq!(json, r##"{"z":{"@b":"1","@a":"2","y":[null,null],"x":null,"#text":"t"}}"##);
}

#[test]
fn numbers_are_numbers_where_configured() {
    let json = with(json!({"numbers": true}), "<a n='1'><b>2.50</b><c>007</c><d>1e9</d><e>-</e></a>");
    assert_eq!(json, r#"{"a":{"@n":1,"b":2.50,"c":"007","d":1e9,"e":"-"}}"#);
}

#[test]
fn arrays_are_forced_by_name_and_by_path() {
    let xml = "<a><b><c>1</c></b><c>2</c></a>";
    assert_eq!(with(json!({"arrays": ["c"]}), xml), r#"{"a":{"b":{"c":["1"]},"c":["2"]}}"#);
    assert_eq!(with(json!({"arrays": ["a/b/c"]}), xml), r#"{"a":{"b":{"c":["1"]},"c":"2"}}"#);
    assert_eq!(with(json!({"arrays": ["/a/c", "a/b"]}), xml), r#"{"a":{"b":[{"c":"1"}],"c":["2"]}}"#);
}

#[test]
fn the_root_is_kept_stripped_or_renamed() {
    assert_eq!(with(json!({"root": "strip"}), "<a x='1'/>"), r#"{"@x":"1"}"#);
    assert_eq!(with(json!({"root": "strip"}), "<a/>"), "null");
    assert_eq!(with(json!({"root": {"rename": "o\"x"}}), "<a>1</a>"), r#"{"o\"x":"1"}"#);
    assert_eq!(with(json!({"root": "strip", "arrays": ["a/b"]}), "<a><b/></a>"), r#"{"b":[null]}"#);
}

#[test]
fn prefix_and_text_key_can_be_others() {
    let config = json!({"attribute-prefix": "-", "text-key": "$"});
    assert_eq!(with(config, "<a x='1'>t</a>"), r#"{"a":{"-x":"1","$":"t"}}"#);
}

#[test]
fn hostile_documents_are_refused_with_their_place() {
    let deep = "<a>".repeat(129);
    let wide_open = "<a>".repeat(100_000);
    let cases = [
        (
            "<!DOCTYPE a [<!ENTITY x 'y'><!ENTITY z '&x;&x;'>]><a>&z;</a>",
            "doctype-refused",
            "line 1, column 1",
        ),
        ("<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>", "doctype-refused", "line 1, column 1"),
        ("\n<a>&xxe;</a>", "not-xml", "line 2, column 4"),
        ("<a x='&xxe;'/>", "not-xml", "line 1, column 4"),
        ("<a>\n]]></a>", "not-xml", "line 2, column 1"),
        (deep.as_str(), "too-deep", "line 1, column 385"),
        (wide_open.as_str(), "too-deep", "line 1, column 385"),
        ("<?xml version='1.0' encoding='ISO-8859-1'?><a>é</a>", "unsupported-encoding", "line 1, column 1"),
    ];
    Harness::each(|plugin: Harness<XmlToJson>| {
        for (xml, code, place) in cases {
            let outcome = plugin.send(xml);
            assert_eq!(outcome.assert_rejected(code).path.as_deref(), Some(place), "{outcome:?}");
        }
    });
}

#[test]
fn a_byte_order_mark_is_skipped() {
    // The reader skipped it without counting its bytes, and all that was cut out of the text was cut in another place:
    // the plugin trapped.
    Harness::each(|plugin: Harness<XmlToJson>| {
        plugin.send("\u{feff}<a x='1'><é>2</é></a>").assert_payload(r#"{"a":{"@x":"1","é":"2"}}"#);
        plugin.send("\u{feff}<?xml version='1.0'?>\n<a/>").assert_payload(r#"{"a":null}"#);
        let outcome = plugin.send("\u{feff}<a>\n<b></a>");
        assert_eq!(outcome.assert_rejected("not-xml").path.as_deref(), Some("line 2, column 4"));
        plugin.send("<a>\u{feff}</a>").assert_payload("{\"a\":\"\u{feff}\"}");
        plugin.send("\u{feff}\u{feff}<a/>").assert_rejected("not-xml");
    });
}

#[test]
fn another_encoding_is_refused_by_its_name() {
    let said = |bytes: &[u8]| {
        let outcome = Harness::<XmlToJson>::native().send(bytes.to_vec());
        outcome.assert_rejected("unsupported-encoding").message.clone()
    };
    let utf16: Vec<u8> = "\u{feff}<a/>".encode_utf16().flat_map(u16::to_le_bytes).collect();

    let latin = said(b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xe9</a>");
    assert_eq!(latin, "the document says that it is ISO-8859-1; only UTF-8 is read");
    assert_eq!(said(&utf16), "the document says that it is UTF-16; only UTF-8 is read");
    let plugin = Harness::<XmlToJson>::native();
    plugin.send(b"<?xml version='1.0' encoding='utf-8'?><a>\xe9</a>".to_vec()).assert_rejected("not-utf8");
    plugin.send(b"<a>\xe9</a>".to_vec()).assert_rejected("not-utf8");
    // Every encoding that XML is written in has ASCII in it.
    plugin.send("<?xml version='1.0' encoding='ISO-8859-1'?><a>e</a>").assert_payload(r#"{"a":"e"}"#);
}

#[test]
fn what_is_not_well_formed_is_refused() {
    let cases = [
        "",
        " ",
        "text",
        "<a>",
        "<a></b>",
        "</a>",
        "<a/><b/>",
        "<a/>text",
        "text<a/>",
        "<1/>",
        "<a b/>",
        "<a b=c/>",
        "<a b='1' b='2'/>",
        "<a b='1'c='2'/>",
        "<a b='<'/>",
        "<a b='1/>",
        "<a>&#0;</a>",
        "<a>&#xD800;</a>",
        "<a>&;</a>",
        "<a>& b</a>",
        "<a>\u{1}</a>",
        "<a\"b\"/>",
        "<a><![CDATA[x</a>",
        "<a><!-- x</a>",
        "<a =''/>",
        "<a",
        "<",
        "<a><!-- -- --></a>",
        "<?xml version='1.0'?>\n<?xml version='1.0'?><a/>",
        " <?xml version='1.0'?><a/>",
    ];
    let plugin = Harness::<XmlToJson>::native();
    for xml in cases {
        let outcome = plugin.send(xml);
        let problem = outcome.assert_rejected("not-xml");
        assert!(problem.path.is_some(), "{xml}: {problem}");
    }
}

#[test]
fn any_bytes_are_answered() {
    // A document, cut at each byte and with each byte changed: never a panic, and JSON where it is accepted.
    let order = include_bytes!("xmltodict/order.xml");
    let plugin = Harness::<XmlToJson>::native();
    for at in 0..order.len() {
        let mut changed = order.to_vec();
        changed[at] ^= 0x15;
        for bytes in [&order[..at], &changed[..]] {
            match plugin.send(bytes.to_vec()).result {
                Result::Passed(outputs) => {
                    serde_json::from_slice::<Value>(&outputs[0].payload).expect("it is JSON");
                }
                Result::Rejected(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn many_names_among_the_children_take_no_square_of_the_time() {
    let xml: String = (0..100_000).map(|i| format!("<n{i}/>")).collect();
    let json = convert(&format!("<a>{xml}</a>"), &Config::default()).expect("it is XML");
    assert!(json.ends_with(b"\"n99999\":null}}"));
}
