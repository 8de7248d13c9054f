//! What an operator can choose.

use std::collections::BTreeMap;

use serde::Deserialize;
use wharf_plugin::Problem;

use crate::COLUMNS_MAX;

/// How CSV becomes JSON.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Between two cells: one ASCII character.
    pub delimiter: String,
    /// The columns' names; empty: the first row has them.
    pub columns: Vec<String>,
    /// What columns hold, by name; the others hold text.
    pub types: BTreeMap<String, Type>,
    /// What becomes of a message whose header lacks a column of `types`.
    pub missing: Missing,
    /// What an empty cell without quotes is.
    pub empty: Empty,
    /// What the rows become.
    pub into: Into,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Type {
    /// Any text.
    #[default]
    Text,
    /// A number, as JSON writes it.
    Number,
    /// `true` or `false`.
    Boolean,
    /// Any JSON.
    Json,
}

/// What becomes of a message whose header lacks a column of `types`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// It is rejected: most likely one of the two is misspelt.
    #[default]
    Reject,
    /// Its rows have no such member.
    Omit,
}

/// What an empty cell without quotes is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Empty {
    /// `null`
    #[default]
    Null,
    /// A text of no characters: in a column of another type it is no value of that type.
    Text,
    /// No member.
    Omit,
}

/// What the rows become.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Into {
    /// The items of one array.
    #[default]
    Array,
    /// A message each.
    Messages,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            delimiter: ",".into(),
            columns: Vec::new(),
            types: BTreeMap::new(),
            missing: Missing::default(),
            empty: Empty::default(),
            into: Into::default(),
        }
    }
}

impl Config {
    /// Gives the delimiter.
    pub(crate) fn check(&self) -> Result<u8, Problem> {
        if self.columns.len() > COLUMNS_MAX {
            let message = format!("there are {} columns, at most {COLUMNS_MAX} can be", self.columns.len());
            return Err(Problem::new("bad-config", message).at("/columns"));
        }
        if !self.columns.is_empty()
            && let Some(name) = self.types.keys().find(|name| !self.columns.contains(name))
        {
            let message = format!("there is no column `{name}`: the columns are {}", listed(&self.columns));
            return Err(Problem::new("bad-config", message).at(format!("/types/{}", escaped(name))));
        }
        match self.delimiter.as_bytes() {
            &[byte @ (b'\t' | b' '..=b'~')] if byte != b'"' => Ok(byte),
            _ => {
                let message =
                    format!("`{}` is not a delimiter: one ASCII character but a quote", self.delimiter);
                Err(Problem::new("bad-config", message).at("/delimiter"))
            }
        }
    }
}

/// How many names of columns are told.
const NAMES_MAX: usize = 16;

/// Names of columns, as many as are read.
pub(crate) fn listed<T: AsRef<str>>(names: &[T]) -> String {
    let told: Vec<String> = names.iter().take(NAMES_MAX).map(|name| format!("`{}`", name.as_ref())).collect();
    match names.len() - told.len() {
        0 => told.join(", "),
        more => format!("{} and {more} more", told.join(", ")),
    }
}

/// A part of a JSON pointer (RFC 6901 §3).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
