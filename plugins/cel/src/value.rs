//! Values of JSON in CEL.

use std::collections::HashMap;
use std::sync::Arc;

use cel_lang::Value;
use cel_lang::objects::{Key, Map};
use json_value::{Integer, Path, integer, real};
use wharf_plugin::Problem;

/// The same value in CEL. Recursion ends with the depth that the reader of JSON allows.
///
/// # Errors
/// `number-too-large`, with the JSON pointer.
pub(crate) fn of_json(json: &json_value::Value<'_>) -> Result<Value, Problem> {
    at(json, &mut Path::default())
}

fn at<'v>(json: &'v json_value::Value<'_>, path: &mut Path<'v>) -> Result<Value, Problem> {
    Ok(match json {
        json_value::Value::Null => Value::Null,
        json_value::Value::Bool(bool) => Value::Bool(*bool),
        json_value::Value::Number(digits) => match integer(digits) {
            Some(Integer::Signed(number)) => Value::Int(number),
            Some(Integer::Unsigned(number)) => Value::UInt(number),
            Some(Integer::TooLarge) => {
                return Err(
                    path.problem("number-too-large", "an integer of more than 64 bits has no place in CEL")
                );
            }
            None => Value::Float(
                real(digits)
                    .ok_or_else(|| path.problem("number-too-large", "the number is past all doubles"))?,
            ),
        },
        json_value::Value::String(string) => text(string),
        json_value::Value::Bytes(bytes) => Value::Bytes(Arc::new(bytes.clone())),
        json_value::Value::Array(items) => {
            let mut values = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                path.enter_item(index);
                values.push(at(item, path)?);
                path.leave();
            }
            Value::List(Arc::new(values))
        }
        json_value::Value::Object(members) => {
            let mut map = HashMap::with_capacity(members.len());
            for (name, member) in members {
                path.enter(name);
                map.insert(Key::String(Arc::new(name.to_string())), at(member, path)?);
                path.leave();
            }
            Value::Map(Map { map: Arc::new(map) })
        }
    })
}

pub(crate) fn text(text: &str) -> Value {
    Value::String(Arc::new(text.to_owned()))
}

/// A map of those that are text.
pub(crate) fn headers(headers: Vec<(String, Vec<u8>)>) -> Value {
    let pairs = headers.into_iter().filter_map(|(name, value)| {
        Some((Key::String(Arc::new(name)), Value::String(Arc::new(String::from_utf8(value).ok()?))))
    });
    Value::Map(Map { map: Arc::new(pairs.collect()) })
}
