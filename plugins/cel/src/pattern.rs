//! `matches`: whether a regular expression finds something in a text.
//!
//! A search takes time that grows with the text and with the pattern, whatever stands in them. A pattern is compiled once
//! and kept: a condition has few of them, and meets them with each message.

use std::cell::RefCell;

use cel_lang::common::types::{CelBool, CelString};
use cel_lang::{DeclarationError, Env, ExecutionError};
use regex_lite::{Regex, RegexBuilder};

/// How many patterns are kept.
const KEPT_MAX: usize = 32;

/// How large a compiled pattern may be: `(a{1000}){1000}` is short.
const COMPILED_BYTES_MAX: usize = 1 << 20;

thread_local! {
    /// By their texts, the one met last at the end.
    static KEPT: RefCell<Vec<(String, Regex)>> = const { RefCell::new(Vec::new()) };
}

/// Declares `text.matches(pattern)` and `matches(text, pattern)`.
pub(crate) fn add(env: &mut Env) -> Result<(), DeclarationError> {
    cel_lang::add_overload!(env, fn matches: (CelString<'_>, CelString<'_>) -> Result<CelBool>, id = "matches")?;
    cel_lang::add_member_overload!(env, fn matches: (CelString<'_>, CelString<'_>) -> Result<CelBool>)
}

fn matches(text: &CelString<'_>, pattern: &CelString<'_>) -> Result<CelBool, ExecutionError> {
    let (text, pattern) = (text.inner(), pattern.inner());
    let found = KEPT.with_borrow_mut(|kept| {
        if let Some(at) = kept.iter().position(|(own, _)| own == pattern) {
            kept[at..].rotate_left(1);
        } else {
            let regex = compiled(pattern)?;
            if kept.len() == KEPT_MAX {
                kept.remove(0);
            }
            kept.push((pattern.to_owned(), regex));
        }
        Ok(kept.last().expect("it was put there").1.is_match(text))
    });
    found.map(CelBool::from).map_err(|error: String| ExecutionError::function_error("matches", error))
}

/// The pattern, or what is wrong with it.
pub(crate) fn compiled(pattern: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(pattern).size_limit(COMPILED_BYTES_MAX).build();
    built.map_err(|error| format!("`{pattern}` is no regular expression: {error}"))
}
