//! Where the items of an array stand in the text of a payload.
//!
//! The payload has been read before, so that it is known to be JSON: the scan counts brackets and skips strings.

use json_value::Pointer;

/// Start and length of each item of the array that `at` leads to.
pub(crate) fn items(json: &[u8], at: &Pointer) -> Vec<(usize, usize)> {
    let mut scan = Scan { json, at: 0 };
    scan.space();
    for step in at.steps() {
        if !scan.enter(step) {
            return Vec::new();
        }
    }
    let mut items = Vec::new();
    scan.each(|scan, _| {
        let start = scan.at;
        scan.skip();
        items.push((start, scan.at - start));
        false
    });
    items
}

struct Scan<'a> {
    json: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    /// To the value of a member or item.
    fn enter(&mut self, step: &str) -> bool {
        let mut index = 0;
        self.each(|scan, name| {
            let is = match name {
                // A name with escapes is rare enough to be read by the reader of JSON.
                Some(name) => json_value::read(name).is_ok_and(|name| name.as_str() == Some(step)),
                None => step.parse() == Ok(index),
            };
            index += 1;
            if !is {
                scan.skip();
            }
            is
        })
    }

    /// Calls `stop` at the value of each member or item, with the name in its quotes; it moves past the value, or stops.
    fn each(&mut self, mut stop: impl FnMut(&mut Self, Option<&[u8]>) -> bool) -> bool {
        let json = self.json;
        let object = self.peek() == Some(b'{');
        if !object && self.peek() != Some(b'[') {
            return false;
        }
        self.at += 1;
        loop {
            self.space();
            if matches!(self.peek(), Some(b']' | b'}') | None) {
                self.at += 1;
                return false;
            }
            let mut name = None;
            if object {
                let start = self.at;
                self.skip();
                name = Some(&json[start..self.at]);
                self.space();
                self.at += 1;
                self.space();
            }
            if stop(self, name) {
                return true;
            }
            self.space();
            if self.peek() == Some(b',') {
                self.at += 1;
            }
        }
    }

    /// Past one value.
    fn skip(&mut self) {
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                Some(b'"') => self.skip_string(),
                Some(b'[' | b'{') => {
                    depth += 1;
                    self.at += 1;
                }
                Some(b']' | b'}') => {
                    depth -= 1;
                    self.at += 1;
                }
                Some(_) if depth > 0 => self.at += 1,
                Some(_) => {
                    let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t');
                    let rest = &self.json[self.at..];
                    self.at += rest.iter().position(ends).unwrap_or(rest.len());
                }
                None => return,
            }
            if depth == 0 {
                return;
            }
        }
    }

    fn skip_string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                return;
            }
        }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<'a>(json: &'a str, at: &str) -> Vec<&'a str> {
        let at = at.parse().expect("a pointer");
        items(json.as_bytes(), &at).into_iter().map(|(start, length)| &json[start..start + length]).collect()
    }

    #[test]
    fn items_are_the_text_that_stands_there() {
        assert_eq!(
            texts(r#" [ 1 , "a]\",", {"b": [2, 3]},[ ],null ] "#, ""),
            ["1", r#""a]\",""#, r#"{"b": [2, 3]}"#, "[ ]", "null"]
        );
        assert_eq!(texts(r#"{"x":[0],"a":{"y":1,"\u0062":[[1],[2]]}}"#, "/a/b/1"), ["2"]);
        assert_eq!(texts("[]", ""), [""; 0]);
        assert_eq!(texts(r#"{"a":"x"}"#, "/a"), [""; 0]);
    }
}
