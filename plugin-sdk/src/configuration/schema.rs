//! The JSON Schema of a shape, written as a constant: first counted, then put in as many bytes.

use crate::{Bound, Member, Shape};

/// The JSON Schema of a [`Configuration`](crate::Configuration), as a constant text: for
/// [`Plugin::CONFIG_SCHEMA`](crate::Plugin::CONFIG_SCHEMA). The attributes of functions use it by themselves.
///
/// ```
/// use wharf_plugin::{NoConfig, config_schema};
///
/// const SCHEMA: &str = config_schema!(NoConfig);
/// assert!(SCHEMA.ends_with(r#""type":"object","additionalProperties":false}"#));
/// ```
#[macro_export]
macro_rules! config_schema {
    ($config:ty) => {{
        const SHAPE: &$crate::Shape = &<$config as $crate::Configuration>::SHAPE;
        const BYTES: usize = $crate::Shape::schema_bytes(SHAPE);
        const SCHEMA: [u8; BYTES] = $crate::Shape::schema::<BYTES>(SHAPE);
        const TEXT: &str = match ::core::str::from_utf8(&SCHEMA) {
            ::core::result::Result::Ok(text) => text,
            ::core::result::Result::Err(_) => ::core::panic!("a schema is text"),
        };
        TEXT
    }};
}

impl Shape {
    /// How long the schema is.
    #[doc(hidden)]
    pub const fn schema_bytes(&self) -> usize {
        let mut writer = Writer { bytes: [], length: 0 };
        writer.document(self);
        writer.length
    }

    /// The schema, in exactly as many bytes.
    #[doc(hidden)]
    pub const fn schema<const BYTES: usize>(&self) -> [u8; BYTES] {
        let mut writer = Writer { bytes: [0; BYTES], length: 0 };
        writer.document(self);
        writer.bytes
    }
}

/// Writes a schema into `bytes`, as far as they go, and counts.
struct Writer<const BYTES: usize> {
    bytes: [u8; BYTES],
    length: usize,
}

