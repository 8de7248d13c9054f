//! From CBOR to a value.
//!
//! ```text
//! one byte: major (3 bits), information (5 bits)
//!   major  0 integer  1 negative  2 bytes  3 text  4 array  5 map  6 tag  7 simple, float
//!   information  0-23 is the argument itself; 24-27: it follows in 1, 2, 4, 8 bytes; 31: indefinite, ended by ff
//! ```

use std::borrow::Cow;

use json_value::{Bytes, DEPTH_MAX, Value, first_duplicate, write_f64};
use wharf_plugin::Problem;

use crate::digits::{decimal, plus_one};
use crate::{Config, NotFinite};

/// How long the bytes of a large integer may be: making decimal digits takes time by its square.
const LARGE_INTEGER_BYTES_MAX: usize = 128;

/// The value that `cbor` is.
///
/// # Errors
/// What is wrong, and at which byte.
///
/// ```
/// let value = cbor_to_json::read(b"\xa1\x61a\x83\x01\x20\xf6", cbor_to_json::Config::default())?;
/// assert_eq!(value.to_json(), br#"{"a":[1,-1,null]}"#);
/// # Ok::<(), wharf_plugin::Problem>(())
/// ```
pub fn read(cbor: &[u8], config: Config) -> Result<Value<'_>, Problem> {
    let mut reader = Reader { bytes: cbor, at: 0, config };
    let value = reader.value(0, config.bytes)?;
    if reader.at < cbor.len() {
        let message = format!("{} bytes follow the value", cbor.len() - reader.at);
        return Err(reader.problem("trailing-bytes", message, reader.at));
    }
    Ok(value)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    config: Config,
}

/// The first byte of an item, and the number that comes with it.
struct Head {
    major: u8,
    information: u8,
    /// `None` where the length is indefinite.
    argument: Option<u64>,
}

const BREAK: u8 = 0xff;

