//! From MessagePack to a value.
//!
//! ```text
//! 00-7f  fixint      c0     nil           c7-c9  ext 8 16 32     d0-d3  int 8 16 32 64
//! 80-8f  fixmap      c2 c3  false true    ca cb  float 32 64     d4-d8  fixext 1 2 4 8 16
//! 90-9f  fixarray    c4-c6  bin 8 16 32   cc-cf  uint 8 16 32 64 d9-db  str 8 16 32
//! a0-bf  fixstr                           e0-ff  negative fixint dc dd  array, de df  map
//! ```

use std::borrow::Cow;

use json_value::{DEPTH_MAX, Value, first_duplicate, rfc3339, write_f64};
use wharf_plugin::Problem;

use crate::{Config, NotFinite};

/// The value that `msgpack` is.
///
/// # Errors
/// What is wrong, and at which byte.
///
/// ```
/// let value = msgpack_to_json::read(b"\x81\xa1a\x93\x01\xff\xc0", msgpack_to_json::Config::default())?;
/// assert_eq!(value.to_json(), br#"{"a":[1,-1,null]}"#);
/// # Ok::<(), wharf_plugin::Problem>(())
/// ```
pub fn read(msgpack: &[u8], config: Config) -> Result<Value<'_>, Problem> {
    let mut reader = Reader { bytes: msgpack, at: 0, config };
    let value = reader.value(0)?;
    if reader.at < msgpack.len() {
        let message = format!("{} bytes follow the value", msgpack.len() - reader.at);
        return Err(reader.problem("trailing-bytes", message, reader.at));
    }
    Ok(value)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    config: Config,
}

