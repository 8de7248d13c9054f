//! Many places in a value, by one line.

use std::str::FromStr;

use serde::Deserialize;
use wharf_plugin::Problem;

use crate::pointer::steps;
use crate::{Bytes, Value};

/// A JSON pointer with wildcards: `*` stands for any member or item, `**` for any number of steps, none included.
///
/// `/lines/*/price` is each line's price; `/**/email` is every member `email`, however deep.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern {
    text: String,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Name(String),
    Any,
    AnyDepth,
}

/// What becomes of a value that a pattern leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    /// It stays, as it is now.
    Keep,
    /// It goes: the member is removed from its object, the item from its array.
    Remove,
}

impl Pattern {
    /// Calls `edit` with each value that the pattern leads to, and gives how many there were. A value is not searched
    /// further once it has been edited.
    ///
    /// # Errors
    /// What `edit` answers.
    pub fn edit<'a, E>(
        &self,
        value: &mut Value<'a>,
        edit: &mut impl FnMut(&mut Value<'a>) -> Result<Edit, E>,
    ) -> Result<usize, E> {
        // The whole cannot be removed from anything: what is left in its place is `null`.
        let mut count = 0;
        if let Edit::Remove = walk(&[&self.steps], value, edit, &mut count)? {
            *value = Value::Null;
        }
        Ok(count)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Makes bytes of the texts that the patterns lead to, which hold them in base64.
///
/// # Errors
/// `not-base64`, with the pattern.
pub fn decode_bytes(value: &mut Value<'_>, patterns: &[Pattern]) -> Result<(), Problem> {
    for pattern in patterns {
        pattern.edit(value, &mut |value| {
            let bytes = value.as_str().and_then(|text| Bytes::Base64.decode(text)).ok_or_else(|| {
                let message =
                    format!("a text in base64 is to be here, and there is {} that is none", value.kind());
                Problem::new("not-base64", message).at(pattern.as_str())
            })?;
            *value = Value::Bytes(bytes);
            Ok::<_, Problem>(Edit::Keep)
        })?;
    }
    Ok(())
}

/// One walk for all the ways in which `**` can be read: `left` holds each one's remaining steps, so the cost is the
/// size of the value times the number of steps, whatever the pattern.
fn walk<'a, E>(
    left: &[&[Step]],
    value: &mut Value<'a>,
    edit: &mut impl FnMut(&mut Value<'a>) -> Result<Edit, E>,
    count: &mut usize,
) -> Result<Edit, E> {
    let mut open: Vec<&[Step]> = Vec::with_capacity(left.len() + 1);
    for &steps in left {
        let mut steps = steps;
        // `**` can stand for nothing: what follows it is open here as well.
        while let Some((Step::AnyDepth, rest)) = steps.split_first() {
            add(&mut open, steps);
            steps = rest;
        }
        add(&mut open, steps);
    }
    if open.iter().any(|steps| steps.is_empty()) {
        *count += 1;
        return edit(value);
    }
    let mut failed = None;
    let mut keep = |name: Option<&str>, index: usize, value: &mut Value<'a>| {
        if failed.is_some() {
            return true;
        }
        let next = next(&open, name, index);
        if next.is_empty() {
            return true;
        }
        match walk(&next, value, edit, count) {
            Ok(kept) => kept == Edit::Keep,
            Err(error) => {
                failed = Some(error);
                true
            }
        }
    };
    match value {
        Value::Object(members) => members.retain_mut(|(name, value)| keep(Some(name), 0, value)),
        Value::Array(items) => {
            let mut index = 0;
            items.retain_mut(|value| {
                index += 1;
                keep(None, index - 1, value)
            });
        }
        _ => {}
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(Edit::Keep),
    }
}

/// What is left of each way after a step into the member `name`, or the item `index` where there is no name.
fn next<'s>(open: &[&'s [Step]], name: Option<&str>, index: usize) -> Vec<&'s [Step]> {
    let mut next = Vec::new();
    for &steps in open {
        match steps.split_first() {
            Some((Step::AnyDepth, _)) => add(&mut next, steps),
            Some((Step::Any, rest)) => add(&mut next, rest),
            Some((Step::Name(wanted), rest)) => {
                let is = match name {
                    Some(name) => name == wanted,
                    None => wanted.parse() == Ok(index),
                };
                if is {
                    add(&mut next, rest);
                }
            }
            None => {}
        }
    }
    next
}

/// Steps are tails of one list, so that their length says which.
fn add<'s>(list: &mut Vec<&'s [Step]>, steps: &'s [Step]) {
    if !list.iter().any(|other| other.len() == steps.len()) {
        list.push(steps);
    }
}

impl FromStr for Pattern {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let step = |step: String| match step.as_str() {
            "*" => Step::Any,
            "**" => Step::AnyDepth,
            _ => Step::Name(step),
        };
        Ok(Self { text: text.to_owned(), steps: steps(text)?.into_iter().map(step).collect() })
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|problem: Problem| problem.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without(pattern: &str, json: &str) -> (usize, String) {
        let mut value = crate::read(json.as_bytes()).unwrap();
        let pattern: Pattern = pattern.parse().unwrap();
        let count = pattern.edit(&mut value, &mut |_| Ok::<_, ()>(Edit::Remove)).unwrap();
        (count, String::from_utf8(value.to_json()).unwrap())
    }

    #[test]
    fn stars_stand_for_members_items_and_depth() {
        assert_eq!(without("/a/b", r#"{"a":{"b":1,"c":2}}"#), (1, r#"{"a":{"c":2}}"#.into()));
        assert_eq!(
            without("/a/*/b", r#"{"a":[{"b":1},{"c":2},{"b":3}]}"#),
            (2, r#"{"a":[{},{"c":2},{}]}"#.into())
        );
        assert_eq!(without("/a/1", r#"{"a":[1,2,3]}"#), (1, r#"{"a":[1,3]}"#.into()));
        assert_eq!(without("/**/b", r#"{"b":1,"a":[{"b":{"b":2}},3]}"#), (2, r#"{"a":[{},3]}"#.into()));
        assert_eq!(
            without("/**/a/**/b", r#"{"b":1,"a":{"x":{"b":2},"b":3}}"#),
            (2, r#"{"b":1,"a":{"x":{}}}"#.into())
        );
        assert_eq!(without("", "{}"), (1, "null".into()));
        assert_eq!(without("/x", "[1]"), (0, "[1]".into()));
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_its_length() {
        let depth = crate::DEPTH_MAX - 1;
        let json = "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
        assert_eq!(without(&("/**/a".repeat(60) + "/b"), &json).0, 0);
    }
}
