//! W3C Trace Context, level 1: by which headers a trace goes on from one program to the next.
//!
//! ```text
//! traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
//!              version · trace id, 16 bytes · parent's span id, 8 bytes · flags: bit 0, sampled
//! tracestate:  what vendors add: carried on as it came
//! ```
//!
//! What is malformed is as if it were not there: a new trace begins (§4.3 of the specification).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The header with a trace's id and the sender's span.
pub(super) const TRACEPARENT: &str = "traceparent";
/// The header with what vendors add.
pub(super) const TRACESTATE: &str = "tracestate";
/// The longest `tracestate` that is carried on (§3.3.1.5 of the specification).
const TRACESTATE_BYTES_MAX: usize = 512;

/// By which a trace is known, in this broker and elsewhere: 16 bytes, not all zero; 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(u128);

/// By which a part of a trace is known: 8 bytes, not all zero; 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(u64);

/// Why a text is not the id of a trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no trace: give a trace's id, 32 hexadecimal digits, or a message's, as 4711-0")]
pub struct ParseTraceIdError(String);

/// What a `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    pub(super) sampled: bool,
}

impl TraceId {
    /// A new one.
    pub fn random() -> Self {
        Self(rand::random::<u128>().max(1))
    }

    pub(super) fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl SpanId {
    /// A new one.
    pub fn random() -> Self {
        Self(rand::random::<u64>().max(1))
    }
}

impl Parent {
    /// What `value` says, when it is well-formed. A later version's value begins like this one's.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let later = parts.next().is_some();
        if version == "ff" || (version == "00" && later) {
            return None;
        }
        hexadecimal(version, 2)?;
        let trace = u128::from_str_radix(hexadecimal(trace, 32)?, 16).ok().filter(|id| *id != 0)?;
        let span = u64::from_str_radix(hexadecimal(span, 16)?, 16).ok().filter(|id| *id != 0)?;
        let flags = u8::from_str_radix(hexadecimal(flags, 2)?, 16).ok()?;
        Some(Self { trace: TraceId(trace), span: SpanId(span), sampled: flags & 1 == 1 })
    }
}

/// A `tracestate` that can be carried on.
pub(super) fn state(value: &[u8]) -> Option<String> {
    let printable = value.iter().all(|byte| matches!(byte, b' '..=b'~'));
    let fits = !value.is_empty() && value.len() <= TRACESTATE_BYTES_MAX;
    (printable && fits).then(|| String::from_utf8_lossy(value).into_owned())
}

/// `text`, when it is so many lower-case hexadecimal digits.
fn hexadecimal(text: &str, digits: usize) -> Option<&str> {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(digit)).then_some(text)
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for TraceId {
    type Err = ParseTraceIdError;

    fn from_str(text: &str) -> Result<Self, ParseTraceIdError> {
        let id = hexadecimal(text, 32).and_then(|digits| u128::from_str_radix(digits, 16).ok());
        id.filter(|id| *id != 0).map(Self).ok_or_else(|| ParseTraceIdError(text.to_owned()))
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for SpanId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SpanId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let id = hexadecimal(&text, 16).and_then(|digits| u64::from_str_radix(digits, 16).ok());
        id.map(Self).ok_or_else(|| de::Error::custom("a span's id has 16 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_well_formed_parent_is_continued() {
        let parent = Parent::parse(format!("00-{TRACE}-00f067aa0ba902b7-01").as_bytes()).expect("a parent");
        assert_eq!(parent.trace.to_string(), TRACE);
        assert_eq!(parent.span.to_string(), "00f067aa0ba902b7");
        assert!(parent.sampled);
        let later = format!("cc-{TRACE}-00f067aa0ba902b7-00-what-the-future-brings");
        assert!(!Parent::parse(later.as_bytes()).expect("as version 00").sampled);
    }

    #[test]
    fn what_is_malformed_begins_a_new_trace() {
        let zeros = "0".repeat(32);
        for wrong in [
            String::new(),
            "00".into(),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
            format!("00-{zeros}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-00f067aa0ba902b-01"),
            format!("00-{TRACE}-00f067aa0ba902b7-1"),
            format!("0-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-+{}-00f067aa0ba902b7-01", &TRACE[1..]),
        ] {
            assert_eq!(Parent::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(Parent::parse(&[0xff; 55]), None);
    }

    #[test]
    fn a_state_is_carried_on_while_it_is_text_of_a_bounded_length() {
        assert_eq!(state(b"rojo=00f067aa0ba902b7").as_deref(), Some("rojo=00f067aa0ba902b7"));
        assert_eq!(state(&[b'a'; TRACESTATE_BYTES_MAX + 1]), None);
        assert_eq!(state(b"line\nfeed"), None);
        assert_eq!(state(b""), None);
    }
}
