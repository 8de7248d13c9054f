//! Texts of a plugin's making, on their way to people: terminals, logs, dead letters, publishers.
//!
//! A terminal obeys what it is shown, and a log has a line for each entry: so whatever a plugin says is cut to a
//! bound, and its control characters, and those that turn the direction of writing, are escaped.

use std::fmt::Write as _;

/// `text`, safe to print: at most `bytes_max` bytes and an ellipsis.
pub(crate) fn printable(text: &str, bytes_max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(bytes_max));
    for c in text.chars() {
        let before = out.len();
        if is_obeyed(c) {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
        if out.len() > bytes_max {
            out.truncate(before);
            out.push('…');
            break;
        }
    }
    out
}

/// Whether a terminal does something else with it than to show it.
fn is_obeyed(c: char) -> bool {
    let turns =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let separates = matches!(c, '\u{2028}' | '\u{2029}');
    (c.is_control() && c != '\t') || turns || separates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown_and_not_done() {
        assert_eq!(
            printable("a\u{1b}[2J\r\nb\u{202e}c\td\u{9b}", 100),
            "a\\u{1b}[2J\\r\\nb\\u{202e}c\td\\u{9b}"
        );
        assert_eq!(printable("größer", 100), "größer");
    }

    #[test]
    fn a_text_is_cut_at_its_bound_and_at_a_character() {
        assert_eq!(printable("abcdef", 6), "abcdef");
        assert_eq!(printable("abcdefg", 6), "abcdef…");
        assert_eq!(printable("aéé", 4), "aé…");
        assert_eq!(printable("abc\n", 4), "abc…", "an escape is not cut in half");
    }
}
