//! The ids by which a message and its producer are known.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a stored message lies: the record that brought it in and its place in that record.
///
/// Unique within a node for as long as its data lives, ordered by arrival, the same after a restart.
/// Printed and parsed as `INDEX-N`, for example `4711-0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageId {
    /// The index of the record in the log.
    pub index: u64,
    /// Which of the record's messages, from 0.
    pub entry: u16,
}

/// Why a text is not a [`MessageId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a message id; one looks like 4711-0")]
pub struct ParseMessageIdError(String);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.index, self.entry)
    }
}

impl FromStr for MessageId {
    type Err = ParseMessageIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text
            .split_once('-')
            .and_then(|(index, entry)| Some(Self { index: index.parse().ok()?, entry: entry.parse().ok()? }));
        parsed.ok_or_else(|| ParseMessageIdError(text.to_owned()))
    }
}

/// A producer's identity across reconnects: 128 random bits that the client chooses once. Those whose upper half is
/// all ones are the broker's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProducerId(pub u128);

impl ProducerId {
    /// What the upper half of the broker's own producers is: no client chooses it at random.
    const RESERVED: u128 = (u64::MAX as u128) << 64;

    /// The broker's own producer of that number.
    pub const fn reserved(number: u64) -> Self {
        Self(Self::RESERVED | number as u128)
    }

    /// Whether it is one of the broker's own, which a client must not use.
    pub const fn is_reserved(self) -> bool {
        self.0 & Self::RESERVED == Self::RESERVED
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_survives_its_own_printing() {
        let id = MessageId { index: 4711, entry: 3 };
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("4711".parse::<MessageId>().is_err());
        assert!("4711-99999".parse::<MessageId>().is_err());
    }
}
