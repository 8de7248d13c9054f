//! Values of JSON and of jq, and what our own functions make of them.

use std::rc::Rc;

use jaq_json::{Error, Map, Num, Val};
use json_value::{Bytes, DEPTH_MAX, Value, write_f64, write_string};
use wharf_plugin::Problem;

/// The same value in jq. Recursion ends with the depth that the reader of JSON allows.
pub(crate) fn of_json(value: &Value<'_>) -> Val {
    match value {
        Value::Null => Val::Null,
        Value::Bool(bool) => Val::Bool(*bool),
        Value::Number(digits) => Val::Num(digits_of(digits)),
        Value::String(string) => text(string),
        Value::Bytes(bytes) => Val::byte_str(bytes.clone()),
        Value::Array(items) => Val::Arr(Rc::new(items.iter().map(of_json).collect())),
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| (text(name), of_json(value)));
            Val::obj(members.collect::<Map>())
        }
    }
}

/// A fraction stays the text that it is until the program counts with it.
fn digits_of(digits: &str) -> Num {
    match digits {
        "-0" => Num::Float(-0.0),
        _ => Num::from_str_radix(digits, 10).unwrap_or_else(|| Num::Dec(Rc::new(digits.to_owned()))),
    }
}

pub(crate) fn text(text: &str) -> Val {
    Val::utf8_str(text.as_bytes().to_vec())
}

/// An object of those that are text.
pub(crate) fn headers(headers: Vec<(String, Vec<u8>)>) -> Val {
    let texts = headers
        .into_iter()
        .filter_map(|(name, value)| Some((text(&name), text(&String::from_utf8(value).ok()?))));
    Val::obj(texts.collect::<Map>())
}

/// Writes what a program made as JSON.
///
/// # Errors
/// `not-json` for what JSON does not have: keys that are no texts, NaN, bytes; `too-deep`.
pub(crate) fn write(out: &mut Vec<u8>, value: &Val) -> Result<(), Problem> {
    write_at(out, value, 0)
}

fn write_at(out: &mut Vec<u8>, value: &Val, depth: usize) -> Result<(), Problem> {
    if depth > DEPTH_MAX {
        return Err(Problem::new("too-deep", format!("the program made a value more than {DEPTH_MAX} deep")));
    }
    match value {
        Val::Null => out.extend_from_slice(b"null"),
        Val::Bool(true) => out.extend_from_slice(b"true"),
        Val::Bool(false) => out.extend_from_slice(b"false"),
        Val::Num(Num::Float(number)) => {
            if !write_f64(out, *number) {
                return Err(no_json(&number.to_string()));
            }
        }
        Val::Num(Num::Dec(digits)) => out.extend_from_slice(digits.as_bytes()),
        Val::Num(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Val::TStr(text) => write_string(out, &String::from_utf8_lossy(text)),
        Val::BStr(_) => return Err(no_json("bytes")),
        Val::Arr(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_at(out, item, depth + 1)?;
            }
            out.push(b']');
        }
        Val::Obj(members) => {
            out.push(b'{');
            for (index, (name, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                let Val::TStr(name) = name else { return Err(no_json("an object whose key is no text")) };
                write_string(out, &String::from_utf8_lossy(name));
                out.push(b':');
                write_at(out, value, depth + 1)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn no_json(what: &str) -> Problem {
    Problem::new("not-json", format!("the program made {what}, which JSON does not have"))
}

/// Another text of a text.
pub(crate) fn map_text(value: &Val, map: impl FnOnce(&str) -> Result<String, Error>) -> Result<Val, Error> {
    match value {
        Val::TStr(bytes) => map(&String::from_utf8_lossy(bytes)).map(|made| text(&made)),
        other => Err(Error::typ(other.clone(), "string")),
    }
}

/// Seconds since 1970 began, as RFC 3339 writes them in UTC.
pub(crate) fn to_date(value: &Val) -> Result<Val, Error> {
    let seconds = number(value)?;
    let whole = seconds.floor();
    let nanoseconds = ((seconds - whole) * 1e9) as u32;
    let date = json_value::rfc3339(whole as i64, nanoseconds);
    let date = date.filter(|_| seconds.is_finite());
    date.map(|date| text(&date)).ok_or_else(|| Error::str("the time is not in the years 0 to 9999"))
}

/// Seconds since 1970 began, of a time as RFC 3339 writes it.
pub(crate) fn from_date(value: &Val) -> Result<Val, Error> {
    let Val::TStr(bytes) = value else { return Err(Error::typ(value.clone(), "string")) };
    let date = String::from_utf8_lossy(bytes);
    match json_value::from_rfc3339(&date) {
        Some((seconds, 0)) => isize::try_from(seconds)
            .map(Val::from)
            .map_err(|_| Error::str("the time has no place in a number")),
        Some((seconds, nanoseconds)) => Ok(Val::from(seconds as f64 + f64::from(nanoseconds) / 1e9)),
        None => Err(Error::str(format_args!("`{date}` is not a time as RFC 3339 writes it"))),
    }
}

pub(crate) fn number(value: &Val) -> Result<f64, Error> {
    jaq_std::ValT::as_f64(value).ok_or_else(|| Error::typ(value.clone(), "number"))
}

/// The text whose base64 this is.
pub(crate) fn from_base64(text: &str) -> Result<String, Error> {
    let decoded = Bytes::Base64.decode(text).and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.ok_or_else(|| Error::str("this is no text in base64"))
}

/// As `@html` writes it.
pub(crate) fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\'' => escaped.push_str("&#39;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// All but the characters that stand for themselves (RFC 3986 §2.3) as `%` and two digits.
pub(crate) fn encode_uri(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
            continue;
        }
        encoded.push('%');
        encoded.push(char::from(DIGITS[usize::from(byte >> 4)]));
        encoded.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    encoded
}

/// What [`encode_uri`] made it of.
pub(crate) fn decode_uri(text: &str) -> Result<String, Error> {
    let wrong = || Error::str("this is no text that a URI holds");
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(wrong)?;
        decoded.extend(Bytes::Hex.decode(digits).ok_or_else(wrong)?);
        rest = &rest[2..];
    }
    String::from_utf8(decoded).map_err(|_| wrong())
}
