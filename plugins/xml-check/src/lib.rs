//! `xml-check`: a validator of XML: well-formed, and built as a few rules say. No XSD.
//!
//! ```toml
//! [stage.config]
//! root = "order"
//! namespaces = true                              # every prefix is declared by an `xmlns:…` around it; not looked at without
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
//! `<order id="7"><c:customer/></order>` has the code `namespace`: nothing declares the prefix `c`. A pattern is of the whole value. Names are compared as they are written, prefixes included. An element that no rule
//! is for is free; one that several are for keeps them all. A document type is refused, and so is what is nested more
//! than 128 deep.

mod prefixes;
mod rules;

use wharf_plugin::{Failure, Message, Plugin, Problem, Stage, Validator};
use xml_document::{DEPTH_MAX, NONE, with_newlines};

use prefixes::Prefixes;
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

/// A step on the way through a document.
enum Step {
    /// To this element, after all that is before it.
    Into(u32),
    /// Back from it, after all that is in it.
    OutOf(u32),
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
    let mut prefixes = Prefixes::default();
    // Depth first, without recursion: for each element on the path its end, and before that its next sibling.
    let mut ahead = vec![Step::Into(0)];
    while let Some(step) = ahead.pop() {
        match step {
            Step::Into(index) => {
                let element = &document.elements[index as usize];
                path.push(element.name);
                if rules.namespaces {
                    prefixes.enter(&xml, &document, element)?;
                }
                rules.check(&xml, &document, element, &path)?;
                let into = |index: u32| (index != NONE).then_some(Step::Into(index));
                ahead.extend(into(element.next_sibling));
                ahead.push(Step::OutOf(index));
                ahead.extend(into(element.first_child));
            }
            Step::OutOf(index) => {
                path.pop();
                if rules.namespaces {
                    prefixes.leave(&document, &document.elements[index as usize]);
                }
            }
        }
    }
    Ok(())
}

wharf_plugin::export!(XmlCheck as validator);
