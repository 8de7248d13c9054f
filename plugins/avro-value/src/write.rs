//! From a value to bytes.

use json_value::{Bytes, DEPTH_MAX, Path, Value, Whole, is_exact, real, whole};
use wharf_plugin::Problem;

use crate::Schema;
use crate::schema::{Field, Type};

/// How many values are tried for a payload: unions in unions could be tried without an end.
const TRIES_MAX: u32 = 1_000_000;

impl Schema {
    /// The Avro of `value`. Of a union, the first branch that the value fits is taken; a member that is not there has
    /// its field's default.
    ///
    /// # Errors
    /// What does not fit, with its JSON pointer: `wrong-type`, `missing-field`, `unknown-field`, `number-too-large`,
    /// `not-exact`, `not-base64`, `too-complex`.
    pub fn write(&self, value: &Value<'_>) -> Result<Vec<u8>, Problem> {
        let (out, path) = (Vec::new(), Path::default());
        let mut writer = Writer { schema: self, out, path, tries: 0, in_default: false };
        writer.value(self.root, value, 0)?;
        Ok(writer.out)
    }

    /// The Avro of a field's default.
    pub(crate) fn write_default(&self, of: usize, default: &Value<'_>) -> Result<Vec<u8>, Problem> {
        let (out, path) = (Vec::new(), Path::default());
        let mut writer = Writer { schema: self, out, path, tries: 0, in_default: true };
        writer.value(of, default, 0)?;
        Ok(writer.out)
    }
}

struct Writer<'v> {
    schema: &'v Schema,
    out: Vec<u8>,
    path: Path<'v>,
    tries: u32,
    /// Whether the value is a field's default: the schema has bytes there as a text of U+0000 to U+00FF (Avro 1.11,
    /// "Complex Types").
    in_default: bool,
}

impl<'v> Writer<'v> {
    /// Recursion ends at [`DEPTH_MAX`]: a default may be of its own record's type.
    fn value(&mut self, of: usize, value: &'v Value<'_>, depth: usize) -> Result<(), Problem> {
        self.tries += 1;
        if self.tries > TRIES_MAX || depth > DEPTH_MAX {
            let message =
                format!("the value fits no way that was tried in {TRIES_MAX} steps and {DEPTH_MAX} levels");
            return Err(self.path.problem("too-complex", message));
        }
        let schema = self.schema;
        match (&schema.types[of], value) {
            (Type::Null, Value::Null) => {}
            (Type::Boolean, Value::Bool(bool)) => self.out.push(u8::from(*bool)),
            (Type::Int, Value::Number(digits)) => {
                let number = self.whole(digits)?;
                let number = i32::try_from(number).map_err(|_| {
                    self.path.problem("number-too-large", format!("{number} has more than 32 bits"))
                })?;
                self.long(number.into());
            }
            (Type::Long, Value::Number(digits)) => {
                let number = self.whole(digits)?;
                self.long(number);
            }
            (Type::Float, Value::Number(digits)) => {
                let number = self.real(digits, 24)? as f32;
                if number.is_infinite() {
                    return Err(self.path.problem("number-too-large", "the number is past all floats"));
                }
                self.out.extend_from_slice(&number.to_le_bytes());
            }
            (Type::Double, Value::Number(digits)) => {
                let number = self.real(digits, 53)?;
                self.out.extend_from_slice(&number.to_le_bytes());
            }
            (Type::String, Value::String(text)) => self.bytes(text.as_bytes()),
            (Type::Bytes, Value::String(text)) => {
                let bytes = self.binary(text)?;
                self.bytes(&bytes);
            }
            (Type::Fixed(size), Value::String(text)) => {
                let bytes = self.binary(text)?;
                if bytes.len() != *size {
                    let message = format!("{size} bytes are to be here, and there are {}", bytes.len());
                    return Err(self.path.problem("wrong-type", message));
                }
                self.out.extend_from_slice(&bytes);
            }
            (Type::Enum(symbols), Value::String(text)) => {
                let at = symbols.iter().position(|symbol| symbol == text).ok_or_else(|| {
                    let known = symbols.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
                    self.path
                        .problem("wrong-type", format!("`{text}` is none of the enum's symbols: {known}"))
                })?;
                self.long(at as i64);
            }
            (Type::Union(branches), value) => self.union(branches, value, depth)?,
            (Type::Record(fields), Value::Object(members)) => {
                for field in fields {
                    self.field(field, value, depth)?;
                }
                if let Some((name, _)) =
                    members.iter().find(|(name, _)| fields.iter().all(|field| field.name != *name))
                {
                    let message = format!("the record has no field `{name}`");
                    return Err(self.path.problem("unknown-field", message));
                }
            }
            (Type::Array(of), Value::Array(items)) => {
                self.block(items.len());
                for (index, item) in items.iter().enumerate() {
                    self.path.enter_item(index);
                    self.value(*of, item, depth + 1)?;
                    self.path.leave();
                }
                self.out.push(0);
            }
            (Type::Map(of), Value::Object(members)) => {
                self.block(members.len());
                for (name, member) in members {
                    self.bytes(name.as_bytes());
                    self.path.enter(name);
                    self.value(*of, member, depth + 1)?;
                    self.path.leave();
                }
                self.out.push(0);
            }
            (of, value) => {
                let message = format!("{} is to be here, and there is {}", of.kind(), value.kind());
                return Err(self.path.problem("wrong-type", message));
            }
        }
        Ok(())
    }

