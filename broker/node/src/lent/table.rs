//! The content of a table: JSON, an object of keys and values, or CSV, `key,value` a line.

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// The members of an object, as often as they are there.
struct Members(Vec<(String, serde_json::Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Members, A::Error> {
                let mut all = Vec::new();
                while let Some(member) = members.next_entry()? {
                    all.push(member);
                }
                Ok(Members(all))
            }
        }

        deserializer.deserialize_map(All)
    }
}

/// Refuses keys that are there twice: one of the values would be nobody's.
pub(super) fn check_keys(entries: &[(String, Bytes)]) -> Result<(), String> {
    let mut known = HashSet::with_capacity(entries.len());
    match entries.iter().find(|(key, _)| !known.insert(key)) {
        Some((key, _)) => Err(format!("the key {key:?} is there twice; keep one of them")),
        None => Ok(()),
    }
}

/// The pairs of a table, as they are written.
pub(super) fn entries(format: &str, content: &[u8]) -> Result<Vec<(String, Bytes)>, String> {
    match format {
        "csv" => csv(content),
        _ => {
            let Members(object) =
                serde_json::from_slice(content).map_err(|error| format!("it is no JSON object: {error}"))?;
            let value = |value: serde_json::Value| match value {
                serde_json::Value::String(text) => Bytes::from(text),
                other => Bytes::from(other.to_string()),
            };
            Ok(object.into_iter().map(|(key, each)| (key, value(each))).collect())
        }
    }
}

/// Two columns, without a line of titles; a field in quotes may hold commas, line ends and doubled quotes (RFC 4180).
fn csv(content: &[u8]) -> Result<Vec<(String, Bytes)>, String> {
    let text = std::str::from_utf8(content).map_err(|error| {
        let line = content[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line}: it is not UTF-8")
    })?;
    // Spreadsheets write a byte order mark, which is no part of the first key.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut pairs, mut rest, mut line) = (Vec::new(), text, 1);
    while !rest.is_empty() {
        let begin = rest;
        let (key, after) = field(rest).map_err(|problem| format!("line {line}: {problem}"))?;
        let Some(after) = after.strip_prefix(',') else {
            if key.is_empty() {
                rest = next_line(after);
                line += 1;
                continue;
            }
            return Err(format!("line {line}: there is no comma after the key {key:?}"));
        };
        let (value, after) = field(after).map_err(|problem| format!("line {line}: {problem}"))?;
        if !(after.is_empty() || after.starts_with('\n') || after.starts_with("\r\n")) {
            return Err(format!(
                "line {line}: there are more than two fields; put a value with commas in quotes"
            ));
        }
        pairs.push((key, Bytes::from(value)));
        rest = next_line(after);
        line += begin[..begin.len() - rest.len()].matches('\n').count();
    }
    Ok(pairs)
}

fn next_line(rest: &str) -> &str {
    rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix('\n')).unwrap_or(rest)
}

/// One field, and what follows it.
fn field(text: &str) -> Result<(String, &str), String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', '\n']).unwrap_or(text.len());
        let field = &text[..end];
        // The end of a line may be of two characters.
        let field =
            if text[end..].starts_with('\n') { field.strip_suffix('\r').unwrap_or(field) } else { field };
        return Ok((field.to_owned(), &text[field.len()..]));
    };
    let (mut field, mut rest) = (String::new(), quoted);
    loop {
        let Some(end) = rest.find('"') else { return Err("a quote is not closed".to_owned()) };
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Ok((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn table(format: &str, content: &str) -> Result<BTreeMap<String, String>, String> {
        let text = |value: Bytes| String::from_utf8(value.to_vec()).expect("text");
        Ok(entries(format, content.as_bytes())?.into_iter().map(|(key, value)| (key, text(value))).collect())
    }

    #[test]
    fn a_table_is_an_object_or_two_columns() {
        let json = table("json", r#"{"apple": "10", "pear": {"price": 12}, "none": null}"#).expect("a table");
        assert_eq!(json["apple"], "10");
        assert_eq!(json["pear"], "{\"price\":12}");
        assert_eq!(json["none"], "null");

        let csv = table("csv", "apple,10\r\n\"a, \"\"b\"\"\",\"two\nlines\"\n\nlast,\n").expect("a table");
        assert_eq!(csv["apple"], "10");
        assert_eq!(csv["a, \"b\""], "two\nlines");
        assert_eq!((csv["last"].as_str(), csv.len()), ("", 3));
    }

    #[test]
    fn a_mark_of_the_byte_order_is_no_part_of_a_key() {
        assert_eq!(table("csv", "\u{feff}apple,1\npear,2\n").expect("a table")["apple"], "1");
    }

    #[test]
    fn a_key_that_is_there_twice_is_refused() {
        for (format, content) in [("csv", "a,1\nb,2\na,3\n"), ("json", r#"{"a": 1, "b": 2, "a": 3}"#)] {
            let pairs = entries(format, content.as_bytes()).expect("pairs");
            assert_eq!(pairs.len(), 3);
            assert!(check_keys(&pairs).expect_err("twice").contains("\"a\" is there twice"));
            assert!(check_keys(&pairs[..2]).is_ok());
        }
    }

    #[test]
    fn what_is_no_table_says_in_which_line() {
        assert!(table("csv", "a,1\nb\n").expect_err("no comma").starts_with("line 2:"));
        assert!(table("csv", "a,1\n\"x\ny\",2\nb,1,2\n").expect_err("three").starts_with("line 4:"));
        assert!(table("csv", "a,\"1\n").expect_err("open").contains("not closed"));
        assert!(table("json", "[1]").expect_err("no object").contains("no JSON object"));
    }
}
