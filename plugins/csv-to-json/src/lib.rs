//! `csv-to-json`: a transformer that makes JSON of CSV.
//!
//! ```csv
//! sku,qty,note
//! A-1,2,"two ""big"" ones"
//! B-9,1,
//! ```
//! ```json
//! [{"sku":"A-1","qty":2,"note":"two \"big\" ones"},{"sku":"B-9","qty":1,"note":null}]
//! ```
//!
//! ```toml
//! [stage.config]
//! delimiter = ","                      # one character; "\t" for tabs
//! columns = []                         # their names; without, the first row has them
//! types = { qty = "number" }           # or "boolean", "json"; what is not named is text
//! missing = "reject"                   # a header without a column of `types`; or "omit": such rows have no such member
//! empty = "null"                       # what an empty cell is: "null", "text", or "omit" for no member
//! into = "array"                       # or "messages": each row is a message of its own
//! ```
//!
//! CSV is that of RFC 4180, lines may end with `\n` alone, and a byte order mark is skipped. A row with too few or too
//! many cells, two columns of one name, a quote where none can be, and a cell that is not of its column's type are
//! rejected with their line; so is a header without a column of `types` (`missing-column`), with the names that are there.
//! Where `columns` are given, such a type refuses the pipeline. The digits of numbers stay what they were, however many.

mod config;
mod rows;

use std::borrow::Cow;

use json_value::Value;
use wharf_plugin::{Emit, Failure, Message, Out, Plugin, Problem, Stage, Transformed, Transformer};

use config::listed;
pub use config::{Config, Empty, Into, Missing, Type};
use rows::{Cell, Rows};

/// How many columns a table can have.
pub const COLUMNS_MAX: usize = 1024;

/// The plugin.
#[derive(Debug)]
pub struct CsvToJson {
    config: Config,
    delimiter: u8,
}

impl Plugin for CsvToJson {
    type Config = Config;
    const SUMMARY: &'static str = "makes JSON of CSV";
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        let delimiter = config.check()?;
        Ok(Self { config, delimiter })
    }
}

impl Transformer for CsvToJson {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let text = message.text()?;
        let mut rows = Rows::new(text.strip_prefix('\u{feff}').unwrap_or(text), self.delimiter);
        let columns = self.columns(&mut rows)?;
        let mut payload = Vec::with_capacity(text.len() * 2);
        let mut row = Vec::with_capacity(columns.len());
        if self.config.into == Into::Array {
            payload.push(b'[');
        }
        while rows.next(&mut row)? {
            let object = self.object(&columns, &mut row, rows.line())?;
            if self.config.into == Into::Messages {
                payload.clear();
                object.write(&mut payload);
                out.emit(Emit::bytes(&payload).set_headers(JSON))?;
                continue;
            }
            if payload.len() > 1 {
                payload.push(b',');
            }
            object.write(&mut payload);
        }
        match self.config.into {
            Into::Messages => Ok(Transformed::Emitted),
            Into::Array => {
                payload.push(b']');
                out.emit(Emit::bytes(&payload).set_headers(JSON))
            }
        }
    }
}

const JSON: &[(&str, &[u8])] = &[("content-type", b"application/json")];

struct Column<'a> {
    name: Cow<'a, str>,
    of: Type,
}

impl CsvToJson {
    fn columns<'a>(&'a self, rows: &mut Rows<'a>) -> Result<Vec<Column<'a>>, Problem> {
        let mut names = Vec::new();
        if self.config.columns.is_empty() {
            let mut first = Vec::new();
            if !rows.next(&mut first)? {
                return Err(Problem::new(
                    "no-header",
                    "the payload has no row, and the first would name the columns",
                ));
            }
            names.extend(first.into_iter().map(|cell| cell.text));
        } else {
            names.extend(self.config.columns.iter().map(|name| Cow::Borrowed(name.as_str())));
        }
        let mut sorted: Vec<&str> = names.iter().map(Cow::as_ref).collect();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            let message = format!("two columns are named `{}`", pair[0]);
            return Err(Problem::new("duplicate-column", message).at("line 1"));
        }
        // Of given columns, the configuration was refused.
        let lacks = |name: &&String| sorted.binary_search(&name.as_str()).is_err();
        if self.config.missing == Missing::Reject
            && let Some(name) = self.config.types.keys().find(lacks)
        {
            let message = format!("the header has no column `{name}`: its columns are {}", listed(&names));
            return Err(Problem::new("missing-column", message).at("line 1"));
        }
        let of = |name: &str| self.config.types.get(name).copied().unwrap_or_default();
        Ok(names.into_iter().map(|name| Column { of: of(&name), name }).collect())
    }

    fn object<'a>(
        &self,
        columns: &'a [Column<'_>],
        row: &mut Vec<Cell<'a>>,
        line: usize,
    ) -> Result<Value<'a>, Problem> {
        if row.len() != columns.len() {
            let message = format!("the row has {} cells, and there are {} columns", row.len(), columns.len());
            return Err(Problem::new("ragged-row", message).at(format!("line {line}")));
        }
        let mut members = Vec::with_capacity(columns.len());
        for (column, cell) in columns.iter().zip(row.drain(..)) {
            let value = match (cell.text.is_empty() && !cell.quoted, self.config.empty) {
                (true, Empty::Omit) => continue,
                (true, Empty::Null) => Value::Null,
                _ => typed(column, cell.text, line)?,
            };
            members.push((Cow::Borrowed(column.name.as_ref()), value));
        }
        Ok(Value::Object(members))
    }
}

fn typed<'a>(column: &Column<'_>, cell: Cow<'a, str>, line: usize) -> Result<Value<'a>, Problem> {
    let value = match column.of {
        Type::Text => return Ok(Value::String(cell)),
        Type::Boolean => match cell.as_ref() {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            _ => None,
        },
        Type::Number => match json_value::read(cell.as_bytes()) {
            Ok(Value::Number(_)) => return Ok(Value::Number(trimmed(cell))),
            _ => None,
        },
        // Its strings would borrow from the cell, which may be of this row alone.
        Type::Json => json_value::read(cell.as_bytes()).ok().map(Value::into_owned),
    };
    value.ok_or_else(|| {
        let wanted = match column.of {
            Type::Boolean => "`true` or `false`",
            Type::Number => "a number as JSON writes it",
            Type::Json | Type::Text => "JSON",
        };
        let shown: String = cell.chars().take(40).collect();
        let message = format!("`{shown}` in the column `{}` is not {wanted}", column.name);
        Problem::new("bad-cell", message).at(format!("line {line}"))
    })
}

/// A number without the white space that JSON allows around it.
fn trimmed(cell: Cow<'_, str>) -> Cow<'_, str> {
    match cell {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

wharf_plugin::export!(CsvToJson as transformer);
