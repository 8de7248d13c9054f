//! Places in a value.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::Deserialize;
use wharf_plugin::Problem;

use crate::Value;

/// A JSON pointer (RFC 6901): `/customer/lines/0`, or the empty text for the whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pointer {
    text: String,
    steps: Vec<String>,
}

impl Pointer {
    /// What it leads to.
    pub fn find<'v, 'a>(&self, value: &'v Value<'a>) -> Option<&'v Value<'a>> {
        self.steps.iter().try_fold(value, |value, step| match value {
            Value::Object(_) => value.member(step),
            Value::Array(items) => items.get(index(step)?),
            _ => None,
        })
    }

    /// What it leads to, to change it.
    pub fn find_mut<'v, 'a>(&self, value: &'v mut Value<'a>) -> Option<&'v mut Value<'a>> {
        self.steps.iter().try_fold(value, |value, step| match value {
            Value::Object(members) => {
                members.iter_mut().find(|(name, _)| name == step).map(|(_, value)| value)
            }
            Value::Array(items) => items.get_mut(index(step)?),
            _ => None,
        })
    }

    /// The names and indexes that lead there.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(String::as_str)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// No sign, and no zero before other digits.
fn index(step: &str) -> Option<usize> {
    let canonical = step == "0" || !step.starts_with(['0', '+']);
    canonical.then(|| step.parse().ok()).flatten()
}

impl FromStr for Pointer {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        Ok(Self { text: text.to_owned(), steps: steps(text)? })
    }
}

impl TryFrom<String> for Pointer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|problem: Problem| problem.message)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The names between the slashes.
pub(crate) fn steps(text: &str) -> Result<Vec<String>, Problem> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let Some(rest) = text.strip_prefix('/') else {
        let message = format!("`{text}` is not a JSON pointer: it begins with `/`, as in `/customer/id`");
        return Err(Problem::new("bad-config", message));
    };
    Ok(rest.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect())
}

/// Where a walk is: what a problem names. It grows and shrinks with the walk, and is text only when asked.
#[derive(Debug, Default)]
pub struct Path<'a>(Vec<Step<'a>>);

#[derive(Debug)]
enum Step<'a> {
    Member(&'a str),
    Item(usize),
}

impl<'a> Path<'a> {
    /// Into the member of that name.
    pub fn enter(&mut self, name: &'a str) {
        self.0.push(Step::Member(name));
    }

    /// Into the item of that index.
    pub fn enter_item(&mut self, index: usize) {
        self.0.push(Step::Item(index));
    }

    /// Out again.
    pub fn leave(&mut self) {
        self.0.pop();
    }

    /// How deep it is.
    pub fn depth(&self) -> usize {
        self.0.len()
    }

    /// A problem at this place.
    pub fn problem(&self, code: &'static str, message: impl Into<String>) -> Problem {
        Problem::new(code, message).at(self.to_string())
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.0 {
            f.write_char('/')?;
            match step {
                Step::Member(name) => f.write_str(&name.replace('~', "~0").replace('/', "~1"))?,
                Step::Item(index) => write!(f, "{index}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_finds_members_and_items() {
        let value = crate::read(br#"{"a/b":[{"~":1}],"":2}"#).unwrap();
        let find = |text: &str| text.parse::<Pointer>().unwrap().find(&value).map(Value::to_json);

        assert_eq!(find("/a~1b/0/~0"), Some(b"1".to_vec()));
        assert_eq!(find("/"), Some(b"2".to_vec()));
        assert_eq!(find(""), Some(value.to_json()));
        assert_eq!(find("/a~1b/00"), None);
        assert_eq!(find("/a~1b/+0"), None);
        assert_eq!(find("/a~1b/1"), None);
        assert!("a".parse::<Pointer>().is_err());
    }
}
