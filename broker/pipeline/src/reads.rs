//! Which fields of a message a plugin is given with each call.

use serde::{Deserialize, Serialize};

use crate::text::printable;

/// How many headers a plugin may have packed with each message; others are had through the batch handle.
pub const READ_HEADERS_MAX: usize = 64;

/// How long the name of a header that a plugin reads may be.
const HEADER_NAME_BYTES_MAX: usize = 256;

/// Which fields a plugin gets with each message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reads {
    /// The topic.
    pub topic: bool,
    /// The key.
    pub key: bool,
    /// The payload.
    pub payload: bool,
    /// These headers.
    pub headers: Vec<String>,
}

/// Which fields a plugin may not ask for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadsError {
    /// Too many headers.
    #[error("the plugin asks for {0} headers with each message; at most {READ_HEADERS_MAX}")]
    TooMany(usize),
    /// A header that no message has.
    #[error(
        "the plugin asks for a header named {0:?} with each message; a name has 1 to {HEADER_NAME_BYTES_MAX} bytes \
         and no control characters"
    )]
    HeaderName(String),
}

impl Reads {
    /// Whether it is within its bounds.
    pub(crate) fn check(&self) -> Result<(), ReadsError> {
        if self.headers.len() > READ_HEADERS_MAX {
            return Err(ReadsError::TooMany(self.headers.len()));
        }
        let odd = |name: &&String| {
            name.is_empty() || name.len() > HEADER_NAME_BYTES_MAX || name.chars().any(char::is_control)
        };
        match self.headers.iter().find(odd) {
            Some(name) => Err(ReadsError::HeaderName(printable(name, HEADER_NAME_BYTES_MAX))),
            None => Ok(()),
        }
    }
}
