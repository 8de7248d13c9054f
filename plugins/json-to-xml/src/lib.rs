//! `json-to-xml`: a transformer that makes XML of JSON, by the conventions of `xml-to-json`.
//!
//! ```json
//! {"order":{"@id":"7","line":[{"@sku":"A-1","#text":"2"},{"@sku":"B-9"}],"note":null,"total":19.9}}
//! ```
//! ```xml
//! <?xml version="1.0" encoding="UTF-8"?>
//! <order id="7"><line sku="A-1">2</line><line sku="B-9"/><note/><total>19.9</total></order>
//! ```
//!
//! The outermost object has one member, the root, unless `root` names one. Members that begin with the attribute
//! prefix are attributes; the text key's is text; an array is an element for each of its items, an empty array is none;
//! `null` and `{}` are empty elements; numbers stay as they were written, with all their digits. Order is kept.
//!
//! ```toml
//! [stage.config]
//! root = "order"                       # the whole payload becomes this element
//! attribute-prefix = "@"
//! text-key = "#text"
//! declaration = true                   # begin with <?xml version="1.0" encoding="UTF-8"?>
//! ```
//!
//! What XML cannot say is rejected with its JSON pointer: a name that is none, an array in an array, a control
//! character.

mod convert;

use serde::Deserialize;
use wharf_plugin::{Emit, Failure, Message, Out, Plugin, Problem, Stage, Transformed, Transformer};

pub use convert::convert;

/// How JSON becomes XML.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The root's name, where the payload is the root's value; `None`: the payload's one member is the root.
    pub root: Option<String>,
    /// Before the names of attributes.
    pub attribute_prefix: String,
    /// The member that holds the text of an element.
    pub text_key: String,
    /// Whether to begin with an XML declaration.
    pub declaration: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { root: None, attribute_prefix: "@".into(), text_key: "#text".into(), declaration: true }
    }
}

/// The plugin: [`convert()`] on each message.
#[derive(Debug)]
pub struct JsonToXml {
    config: Config,
}

impl Plugin for JsonToXml {
    type Config = Config;
    const SUMMARY: &'static str = "makes XML of JSON";
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        if let Some(root) = &config.root
            && !convert::is_name(root)
        {
            return Err(Problem::new("bad-config", format!("`{root}` is not a name in XML")).at("/root"));
        }
        if config.attribute_prefix.is_empty() {
            let message = "without a prefix, attributes and elements cannot be told apart";
            return Err(Problem::new("bad-config", message).at("/attribute-prefix"));
        }
        Ok(Self { config })
    }
}

impl Transformer for JsonToXml {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let xml = convert(&json_value::read(message.payload())?, &self.config)?;
        out.emit(Emit::bytes(xml.as_bytes()).set_headers(&[("content-type", b"application/xml")]))
    }
}

wharf_plugin::export!(JsonToXml as transformer);
