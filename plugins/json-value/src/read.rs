//! From bytes to a value.

use std::borrow::Cow;

use wharf_plugin::Problem;

use crate::{DEPTH_MAX, Value};

/// Up to this many members are compared one by one for two of one name; more are sorted.
const MEMBERS_COMPARED: usize = 16;

/// The value that `json` is (RFC 8259).
///
/// # Errors
/// `not-utf8`, `not-json`, `duplicate-member` or `too-deep`, with the line and column.
pub fn read(json: &[u8]) -> Result<Value<'_>, Problem> {
    let text = std::str::from_utf8(json).map_err(|error| {
        let message = format!("the payload is not UTF-8 text: wrong byte at {}", error.valid_up_to());
        Problem::new("not-utf8", message).at(place(json, error.valid_up_to()))
    })?;
    let mut reader = Reader { text, at: 0 };
    reader.space();
    let value = reader.value(0)?;
    reader.space();
    match reader.peek() {
        None => Ok(value),
        Some(_) => Err(reader.expected("the end of the payload")),
    }
}

/// A name that two of the members have: what makers of objects refuse.
pub fn first_duplicate<'m>(members: &'m [(Cow<'_, str>, Value<'_>)]) -> Option<&'m str> {
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// Recursion ends at [`DEPTH_MAX`].
    fn value(&mut self, depth: usize) -> Result<Value<'a>, Problem> {
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(|text| Value::Number(Cow::Borrowed(text))),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => Err(self.expected("a value")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value<'a>, Problem> {
        self.open(depth)?;
        let mut members = Vec::new();
        if self.take(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.expected("a member's name in quotes"));
            }
            let start = self.at;
            let name = self.string()?;
            if members.len() < MEMBERS_COMPARED && members.iter().any(|(own, _)| *own == name) {
                return Err(self.duplicate(&name, start));
            }
            self.space();
            if !self.take(b':') {
                return Err(self.expected("`:` after a member's name"));
            }
            members.push((name, self.value(depth + 1)?));
            self.space();
            if self.take(b'}') {
                break;
            }
            if !self.take(b',') {
                return Err(self.expected("`,` or `}`"));
            }
        }
        if members.len() > MEMBERS_COMPARED
            && let Some(name) = first_duplicate(&members)
        {
            return Err(self.duplicate(name, self.at));
        }
        Ok(Value::Object(members))
    }

    fn array(&mut self, depth: usize) -> Result<Value<'a>, Problem> {
        self.open(depth)?;
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            if self.take(b']') {
                return Ok(Value::Array(items));
            }
            if !self.take(b',') {
                return Err(self.expected("`,` or `]`"));
            }
        }
    }

    fn open(&mut self, depth: usize) -> Result<(), Problem> {
        if depth == DEPTH_MAX {
            let message = format!("values lie more than {DEPTH_MAX} deep in one another");
            return Err(self.problem("too-deep", message, self.at));
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Problem> {
        self.at += 1;
        let mut start = self.at;
        let mut unescaped: Option<String> = None;
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let Some(length) = rest.iter().position(|&byte| matches!(byte, b'"' | b'\\' | 0..0x20)) else {
                self.at = self.text.len();
                return Err(self.expected("the end of a string"));
            };
            self.at += length;
            let piece = &self.text[start..self.at];
            match self.text.as_bytes()[self.at] {
                b'"' => {
                    self.at += 1;
                    return Ok(match unescaped {
                        None => Cow::Borrowed(piece),
                        Some(text) => Cow::Owned(text + piece),
                    });
                }
                b'\\' => {
                    let text = unescaped.get_or_insert_with(String::new);
                    text.push_str(piece);
                    text.push(self.escape()?);
                    start = self.at;
                }
                _ => {
                    return Err(
                        self.expected("an escape: a control character stands in a string as `\\u00..`")
                    );
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, Problem> {
        let start = self.at;
        let letter = self.text.as_bytes().get(self.at + 1).copied();
        self.at += 2;
        let character = match letter {
            Some(letter @ (b'"' | b'\\' | b'/')) => Some(char::from(letter)),
            Some(b'b') => Some('\u{8}'),
            Some(b'f') => Some('\u{c}'),
            Some(b'n') => Some('\n'),
            Some(b'r') => Some('\r'),
            Some(b't') => Some('\t'),
            Some(b'u') => self.unicode(),
            _ => None,
        };
        character.ok_or_else(|| {
            self.problem("not-json", "the payload is not JSON: a wrong escape in a string".into(), start)
        })
    }

    /// After `\u`. Characters outside the basic plane are two escapes, a pair of surrogates.
    fn unicode(&mut self) -> Option<char> {
        let first = self.hex()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first);
        }
        self.text[self.at..].strip_prefix("\\u")?;
        self.at += 2;
        let second = self.hex().filter(|second| (0xdc00..0xe000).contains(second))?;
        char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.bytes().try_fold(0, |sum, digit| Some(sum * 16 + char::from(digit).to_digit(16)?))
    }

    fn number(&mut self) -> Result<&'a str, Problem> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') && !self.digits() {
            return Err(self.expected("a digit"));
        }
        if self.take(b'.') && !self.digits() {
            return Err(self.expected("a digit after the point"));
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            if !self.digits() {
                return Err(self.expected("a digit of the exponent"));
            }
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> bool {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at > start
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, Problem> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(value);
        }
        Err(self.expected("a value"))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Takes the byte, and the white space after it where it is punctuation.
    fn take(&mut self, byte: u8) -> bool {
        if self.peek() != Some(byte) {
            return false;
        }
        self.at += 1;
        if matches!(byte, b':' | b',') {
            self.space();
        }
        true
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn expected(&self, what: &str) -> Problem {
        let found = match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(character) => format!("`{}`", character.escape_default()),
            None => "the end of the payload".to_owned(),
        };
        self.problem(
            "not-json",
            format!("the payload is not JSON: {what} was expected, and there is {found}"),
            self.at,
        )
    }

    fn duplicate(&self, name: &str, at: usize) -> Problem {
        let message = format!("an object has two members `{name}`: which of them is meant cannot be known");
        self.problem("duplicate-member", message, at)
    }

    fn problem(&self, code: &'static str, message: String, at: usize) -> Problem {
        Problem::new(code, message).at(place(self.text.as_bytes(), at))
    }
}

/// `line 3, column 7`, counted in bytes from 1.
fn place(json: &[u8], at: usize) -> String {
    let before = &json[..at.min(json.len())];
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
    format!("line {line}, column {column}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(json: &str) -> (String, String) {
        let problem = read(json.as_bytes()).expect_err("it is no JSON");
        (problem.code.into_owned(), problem.path.expect("a place"))
    }

    #[test]
    fn numbers_are_kept_as_they_were_written() {
        let json = br#"[0,-0,1.10,1e400,123456789012345678901234567890]"#;
        assert_eq!(read(json).unwrap().to_json(), json);
    }

    #[test]
    fn strings_lose_their_escapes_and_borrow_without() {
        let value = read(r#"["a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00","plain"]"#.as_bytes()).unwrap();
        let Value::Array(items) = &value else { panic!("an array") };
        assert_eq!(items[0].as_str(), Some("a\"\\/\u{8}\u{c}\n\r\té😀"));
        assert!(matches!(&items[1], Value::String(Cow::Borrowed("plain"))));
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        for (json, column) in [
            ("", 1),
            ("01", 2),
            ("+1", 1),
            (".5", 1),
            ("1.", 3),
            ("1e", 3),
            ("nul", 1),
            ("[1,]", 4),
            ("{\"a\":1,}", 8),
            ("{a:1}", 2),
            ("\"a", 3),
            ("\"\t\"", 2),
            ("\"\\x\"", 2),
            ("1 2", 3),
            ("[1", 3),
            ("\"\\ud800\"", 2),
            ("\"\\udc00\"", 2),
            ("\"\\u12g4\"", 2),
        ] {
            assert_eq!(problem(json), ("not-json".into(), format!("line 1, column {column}")), "{json}");
        }
        assert_eq!(problem("[1,\n  x]").1, "line 2, column 3");
        assert_eq!(read(b"\"\xff\"").unwrap_err().code, "not-utf8");
    }

    #[test]
    fn two_members_of_one_name_are_refused_among_few_and_many() {
        assert_eq!(problem(r#"{"a":1,"a":2}"#).0, "duplicate-member");
        let many: Vec<String> = (0..40).chain([3]).map(|n| format!("\"{n}\":0")).collect();
        assert_eq!(problem(&format!("{{{}}}", many.join(","))).0, "duplicate-member");
        assert!(read(format!("{{{}}}", many[..40].join(",")).as_bytes()).is_ok());
    }

    #[test]
    fn depth_has_a_bound() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(read(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(problem(&nested(DEPTH_MAX + 1)).0, "too-deep");
        assert_eq!(problem(&"[".repeat(1 << 20)).0, "too-deep");
    }

    proptest::proptest! {
        #[test]
        fn what_another_parser_takes_is_taken_and_means_the_same(
            bytes in proptest::collection::vec(proptest::sample::select(br#"{}[]",:\u0 1-.eEtrufalsn/"#.to_vec()), 0..24)
        ) {
            let other: Result<serde_json::Value, _> = serde_json::from_slice(&bytes);
            match (read(&bytes), other) {
                (Ok(value), Ok(other)) => {
                    let again: serde_json::Value = serde_json::from_slice(&value.to_json()).unwrap();
                    proptest::prop_assert_eq!(again, other);
                }
                (Ok(value), Err(error)) => proptest::prop_assert!(error.to_string().contains("out of range"), "{:?} {}", value, error),
                (Err(problem), Ok(_)) => proptest::prop_assert_eq!(problem.code, "duplicate-member"),
                (Err(_), Err(_)) => {}
            }
        }
    }
}
