//! `xml-check`: a validator of XML: well-formed, and built as a few rules say. No XSD.
//!
//! ```toml
//! [stage.config]
//! root = "order"
//!
//! [[stage.config.elements]]
//! at = "order"                                   # the path from the root; `*` is any one name, `**` any number
//! attributes = { id = { required = true, pattern = "[0-9]+" } }
//! children = { customer = { min = 1, max = 1 }, line = { min = 1 } }
//! closed = true                                  # no attributes and children but these
//!
//! [[stage.config.elements]]
//! at = "**/qty"
//! text = { required = true, pattern = "[1-9][0-9]{0,3}" }
//! children = {}
//! closed = true
//! ```
//!
//! `<order id="7"><customer/><line><qty>2</qty></line></order>` is accepted.
//! `<order id="x"><customer/><line><qty>2</qty></line></order>` is rejected with the code `attribute`, the path
//! `line 1, column 2`, and the message ``attribute `id` of `order` is `x`, which is not of the pattern `[0-9]+` ``.
//!
//! A pattern is of the whole value. Names are compared as they are written, prefixes included. An element that no rule
//! is for is free; one that several are for keeps them all. A document type is refused, and so is what is nested more
//! than 128 deep.

mod rules;

use wharf_plugin::{Failure, Message, Plugin, Problem, Stage, Validator};
use xml_document::{DEPTH_MAX, NONE, with_newlines};

use rules::Rules;
pub use rules::{Config, Count, ElementRule, ValueRule};

/// The plugin.
#[derive(Debug)]
pub struct XmlCheck {
    rules: Rules,
}

impl Plugin for XmlCheck {
    type Config = Config;
    const SUMMARY: &'static str = "accepts well-formed XML whose structure keeps rules";
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        Ok(Self { rules: Rules::new(config)? })
    }
}

impl Validator for XmlCheck {
    fn validate(&self, message: &Message<'_>) -> Result<(), Failure> {
        let xml = message.text().map_err(|failure| xml_document::not_utf8(message.payload(), failure))?;
        Ok(check(xml, &self.rules)?)
    }
}

/// Reads the document and follows the rules down its elements.
fn check(xml: &str, rules: &Rules) -> Result<(), Problem> {
    let xml = with_newlines(xml);
    if let Some(at) = xml.find(|character| !xml_document::is_character(character)) {
        return Err(xml_document::not_xml(&xml, at, "a control character is not allowed"));
    }
    let document = xml_document::read(&xml, DEPTH_MAX)?;
    rules.check_root(&xml, &document)?;
    let mut path: Vec<&str> = Vec::new();
    let mut open: Vec<u32> = vec![0];
    // Depth first, without recursion: `open` holds the next sibling of each element on the path, then the next element.
    while let Some(index) = open.pop() {
        if index == NONE {
            path.pop();
            continue;
        }
        let element = &document.elements[index as usize];
        path.push(element.name);
        rules.check(&xml, &document, element, &path)?;
        open.push(element.next_sibling);
        open.push(NONE);
        open.push(element.first_child);
    }
    Ok(())
}

wharf_plugin::export!(XmlCheck as validator);
