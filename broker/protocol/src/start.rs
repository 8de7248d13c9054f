//! Where in a stream to begin.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Where in a stream to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With the oldest message that is kept.
    #[default]
    First,
    /// With the newest message there is.
    Last,
    /// With the next message that comes.
    New,
    /// With this offset, of each partition; one that is gone means the oldest that is kept.
    Offset(u64),
    /// With the first message stored then or later.
    Time(Timestamp),
}

/// Why a text is no place in a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no place in a stream; one is first, last, new, an offset, or a time like 2026-01-31T09:00:00Z"
)]
pub struct ParseStartError(String);

impl FromStr for Start {
    type Err = ParseStartError;

    /// `first`, `last`, `new`, an offset in digits, or a time as RFC 3339 writes it.
    fn from_str(text: &str) -> Result<Self, ParseStartError> {
        Ok(match text {
            "first" => Self::First,
            "last" => Self::Last,
            "new" => Self::New,
            _ => match text.parse() {
                Ok(offset) => Self::Offset(offset),
                Err(_) => Self::Time(text.parse().map_err(|_| ParseStartError(text.to_owned()))?),
            },
        })
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("first"),
            Self::Last => f.write_str("last"),
            Self::New => f.write_str("new"),
            Self::Offset(offset) => offset.fmt(f),
            Self::Time(at) => at.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        for start in [
            Start::First,
            Start::Last,
            Start::New,
            Start::Offset(42),
            Start::Time(Timestamp(951_782_400_123)),
        ] {
            assert_eq!(start.to_string().parse(), Ok(start));
        }
        for wrong in ["", "begin", "-1", "2026-13-01T00:00:00Z"] {
            assert!(wrong.parse::<Start>().is_err(), "{wrong}");
        }
    }
}