impl<const BYTES: usize> Writer<BYTES> {
    const fn document(&mut self, shape: &Shape) {
        self.raw(r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","#);
        let before = self.length;
        self.keywords(shape, None, None);
        if self.length == before {
            self.raw(r#""description":"anything""#);
        }
        self.raw("}");
    }

    /// `{…}`, with a description where there is one.
    const fn value(&mut self, shape: &Shape, about: &str) {
        self.raw("{");
        let before = self.length;
        self.keywords(shape, None, None);
        if !about.is_empty() {
            if self.length != before {
                self.raw(",");
            }
            self.raw(r#""description":"#);
            self.text(about);
        }
        self.raw("}");
    }

    const fn keywords(&mut self, shape: &Shape, min: Option<Bound>, max: Option<Bound>) {
        match *shape {
            Shape::Any => {}
            Shape::Null => self.raw(r#""type":"null""#),
            Shape::Boolean => self.raw(r#""type":"boolean""#),
            Shape::Integer => self.ranged("integer", ["minimum", "maximum"], min, max),
            Shape::Number => self.ranged("number", ["minimum", "maximum"], min, max),
            Shape::Text => self.ranged("string", ["minLength", "maxLength"], min, max),
            Shape::Word(word) => {
                self.raw(r#""const":"#);
                self.text(word);
            }
            Shape::Words(words) => {
                self.raw(r#""enum":"#);
                self.texts(words);
            }
            Shape::List(items) => {
                self.ranged("array", ["minItems", "maxItems"], min, max);
                self.raw(r#","items":"#);
                self.value(items, "");
            }
            Shape::Map(values) => {
                self.ranged("object", ["minProperties", "maxProperties"], min, max);
                self.raw(r#","additionalProperties":"#);
                self.value(values, "");
            }
            Shape::Object { members, open } => self.object(members, open),
            Shape::Choice(shapes) => self.choice(shapes),
            Shape::Optional(inner) => {
                self.raw(r#""anyOf":[{"#);
                self.keywords(inner, min, max);
                self.raw(r#"},{"type":"null"}]"#);
            }
            Shape::Bounded { shape, min: own_min, max: own_max } => {
                // What a field says holds in place of what its type says.
                let min = if min.is_some() { min } else { own_min };
                let max = if max.is_some() { max } else { own_max };
                self.keywords(shape, min, max);
            }
        }
    }

    const fn ranged(&mut self, kind: &str, names: [&str; 2], min: Option<Bound>, max: Option<Bound>) {
        self.raw(r#""type":""#);
        self.raw(kind);
        self.raw("\"");
        self.bound(names[0], min);
        self.bound(names[1], max);
    }

    const fn bound(&mut self, name: &str, bound: Option<Bound>) {
        let Some(bound) = bound else { return };
        self.raw(",\"");
        self.raw(name);
        self.raw("\":");
        match bound {
            Bound::Decimal(text) => self.raw(text),
            Bound::Whole(number) => self.number(number),
        }
    }

    const fn object(&mut self, members: &[Member], open: bool) {
        self.raw(r#""type":"object""#);
        let mut required = 0;
        let mut i = 0;
        while i < members.len() {
            self.raw(if i == 0 { r#","properties":{"# } else { "," });
            self.text(members[i].name);
            self.raw(":");
            self.value(members[i].shape, members[i].about);
            required += members[i].required as usize;
            i += 1;
        }
        if !members.is_empty() {
            self.raw("}");
        }
        if required > 0 {
            self.raw(r#","required":["#);
            let mut written = 0;
            let mut i = 0;
            while i < members.len() {
                if members[i].required {
                    if written > 0 {
                        self.raw(",");
                    }
                    self.text(members[i].name);
                    written += 1;
                }
                i += 1;
            }
            self.raw("]");
        }
        if !open {
            self.raw(r#","additionalProperties":false"#);
        }
    }

    const fn choice(&mut self, shapes: &[Shape]) {
        self.raw(r#""anyOf":["#);
        let mut i = 0;
        while i < shapes.len() {
            if i > 0 {
                self.raw(",");
            }
            self.value(&shapes[i], "");
            i += 1;
        }
        self.raw("]");
    }

    const fn texts(&mut self, texts: &[&str]) {
        self.raw("[");
        let mut i = 0;
        while i < texts.len() {
            if i > 0 {
                self.raw(",");
            }
            self.text(texts[i]);
            i += 1;
        }
        self.raw("]");
    }

    /// A JSON string (RFC 8259 §7).
    const fn text(&mut self, text: &str) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        self.raw("\"");
        let bytes = text.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            match bytes[i] {
                byte @ (b'"' | b'\\') => {
                    self.raw("\\");
                    self.byte(byte);
                }
                byte @ 0..0x20 => {
                    self.raw("\\u00");
                    self.byte(HEX[(byte >> 4) as usize]);
                    self.byte(HEX[(byte & 15) as usize]);
                }
                byte => self.byte(byte),
            }
            i += 1;
        }
        self.raw("\"");
    }

    const fn number(&mut self, number: i128) {
        if number < 0 {
            self.raw("-");
        }
        let magnitude = number.unsigned_abs();
        let mut place = 1;
        while magnitude / place >= 10 {
            place *= 10;
        }
        while place > 0 {
            self.byte(b'0' + (magnitude / place % 10) as u8);
            place /= 10;
        }
    }

    const fn raw(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            self.byte(bytes[i]);
            i += 1;
        }
    }

    const fn byte(&mut self, byte: u8) {
        if self.length < BYTES {
            self.bytes[self.length] = byte;
        }
        self.length += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    fn schema(text: &str) -> Value {
        let mut schema: Value = serde_json::from_str(text).expect("a schema is JSON");
        let draft = schema.as_object_mut().and_then(|schema| schema.remove("$schema"));
        assert_eq!(draft, Some(json!("https://json-schema.org/draft/2020-12/schema")));
        schema
    }

    #[test]
    fn numbers_and_texts_are_written_as_json_writes_them() {
        const AWKWARD: Shape = Shape::Object {
            members: &[
                Member {
                    name: "a\"b\\\n",
                    shape: &Shape::Bounded {
                        shape: &Shape::Integer,
                        min: Some(Bound::Whole(-120)),
                        max: Some(Bound::Whole(0)),
                    },
                    about: "é",
                    required: true,
                },
                Member {
                    name: "n",
                    shape: &Shape::Bounded {
                        shape: &Shape::Number,
                        min: Some(Bound::Decimal("-0.5")),
                        max: None,
                    },
                    about: "",
                    required: false,
                },
            ],
            open: true,
        };
        const BYTES: usize = AWKWARD.schema_bytes();
        let text = String::from_utf8(AWKWARD.schema::<BYTES>().to_vec()).expect("text");
        assert_eq!(
            schema(&text),
            json!({
                "type": "object",
                "required": ["a\"b\\\n"],
                "properties": {
                    "a\"b\\\n": {"type": "integer", "minimum": -120, "maximum": 0, "description": "é"},
                    "n": {"type": "number", "minimum": -0.5},
                },
            })
        );
    }

    #[test]
    fn standard_types_have_their_shapes() {
        let of = |text| schema(text);
        assert_eq!(
            of(config_schema!(Vec<u8>)),
            json!({"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}})
        );
        assert_eq!(
            of(config_schema!(BTreeMap<String, Option<bool>>)),
            json!({"type": "object", "additionalProperties": {"anyOf": [{"type": "boolean"}, {"type": "null"}]}})
        );
        assert_eq!(of(config_schema!(Value)), json!({"description": "anything"}));
    }
}
