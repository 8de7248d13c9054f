//! `json-to-csv`: a transformer that makes CSV of JSON.
//!
//! ```json
//! [{"sku":"A-1","qty":2,"note":"two \"big\" ones"},{"sku":"B-9","qty":1,"note":null}]
//! ```
//! ```csv
//! sku,qty,note
//! A-1,2,"two ""big"" ones"
//! B-9,1,
//! ```
//!
//! ```toml
//! [stage.config]
//! columns = [                          # without: the members of the first object, in order
//!   "sku",
//!   { name = "customer", at = "/customer/id" },
//! ]
//! delimiter = ","
//! header = true                        # whether the first line names the columns
//! nested = "reject"                    # or "json": an array or object becomes a cell of JSON
//! line-end = "crlf"                    # as RFC 4180 has it; or "lf"
//! guard-formulas = false               # put ' before a text that a spreadsheet would run: one with = + - @ first
//! ```
//!
//! The payload is an array of objects, or one object. A missing member and `null` are empty cells; a text of no
//! characters is `""`. Without `columns`, a member that the first object does not have is rejected (`unknown-column`).

use std::borrow::Cow;

use json_value::{Pointer, Value};
use serde::Deserialize;
use wharf_plugin::{Emit, Failure, Message, Out, Plugin, Problem, Stage, Transformed, Transformer};

/// How JSON becomes CSV.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The columns, in order; empty: the members of the first object.
    pub columns: Vec<Column>,
    /// Between two cells: one ASCII character.
    pub delimiter: String,
    /// Whether the first line names the columns.
    pub header: bool,
    /// What becomes of arrays and objects.
    pub nested: Nested,
    /// What ends a line.
    pub line_end: LineEnd,
    /// Whether texts that a spreadsheet would run as formulas are made harmless.
    pub guard_formulas: bool,
}

/// A column.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Column {
    /// The member of that name.
    Member(String),
    /// What a pointer leads to.
    At {
        /// The column's name.
        name: String,
        /// Where its cells are.
        at: Pointer,
    },
}

/// What becomes of arrays and objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nested {
    /// The message is rejected.
    #[default]
    Reject,
    /// They are written as JSON.
    Json,
}

/// What ends a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineEnd {
    /// `\r\n`
    #[default]
    Crlf,
    /// `\n`
    Lf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            columns: Vec::new(),
            delimiter: ",".into(),
            header: true,
            nested: Nested::default(),
            line_end: LineEnd::default(),
            guard_formulas: false,
        }
    }
}

/// The plugin.
#[derive(Debug)]
pub struct JsonToCsv {
    config: Config,
    delimiter: char,
}

impl Plugin for JsonToCsv {
    type Config = Config;
    const SUMMARY: &'static str = "makes CSV of JSON";
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, _stage: &Stage) -> Result<Self, Problem> {
        match config.delimiter.as_bytes() {
            &[byte @ (b'\t' | b' '..=b'~')] if byte != b'"' => Ok(Self { config, delimiter: byte.into() }),
            _ => {
                let message =
                    format!("`{}` is not a delimiter: one ASCII character but a quote", config.delimiter);
                Err(Problem::new("bad-config", message).at("/delimiter"))
            }
        }
    }
}

impl Transformer for JsonToCsv {
    fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
        let payload = json_value::read(message.payload())?;
        let rows = match &payload {
            Value::Array(rows) => rows.as_slice(),
            one => std::slice::from_ref(one),
        };
        for (index, row) in rows.iter().enumerate() {
            if !matches!(row, Value::Object(_)) {
                let message = format!("a row is an object, and this is {}", row.kind());
                return Err(Problem::new("not-an-object", message).at(row_path(&payload, index)).into());
            }
        }
        let csv = self.write(&payload, rows)?;
        out.emit(Emit::bytes(csv.as_bytes()).set_headers(&[("content-type", b"text/csv; charset=utf-8")]))
    }
}

