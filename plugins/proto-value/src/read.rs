//! From bytes to a value.

use std::borrow::Cow;
use std::collections::BTreeMap;

use json_value::{Bytes, DEPTH_MAX, Value, write_f64};
use serde::Deserialize;
use wharf_plugin::Problem;

use crate::Schema;
use crate::schema::{Field, Kind, Message, Shape};
use crate::wire::{Raw, Wire, next, next_packed};

/// What becomes of fields that the schema does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// They are passed over.
    Ignore,
    /// The message is rejected, with the code `unknown-field`.
    Reject,
}

/// How a payload is read.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// What becomes of fields that the schema does not have.
    pub unknown: Unknown,
    /// Whether a field that is not there and stands for a zero has a member all the same.
    pub zeros: bool,
}

impl Schema {
    /// The value that `bytes` are.
    ///
    /// # Errors
    /// `truncated`, `not-protobuf`, `wrong-wire-type`, `unknown-field`, `missing-field`, `not-utf8`, `too-deep`; with the
    /// path of the field's name.
    pub fn read<'a>(&'a self, bytes: &'a [u8], how: Reading) -> Result<Value<'a>, Problem> {
        let reader = Reader { schema: self, how };
        reader.message(&self.messages[self.root], bytes, 0)
    }
}

struct Reader<'a> {
    schema: &'a Schema,
    how: Reading,
}

