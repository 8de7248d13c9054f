//! How results and errors look.

use std::fmt::Display;
use std::io::{self, Write as _};

use clap::ValueEnum;
use serde::Serialize;

/// How a listing is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns, for people
    #[default]
    Table,
    /// JSON, for programs
    Json,
}

/// `-o`, as every command has it that shows something.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Output {
    /// How to print the result
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

/// Prints `items` as columns under `titles`, or as one JSON array.
pub(crate) fn list<T: Serialize>(
    how: Output,
    items: &[T],
    titles: &[&str],
    cells: impl Fn(&T) -> Vec<String>,
) -> anyhow::Result<()> {
    match how.output {
        Format::Json => json(items),
        Format::Table if items.is_empty() => {
            note("none");
            Ok(())
        }
        Format::Table => line(columns(titles, items.iter().map(cells).collect())),
    }
}

/// Prints `item` as a name and a value a line, or as one JSON object.
pub(crate) fn show<T: Serialize>(how: Output, item: &T, rows: Vec<(&str, String)>) -> anyhow::Result<()> {
    match how.output {
        Format::Json => json(item),
        Format::Table => {
            let rows = rows.into_iter().filter(|(_, value)| !value.is_empty());
            line(columns(&[], rows.map(|(name, value)| vec![format!("{name}:"), value]).collect()))
        }
    }
}

/// Prints `value` as indented JSON.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?)
}

/// Prints a line of the result.
pub(crate) fn line(text: impl Display) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{text}")?;
    Ok(())
}

/// Says something beside the result. That nobody listens is no reason to stop.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Says why a command was not carried out: the error and its causes on one line, then what to do, where it knows.
pub(crate) fn complain(error: &anyhow::Error) {
    note(format_args!("error: {error:#}"));
}

/// Whether the command ended because whoever read its output had enough, as `head` does.
pub(crate) fn reader_left(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
}

/// Cells in columns, two spaces apart, each as wide as its widest cell; no spaces at the ends of lines. What a cell
/// says may be anybody's, a message's or a plugin's, so a terminal is given nothing in it that it would obey.
fn columns(titles: &[&str], mut rows: Vec<Vec<String>>) -> String {
    for cell in rows.iter_mut().flatten().filter(|cell| cell.contains(is_obeyed)) {
        *cell = escaped(cell);
    }
    let title = titles.iter().map(|title| (*title).to_owned()).collect::<Vec<_>>();
    let rows: Vec<_> = std::iter::once(title).filter(|title| !title.is_empty()).chain(rows).collect();
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..count).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            // A cell of several lines (a pretty-printed schema) stays in its column.
            cell.replace('\n', &format!("\n{}", " ".repeat(widths[0] + 2)))
                + &" ".repeat(width.saturating_sub(cell.chars().count()))
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether a terminal does something else with it than to show it.
fn is_obeyed(c: char) -> bool {
    let turns =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c.is_control() && !matches!(c, '\n' | '\t')) || turns
}

fn escaped(cell: &str) -> String {
    let mut out = String::with_capacity(cell.len() + 16);
    for c in cell.chars() {
        match is_obeyed(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_shown_what_it_would_obey() {
        let rows = vec![vec!["\u{1b}[2J\r\u{202e}key".into(), "two\nlines\tä".into()]];
        let indent = " ".repeat(r"\u{1b}[2J\r\u{202e}key".len() + 2);
        let shown = format!("{}  two\n{indent}lines\tä", r"\u{1b}[2J\r\u{202e}key");
        assert_eq!(columns(&[], rows), shown);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["orders".into(), "12".into()], vec!["ä".into(), "3".into()]];
        assert_eq!(columns(&["NAME", "READY"], rows), "NAME    READY\norders  12\nä       3");
    }

    #[test]
    fn a_closed_pipe_is_told_from_other_errors() {
        let closed = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("printing");
        assert!(reader_left(&closed));
        assert!(!reader_left(&anyhow::anyhow!("no such queue")));
    }
}
