//! Regular expressions: what `test`, `match`, `capture`, `scan`, `split`, `sub` and `gsub` are defined by.
//!
//! A search takes time that grows with the text and with the pattern, whatever stands in them. A pattern is compiled once
//! and kept: a program has few of them, and meets them with each value.

use std::cell::RefCell;
use std::rc::Rc;

use jaq_core::native::{Fun, bome, run, v};
use jaq_json::{Error, Map, Val};
use regex_lite::{Captures, Match, Regex, RegexBuilder};

use crate::language::Data;
use crate::value;

/// How many patterns are kept.
const KEPT_MAX: usize = 32;

/// How large a compiled pattern may be: `(a{1000}){1000}` is short.
const COMPILED_BYTES_MAX: usize = 1 << 20;

thread_local! {
    /// By their texts and flags, the one met last at the end.
    static KEPT: RefCell<Vec<(Pattern, Rc<Regex>)>> = const { RefCell::new(Vec::new()) };
}

/// What is searched for, as a program writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    text: String,
    flags: Flags,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Flags {
    /// `g`: all matches, and not the first alone.
    global: bool,
    /// `n`: none that are empty.
    not_empty: bool,
    /// `i`
    any_case: bool,
    /// `x`: white space and comments in the pattern are none of it.
    extended: bool,
    /// `s`: `.` stands for the end of a line too.
    dot_is_all: bool,
    /// `m`: `^` and `$` are the ends of each line.
    by_lines: bool,
}

/// A piece of a text.
enum Piece<'t> {
    /// Before, between and behind the matches.
    Rest(&'t str),
    /// A match and its groups.
    Found(Captures<'t>),
}

/// Those that the definitions are made of: each takes a pattern and flags.
pub(crate) fn functions() -> [Fun<Data>; 3] {
    [
        run(("matches", v(2), |mut input| {
            let (flags, pattern) = (input.0.pop_var(), input.0.pop_var());
            bome(search(&input.1, &pattern, &flags, |piece| matches!(piece, Piece::Found(_))))
        })),
        run(("split_", v(2), |mut input| {
            let (flags, pattern) = (input.0.pop_var(), input.0.pop_var());
            bome(search(&input.1, &pattern, &flags, |piece| matches!(piece, Piece::Rest(_))))
        })),
        run(("split_matches", v(2), |mut input| {
            let (flags, pattern) = (input.0.pop_var(), input.0.pop_var());
            bome(search(&input.1, &pattern, &flags, |_| true))
        })),
    ]
}

/// An array of the pieces that are wanted: texts, and for each match an array of it and its groups.
fn search(text: &Val, pattern: &Val, flags: &Val, wanted: impl Fn(&Piece<'_>) -> bool) -> Result<Val, Error> {
    let text = as_text(text)?;
    let pattern = Pattern { text: as_text(pattern)?, flags: Flags::of(&as_text(flags)?)? };
    let flags = pattern.flags;
    let regex = compiled(pattern)?;
    let mut places = Places { text: &text, byte: 0, character: 0 };
    let pieces = pieces(&text, &regex, flags).into_iter().filter(wanted).map(|piece| match piece {
        Piece::Rest(text) => value::text(text),
        Piece::Found(captures) => groups(&regex, &captures, &mut places),
    });
    Ok(Val::Arr(Rc::new(pieces.collect())))
}

fn pieces<'t>(text: &'t str, regex: &Regex, flags: Flags) -> Vec<Piece<'t>> {
    let (mut pieces, mut end) = (Vec::new(), 0);
    for captures in regex.captures_iter(text) {
        let whole = captures.get(0).expect("a match has a whole");
        if flags.not_empty && whole.is_empty() {
            continue;
        }
        pieces.push(Piece::Rest(&text[end..whole.start()]));
        end = whole.end();
        pieces.push(Piece::Found(captures));
        if !flags.global {
            break;
        }
    }
    pieces.push(Piece::Rest(&text[end..]));
    pieces
}

fn groups(regex: &Regex, captures: &Captures<'_>, places: &mut Places<'_>) -> Val {
    let start = captures.get(0).map_or(0, |whole| whole.start());
    let start = places.go_to(start);
    let groups = regex.capture_names().zip(captures.iter());
    let groups = groups.map(|(name, group)| places.group(name, group, start));
    Val::Arr(Rc::new(groups.collect()))
}

/// A place in a text, which only goes on: characters are counted once.
#[derive(Clone, Copy)]
struct Places<'t> {
    text: &'t str,
    byte: usize,
    character: usize,
}

impl Places<'_> {
    fn go_to(&mut self, byte: usize) -> Self {
        self.character += self.text[self.byte..byte].chars().count();
        self.byte = byte;
        *self
    }

    /// What `match` tells of a group: one that took no part is at -1. None begins before the match's `start`.
    fn group(self, name: Option<&str>, group: Option<Match<'_>>, mut start: Self) -> Val {
        let (offset, length, text) = match group {
            Some(group) => {
                let offset = start.go_to(group.start()).character;
                (Val::from(offset), Val::from(group.as_str().chars().count()), value::text(group.as_str()))
            }
            None => (Val::from(-1_isize), Val::from(0_usize), Val::Null),
        };
        let mut told = vec![("offset", offset), ("length", length), ("string", text)];
        told.extend(name.map(|name| ("name", value::text(name))));
        Val::obj(told.into_iter().map(|(name, told)| (value::text(name), told)).collect::<Map>())
    }
}

fn as_text(value: &Val) -> Result<String, Error> {
    match value {
        Val::TStr(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        // No flags, as in jq.
        Val::Null => Ok(String::new()),
        other => Err(Error::typ(other.clone(), "string")),
    }
}

impl Flags {
    fn of(letters: &str) -> Result<Self, Error> {
        let mut flags = Self::default();
        for letter in letters.chars() {
            match letter {
                'g' => flags.global = true,
                'n' => flags.not_empty = true,
                'i' => flags.any_case = true,
                'x' => flags.extended = true,
                's' => flags.dot_is_all = true,
                'm' => flags.by_lines = true,
                other => {
                    return Err(Error::str(format_args!("`{other}` is none of the flags: g, i, m, n, s, x")));
                }
            }
        }
        Ok(flags)
    }
}

fn compiled(pattern: Pattern) -> Result<Rc<Regex>, Error> {
    KEPT.with_borrow_mut(|kept| {
        if let Some(at) = kept.iter().position(|(own, _)| *own == pattern) {
            kept[at..].rotate_left(1);
        } else {
            let flags = pattern.flags;
            let regex = RegexBuilder::new(&pattern.text)
                .case_insensitive(flags.any_case)
                .ignore_whitespace(flags.extended)
                .dot_matches_new_line(flags.dot_is_all)
                .multi_line(flags.by_lines)
                .size_limit(COMPILED_BYTES_MAX)
                .build()
                .map_err(|error| {
                    Error::str(format_args!("`{}` is no regular expression: {error}", pattern.text))
                })?;
            if kept.len() == KEPT_MAX {
                kept.remove(0);
            }
            kept.push((pattern, Rc::new(regex)));
        }
        Ok(Rc::clone(&kept.last().expect("it was put there").1))
    })
}