impl<'a> Reader<'a> {
    /// Recursion ends at [`DEPTH_MAX`], tags included. `expected` is how bytes in it become text.
    fn value(&mut self, depth: usize, expected: Bytes) -> Result<Value<'a>, Problem> {
        let start = self.at;
        if depth > DEPTH_MAX {
            let message = format!("values lie more than {DEPTH_MAX} deep in one another");
            return Err(self.problem("too-deep", message, start));
        }
        let head = self.head()?;
        match (head.major, head.argument) {
            (0, Some(number)) => Ok(number_of(number.to_string())),
            (1, Some(number)) => Ok(number_of((-1 - i128::from(number)).to_string())),
            (2, length) => {
                let bytes = self.string(2, length)?;
                Ok(Value::String(Cow::Owned(expected.encode(&bytes))))
            }
            (3, length) => self.text(length).map(Value::String),
            (4, length) => self.array(length, depth, expected),
            (5, length) => self.map(length, depth, expected, start),
            (6, Some(tag)) => self.tagged(tag, depth, expected, start),
            (7, argument) => self.simple(head.information, argument, start),
            _ => Err(self.not_cbor(start, "an integer or a tag cannot be of indefinite length")),
        }
    }

    fn head(&mut self) -> Result<Head, Problem> {
        let start = self.at;
        let first = self.take(1)?[0];
        let (major, information) = (first >> 5, first & 31);
        let argument = match information {
            0..24 => Some(u64::from(information)),
            24..=27 => {
                let bytes = self.take(1 << (information - 24))?;
                Some(bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
            }
            31 => None,
            _ => return Err(self.not_cbor(start, "its length is of a kind that is reserved")),
        };
        Ok(Head { major, information, argument })
    }

    fn array(&mut self, length: Option<u64>, depth: usize, expected: Bytes) -> Result<Value<'a>, Problem> {
        let mut items = Vec::with_capacity(self.room(length, 1)?);
        while self.more(length, items.len()) {
            items.push(self.value(depth + 1, expected)?);
        }
        Ok(Value::Array(items))
    }

    fn map(
        &mut self,
        length: Option<u64>,
        depth: usize,
        expected: Bytes,
        start: usize,
    ) -> Result<Value<'a>, Problem> {
        let mut members = Vec::with_capacity(self.room(length, 2)?);
        while self.more(length, members.len()) {
            let at = self.at;
            let name = match self.value(depth + 1, expected)? {
                Value::String(name) | Value::Number(name) => name,
                Value::Bool(bool) => Cow::Borrowed(if bool { "true" } else { "false" }),
                other => {
                    let message =
                        format!("the key of a map is {}, which cannot be a member's name", other.kind());
                    return Err(self.problem("bad-key", message, at));
                }
            };
            members.push((name, self.value(depth + 1, expected)?));
        }
        if let Some(name) = first_duplicate(&members) {
            let message = format!("a map has two members `{name}`: which of them is meant cannot be known");
            return Err(self.problem("duplicate-member", message, start));
        }
        Ok(Value::Object(members))
    }

    /// Whether another item comes; the end of an indefinite one is taken.
    fn more(&mut self, length: Option<u64>, have: usize) -> bool {
        match length {
            Some(length) => (have as u64) < length,
            None if self.bytes.get(self.at) == Some(&BREAK) => {
                self.at += 1;
                false
            }
            None => true,
        }
    }

    /// For how many items to make room: none, where the rest of the payload cannot hold them.
    fn room(&self, length: Option<u64>, bytes_min: u64) -> Result<usize, Problem> {
        let Some(length) = length else { return Ok(0) };
        let left = (self.bytes.len() - self.at) as u64;
        match usize::try_from(length) {
            Ok(items) if length.saturating_mul(bytes_min) <= left => Ok(items),
            _ => Err(self.truncated()),
        }
    }

    fn text(&mut self, length: Option<u64>) -> Result<Cow<'a, str>, Problem> {
        let start = self.at;
        let wrong = |reader: &Self| reader.problem("not-utf8", "a text is not UTF-8".to_owned(), start);
        match self.string(3, length)? {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| wrong(self)),
            Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| wrong(self)),
        }
    }

    /// Bytes or text: in one piece, or in definite pieces of the same kind up to a break.
    fn string(&mut self, major: u8, length: Option<u64>) -> Result<Cow<'a, [u8]>, Problem> {
        if let Some(length) = length {
            return self.take(length).map(Cow::Borrowed);
        }
        let mut whole = Vec::new();
        while self.more(None, 0) {
            let start = self.at;
            match self.head()? {
                Head { major: own, argument: Some(length), .. } if own == major => {
                    let piece = self.take(length)?;
                    // RFC 8949 §3.2.3: no character is split between pieces.
                    if major == 3 && std::str::from_utf8(piece).is_err() {
                        return Err(self.problem("not-utf8", "a text is not UTF-8".to_owned(), start));
                    }
                    whole.extend_from_slice(piece);
                }
                _ => return Err(self.not_cbor(start, "the pieces of a string are not of its kind")),
            }
        }
        Ok(Cow::Owned(whole))
    }

    fn tagged(
        &mut self,
        tag: u64,
        depth: usize,
        expected: Bytes,
        start: usize,
    ) -> Result<Value<'a>, Problem> {
        let expected = match tag {
            2 | 3 => return self.large_integer(tag == 3, start),
            21 => Bytes::Base64url,
            22 => Bytes::Base64,
            23 => Bytes::Hex,
            _ => expected,
        };
        self.value(depth + 1, expected)
    }

    fn large_integer(&mut self, negative: bool, start: usize) -> Result<Value<'a>, Problem> {
        let Head { major: 2, argument, .. } = self.head()? else {
            return Err(self.not_cbor(start, "a large integer (tag 2 or 3) is bytes"));
        };
        let bytes = self.string(2, argument)?;
        let bytes = &bytes[bytes.iter().position(|&byte| byte != 0).unwrap_or(bytes.len())..];
        if bytes.len() > LARGE_INTEGER_BYTES_MAX {
            let message = format!(
                "an integer of {} bytes is too large, at most {LARGE_INTEGER_BYTES_MAX} are read",
                bytes.len()
            );
            return Err(self.problem("number-too-large", message, start));
        }
        let digits = decimal(bytes);
        Ok(number_of(if negative { format!("-{}", plus_one(&digits)) } else { digits }))
    }

    fn simple(&mut self, information: u8, argument: Option<u64>, start: usize) -> Result<Value<'a>, Problem> {
        let argument =
            argument.ok_or_else(|| self.not_cbor(start, "a break stands where a value is to be"))?;
        match information {
            20 => Ok(Value::Bool(false)),
            21 => Ok(Value::Bool(true)),
            22 | 23 => Ok(Value::Null),
            25 => self.float(half(argument as u16), start),
            26 => self.float(f64::from(f32::from_bits(argument as u32)), start),
            27 => self.float(f64::from_bits(argument), start),
            _ => {
                let message = format!("the simple value {argument} has no JSON");
                Err(self.problem("simple-value", message, start))
            }
        }
    }

    fn float(&self, number: f64, start: usize) -> Result<Value<'a>, Problem> {
        let mut text = Vec::new();
        if write_f64(&mut text, number) {
            return Ok(number_of(String::from_utf8(text).expect("a number is ASCII")));
        }
        match self.config.not_finite {
            NotFinite::Null => Ok(Value::Null),
            NotFinite::Reject => {
                let message = format!("{number} has no JSON; `not-finite` may say \"null\"");
                Err(self.problem("not-finite", message, start))
            }
        }
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Problem> {
        let rest = &self.bytes[self.at..];
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let taken = taken.ok_or_else(|| self.truncated())?;
        self.at += taken.len();
        Ok(taken)
    }

    fn truncated(&self) -> Problem {
        self.problem("truncated", "the payload ends before the value does".to_owned(), self.at)
    }

    fn not_cbor(&self, at: usize, what: &str) -> Problem {
        self.problem("not-cbor", format!("the payload is not CBOR: {what}"), at)
    }

    fn problem(&self, code: &'static str, message: String, at: usize) -> Problem {
        Problem::new(code, message).at(format!("byte {at}"))
    }
}

fn number_of<'a>(text: String) -> Value<'a> {
    Value::Number(Cow::Owned(text))
}

/// A number of 16 bits (RFC 8949, appendix D).
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (bits >> 10 & 31, f64::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (fraction + 1024.0) * 2_f64.powi(i32::from(exponent) - 25),
    };
    if bits & 0x8000 == 0 { size } else { -size }
}
