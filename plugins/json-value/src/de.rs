//! A value out of a configuration: what a plugin is given with its stage, in the order in which it was written there.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::{Value, write_f64};

/// Numbers are those that the deserializer has read, and so no more than 64 bits: for a payload, whose numbers stay what
/// they were written as, there is [`read`](fn@crate::read). Values lie as deep in one another as the deserializer allows.
impl<'de> Deserialize<'de> for Value<'static> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value<'static>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, bool: bool) -> Result<Self::Value, E> {
        Ok(Value::Bool(bool))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Value::Number(number.to_string().into()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Value::Number(number.to_string().into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        let mut text = Vec::new();
        if !write_f64(&mut text, number) {
            return Err(E::custom(format!("{number} has no JSON")));
        }
        Ok(Value::Number(String::from_utf8(text).expect("digits are ASCII").into()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::String(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut all: Vec<(Cow<'static, str>, Value<'static>)> = Vec::new();
        while let Some((name, value)) = members.next_entry::<String, _>()? {
            all.push((name.into(), value));
        }
        if let Some(name) = crate::first_duplicate(&all) {
            return Err(A::Error::custom(format!("an object has two members `{name}`")));
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_value_keeps_its_order() {
        let json = r#"{"b":[1,-2,1.5,"é"],"a":{"z":null,"y":true}}"#;
        let value: Value<'static> = serde_json::from_str(json).unwrap();

        assert_eq!(String::from_utf8(value.to_json()).unwrap(), json);
        assert!(serde_json::from_str::<Value<'static>>(r#"{"a":1,"a":2}"#).is_err());
    }
}
