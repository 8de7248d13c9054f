//! The rows of a text, by RFC 4180.

use std::borrow::Cow;

use wharf_plugin::Problem;

use crate::COLUMNS_MAX;

/// A cell: what stood between two delimiters.
pub(crate) struct Cell<'a> {
    pub(crate) text: Cow<'a, str>,
    /// An empty cell in quotes is a text of no characters; one without is nothing.
    pub(crate) quoted: bool,
}

pub(crate) struct Rows<'a> {
    text: &'a str,
    at: usize,
    /// The line that comes next, from 1.
    next_line: usize,
    /// The line that the last row began in.
    line: usize,
    delimiter: u8,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(text: &'a str, delimiter: u8) -> Self {
        Self { text, at: 0, next_line: 1, line: 0, delimiter }
    }

    /// The line that the last row began in.
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// Fills `row` with the next one's cells; `false` where there is none.
    pub(crate) fn next(&mut self, row: &mut Vec<Cell<'a>>) -> Result<bool, Problem> {
        row.clear();
        if self.at == self.text.len() {
            return Ok(false);
        }
        self.line = self.next_line;
        loop {
            if row.len() == COLUMNS_MAX {
                return Err(
                    self.problem("too-many-columns", &format!("a row has at most {COLUMNS_MAX} cells"))
                );
            }
            let cell = if self.peek() == Some(b'"') { self.quoted()? } else { self.bare()? };
            row.push(cell);
            match self.peek() {
                Some(byte) if byte == self.delimiter => self.at += 1,
                Some(b'\r') if self.text.as_bytes().get(self.at + 1) == Some(&b'\n') => {
                    self.at += 2;
                    break;
                }
                Some(b'\n') => {
                    self.at += 1;
                    break;
                }
                None => break,
                Some(_) => {
                    return Err(self
                        .problem("not-csv", "after a quoted cell comes a delimiter or the end of the line"));
                }
            }
        }
        self.next_line += 1;
        Ok(true)
    }

    fn bare(&mut self) -> Result<Cell<'a>, Problem> {
        let rest = &self.text.as_bytes()[self.at..];
        let ends = |byte: u8| byte == self.delimiter || byte == b'\n' || byte == b'"';
        let mut length = rest.iter().position(|&byte| ends(byte)).unwrap_or(rest.len());
        if rest.get(length) == Some(&b'"') {
            return Err(self.problem("not-csv", "a quote stands inside a cell that did not begin with one"));
        }
        if rest.get(length) == Some(&b'\n') && rest[..length].ends_with(b"\r") {
            length -= 1;
        }
        let cell = &self.text[self.at..self.at + length];
        if cell.contains('\r') {
            // Taken for a character, it would make one row of all that ends its lines so.
            let message =
                "a carriage return stands without a line feed: it ends no line, and belongs in quotes";
            return Err(self.problem("not-csv", message));
        }
        self.at += length;
        Ok(Cell { text: Cow::Borrowed(cell), quoted: false })
    }

    fn quoted(&mut self) -> Result<Cell<'a>, Problem> {
        self.at += 1;
        let mut text = Cow::Borrowed("");
        loop {
            let rest = &self.text[self.at..];
            let Some(length) = rest.bytes().position(|byte| byte == b'"') else {
                return Err(self.problem("not-csv", "the quotes of a cell are not closed"));
            };
            let piece = &rest[..length];
            self.next_line += piece.bytes().filter(|&byte| byte == b'\n').count();
            text = if text.is_empty() { Cow::Borrowed(piece) } else { Cow::Owned(text.into_owned() + piece) };
            self.at += length + 1;
            if self.peek() != Some(b'"') {
                return Ok(Cell { text, quoted: true });
            }
            text.to_mut().push('"');
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn problem(&self, code: &'static str, message: &str) -> Problem {
        Problem::new(code, message).at(format!("line {}", self.line))
    }
}
