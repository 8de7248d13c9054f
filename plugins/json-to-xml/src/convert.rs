//! The walk over a value that writes its XML.

use std::borrow::Cow;

use json_value::{Path, Value};
use wharf_plugin::Problem;

use crate::Config;

/// The XML of a JSON value.
///
/// # Errors
/// `not-one-root`, `bad-name`, `nested-array`, `bad-attribute`, `bad-text` or `bad-character`, with the JSON pointer.
///
/// ```
/// let config = json_to_xml::Config { declaration: false, ..Default::default() };
/// let json = json_value::read(br#"{"a": {"@x": 1.0, "b": [null, "2 < 3"]}}"#)?;
/// assert_eq!(json_to_xml::convert(&json, &config)?, r#"<a x="1.0"><b/><b>2 &lt; 3</b></a>"#);
/// # Ok::<(), wharf_plugin::Problem>(())
/// ```
pub fn convert(json: &Value<'_>, config: &Config) -> Result<String, Problem> {
    let mut writer = Writer { config, path: Path::default(), out: String::new() };
    if config.declaration {
        writer.out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    }
    match &config.root {
        Some(root) => writer.element(root, json)?,
        None => {
            let (root, value) = one_member(json)?;
            writer.path.enter(root);
            writer.name(root)?;
            writer.element(root, value)?;
        }
    }
    Ok(writer.out)
}

/// The root: a document has exactly one.
fn one_member<'v, 'a>(json: &'v Value<'a>) -> Result<(&'v str, &'v Value<'a>), Problem> {
    let what = match json {
        Value::Object(members) => match members.as_slice() {
            [(_, Value::Array(_))] => "its one member is an array".to_owned(),
            [(root, value)] => return Ok((root, value)),
            members => format!("it has {} members", members.len()),
        },
        other => format!("it is {}", other.kind()),
    };
    let message = format!(
        "XML has one root: the payload is to be an object with one member that is no array, and {what}; \
         the configuration's `root` can name one"
    );
    Err(Problem::new("not-one-root", message))
}

struct Writer<'a> {
    config: &'a Config,
    path: Path<'a>,
    out: String,
}

impl<'a> Writer<'a> {
    /// Recursion ends with the depth that [`json_value::read`] allows.
    fn element(&mut self, name: &str, value: &'a Value<'_>) -> Result<(), Problem> {
        self.out.push('<');
        self.out.push_str(name);
        match value {
            Value::Null => self.out.push_str("/>"),
            Value::Object(members) => return self.object(name, members),
            Value::Array(_) => return Err(self.problem("nested-array", "an array in an array has no XML")),
            scalar => {
                self.out.push('>');
                self.text(plain(scalar), Place::Text)?;
                self.close(name);
            }
        }
        Ok(())
    }

    fn object(&mut self, name: &str, members: &'a [(Cow<'_, str>, Value<'_>)]) -> Result<(), Problem> {
        let prefix = self.config.attribute_prefix.as_str();
        for (key, value) in members {
            let Some(attribute) = self.attribute_name(key) else { continue };
            self.path.enter(key);
            self.name(attribute)?;
            if is_nested(value) {
                let message =
                    format!("`{prefix}` makes an attribute, whose value is a string, number or boolean");
                return Err(self.problem("bad-attribute", &message));
            }
            self.out.push(' ');
            self.out.push_str(attribute);
            self.out.push_str("=\"");
            self.text(plain(value), Place::Attribute)?;
            self.out.push('"');
            self.path.leave();
        }
        let opened = self.out.len();
        self.out.push('>');
        let empty = self.out.len();
        for (key, value) in members {
            if self.attribute_name(key).is_some() {
                continue;
            }
            self.path.enter(key);
            self.member(key, value)?;
            self.path.leave();
        }
        if self.out.len() == empty {
            self.out.truncate(opened);
            self.out.push_str("/>");
        } else {
            self.close(name);
        }
        Ok(())
    }

    fn member(&mut self, key: &str, value: &'a Value<'_>) -> Result<(), Problem> {
        if key == self.config.text_key {
            if is_nested(value) {
                return Err(self.problem("bad-text", "text is a string, number or boolean"));
            }
            return self.text(plain(value), Place::Text);
        }
        self.name(key)?;
        let Value::Array(items) = value else {
            return self.element(key, value);
        };
        for (index, item) in items.iter().enumerate() {
            self.path.enter_item(index);
            self.element(key, item)?;
            self.path.leave();
        }
        Ok(())
    }

    /// The attribute that a member is. The text key may begin as attributes do.
    fn attribute_name<'k>(&self, key: &'k str) -> Option<&'k str> {
        if key == self.config.text_key {
            return None;
        }
        key.strip_prefix(self.config.attribute_prefix.as_str())
    }

    fn close(&mut self, name: &str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    fn text(&mut self, text: &str, place: Place) -> Result<(), Problem> {
        for character in text.chars() {
            match character {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                // So that `]]>` never stands in text.
                '>' => self.out.push_str("&gt;"),
                // A reader would make a space or a line end of these.
                '\r' => self.out.push_str("&#13;"),
                '"' if place == Place::Attribute => self.out.push_str("&quot;"),
                '\n' if place == Place::Attribute => self.out.push_str("&#10;"),
                '\t' if place == Place::Attribute => self.out.push_str("&#9;"),
                '\t' | '\n' | ' '..='\u{fffd}' | '\u{10000}'.. => self.out.push(character),
                control => {
                    let message = format!("the character U+{:04X} has no XML", u32::from(control));
                    return Err(self.problem("bad-character", &message));
                }
            }
        }
        Ok(())
    }

    fn name(&self, name: &str) -> Result<(), Problem> {
        if is_name(name) {
            return Ok(());
        }
        Err(self.problem("bad-name", &format!("`{name}` is not a name in XML")))
    }

    fn problem(&self, code: &'static str, message: &str) -> Problem {
        self.path.problem(code, message)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Text,
    Attribute,
}

fn is_nested(value: &Value<'_>) -> bool {
    matches!(value, Value::Array(_) | Value::Object(_))
}

/// A number as it was written, and nothing for `null`.
fn plain<'v>(scalar: &'v Value<'_>) -> &'v str {
    scalar.plain().unwrap_or_default()
}

/// XML 1.0 §2.3; what is not ASCII counts as a letter.
pub(crate) fn is_name(name: &str) -> bool {
    let starts = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':' | 0x80..);
    let continues = |byte: u8| starts(byte) || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let mut bytes = name.bytes();
    bytes.next().is_some_and(starts) && bytes.all(continues)
}
