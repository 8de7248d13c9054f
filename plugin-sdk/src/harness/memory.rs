//! What a pipeline remembers, as tests give it and find it again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::harness::wire::{from_base64, to_base64};

/// What there is under each key of the pipeline's `kv`.
pub type Memory = BTreeMap<String, Remembered>;

/// What a message leaves under the keys that it changes; `None`: it removes them.
pub type Changes = BTreeMap<String, Option<Remembered>>;

/// A value in the pipeline's `kv`. In JSON it is a text, or `{"base64": "…"}`, or `{"text": "…"}`, with its
/// `expires_ms` where it has an end: `{"text": "1", "expires_ms": 1767225600000}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Remembered {
    /// The value.
    pub value: Vec<u8>,
    /// When it is there no more, in milliseconds since 1970.
    pub expires_ms: Option<u64>,
}

/// As it stands in a file or on a wire.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Bare(String),
    Text {
        text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_ms: Option<u64>,
    },
    Bytes {
        base64: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_ms: Option<u64>,
    },
}

impl Remembered {
    /// A value that does not expire.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Self { value: value.into(), expires_ms: None }
    }
}

/// Changes `memory` as a message did that is stored.
pub(crate) fn apply(memory: &mut Memory, changes: &Changes) {
    for (key, left) in changes {
        match left {
            Some(value) => memory.insert(key.clone(), value.clone()),
            None => memory.remove(key),
        };
    }
}

impl TryFrom<Written> for Remembered {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Bare(text) => Ok(Self::new(text)),
            Written::Text { text, expires_ms } => Ok(Self { value: text.into(), expires_ms }),
            Written::Bytes { base64, expires_ms } => Ok(Self { value: from_base64(&base64)?, expires_ms }),
        }
    }
}

impl From<Remembered> for Written {
    fn from(remembered: Remembered) -> Self {
        Self::Bytes { base64: to_base64(&remembered.value), expires_ms: remembered.expires_ms }
    }
}
