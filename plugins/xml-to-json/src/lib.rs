//! `xml-to-json`: a transformer that makes JSON of XML.
//!
//! ```xml
//! <order id="7"><line sku="A-1">2</line><line sku="B-9"/><note/><total>19.90</total></order>
//! ```
//! ```json
//! {"order":{"@id":"7","line":[{"@sku":"A-1","#text":"2"},{"@sku":"B-9"}],"note":null,"total":"19.90"}}
//! ```
//!
//! The structure is that of Python's `xmltodict`: an element is an object of its attributes (`@name`), its children
//! and its text (`#text`); one with text alone is a string, an empty one is `null`, and children of one name become
//! an array where the first of them stood. Text is trimmed at both ends, CDATA is text, comments and processing
//! instructions are left out, and names keep their namespace prefix.
//!
//! ```toml
//! [stage.config]
//! numbers = true                       # text that is a JSON number becomes one; "007" does not
//! arrays = ["line", "order/notes/note"] # always arrays, by name or by path from the root
//! attribute-prefix = "@"
//! text-key = "#text"
//! root = "keep"                        # or "strip", or { rename = "order" }
//! max-depth = 128
//! ```
//!
//! A document type is refused, whatever it declares: there are no entities to expand and nothing to fetch.

mod config;
mod convert;
mod json;

pub use config::{Config, Root};
pub use convert::convert;
pub use xml_document::DEPTH_MAX;

use wharf_plugin::{Emit, Failure, Message, Out, Plugin, Problem, Stage, Transformed, Transformer};

/// The plugin: [`convert()`] on each message.
#[derive(Debug)]
pub struct XmlToJson {
    config: Config,
}

impl Plugin for XmlToJson {
    type Config = Config;
    const SUMMARY: &'static str = "makes JSON of XML";
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        config.check()?;
        Ok(Self { config })
    }
}

impl Transformer for XmlToJson {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let xml = message.text().map_err(|failure| xml_document::not_utf8(message.payload(), failure))?;
        let json = convert(xml, &self.config)?;
        out.emit(Emit::bytes(&json).set_headers(&[("content-type", b"application/json")]))
    }
}

wharf_plugin::export!(XmlToJson as transformer);
