//! What an operator lends to plugins by name: reference tables and schemas. Their content lies elsewhere, by its
//! digest; here is which content is in use.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharf_protocol::{Name, Timestamp};

use super::Topology;
use crate::effect::Refusal;

/// The most tables, and the most schemas.
pub const LENT_MAX: usize = 1_024;

/// What is lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LentKind {
    /// A reference table.
    Table,
    /// A schema.
    Schema,
}

/// The version of a table or schema that is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lent {
    /// 1 for the first of its name; each other content is one more.
    pub version: u64,
    /// The SHA-256 of the content.
    pub digest: [u8; 32],
    /// The content's size.
    pub bytes: u64,
    /// How the content is written: `json`, `csv`; opaque here.
    pub format: String,
    /// Who put it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// Everything that is lent, by kind.
pub(super) type Shelves = BTreeMap<LentKind, BTreeMap<Name, Lent>>;

impl Topology {
    /// The table or schema `name`.
    pub fn lent(&self, kind: LentKind, name: &str) -> Option<&Lent> {
        self.lent.get(&kind)?.get(name)
    }

    /// All tables or all schemas, by name.
    pub fn all_lent(&self, kind: LentKind) -> impl Iterator<Item = (&Name, &Lent)> {
        self.lent.get(&kind).into_iter().flatten()
    }

    /// Lends another content, unless it is the one that is lent.
    pub(super) fn lend(&mut self, kind: LentKind, name: &Name, mut new: Lent) -> Result<bool, Refusal> {
        let shelf = self.lent.entry(kind).or_default();
        match shelf.get(name) {
            Some(known) if (known.digest, &known.format) == (new.digest, &new.format) => return Ok(false),
            Some(known) => new.version = known.version + 1,
            None if shelf.len() >= LENT_MAX => {
                return Err(Refusal::full(kind.plural(), LENT_MAX));
            }
            None => new.version = 1,
        }
        shelf.insert(name.clone(), new);
        Ok(true)
    }

    pub(super) fn take_back(&mut self, kind: LentKind, name: &Name) -> Result<bool, Refusal> {
        let gone = self.lent.get_mut(&kind).and_then(|shelf| shelf.remove(name));
        gone.ok_or_else(|| Refusal::not_found(kind.word(), name))?;
        self.lent.retain(|_, shelf| !shelf.is_empty());
        Ok(true)
    }
}

impl LentKind {
    /// What people call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Table => "lookup table",
            Self::Schema => "schema",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Table => "lookup tables",
            Self::Schema => "schemas",
        }
    }
}
