//! What stands before a datum on the wire.

use serde::Deserialize;
use wharf_plugin::Problem;

/// What stands before a datum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Framing {
    /// Nothing.
    #[default]
    Bare,
    /// A zero and the schema's id in a registry, big-endian: `00 id id id id`.
    Registry {
        /// The id.
        id: u32,
    },
}

impl Framing {
    /// The datum in a payload.
    ///
    /// # Errors
    /// `no-schema-id` or `other-schema`: it is not framed so, or with another id.
    pub fn unwrap(self, payload: &[u8]) -> Result<&[u8], Problem> {
        let Self::Registry { id } = self else { return Ok(payload) };
        match Self::split(payload)? {
            (own, datum) if own == id => Ok(datum),
            (own, _) => {
                let message = format!("the payload is of the schema {own}, and this stage reads {id}");
                Err(Problem::new("other-schema", message).at("byte 1"))
            }
        }
    }

    /// The id of a schema in a registry, and the datum behind it.
    ///
    /// # Errors
    /// `no-schema-id`.
    pub fn split(payload: &[u8]) -> Result<(u32, &[u8]), Problem> {
        match payload.split_first_chunk() {
            Some(([0, a, b, c, d], datum)) => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
            _ => {
                let message = "the payload does not begin with a zero and the four bytes of a schema's id";
                Err(Problem::new("no-schema-id", message).at("byte 0"))
            }
        }
    }

    /// What to write before a datum.
    pub fn head(self) -> Vec<u8> {
        match self {
            Self::Bare => Vec::new(),
            Self::Registry { id } => [&[0], &id.to_be_bytes()[..]].concat(),
        }
    }
}
