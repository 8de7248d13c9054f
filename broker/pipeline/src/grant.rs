//! What a stage may use of the host, as its author writes it: `"clock"`, `"kv"`, `"lookup:prices"`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wharf_protocol::{Name, NameError};

/// Something of the host that a stage may use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Grant {
    /// Lines in the broker's log.
    Log,
    /// Its configuration and names.
    Config,
    /// Counters of its own.
    Metrics,
    /// The logged time.
    Clock,
    /// Random bits seeded by the message.
    Random,
    /// What its pipeline remembers.
    Kv,
    /// A reference table.
    Lookup(Name),
    /// A schema.
    Schema(Name),
    /// A secret.
    Secret(Name),
}

/// What a plugin imports beside its world: it says before it runs that it needs this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// What its pipeline remembers.
    Kv,
    /// Reference tables.
    Lookup,
    /// Schemas.
    Schema,
    /// Secrets.
    Secrets,
}

/// Why a text is not a [`Grant`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// None that there is.
    #[error(
        "there is no {0:?} to grant; there are log, config, metrics, clock, random, kv, lookup:TABLE, schema:NAME \
         and secrets:NAME"
    )]
    Unknown(String),
    /// A table, schema or secret without its name.
    #[error("{0:?} is granted by name: {0}:NAME")]
    Nameless(String),
    /// Something else than a name after the colon.
    #[error("grant {0:?}")]
    Name(String, #[source] NameError),
}

impl Grant {
    /// All that is granted without a name.
    pub const ALL: [Self; 6] = [Self::Log, Self::Config, Self::Metrics, Self::Clock, Self::Random, Self::Kv];

    /// What a stage may use when its author says nothing.
    pub fn defaults() -> Vec<Self> {
        vec![Self::Log, Self::Config, Self::Metrics]
    }

    /// The interface of the contract that it opens.
    pub fn interface(&self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Config => "config",
            Self::Metrics => "metrics",
            Self::Clock => "clock",
            Self::Random => "random",
            Self::Kv => "kv",
            Self::Lookup(_) => "lookup",
            Self::Schema(_) => "schema",
            Self::Secret(_) => "secrets",
        }
    }

    /// The name behind the colon.
    pub fn named(&self) -> Option<&Name> {
        match self {
            Self::Lookup(name) | Self::Schema(name) | Self::Secret(name) => Some(name),
            Self::Log | Self::Config | Self::Metrics | Self::Clock | Self::Random | Self::Kv => None,
        }
    }
}

impl Need {
    /// All that a plugin may need.
    pub const ALL: [Self; 4] = [Self::Kv, Self::Lookup, Self::Schema, Self::Secrets];

    /// The interface of the contract that it imports.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Lookup => "lookup",
            Self::Schema => "schema",
            Self::Secrets => "secrets",
        }
    }

    /// Whether one of these opens it.
    pub(crate) fn is_granted(self, grants: &[Grant]) -> bool {
        grants.iter().any(|grant| grant.interface() == self.interface())
    }

    /// What a stage grants, as its author writes it.
    pub(crate) fn example(self) -> &'static str {
        match self {
            Self::Kv => "\"kv\"",
            Self::Lookup => "\"lookup:TABLE\"",
            Self::Schema => "\"schema:NAME\"",
            Self::Secrets => "\"secrets:NAME\"",
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.interface())
    }
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        if let Some((interface, name)) = text.split_once(':') {
            let granted = match interface {
                "lookup" => Self::Lookup,
                "schema" => Self::Schema,
                "secrets" => Self::Secret,
                _ => return Err(GrantError::Unknown(text.to_owned())),
            };
            let name = name.parse().map_err(|error| GrantError::Name(text.to_owned(), error))?;
            return Ok(granted(name));
        }
        match text {
            "lookup" | "schema" | "secrets" => Err(GrantError::Nameless(text.to_owned())),
            _ => Self::ALL
                .into_iter()
                .find(|grant| grant.interface() == text)
                .ok_or_else(|| GrantError::Unknown(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Grant {
    type Error = GrantError;

    fn try_from(text: String) -> Result<Self, GrantError> {
        text.parse()
    }
}

impl From<Grant> for String {
    fn from(grant: Grant) -> Self {
        grant.to_string()
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.interface())?;
        match self.named() {
            Some(name) => write!(f, ":{name}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_read_back_as_it_is_written() {
        for text in ["log", "kv", "lookup:prices", "schema:order.v2", "secrets:api-key"] {
            let grant: Grant = text.parse().expect("a grant");
            assert_eq!(grant.to_string(), text);
            assert_eq!(text.split(':').next(), Some(grant.interface()));
        }
    }

    #[test]
    fn what_is_no_grant_is_refused_with_what_there_is() {
        let refused = |text: &str| text.parse::<Grant>().expect_err("no grant").to_string();
        assert!(refused("network").contains("lookup:TABLE"));
        assert!(refused("kv:all").contains("kv:all"));
        assert!(refused("lookup").contains("lookup:NAME"));
        assert!(refused("secrets:a b").contains("secrets:a b"));
    }
}