impl<'a> Reader<'a> {
    /// Recursion ends at [`DEPTH_MAX`].
    fn value(&mut self, depth: usize) -> Result<Value<'a>, Problem> {
        let start = self.at;
        let kind = self.take(1)?[0];
        Ok(match kind {
            0x00..=0x7f => integer(kind),
            0xe0..=0xff => integer(kind as i8),
            0x80..=0x8f => self.map(u64::from(kind & 0x0f), depth, start)?,
            0xde => self.map_of(2, depth, start)?,
            0xdf => self.map_of(4, depth, start)?,
            0x90..=0x9f => self.array(u64::from(kind & 0x0f), depth, start)?,
            0xdc => self.array_of(2, depth, start)?,
            0xdd => self.array_of(4, depth, start)?,
            0xa0..=0xbf => self.text(u64::from(kind & 0x1f))?,
            0xd9 => self.text_of(1)?,
            0xda => self.text_of(2)?,
            0xdb => self.text_of(4)?,
            0xc0 => Value::Null,
            0xc2 => Value::Bool(false),
            0xc3 => Value::Bool(true),
            0xc4 => self.blob(1)?,
            0xc5 => self.blob(2)?,
            0xc6 => self.blob(4)?,
            0xca => {
                let bits = self.number(4)? as u32;
                self.float(f64::from(f32::from_bits(bits)), start)?
            }
            0xcb => {
                let bits = self.number(8)?;
                self.float(f64::from_bits(bits), start)?
            }
            0xcc => integer(self.number(1)?),
            0xcd => integer(self.number(2)?),
            0xce => integer(self.number(4)?),
            0xcf => integer(self.number(8)?),
            0xd0 => integer(self.number(1)? as i8),
            0xd1 => integer(self.number(2)? as i16),
            0xd2 => integer(self.number(4)? as i32),
            0xd3 => integer(self.number(8)? as i64),
            0xd4..=0xd8 => self.extension(1 << (kind - 0xd4), start)?,
            0xc7..=0xc9 => {
                let length = self.number(1 << (kind - 0xc7))?;
                self.extension(length, start)?
            }
            0xc1 => {
                let message = "the byte c1 begins nothing in MessagePack".to_owned();
                return Err(self.problem("not-msgpack", message, start));
            }
        })
    }

    fn map_of(&mut self, width: usize, depth: usize, start: usize) -> Result<Value<'a>, Problem> {
        let length = self.number(width)?;
        self.map(length, depth, start)
    }

    fn map(&mut self, length: u64, depth: usize, start: usize) -> Result<Value<'a>, Problem> {
        // A key and a value are two bytes at least: what is claimed is checked before room is made for it.
        let mut members = Vec::with_capacity(self.room(length, 2, depth, start)?);
        for _ in 0..length {
            let at = self.at;
            let name = match self.value(depth + 1)? {
                Value::String(name) | Value::Number(name) => name,
                Value::Bool(bool) => Cow::Borrowed(if bool { "true" } else { "false" }),
                other => {
                    let message =
                        format!("the key of a map is {}, which cannot be a member's name", other.kind());
                    return Err(self.problem("bad-key", message, at));
                }
            };
            members.push((name, self.value(depth + 1)?));
        }
        if let Some(name) = first_duplicate(&members) {
            let message = format!("a map has two members `{name}`: which of them is meant cannot be known");
            return Err(self.problem("duplicate-member", message, start));
        }
        Ok(Value::Object(members))
    }

    fn array_of(&mut self, width: usize, depth: usize, start: usize) -> Result<Value<'a>, Problem> {
        let length = self.number(width)?;
        self.array(length, depth, start)
    }

    fn array(&mut self, length: u64, depth: usize, start: usize) -> Result<Value<'a>, Problem> {
        let mut items = Vec::with_capacity(self.room(length, 1, depth, start)?);
        for _ in 0..length {
            items.push(self.value(depth + 1)?);
        }
        Ok(Value::Array(items))
    }

    /// For how many values to make room: none, where the rest of the payload cannot hold them.
    fn room(&self, length: u64, bytes_min: u64, depth: usize, start: usize) -> Result<usize, Problem> {
        if depth == DEPTH_MAX {
            let message = format!("values lie more than {DEPTH_MAX} deep in one another");
            return Err(self.problem("too-deep", message, start));
        }
        let left = (self.bytes.len() - self.at) as u64;
        match usize::try_from(length) {
            Ok(values) if length.saturating_mul(bytes_min) <= left => Ok(values),
            _ => Err(self.truncated()),
        }
    }

    fn text_of(&mut self, width: usize) -> Result<Value<'a>, Problem> {
        let length = self.number(width)?;
        self.text(length)
    }

    fn text(&mut self, length: u64) -> Result<Value<'a>, Problem> {
        let start = self.at;
        let bytes = self.take(length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::String(Cow::Borrowed(text))),
            Err(error) => {
                let message = "a text is not UTF-8".to_owned();
                Err(self.problem("not-utf8", message, start + error.valid_up_to()))
            }
        }
    }

    fn blob(&mut self, width: usize) -> Result<Value<'a>, Problem> {
        let length = self.number(width)?;
        let bytes = self.take(length)?;
        Ok(Value::String(Cow::Owned(self.config.bytes.encode(bytes))))
    }

    fn float(&self, number: f64, start: usize) -> Result<Value<'a>, Problem> {
        let mut text = Vec::new();
        if write_f64(&mut text, number) {
            return Ok(Value::Number(Cow::Owned(String::from_utf8(text).expect("a number is ASCII"))));
        }
        match self.config.not_finite {
            NotFinite::Null => Ok(Value::Null),
            NotFinite::Reject => {
                let message = format!("{number} has no JSON; `not-finite` may say \"null\"");
                Err(self.problem("not-finite", message, start))
            }
        }
    }

    /// The timestamps of the specification: 32 bits of seconds; 30 of nanoseconds and 34 of seconds; 32 and 64.
    fn extension(&mut self, length: u64, start: usize) -> Result<Value<'a>, Problem> {
        let kind = self.take(1)?[0] as i8;
        let data = self.take(length)?;
        let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte));
        let time = match (kind, data.len()) {
            (-1, 4) => rfc3339(number(data) as i64, 0),
            (-1, 8) => rfc3339((number(data) & ((1 << 34) - 1)) as i64, (number(data) >> 34) as u32),
            (-1, 12) => rfc3339(number(&data[4..]) as i64, number(&data[..4]) as u32),
            _ => None,
        };
        match time {
            Some(time) => Ok(Value::String(Cow::Owned(time))),
            None => {
                let message = format!("the extension {kind} of {length} bytes has no JSON");
                Err(self.problem("extension", message, start))
            }
        }
    }

    fn number(&mut self, width: usize) -> Result<u64, Problem> {
        let bytes = self.take(width as u64)?;
        Ok(bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Problem> {
        let rest = &self.bytes[self.at..];
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let taken = taken.ok_or_else(|| self.truncated())?;
        self.at += taken.len();
        Ok(taken)
    }

    fn truncated(&self) -> Problem {
        let message = "the payload ends before the value does".to_owned();
        self.problem("truncated", message, self.at)
    }

    fn problem(&self, code: &'static str, message: String, at: usize) -> Problem {
        Problem::new(code, message).at(format!("byte {at}"))
    }
}

fn integer<'a>(number: impl std::fmt::Display) -> Value<'a> {
    Value::Number(Cow::Owned(number.to_string()))
}
