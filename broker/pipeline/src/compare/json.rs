//! JSON whose numbers are kept as they were written: a float has sixteen digits, an order number may have twenty.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

/// A value in JSON.
#[derive(Debug)]
pub(super) enum Json<'a> {
    /// `null`, a truth value or a text.
    Plain(Value),
    /// A number, as it was written and as it is read.
    Number(&'a str, Number),
    List(Vec<Self>),
    /// Of members of one name, the last.
    Object(BTreeMap<String, Self>),
}

impl<'a> Json<'a> {
    /// Reads one; `None`: it is none.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut reader = serde_json::Deserializer::from_str(text);
        let json = One(&mut Numbers(text)).deserialize(&mut reader).ok()?;
        reader.end().ok()?;
        Some(json)
    }

    /// Whether two values without elements or members are the same.
    pub(super) fn is_same_leaf(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain(a), Self::Plain(b)) => a == b,
            (Self::Number(text, a), Self::Number(other, b)) => {
                text == other || (a == b && decimal(text) == decimal(other))
            }
            _ => false,
        }
    }
}

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(value) => value.fmt(f),
            Self::Number(text, _) => f.write_str(text),
            Self::List(elements) => {
                f.write_str("[")?;
                for (i, element) in elements.iter().enumerate() {
                    write!(f, "{}{element}", if i > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                for (i, (name, member)) in members.iter().enumerate() {
                    let name = Value::from(name.as_str());
                    write!(f, "{}{name}:{member}", if i > 0 { "," } else { "" })?;
                }
                f.write_str("}")
            }
        }
    }
}

/// The numbers of a text in JSON, in its order: this is what is left of it.
struct Numbers<'a>(&'a str);

impl<'a> Numbers<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let bytes = self.0.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            match bytes[i] {
                b'"' => i = end_of_text(bytes, i + 1),
                b'-' | b'0'..=b'9' => {
                    let is_more = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                    let length = bytes[i..].iter().take_while(|byte| is_more(byte)).count();
                    let (number, rest) = self.0[i..].split_at(length);
                    self.0 = rest;
                    return Some(number);
                }
                _ => i += 1,
            }
        }
        None
    }
}

/// Where it goes on behind a text whose first byte is at `i`.
fn end_of_text(bytes: &[u8], mut i: usize) -> usize {
    while i < bytes.len() && bytes[i] != b'"' {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    i + 1
}

/// A number apart from how it is written: whether it is below zero, its digits without zeros around them, and the power of
/// ten that the last of them counts.
fn decimal(text: &str) -> (bool, String, i64) {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let far = if exponent.starts_with('-') { i64::MIN } else { i64::MAX };
    let exponent: i64 = exponent.parse().unwrap_or(far);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let written = format!("{whole}{fraction}");
    let digits = written.trim_start_matches('0').trim_end_matches('0');
    if digits.is_empty() {
        return (false, String::new(), 0);
    }
    let zeros = written.len() - written.trim_end_matches('0').len();
    let power = exponent.saturating_add_unsigned(zeros as u64).saturating_sub_unsigned(fraction.len() as u64);
    (text.starts_with('-'), digits.to_owned(), power)
}

/// Reads one value, and takes the text of each number from where they stand.
struct One<'n, 'a>(&'n mut Numbers<'a>);

impl<'a> One<'_, 'a> {
    fn number<E: Error>(self, value: impl Into<Option<Number>>) -> Result<Json<'a>, E> {
        let number = self.0.next().zip(value.into());
        number.map(|(text, value)| Json::Number(text, value)).ok_or_else(|| E::custom("no number of JSON"))
    }
}

impl<'de, 'a> DeserializeSeed<'de> for One<'_, 'a> {
    type Value = Json<'a>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'a>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, 'a> Visitor<'de> for One<'_, 'a> {
    type Value = Json<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value in JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Json<'a>, E> {
        Ok(Json::Plain(Value::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json<'a>, E> {
        Ok(Json::Plain(value.into()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json<'a>, E> {
        Ok(Json::Plain(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json<'a>, E> {
        self.number(Number::from(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json<'a>, E> {
        self.number(Number::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json<'a>, E> {
        self.number(Number::from_f64(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json<'a>, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = from.next_element_seed(One(&mut *self.0))? {
            elements.push(element);
        }
        Ok(Json::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json<'a>, A::Error> {
        let mut members = BTreeMap::new();
        while let Some(name) = from.next_key::<String>()? {
            members.insert(name, from.next_value_seed(One(&mut *self.0))?);
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_kept_as_they_were_written() {
        let text = r#" {"a\"1":[1.50,-2E+3],"2":{"b":12345678901234567890123},"c":"9 \\","d":null,"a":7} "#;
        let json = Json::read(text.as_bytes()).expect("it is JSON");
        let written = r#"{"2":{"b":12345678901234567890123},"a":7,"a\"1":[1.50,-2E+3],"c":"9 \\","d":null}"#;
        assert_eq!(json.to_string(), written);
        for wrong in ["", "{", "1 2", "[1,]", "01", "nul", "\"\u{1}\""] {
            assert!(Json::read(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_number_is_the_same_in_each_way_to_write_it() {
        let same = |a: &str, b: &str| decimal(a) == decimal(b);
        assert!(same("1", "1.0") && same("100", "1e2") && same("0.5", "5E-1") && same("0", "-0.00e7"));
        assert!(same("120", "12e1") && same("-10.50", "-1.05e+1"));
        assert!(!same("1", "-1") && !same("1", "10") && !same("0.1", "0.01"));
        assert!(!same("9007199254740993", "9007199254740992"));
        assert!(!same("1e-99999999999999999999", "1e-99999999999999999"));
    }
}