    fn field(&mut self, field: &'v Field, record: &'v Value<'_>, depth: usize) -> Result<(), Problem> {
        let outer = self.in_default;
        let value = match (record.member(&field.name), &field.default) {
            (Some(value), _) => value,
            (None, Some(default)) => {
                self.in_default = true;
                default
            }
            (None, None) => {
                let message = format!("the field `{}` is missing, and has no default", field.name);
                return Err(self.path.problem("missing-field", message));
            }
        };
        self.path.enter(&field.name);
        let written = self.value(field.of, value, depth + 1);
        // A union goes on after an error.
        self.in_default = outer;
        written?;
        self.path.leave();
        Ok(())
    }

    /// Where no branch fits, the one that came furthest is most likely the one that was meant.
    fn union(&mut self, branches: &[usize], value: &'v Value<'_>, depth: usize) -> Result<(), Problem> {
        let (start, place) = (self.out.len(), self.path.depth());
        let mut furthest: Option<(usize, Problem)> = None;
        let of = |branch: usize| &self.schema.types[branch];
        // `7.0` is whole, and is an integer only where there is nothing nearer to how it is written.
        let real = matches!(value, Value::Number(digits) if digits.contains(['.', 'e', 'E']))
            && branches.iter().any(|&branch| matches!(of(branch), Type::Float | Type::Double));
        for (index, &branch) in branches.iter().enumerate() {
            if real && matches!(self.schema.types[branch], Type::Int | Type::Long) {
                continue;
            }
            self.long(index as i64);
            match self.value(branch, value, depth + 1) {
                Ok(()) => return Ok(()),
                Err(problem) if problem.code == "too-complex" => return Err(problem),
                Err(problem) => {
                    let reached = self.path.depth();
                    if furthest.as_ref().is_none_or(|(other, _)| reached > *other) {
                        furthest = Some((reached, problem));
                    }
                    self.out.truncate(start);
                    while self.path.depth() > place {
                        self.path.leave();
                    }
                }
            }
        }
        match furthest {
            Some((reached, problem)) if reached > place => Err(problem),
            _ => {
                let kinds = branches.iter().map(|&branch| self.schema.types[branch].kind());
                let message =
                    format!("none of {} fits {}", kinds.collect::<Vec<_>>().join(", "), value.kind());
                Err(self.path.problem("wrong-type", message))
            }
        }
    }

    /// The whole number, which may be written with a fraction of zeros or an exponent.
    fn whole(&self, digits: &str) -> Result<i64, Problem> {
        let number = match whole(digits) {
            Some(Whole::Exact(number)) => i64::try_from(number).ok(),
            Some(Whole::TooLarge) => None,
            Some(Whole::Fraction) | None => {
                let message = format!("a whole number is to be here, and there is {digits}");
                return Err(self.path.problem("wrong-type", message));
            }
        };
        number.ok_or_else(|| self.path.problem("number-too-large", format!("{digits} has more than 64 bits")))
    }

    /// An integer that the float would round is refused; a fraction is the nearest, as everywhere.
    fn real(&self, digits: &str, precision: u32) -> Result<f64, Problem> {
        let number = real(digits)
            .ok_or_else(|| self.path.problem("number-too-large", "the number is past all doubles"))?;
        if !is_exact(digits, precision) {
            let message = format!("{digits} would be rounded to {precision} bits");
            return Err(self.path.problem("not-exact", message));
        }
        Ok(number)
    }

    fn binary(&self, text: &str) -> Result<Vec<u8>, Problem> {
        if self.in_default {
            let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
            return bytes
                .map_err(|_| self.path.problem("wrong-type", "the default is no bytes: U+0000 to U+00FF"));
        }
        Bytes::Base64
            .decode(text)
            .ok_or_else(|| self.path.problem("not-base64", "a text in base64 is to be here"))
    }

    /// All items are one block, and a block without any, a zero, ends an array or map.
    fn block(&mut self, items: usize) {
        if items > 0 {
            self.long(items as i64);
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.long(bytes.len() as i64);
        self.out.extend_from_slice(bytes);
    }

    fn long(&mut self, number: i64) {
        let mut bits = (number << 1 ^ number >> 63) as u64;
        while bits > 0x7f {
            self.out.push(bits as u8 | 0x80);
            bits >>= 7;
        }
        self.out.push(bits as u8);
    }
}

impl Type {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Int => "an int",
            Self::Long => "a long",
            Self::Float => "a float",
            Self::Double => "a double",
            Self::Bytes => "bytes",
            Self::String => "a string",
            Self::Record(_) => "a record",
            Self::Enum(_) => "an enum",
            Self::Array(_) => "an array",
            Self::Map(_) => "a map",
            Self::Union(_) => "a union",
            Self::Fixed(_) => "a fixed",
        }
    }
}
