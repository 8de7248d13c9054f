//! From a value to bytes.

use json_value::{Bytes, Path, Value, Whole, is_exact, real, whole};
use wharf_plugin::Problem;

use crate::schema::{Field, Kind, Message, Shape};
use crate::wire::{Wire, put_run, put_varint, tag};
use crate::{Schema, Unknown};

impl Schema {
    /// The bytes of `value`, an object whose members are named as in JSON or as in the schema. `null` is not there.
    ///
    /// # Errors
    /// What does not fit, with its JSON pointer: `wrong-type`, `unknown-field`, `missing-field`, `two-of-one`,
    /// `number-too-large`, `not-exact`, `not-base64`.
    pub fn write(&self, value: &Value<'_>, unknown: Unknown) -> Result<Vec<u8>, Problem> {
        let mut writer = Writer { schema: self, unknown, path: Path::default() };
        let mut out = Vec::new();
        writer.message(&self.messages[self.root], value, &mut out)?;
        Ok(out)
    }
}

struct Writer<'v> {
    schema: &'v Schema,
    unknown: Unknown,
    path: Path<'v>,
}

impl<'v> Writer<'v> {
    /// Recursion ends with the depth that the reader of JSON allows.
    fn message(
        &mut self,
        message: &'v Message,
        value: &'v Value<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Problem> {
        let Value::Object(members) = value else {
            return Err(self.wrong("an object", value));
        };
        let names = |field: &Field, name: &str| field.json == name || field.name == name;
        for (name, _) in members.iter().filter(|_| self.unknown == Unknown::Reject) {
            if !message.fields.iter().any(|field| names(field, name)) {
                return Err(self
                    .path
                    .problem("unknown-field", format!("{} has no field `{name}`", message.name)));
            }
        }
        let mut one_ofs: Vec<(usize, &str)> = Vec::new();
        for field in &message.fields {
            let mut own = members.iter().filter(|(name, value)| names(field, name) && *value != Value::Null);
            let member = own.next();
            if own.next().is_some() {
                let text = format!("the field `{}` is there under two names", field.name);
                return Err(self.path.problem("wrong-type", text));
            }
            let Some((name, value)) = member else {
                if field.shape == Shape::Required {
                    let text = format!("the required field `{}` is missing", field.name);
                    return Err(self.path.problem("missing-field", text));
                }
                continue;
            };
            if let Some(one_of) = field.one_of {
                if let Some((_, other)) = one_ofs.iter().find(|(other, _)| *other == one_of) {
                    let text = format!("`{other}` and `{name}` are there, of which there can be one");
                    return Err(self.path.problem("two-of-one", text));
                }
                one_ofs.push((one_of, name));
            }
            self.path.enter(name);
            self.field(field, value, out)?;
            self.path.leave();
        }
        Ok(())
    }

