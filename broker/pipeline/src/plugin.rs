//! A plugin.
use serde::{Deserialize, Serialize};

use crate::Kind;

/// A loaded plugin.
pub struct Plugin {}

/// What a plugin says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// One line for listings.
    pub summary: String,
    /// Which fields it reads.
    pub reads: Reads,
    /// A JSON Schema of its configuration.
    pub config_schema: Option<String>,
}

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

/// Why a component is not a plugin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not WebAssembly at all.
    #[error("this is not WebAssembly; a plugin is a component, as `wharf plugin build` makes it")]
    NotWasm,
}

impl Plugin {
    /// Its SHA-256, in hexadecimal.
    pub fn digest(&self) -> &str {
        ""
    }
    /// As what it can be used.
    pub fn kinds(&self) -> &[Kind] {
        &[]
    }
    /// What it says of itself.
    pub fn description(&self) -> &Description {
        unimplemented!()
    }
    /// How large the component is.
    pub fn bytes(&self) -> usize {
        0
    }
}
