//! Names that users give: of queues, pipelines, plugins, tables.

use std::fmt;
use std::str::FromStr;

use bytestring::ByteString;
use serde::{Deserialize, Serialize};

/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("a name cannot be empty")]
    Empty,
    /// The text has more than [`NAME_BYTES_MAX`] bytes.
    #[error("a name has at most {NAME_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// A character that names do not have.
    #[error("a name holds letters, digits and . _ - : only, not {0:?}")]
    Character(char),
}

/// One to 255 bytes of letters, digits, `.`, `_`, `-` and `:`. Cheap to clone.
///
/// The characters are those that mean the same in a URL path, a file name, a shell and a topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(ByteString);

/// The name of a queue.
pub type QueueName = Name;

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong(text.len()));
        }
        let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
        if let Some(c) = text.chars().find(|c| !allowed(*c)) {
            return Err(NameError::Character(c));
        }
        Ok(Self(ByteString::from(text)))
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.to_string()
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_checked_once_at_the_edge() {
        assert_eq!("orders.eu-1".parse::<Name>().expect("a name").as_str(), "orders.eu-1");
        assert_eq!("".parse::<Name>(), Err(NameError::Empty));
        assert_eq!("a/b".parse::<Name>(), Err(NameError::Character('/')));
        assert_eq!("orders.*".parse::<Name>(), Err(NameError::Character('*')));
        assert_eq!("x".repeat(256).parse::<Name>(), Err(NameError::TooLong(256)));
    }
}