    fn field(&mut self, field: &'v Field, value: &'v Value<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
        match field.shape {
            Shape::Many { packed } => {
                let Value::Array(items) = value else { return Err(self.wrong("an array", value)) };
                let packed = packed && field.of.packs();
                let mut run = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    self.path.enter_item(index);
                    if !packed {
                        tag(field.number, field.of.wire(), out);
                    }
                    self.value(field.of, item, if packed { &mut run } else { out })?;
                    self.path.leave();
                }
                if !run.is_empty() {
                    tag(field.number, Wire::Length, out);
                    put_run(&run, out);
                }
            }
            Shape::Map(key) => {
                let Value::Object(members) = value else { return Err(self.wrong("an object", value)) };
                for (name, member) in members {
                    self.path.enter(name);
                    let mut entry = Vec::new();
                    tag(1, key.wire(), &mut entry);
                    match (key, name.as_ref()) {
                        (Kind::String, name) => put_run(name.as_bytes(), &mut entry),
                        (Kind::Bool, "true") => entry.push(1),
                        (Kind::Bool, "false") => entry.push(0),
                        (Kind::Bool, _) => {
                            return Err(self.path.problem("wrong-type", "a key is `true` or `false`"));
                        }
                        // Of one key there is one spelling.
                        (key, digits) => {
                            let number = digits.parse().ok().filter(|_| !digits.starts_with('+'));
                            let number = number.ok_or_else(|| self.not_whole(digits))?;
                            self.integer(key, number, &mut entry)?;
                        }
                    }
                    tag(2, field.of.wire(), &mut entry);
                    self.value(field.of, member, &mut entry)?;
                    tag(field.number, Wire::Length, out);
                    put_run(&entry, out);
                    self.path.leave();
                }
            }
            Shape::One { implicit } => {
                let mut own = Vec::new();
                self.value(field.of, value, &mut own)?;
                // Zeros alone: 0, 0.0, false, no text, no bytes.
                if !(implicit && own.iter().all(|&byte| byte == 0)) {
                    tag(field.number, field.of.wire(), out);
                    out.extend_from_slice(&own);
                }
            }
            Shape::Required => {
                tag(field.number, field.of.wire(), out);
                self.value(field.of, value, out)?;
            }
        }
        Ok(())
    }

    fn value(&mut self, of: Kind, value: &'v Value<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
        match (of, value) {
            (Kind::Bool, Value::Bool(bool)) => out.push(u8::from(*bool)),
            (Kind::String, Value::String(text)) => put_run(text.as_bytes(), out),
            (Kind::Bytes, Value::String(text)) => {
                let bytes = Bytes::Base64.decode(text);
                let bytes =
                    bytes.ok_or_else(|| self.path.problem("not-base64", "a text in base64 is to be here"))?;
                put_run(&bytes, out);
            }
            (Kind::Message(of), value) => {
                let mut own = Vec::new();
                self.message(&self.schema.messages[of], value, &mut own)?;
                put_run(&own, out);
            }
            (Kind::Enum(of), Value::String(name)) => {
                let of = &self.schema.enums[of];
                let value = of.values.iter().find(|(own, _)| own == name);
                let (_, number) = value.ok_or_else(|| {
                    self.path.problem("wrong-type", format!("{} has no value `{name}`", of.name))
                })?;
                put_varint(i64::from(*number) as u64, out);
            }
            (Kind::Enum(_), Value::Number(digits)) => self.integer(Kind::Int32, self.whole(digits)?, out)?,
            (Kind::Double | Kind::Float, Value::Number(digits) | Value::String(digits)) => {
                let number = self.float(digits, if of == Kind::Float { 24 } else { 53 })?;
                match of {
                    Kind::Double => out.extend_from_slice(&number.to_le_bytes()),
                    _ if number.is_finite() && (number as f32).is_infinite() => {
                        return Err(self.path.problem("number-too-large", "the number is past all floats"));
                    }
                    _ => out.extend_from_slice(&(number as f32).to_le_bytes()),
                }
            }
            (Kind::Bool | Kind::String | Kind::Bytes | Kind::Enum(_) | Kind::Double | Kind::Float, value) => {
                let wanted = match of {
                    Kind::Bool => "a boolean",
                    Kind::Double | Kind::Float => "a number",
                    _ => "a text",
                };
                return Err(self.wrong(wanted, value));
            }
            (of, Value::Number(digits) | Value::String(digits)) => {
                self.integer(of, self.whole(digits)?, out)?;
            }
            (_, value) => return Err(self.wrong("an integer", value)),
        }
        Ok(())
    }

    /// An integer that the float would round is refused; a fraction is the nearest, as everywhere.
    fn float(&self, digits: &str, precision: u32) -> Result<f64, Problem> {
        match digits {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            digits => match json_value::read(digits.as_bytes()) {
                Ok(Value::Number(digits)) if !is_exact(&digits, precision) => {
                    let text = format!("{digits} would be rounded to {precision} bits");
                    Err(self.path.problem("not-exact", text))
                }
                Ok(Value::Number(digits)) => real(&digits)
                    .ok_or_else(|| self.path.problem("number-too-large", "the number is past all doubles")),
                _ => Err(self.path.problem("wrong-type", "a number is to be here")),
            },
        }
    }

    /// The whole number, which may be written with a fraction of zeros or an exponent (the JSON mapping of proto3).
    fn whole(&self, digits: &str) -> Result<i128, Problem> {
        match whole(digits) {
            Some(Whole::Exact(number)) => Ok(number),
            Some(Whole::TooLarge) => {
                let text = format!("{} has more than 64 bits", shown(digits));
                Err(self.path.problem("number-too-large", text))
            }
            // Zeros in front are no JSON, and were always taken in a text.
            None if !digits.starts_with('+') => digits.parse().map_err(|_| self.not_whole(digits)),
            Some(Whole::Fraction) | None => Err(self.not_whole(digits)),
        }
    }

    fn not_whole(&self, digits: &str) -> Problem {
        let text = format!("a whole number is to be here, and there is {}", shown(digits));
        self.path.problem("wrong-type", text)
    }

    fn integer(&self, of: Kind, number: i128, out: &mut Vec<u8>) -> Result<(), Problem> {
        let range = match of {
            Kind::Uint32 | Kind::Fixed32 => 0..=i128::from(u32::MAX),
            Kind::Uint64 | Kind::Fixed64 => 0..=i128::from(u64::MAX),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => i128::from(i64::MIN)..=i128::from(i64::MAX),
            _ => i128::from(i32::MIN)..=i128::from(i32::MAX),
        };
        if !range.contains(&number) {
            let text = format!("{number} is not from {} to {}", range.start(), range.end());
            return Err(self.path.problem("number-too-large", text));
        }
        let bits = number as u64;
        let zigzag = |number: i64| (number << 1 ^ number >> 63) as u64;
        match of {
            Kind::Sint32 | Kind::Sint64 => put_varint(zigzag(number as i64), out),
            Kind::Fixed32 | Kind::Sfixed32 => out.extend_from_slice(&(bits as u32).to_le_bytes()),
            Kind::Fixed64 | Kind::Sfixed64 => out.extend_from_slice(&bits.to_le_bytes()),
            _ => put_varint(bits, out),
        }
        Ok(())
    }

    fn wrong(&self, wanted: &str, value: &Value<'_>) -> Problem {
        self.path.problem("wrong-type", format!("{wanted} is to be here, and there is {}", value.kind()))
    }
}

/// As much of a number as is told.
fn shown(digits: &str) -> String {
    digits.chars().take(40).collect()
}
