//! Which plugin a stage runs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wharf_protocol::{Name, NameError};

/// A plugin by name, and by version where one is meant: `enrich`, `enrich@1.2.0`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PluginRef {
    /// Its name.
    pub name: Name,
    /// Its version; `None` leaves the choice to whoever resolves it.
    pub version: Option<Name>,
}

/// Why a text does not name a plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a plugin is named \"name\" or \"name@version\": {0}")]
pub struct PluginRefError(#[source] NameError);

impl FromStr for PluginRef {
    type Err = PluginRefError;

    fn from_str(text: &str) -> Result<Self, PluginRefError> {
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version.parse().map_err(PluginRefError)?)),
            None => (text, None),
        };
        Ok(Self { name: name.parse().map_err(PluginRefError)?, version })
    }
}

impl TryFrom<String> for PluginRef {
    type Error = PluginRefError;

    fn try_from(text: String) -> Result<Self, PluginRefError> {
        text.parse()
    }
}

impl From<PluginRef> for String {
    fn from(plugin: PluginRef) -> Self {
        plugin.to_string()
    }
}

impl fmt::Display for PluginRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => self.name.fmt(f),
        }
    }
}
