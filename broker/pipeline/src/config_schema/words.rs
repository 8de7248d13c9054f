//! What a schema takes, and what a value is, in words for a sentence.

use serde_json::{Map, Value};

use crate::config_schema::{alternatives, types};

/// How many values are named.
const NAMED_MAX: usize = 20;

/// How much of a text is shown.
const SHOWN_BYTES_MAX: usize = 64;

/// What a schema takes, in a few words.
pub(super) fn expected(schema: &Map<String, Value>) -> String {
    if let Some(only) = schema.get("const") {
        return only.to_string();
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let values = values.iter().take(NAMED_MAX).map(Value::to_string).collect::<Vec<_>>();
        return if values.len() == 1 { values.concat() } else { format!("one of {}", values.join(", ")) };
    }
    let required: Vec<_> = alternatives(schema, "required").iter().filter_map(Value::as_str).collect();
    let words = types(schema).into_iter().map(|each| match each {
        "object" if !required.is_empty() => format!("an object with {}", required.join(", ")),
        "object" | "array" | "integer" => format!("an {each}"),
        "null" => "null".to_owned(),
        "boolean" => "true or false".to_owned(),
        "string" => "a text".to_owned(),
        each => format!("a {each}"),
    });
    let words = words.collect::<Vec<_>>();
    if words.is_empty() { "what is wanted here".to_owned() } else { words.join(" or ") }
}

/// A value, short enough for a sentence.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.len() > SHOWN_BYTES_MAX => {
            format!("{:?}", format!("{}…", &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]))
        }
        value => value.to_string(),
    }
}
