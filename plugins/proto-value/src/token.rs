//! The words of a `.proto` file.

use wharf_plugin::Problem;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token<'a> {
    /// A name, with dots, or a number.
    Word(&'a str),
    /// What stood in quotes, escapes and all.
    Text(&'a str),
    Mark(char),
}

pub(crate) struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Token<'a>>, Problem> {
        self.skip()?;
        let rest = &self.text[self.at..];
        let Some(first) = rest.chars().next() else { return Ok(None) };
        if first == '"' || first == '\'' {
            let mut escaped = false;
            let end = rest[1..].find(|character| {
                let is_end = character == first && !escaped;
                escaped = character == '\\' && !escaped;
                is_end
            });
            let end = end.ok_or_else(|| self.bad("a text in quotes does not end"))?;
            self.at += end + 2;
            return Ok(Some(Token::Text(&rest[1..=end])));
        }
        let part =
            |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '-' | '+');
        let length = rest.find(|character| !part(character)).unwrap_or(rest.len());
        if length == 0 {
            self.at += first.len_utf8();
            return Ok(Some(Token::Mark(first)));
        }
        self.at += length;
        Ok(Some(Token::Word(&rest[..length])))
    }

    pub(crate) fn peek(&mut self) -> Result<Option<Token<'a>>, Problem> {
        let at = self.at;
        let token = self.next();
        self.at = at;
        token
    }

    pub(crate) fn word(&mut self, what: &str) -> Result<&'a str, Problem> {
        match self.next()? {
            Some(Token::Word(word)) => Ok(word),
            _ => Err(self.bad(&format!("{what} was expected"))),
        }
    }

    pub(crate) fn mark(&mut self, mark: char) -> Result<(), Problem> {
        match self.next()? {
            Some(Token::Mark(own)) if own == mark => Ok(()),
            _ => Err(self.bad(&format!("`{mark}` was expected"))),
        }
    }

    pub(crate) fn take(&mut self, mark: char) -> Result<bool, Problem> {
        let is = self.peek()? == Some(Token::Mark(mark));
        if is {
            self.next()?;
        }
        Ok(is)
    }

    /// Past the next `;`, or past a block in braces.
    pub(crate) fn skip_statement(&mut self) -> Result<(), Problem> {
        let mut depth = 0_usize;
        loop {
            match self.next()? {
                Some(Token::Mark('{')) => depth += 1,
                Some(Token::Mark('}')) if depth <= 1 => return Ok(()),
                Some(Token::Mark('}')) => depth -= 1,
                Some(Token::Mark(';')) if depth == 0 => return Ok(()),
                Some(_) => {}
                None => return Err(self.bad("`;` was expected")),
            }
        }
    }

    /// White space and comments.
    fn skip(&mut self) -> Result<(), Problem> {
        loop {
            let rest = &self.text[self.at..];
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if trimmed.starts_with("//") {
                self.at += trimmed.find('\n').unwrap_or(trimmed.len());
            } else if trimmed.starts_with("/*") {
                self.at += trimmed.find("*/").ok_or_else(|| self.bad("a comment does not end"))? + 2;
            } else {
                return Ok(());
            }
        }
    }

    pub(crate) fn bad(&self, message: &str) -> Problem {
        let line = self.text[..self.at].bytes().filter(|&byte| byte == b'\n').count() + 1;
        Problem::new("bad-schema", message).at(format!("line {line}"))
    }
}
