//! From bytes to a value.

use std::borrow::Cow;

use json_value::{Bytes, DEPTH_MAX, Value, first_duplicate, write_f64};
use wharf_plugin::Problem;

use crate::Schema;
use crate::schema::Type;

/// How many items and members a payload may have in all: a null takes no byte, so that a few bytes could claim billions.
const ITEMS_MAX: u64 = 1_000_000;

impl Schema {
    /// The value that `avro` is.
    ///
    /// # Errors
    /// What is wrong, and at which byte: `truncated`, `trailing-bytes`, `not-avro`, `not-utf8`, `not-finite`,
    /// `duplicate-member`, `too-many-items`, `too-deep`.
    pub fn read<'a>(&'a self, avro: &'a [u8]) -> Result<Value<'a>, Problem> {
        let mut reader = Reader::new(self, avro);
        let value = reader.value(self.root, 0)?;
        reader.end()?;
        Ok(value)
    }
}

pub(crate) struct Reader<'a> {
    schema: &'a Schema,
    bytes: &'a [u8],
    at: usize,
    items: u64,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(schema: &'a Schema, avro: &'a [u8]) -> Self {
        Self { schema, bytes: avro, at: 0, items: 0 }
    }

    /// Nothing may follow the value.
    pub(crate) fn end(&self) -> Result<(), Problem> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            more => Err(self.problem("trailing-bytes", format!("{more} bytes follow the value"))),
        }
    }

    /// Recursion ends at [`DEPTH_MAX`].
    pub(crate) fn value(&mut self, of: usize, depth: usize) -> Result<Value<'a>, Problem> {
        self.enter(depth)?;
        let schema = self.schema;
        Ok(match &schema.types[of] {
            Type::Null => Value::Null,
            Type::Boolean => match self.take(1)?[0] {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => {
                    return Err(
                        self.problem("not-avro", format!("{other:02x} is no boolean, which is 00 or 01"))
                    );
                }
            },
            Type::Int => {
                let number = self.long()?;
                i32::try_from(number).map_err(|_| {
                    self.problem("not-avro", format!("{number} is no int, which has 32 bits"))
                })?;
                Value::Number(Cow::Owned(number.to_string()))
            }
            Type::Long => Value::Number(Cow::Owned(self.long()?.to_string())),
            Type::Float => {
                let bytes = self.take(4)?.try_into().expect("four bytes were taken");
                self.float(f64::from(f32::from_le_bytes(bytes)))?
            }
            Type::Double => {
                let bytes = self.take(8)?.try_into().expect("eight bytes were taken");
                self.float(f64::from_le_bytes(bytes))?
            }
            Type::Bytes => {
                let length = self.length()?;
                self.base64(length)?
            }
            Type::Fixed(size) => self.base64(*size as u64)?,
            Type::String => Value::String(Cow::Borrowed(self.text()?)),
            Type::Enum(symbols) => {
                Value::String(Cow::Borrowed(&symbols[self.choice("symbol", symbols.len())?]))
            }
            Type::Union(branches) => {
                let branch = branches[self.choice("branch", branches.len())?];
                self.value(branch, depth + 1)?
            }
            Type::Record(fields) => {
                let mut members = Vec::with_capacity(fields.len());
                for field in fields {
                    self.count(1)?;
                    members.push((Cow::Borrowed(field.name.as_str()), self.value(field.of, depth + 1)?));
                }
                Value::Object(members)
            }
            Type::Array(items) => self.array(|reader| reader.value(*items, depth + 1))?,
            Type::Map(values) => self.map(|reader| reader.value(*values, depth + 1))?,
        })
    }

    pub(crate) fn enter(&self, depth: usize) -> Result<(), Problem> {
        if depth <= DEPTH_MAX {
            return Ok(());
        }
        let message = format!("values lie more than {DEPTH_MAX} deep in one another");
        Err(self.problem("too-deep", message))
    }

    /// Items, each of which `item` reads.
    pub(crate) fn array(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<Value<'a>, Problem>,
    ) -> Result<Value<'a>, Problem> {
        let mut values = Vec::new();
        while let Some(count) = self.block()? {
            for _ in 0..count {
                values.push(item(self)?);
            }
        }
        Ok(Value::Array(values))
    }

    /// Members, whose values `member` reads.
    pub(crate) fn map(
        &mut self,
        mut member: impl FnMut(&mut Self) -> Result<Value<'a>, Problem>,
    ) -> Result<Value<'a>, Problem> {
        let mut members = Vec::new();
        while let Some(count) = self.block()? {
            for _ in 0..count {
                let name = Cow::Borrowed(self.text()?);
                members.push((name, member(self)?));
            }
        }
        if let Some(name) = first_duplicate(&members) {
            let message = format!("a map has two members `{name}`: which of them is meant cannot be known");
            return Err(self.problem("duplicate-member", message));
        }
        Ok(Value::Object(members))
    }

    /// Which of so many branches or symbols was written.
    pub(crate) fn choice(&mut self, what: &str, of: usize) -> Result<usize, Problem> {
        let index = self.long()?;
        usize::try_from(index).ok().filter(|index| *index < of).ok_or_else(|| {
            self.problem(
                "not-avro",
                format!("there is no {what} {index}: the schema has {of}, counted from 0"),
            )
        })
    }

    /// How many items the next block has; `None` at the end of the blocks. Below zero, its length in bytes follows.
    fn block(&mut self) -> Result<Option<u64>, Problem> {
        let count = self.long()?;
        if count < 0 {
            self.long()?;
        }
        self.count(count.unsigned_abs())?;
        Ok(Some(count.unsigned_abs()).filter(|count| *count > 0))
    }

    pub(crate) fn count(&mut self, items: u64) -> Result<(), Problem> {
        self.items = self.items.saturating_add(items);
        if self.items > ITEMS_MAX {
            let message = format!("the payload has more than {ITEMS_MAX} items and members");
            return Err(self.problem("too-many-items", message));
        }
        Ok(())
    }

    /// Seven bits a byte, the least significant first; even numbers are positive.
    pub(crate) fn long(&mut self) -> Result<i64, Problem> {
        let mut bits = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            if shift == 63 && byte > 1 {
                break;
            }
            bits |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((bits >> 1) as i64 ^ -((bits & 1) as i64));
            }
        }
        Err(self.problem("not-avro", "a number has more than 64 bits".to_owned()))
    }

    pub(crate) fn length(&mut self) -> Result<u64, Problem> {
        let length = self.long()?;
        u64::try_from(length).map_err(|_| self.problem("not-avro", format!("{length} is no length")))
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Problem> {
        let length = self.length()?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| self.problem("not-utf8", "a text is not UTF-8".to_owned()))
    }

    pub(crate) fn base64(&mut self, length: u64) -> Result<Value<'a>, Problem> {
        Ok(Value::String(Cow::Owned(Bytes::Base64.encode(self.take(length)?))))
    }

    pub(crate) fn float(&self, number: f64) -> Result<Value<'a>, Problem> {
        let mut text = Vec::new();
        if !write_f64(&mut text, number) {
            return Err(self.problem("not-finite", format!("{number} has no JSON")));
        }
        Ok(Value::Number(Cow::Owned(String::from_utf8(text).expect("a number is ASCII"))))
    }

    pub(crate) fn take(&mut self, length: u64) -> Result<&'a [u8], Problem> {
        let rest = &self.bytes[self.at..];
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let taken = taken
            .ok_or_else(|| self.problem("truncated", "the payload ends before the value does".to_owned()))?;
        self.at += taken.len();
        Ok(taken)
    }

    pub(crate) fn problem(&self, code: &'static str, message: String) -> Problem {
        Problem::new(code, message).at(format!("byte {}", self.at))
    }
}