impl<'a> Reader<'a> {
    /// Recursion ends at [`DEPTH_MAX`].
    fn message(&self, message: &'a Message, bytes: &[u8], depth: usize) -> Result<Value<'a>, Problem> {
        let came = self.came(message, bytes, depth)?;
        let mut members = Vec::with_capacity(came.len());
        for (at, field) in message.fields.iter().enumerate() {
            let value = match came.get(&at) {
                Some(raws) => {
                    self.field(field, raws, depth).map_err(|problem| within(problem, &field.json))?
                }
                None if field.shape == Shape::Required => {
                    let text = format!("the required field `{}` is missing", field.name);
                    return Err(Problem::new("missing-field", text));
                }
                None if self.how.zeros && field.one_of.is_none() => match self.zero(field, depth)? {
                    Some(zero) => zero,
                    None => continue,
                },
                None => continue,
            };
            members.push((Cow::Borrowed(field.json.as_str()), value));
        }
        Ok(Value::Object(members))
    }

    /// What came for each field, by its place in the message.
    fn came<'b>(
        &self,
        message: &Message,
        bytes: &'b [u8],
        depth: usize,
    ) -> Result<BTreeMap<usize, Vec<Raw<'b>>>, Problem> {
        if depth > DEPTH_MAX {
            let text = format!("messages lie more than {DEPTH_MAX} deep in one another");
            return Err(Problem::new("too-deep", text));
        }
        let mut came: BTreeMap<usize, Vec<Raw<'b>>> = BTreeMap::new();
        let mut rest = bytes;
        while let Some(one) = next(&mut rest)? {
            let Some(at) = message.at(one.number) else {
                if self.how.unknown == Unknown::Reject {
                    let text = format!("{} has no field {}", message.name, one.number);
                    return Err(Problem::new("unknown-field", text));
                }
                continue;
            };
            let field = &message.fields[at];
            let is_packed =
                one.wire == Wire::Length && field.of.packs() && matches!(field.shape, Shape::Many { .. });
            let wanted = if matches!(field.shape, Shape::Map(_)) { Wire::Length } else { field.of.wire() };
            if one.wire != wanted && !is_packed {
                let text = format!("`{}` is {wanted:?} on the wire, and this is {:?}", field.name, one.wire);
                return Err(within(Problem::new("wrong-wire-type", text), &field.json));
            }
            // Of several in one oneof, the last counts.
            if let Some(one_of) = field.one_of {
                came.retain(|other, _| *other == at || message.fields[*other].one_of != Some(one_of));
            }
            came.entry(at).or_default().push(one.raw);
        }
        Ok(came)
    }

    /// What a field that is not there stands for, where that is a zero.
    fn zero(&self, field: &'a Field, depth: usize) -> Result<Option<Value<'a>>, Problem> {
        Ok(match field.shape {
            Shape::Many { .. } => Some(Value::Array(Vec::new())),
            Shape::Map(_) => Some(Value::Object(Vec::new())),
            Shape::One { implicit: true } => Some(self.empty(field.of, depth)?),
            Shape::One { implicit: false } | Shape::Required => None,
        })
    }

    /// The value that nothing on the wire stands for.
    fn empty(&self, of: Kind, depth: usize) -> Result<Value<'a>, Problem> {
        match of.wire() {
            Wire::Length => self.value(of, &Raw::Run(&[]), depth),
            Wire::Varint | Wire::Eight | Wire::Four => self.value(of, &Raw::Bits(0), depth),
        }
    }

    fn field(&self, field: &'a Field, raws: &[Raw<'_>], depth: usize) -> Result<Value<'a>, Problem> {
        match field.shape {
            Shape::Many { .. } => {
                let mut items = Vec::with_capacity(raws.len());
                for raw in raws {
                    match raw {
                        Raw::Run(run) if field.of.packs() => {
                            let mut rest = *run;
                            while !rest.is_empty() {
                                let bits = next_packed(&mut rest, field.of.wire())?;
                                items.push(self.value(field.of, &Raw::Bits(bits), depth)?);
                            }
                        }
                        raw => {
                            let item = self.value(field.of, raw, depth);
                            items.push(item.map_err(|problem| within(problem, &items.len().to_string()))?);
                        }
                    }
                }
                Ok(Value::Array(items))
            }
            Shape::Map(key) => {
                // Of several with one key, the last counts.
                let mut members: BTreeMap<String, Value<'a>> = BTreeMap::new();
                for raw in raws {
                    let (name, value) = self.entry(key, field.of, raw, depth)?;
                    members.insert(name, value);
                }
                Ok(Value::Object(
                    members.into_iter().map(|(name, value)| (Cow::Owned(name), value)).collect(),
                ))
            }
            Shape::One { .. } | Shape::Required => match (field.of, raws) {
                // A message that comes in pieces is their fields together: the same as one run of all their bytes.
                (Kind::Message(of), [_, _, ..]) => {
                    let runs =
                        raws.iter().filter_map(|raw| if let Raw::Run(run) = raw { Some(*run) } else { None });
                    let whole = runs.collect::<Vec<_>>().concat();
                    self.message(&self.schema.messages[of], &whole, depth + 1)
                }
                (of, raws) => {
                    let last = raws.last().expect("a field that came has come once at least");
                    self.value(of, last, depth)
                }
            },
        }
    }

    /// An entry of a map is a message: its key is the field 1, its value the field 2; either may be missing, and is zero.
    fn entry(
        &self,
        key: Kind,
        of: Kind,
        raw: &Raw<'_>,
        depth: usize,
    ) -> Result<(String, Value<'a>), Problem> {
        let Raw::Run(mut rest) = *raw else {
            return Err(Problem::new("not-protobuf", "an entry of a map is a run of bytes"));
        };
        let (mut name, mut value) = (None, None);
        while let Some(one) = next(&mut rest)? {
            let (wanted, came) = match one.number {
                1 => (key.wire(), &mut name),
                2 => (of.wire(), &mut value),
                _ => continue,
            };
            if one.wire != wanted {
                return Err(Problem::new("wrong-wire-type", "the key or value of a map is of another kind"));
            }
            *came = Some(one.raw);
        }
        let name = match name {
            Some(name) => self.value(key, &name, depth)?,
            None => self.empty(key, depth)?,
        };
        let name = name.plain().unwrap_or_default().to_owned();
        let value = match value {
            Some(value) => self.value(of, &value, depth).map_err(|problem| within(problem, &name))?,
            None => self.empty(of, depth)?,
        };
        Ok((name, value))
    }

    fn value(&self, of: Kind, raw: &Raw<'_>, depth: usize) -> Result<Value<'a>, Problem> {
        let number = |text: String| Value::Number(Cow::Owned(text));
        // JSON of proto3: 64 bits are a text, for readers whose numbers are doubles.
        let long = |text: String| Value::String(Cow::Owned(text));
        let sign = |bits: u64| (bits >> 1) as i64 ^ -((bits & 1) as i64);
        Ok(match (of, raw) {
            (Kind::Double, Raw::Bits(bits)) => float(f64::from_bits(*bits)),
            (Kind::Float, Raw::Bits(bits)) => float(f64::from(f32::from_bits(*bits as u32))),
            (Kind::Int32 | Kind::Sfixed32, Raw::Bits(bits)) => number((*bits as i32).to_string()),
            (Kind::Uint32 | Kind::Fixed32, Raw::Bits(bits)) => number((*bits as u32).to_string()),
            (Kind::Sint32, Raw::Bits(bits)) => number((sign(*bits & 0xffff_ffff) as i32).to_string()),
            (Kind::Int64 | Kind::Sfixed64, Raw::Bits(bits)) => long((*bits as i64).to_string()),
            (Kind::Uint64 | Kind::Fixed64, Raw::Bits(bits)) => long(bits.to_string()),
            (Kind::Sint64, Raw::Bits(bits)) => long(sign(*bits).to_string()),
            (Kind::Bool, Raw::Bits(bits)) => Value::Bool(*bits != 0),
            (Kind::Enum(of), Raw::Bits(bits)) => {
                let own = *bits as i32;
                let values = &self.schema.enums[of].values;
                match values.iter().find(|(_, number)| *number == own) {
                    Some((name, _)) => Value::String(Cow::Borrowed(name)),
                    None => number(own.to_string()),
                }
            }
            (Kind::String, Raw::Run(run)) => match std::str::from_utf8(run) {
                Ok(text) => Value::String(Cow::Owned(text.to_owned())),
                Err(_) => return Err(Problem::new("not-utf8", "a text is not UTF-8")),
            },
            (Kind::Bytes, Raw::Run(run)) => Value::String(Cow::Owned(Bytes::Base64.encode(run))),
            (Kind::Message(of), Raw::Run(run)) => self.message(&self.schema.messages[of], run, depth + 1)?,
            (_, Raw::Run(_) | Raw::Bits(_)) => {
                return Err(Problem::new("wrong-wire-type", "a field is of another kind"));
            }
        })
    }
}

fn within(problem: Problem, name: &str) -> Problem {
    let path = format!(
        "/{}{}",
        name.replace('~', "~0").replace('/', "~1"),
        problem.path.as_deref().unwrap_or_default()
    );
    problem.at(path)
}

fn float(number: f64) -> Value<'static> {
    let mut text = Vec::new();
    if write_f64(&mut text, number) {
        return Value::Number(Cow::Owned(String::from_utf8(text).expect("a number is ASCII")));
    }
    let name = if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    };
    Value::String(Cow::Borrowed(name))
}
