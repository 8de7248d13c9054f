//! JSON for stages that convert and edit.
//!
//! A [`Value`] keeps what a conversion must not lose: numbers are the text that was written, so that
//! `12345678901234567890123` stays what it is; members keep their order; strings without escapes borrow from the
//! payload. What is ambiguous is refused: an object with two members of one name, a lone surrogate, values more than
//! [`DEPTH_MAX`] deep in one another.
//!
//! ```
//! use json_value::{Pointer, Value};
//!
//! let value = json_value::read(br#"{"id": 12345678901234567890123, "tags": ["a"]}"#)?;
//! let pointer: Pointer = "/id".parse()?;
//! assert_eq!(pointer.find(&value), Some(&Value::Number("12345678901234567890123".into())));
//! assert_eq!(value.to_json(), br#"{"id":12345678901234567890123,"tags":["a"]}"#);
//! # Ok::<(), wharf_plugin::Problem>(())
//! ```

mod de;
mod number;
mod pattern;
mod pointer;
mod read;
mod text;
mod write;

use std::borrow::Cow;

pub use number::{Integer, Whole, integer, is_exact, real, whole, write_f64};
pub use pattern::{Edit, Pattern, decode_bytes};
pub use pointer::{Path, Pointer};
pub use read::{first_duplicate, read};
pub use text::{Bytes, from_rfc3339, rfc3339};
pub use write::write_string;

/// How deep arrays and objects may lie in one another: what every stage can walk within its stack.
pub const DEPTH_MAX: usize = 128;

/// A value that borrows what it can from the payload.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// The text of a number, as JSON writes numbers; [`integer`] and [`real`] read it.
    Number(Cow<'a, str>),
    /// Text, without its escapes.
    String(Cow<'a, str>),
    /// What JSON has no form of, and other formats do; as JSON it is a text in base64.
    Bytes(Vec<u8>),
    /// Values, in order.
    Array(Vec<Self>),
    /// Members, in order; no two have one name.
    Object(Vec<(Cow<'a, str>, Self)>),
}

impl<'a> Value<'a> {
    /// The member `name` of an object.
    pub fn member(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(own, _)| own == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Adds the member `name`, or replaces it where it stands; `false` where this is no object.
    pub fn set(&mut self, name: Cow<'a, str>, value: Self) -> bool {
        let Self::Object(members) = self else { return false };
        match members.iter_mut().find(|(own, _)| *own == name) {
            Some((_, old)) => *old = value,
            None => members.push((name, value)),
        }
        true
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// What it is, for a problem's sentence: `an array`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Bytes(_) => "bytes",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// What a header or a cell holds for it: a string's text, or the JSON of a number or boolean. Nothing for the
    /// others.
    pub fn plain(&self) -> Option<&str> {
        match self {
            Self::String(text) | Self::Number(text) => Some(text),
            Self::Bool(true) => Some("true"),
            Self::Bool(false) => Some("false"),
            Self::Null | Self::Bytes(_) | Self::Array(_) | Self::Object(_) => None,
        }
    }

    /// The same value, borrowing nothing. Recursion ends with the depth that [`read()`] allows.
    pub fn into_owned<'b>(self) -> Value<'b> {
        let text = |text: Cow<'a, str>| Cow::Owned(text.into_owned());
        match self {
            Self::Null => Value::Null,
            Self::Bool(bool) => Value::Bool(bool),
            Self::Number(number) => Value::Number(text(number)),
            Self::String(string) => Value::String(text(string)),
            Self::Bytes(bytes) => Value::Bytes(bytes),
            Self::Array(items) => Value::Array(items.into_iter().map(Self::into_owned).collect()),
            Self::Object(members) => {
                let own = |(name, value): (_, Self)| (text(name), value.into_owned());
                Value::Object(members.into_iter().map(own).collect())
            }
        }
    }

    /// As JSON, without white space.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}