impl JsonToCsv {
    fn write(&self, payload: &Value<'_>, rows: &[Value<'_>]) -> Result<String, Problem> {
        let first: &[_] = match rows.first() {
            Some(Value::Object(members)) => members,
            _ => &[],
        };
        let own = &self.config.columns;
        let names: Vec<&str> = if own.is_empty() {
            first.iter().map(|(name, _)| name.as_ref()).collect()
        } else {
            own.iter().map(Column::name).collect()
        };
        let mut csv = String::new();
        if self.config.header && !names.is_empty() {
            self.line(&mut csv, names.iter().map(|name| Some(Cow::Borrowed(*name))));
        }
        for (index, row) in rows.iter().enumerate() {
            if own.is_empty() {
                check_members(row, &names).map_err(|problem| problem.at(row_path(payload, index)))?;
            }
            let mut cells = Vec::with_capacity(names.len());
            for (column, name) in names.iter().enumerate() {
                let value = match own.get(column) {
                    Some(Column::At { at, .. }) => at.find(row),
                    _ => row.member(name),
                };
                let cell = self.cell(value).map_err(|kind| {
                    let message = format!(
                        "the column `{name}` is {kind} here, which is no cell; `nested` may say \"json\""
                    );
                    Problem::new("nested-value", message).at(row_path(payload, index))
                })?;
                cells.push(cell);
            }
            self.line(&mut csv, cells.into_iter());
        }
        Ok(csv)
    }

    /// `None` is a cell without anything; the error says what is no cell.
    fn cell<'v>(&self, value: Option<&'v Value<'_>>) -> Result<Option<Cow<'v, str>>, &'static str> {
        let Some(value) = value.filter(|value| **value != Value::Null) else { return Ok(None) };
        if let Value::String(text) = value
            && self.config.guard_formulas
            && text.starts_with(['=', '+', '-', '@', '\t', '\r'])
        {
            return Ok(Some(Cow::Owned(format!("'{text}"))));
        }
        match (value.plain(), self.config.nested) {
            (Some(plain), _) => Ok(Some(Cow::Borrowed(plain))),
            (None, Nested::Json) => Ok(String::from_utf8(value.to_json()).ok().map(Cow::Owned)),
            (None, Nested::Reject) => Err(value.kind()),
        }
    }

    fn line<'c>(&self, csv: &mut String, cells: impl Iterator<Item = Option<Cow<'c, str>>>) {
        let before = csv.len();
        for (index, cell) in cells.enumerate() {
            if index > 0 {
                csv.push(self.delimiter);
            }
            let Some(cell) = cell else { continue };
            let special = |character| character == self.delimiter || matches!(character, '"' | '\r' | '\n');
            if cell.is_empty() || cell.contains(special) {
                csv.push('"');
                csv.push_str(&cell.replace('"', "\"\""));
                csv.push('"');
            } else {
                csv.push_str(&cell);
            }
        }
        if csv.len() == before {
            // A line of one empty cell would be no line to a reader.
            csv.push_str("\"\"");
        }
        csv.push_str(match self.config.line_end {
            LineEnd::Crlf => "\r\n",
            LineEnd::Lf => "\n",
        });
    }
}

impl Column {
    fn name(&self) -> &str {
        match self {
            Self::Member(name) | Self::At { name, .. } => name,
        }
    }
}

fn check_members(row: &Value<'_>, names: &[&str]) -> Result<(), Problem> {
    let Value::Object(members) = row else { return Ok(()) };
    // Rows are alike as a rule: the same names in the same order.
    if members.len() == names.len() && members.iter().zip(names).all(|((name, _), other)| name == other) {
        return Ok(());
    }
    match members.iter().find(|(name, _)| !names.contains(&name.as_ref())) {
        None => Ok(()),
        Some((name, _)) => {
            let message = format!(
                "the member `{name}` has no column: the first row does not have it; `columns` can name them all"
            );
            Err(Problem::new("unknown-column", message))
        }
    }
}

fn row_path(payload: &Value<'_>, index: usize) -> String {
    match payload {
        Value::Array(_) => format!("/{index}"),
        _ => String::new(),
    }
}

wharf_plugin::export!(JsonToCsv as transformer);
