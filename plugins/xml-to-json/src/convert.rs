//! The walk over a document that writes its JSON.

use wharf_plugin::Problem;
use xml_document::{Document, Element, NONE, with_newlines};

use crate::json::{self, ControlCharacter};
use crate::{Config, Root};

/// The JSON of an XML document.
///
/// # Errors
/// `not-xml`, `too-deep`, `doctype-refused` or `unsupported-encoding`, with the line and column.
///
/// ```
/// let json = xml_to_json::convert("<a x='1'><b/><b>2</b></a>", &xml_to_json::Config::default())?;
/// assert_eq!(json, br#"{"a":{"@x":"1","b":[null,"2"]}}"#);
/// # Ok::<(), wharf_plugin::Problem>(())
/// ```
pub fn convert(xml: &str, config: &Config) -> Result<Vec<u8>, Problem> {
    let xml = with_newlines(xml);
    let document = xml_document::read(&xml, config.max_depth.min(crate::DEPTH_MAX))?;
    let mut writer = Writer {
        document: &document,
        config,
        by_path: config.arrays.iter().any(|array| array.contains('/')),
        path: String::new(),
        out: Vec::with_capacity(xml.len()),
    };
    writer.root().map_err(|ControlCharacter(byte)| {
        let offset = xml.bytes().position(|other| other == byte).unwrap_or_default();
        xml_document::not_xml(&xml, offset, &format!("the control character U+{byte:04X} is not allowed"))
    })?;
    Ok(writer.out)
}

struct Writer<'a> {
    document: &'a Document<'a>,
    config: &'a Config,
    by_path: bool,
    /// From the root to the element that is written; kept only for arrays by path.
    path: String,
    out: Vec<u8>,
}

impl Writer<'_> {
    fn root(&mut self) -> Result<(), ControlCharacter> {
        let root = &self.document.elements[0];
        if self.config.root == Root::Strip {
            self.enter(root.name);
            return self.value(root);
        }
        self.out.push(b'{');
        match &self.config.root {
            Root::Rename(name) => {
                json::string(&mut self.out, name)?;
                self.out.push(b':');
            }
            Root::Keep | Root::Strip => self.key(root.name),
        }
        self.group(root)?;
        self.out.push(b'}');
        Ok(())
    }

    /// The value of a member: one element, or the array of all that have its name.
    fn group(&mut self, first: &Element<'_>) -> Result<(), ControlCharacter> {
        let outer = self.enter(first.name);
        let is_array = first.next_of_name != NONE || self.is_array(first.name);
        if is_array {
            self.out.push(b'[');
        }
        self.value(first)?;
        let mut next = first.next_of_name;
        while next != NONE {
            let element = &self.document.elements[next as usize];
            self.out.push(b',');
            self.value(element)?;
            next = element.next_of_name;
        }
        if is_array {
            self.out.push(b']');
        }
        self.path.truncate(outer);
        Ok(())
    }

    /// Recursion ends at the depth that the reader allowed.
    fn value(&mut self, element: &Element<'_>) -> Result<(), ControlCharacter> {
        let (from, to) = element.attributes;
        if from == to && element.first_child == NONE {
            return match &element.text {
                Some(text) => self.text(text),
                None => {
                    self.out.extend_from_slice(b"null");
                    Ok(())
                }
            };
        }
        let mut separator = b'{';
        for attribute in &self.document.attributes[from as usize..to as usize] {
            self.out.push(separator);
            separator = b',';
            // The prefix is the operator's and may need escapes; the name cannot.
            json::string(&mut self.out, &self.config.attribute_prefix)?;
            self.out.pop();
            json::append(&mut self.out, attribute.name.as_bytes());
            self.out.extend_from_slice(b"\":");
            self.text(&attribute.value)?;
        }
        let mut child = element.first_child;
        while child != NONE {
            let first = &self.document.elements[child as usize];
            if !first.repeats {
                self.out.push(separator);
                separator = b',';
                self.key(first.name);
                self.group(first)?;
            }
            child = first.next_sibling;
        }
        if let Some(text) = &element.text {
            self.out.push(separator);
            json::string(&mut self.out, &self.config.text_key)?;
            self.out.push(b':');
            self.text(text)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), ControlCharacter> {
        if self.config.numbers && json::is_number(text) {
            json::append(&mut self.out, text.as_bytes());
            return Ok(());
        }
        json::string(&mut self.out, text)
    }

    /// The name of an element: it has no character that JSON escapes.
    fn key(&mut self, name: &str) {
        self.out.push(b'"');
        json::append(&mut self.out, name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn is_array(&self, name: &str) -> bool {
        let is =
            |array: &String| array == name || (self.by_path && array.trim_start_matches('/') == self.path);
        self.config.arrays.iter().any(is)
    }

    /// Adds a name to the path, and gives the length to go back to.
    fn enter(&mut self, name: &str) -> usize {
        let outer = self.path.len();
        if self.by_path {
            if outer > 0 {
                self.path.push('/');
            }
            self.path.push_str(name);
        }
        outer
    }
}
