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
        let mut reader = Reader { schema: self, bytes: avro, at: 0, items: 0 };
        let value = reader.value(self.root, 0)?;
        if reader.at < avro.len() {
            let message = format!("{} bytes follow the value", avro.len() - reader.at);
            return Err(reader.problem("trailing-bytes", message));
        }
        Ok(value)
    }
}

struct Reader<'a> {
    schema: &'a Schema,
    bytes: &'a [u8],
    at: usize,
    items: u64,
}

impl<'a> Reader<'a> {
    /// Recursion ends at [`DEPTH_MAX`].
    fn value(&mut self, of: usize, depth: usize) -> Result<Value<'a>, Problem> {
        if depth > DEPTH_MAX {
            let message = format!("values lie more than {DEPTH_MAX} deep in one another");
            return Err(self.problem("too-deep", message));
        }
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
                let index = self.long()?;
                let symbol = usize::try_from(index).ok().and_then(|index| symbols.get(index));
                let symbol = symbol.ok_or_else(|| {
                    self.problem("not-avro", format!("an enum has no symbol {index}, but {}", symbols.len()))
                })?;
                Value::String(Cow::Borrowed(symbol))
            }
            Type::Union(branches) => {
                let index = self.long()?;
                let branch = usize::try_from(index).ok().and_then(|index| branches.get(index));
                let branch = branch.ok_or_else(|| {
                    self.problem("not-avro", format!("a union has no branch {index}, but {}", branches.len()))
                })?;
                self.value(*branch, depth + 1)?
            }
            Type::Record(fields) => {
                let mut members = Vec::with_capacity(fields.len());
                for field in fields {
                    self.count(1)?;
                    members.push((Cow::Borrowed(field.name.as_str()), self.value(field.of, depth + 1)?));
                }
                Value::Object(members)
            }
            Type::Array(items) => {
                let mut values = Vec::new();
                while let Some(count) = self.block()? {
                    for _ in 0..count {
                        values.push(self.value(*items, depth + 1)?);
                    }
                }
                Value::Array(values)
            }
            Type::Map(values) => {
                let mut members = Vec::new();
                while let Some(count) = self.block()? {
                    for _ in 0..count {
                        let name = Cow::Borrowed(self.text()?);
                        members.push((name, self.value(*values, depth + 1)?));
                    }
                }
                if let Some(name) = first_duplicate(&members) {
                    let message =
                        format!("a map has two members `{name}`: which of them is meant cannot be known");
                    return Err(self.problem("duplicate-member", message));
                }
                Value::Object(members)
            }
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

    fn count(&mut self, items: u64) -> Result<(), Problem> {
        self.items = self.items.saturating_add(items);
        if self.items > ITEMS_MAX {
            let message = format!("the payload has more than {ITEMS_MAX} items and members");
            return Err(self.problem("too-many-items", message));
        }
        Ok(())
    }

    /// Seven bits a byte, the least significant first; even numbers are positive.
    fn long(&mut self) -> Result<i64, Problem> {
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

    fn length(&mut self) -> Result<u64, Problem> {
        let length = self.long()?;
        u64::try_from(length).map_err(|_| self.problem("not-avro", format!("{length} is no length")))
    }

    fn text(&mut self) -> Result<&'a str, Problem> {
        let length = self.length()?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| self.problem("not-utf8", "a text is not UTF-8".to_owned()))
    }

    fn base64(&mut self, length: u64) -> Result<Value<'a>, Problem> {
        Ok(Value::String(Cow::Owned(Bytes::Base64.encode(self.take(length)?))))
    }

    fn float(&self, number: f64) -> Result<Value<'a>, Problem> {
        let mut text = Vec::new();
        if !write_f64(&mut text, number) {
            return Err(self.problem("not-finite", format!("{number} has no JSON")));
        }
        Ok(Value::Number(Cow::Owned(String::from_utf8(text).expect("a number is ASCII"))))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Problem> {
        let rest = &self.bytes[self.at..];
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let taken = taken
            .ok_or_else(|| self.problem("truncated", "the payload ends before the value does".to_owned()))?;
        self.at += taken.len();
        Ok(taken)
    }

    fn problem(&self, code: &'static str, message: String) -> Problem {
        Problem::new(code, message).at(format!("byte {}", self.at))
    }
}
