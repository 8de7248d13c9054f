//! From a set of descriptors, which is what `protoc --include_imports --descriptor_set_out=FILE` writes, to a schema.
//!
//! The numbers are those of `google/protobuf/descriptor.proto`.

use std::collections::BTreeMap;

use wharf_plugin::Problem;

use crate::parse::camel;
use crate::schema::{Enum, FIELDS_MAX, Field, Kind, Message, NESTING_MAX, Schema, Shape};
use crate::wire::{Came, Raw, next};

impl Schema {
    /// The schema that a set of descriptors is, and its message `message`; the first one of the last file, which is the one
    /// that the others were imported for, where none is named.
    ///
    /// # Errors
    /// `bad-schema`: it is no such set, or has what is not read: groups, editions, types that are not in it.
    pub fn of_descriptors(set: &[u8], message: Option<&str>) -> Result<Self, Problem> {
        let mut files = Files::default();
        each(set, |came| match (came.number, came.raw) {
            (1, Raw::Run(file)) => files.file(file),
            _ => Ok(()),
        })?;
        files.resolve()?;
        files.resolve_maps();
        Self::of(files.messages, files.enums, message, files.first)
    }
}

#[derive(Default)]
struct Files {
    messages: Vec<Message>,
    enums: Vec<Enum>,
    /// The first message of the file that was read last.
    first: Option<usize>,
    fields: usize,
    proto3: bool,
    /// Fields whose types are names: message, field, name with a dot before it.
    later: Vec<(usize, usize, String)>,
    /// The messages that stand for the entries of a map.
    entries: Vec<usize>,
}

impl Files {
    fn file(&mut self, file: &[u8]) -> Result<(), Problem> {
        let (mut package, mut syntax) = (String::new(), String::new());
        each(file, |came| {
            match (came.number, came.raw) {
                (2, Raw::Run(run)) => package = text(run)?,
                (12, Raw::Run(run)) => syntax = text(run)?,
                _ => {}
            }
            Ok(())
        })?;
        self.proto3 = match syntax.as_str() {
            "proto3" => true,
            "" | "proto2" => false,
            other => return Err(bad(format!("the syntax {other:?} is not read, but proto2 and proto3"))),
        };
        self.first = Some(self.messages.len());
        each(file, |came| match (came.number, came.raw) {
            (4, Raw::Run(run)) => self.message(run, &package, 0),
            (5, Raw::Run(run)) => self.enumeration(run, &package),
            _ => Ok(()),
        })?;
        self.first = self.first.filter(|first| *first < self.messages.len());
        Ok(())
    }

    /// Recursion ends at [`NESTING_MAX`].
    fn message(&mut self, run: &[u8], space: &str, depth: usize) -> Result<(), Problem> {
        if depth == NESTING_MAX {
            return Err(bad("messages are declared too deep in one another"));
        }
        let name = join(space, &name_in(run)?);
        let at = self.messages.len();
        self.messages.push(Message::new(name.clone()));
        each(run, |came| match (came.number, came.raw) {
            (2, Raw::Run(run)) => self.field(run, at),
            (3, Raw::Run(run)) => self.message(run, &name, depth + 1),
            (4, Raw::Run(run)) => self.enumeration(run, &name),
            (7, Raw::Run(options)) => each(options, |came| {
                if let (7, Raw::Bits(1)) = (came.number, came.raw) {
                    self.entries.push(at);
                }
                Ok(())
            }),
            _ => Ok(()),
        })
    }

    fn field(&mut self, run: &[u8], message: usize) -> Result<(), Problem> {
        let mut read = FieldRead::default();
        each(run, |came| read.take(came))?;
        self.count()?;
        let number = u32::try_from(read.number).ok().filter(|number| (1..1 << 29).contains(number));
        let number = number.ok_or_else(|| bad(format!("{} is not the number of a field", read.number)))?;
        let one_of = read.one_of.filter(|_| !read.optional);
        let shape = match read.label {
            3 => Shape::Many { packed: read.packed.unwrap_or(self.proto3) },
            2 => Shape::Required,
            _ => Shape::One {
                implicit: self.proto3 && !read.optional && one_of.is_none() && read.kind != MESSAGE,
            },
        };
        let of = match (scalar(read.kind), read.kind) {
            (Some(kind), _) => kind,
            (None, MESSAGE | ENUM) => {
                self.later.push((message, self.messages[message].fields.len(), read.type_name));
                Kind::Bool
            }
            (None, other) => {
                return Err(bad(format!("field `{}` is of the type {other}, which is not read", read.name)));
            }
        };
        let json = if read.json.is_empty() { camel(&read.name) } else { read.json };
        self.messages[message].fields.push(Field { name: read.name, json, number, of, shape, one_of });
        Ok(())
    }

    fn enumeration(&mut self, run: &[u8], space: &str) -> Result<(), Problem> {
        let mut made = Enum { name: join(space, &name_in(run)?), values: Vec::new() };
        each(run, |came| {
            let (2, Raw::Run(value)) = (came.number, came.raw) else { return Ok(()) };
            self.count()?;
            let mut number = 0;
            each(value, |came| {
                if let (2, Raw::Bits(bits)) = (came.number, came.raw) {
                    number = bits as i32;
                }
                Ok(())
            })?;
            made.values.push((name_in(value)?, number));
            Ok(())
        })?;
        if made.values.is_empty() {
            return Err(bad(format!("the enum `{}` has no values", made.name)));
        }
        self.enums.push(made);
        Ok(())
    }

    fn count(&mut self) -> Result<(), Problem> {
        self.fields += 1;
        if self.fields > FIELDS_MAX {
            return Err(bad(format!("a schema has at most {FIELDS_MAX} fields and values")));
        }
        Ok(())
    }

    fn resolve(&mut self) -> Result<(), Problem> {
        let messages =
            self.messages.iter().enumerate().map(|(at, each)| (each.name.as_str(), Kind::Message(at)));
        let enums = self.enums.iter().enumerate().map(|(at, each)| (each.name.as_str(), Kind::Enum(at)));
        let known: BTreeMap<&str, Kind> = messages.chain(enums).collect();
        let kinds = self.later.iter().map(|(_, _, name)| {
            let kind = known.get(name.strip_prefix('.').unwrap_or(name)).copied();
            kind.ok_or_else(|| {
                bad(format!("there is no type `{name}`: write the set with --include_imports"))
            })
        });
        let kinds: Vec<Kind> = kinds.collect::<Result<_, _>>()?;
        for ((message, field, _), kind) in self.later.iter().zip(kinds) {
            self.messages[*message].fields[*field].of = kind;
        }
        Ok(())
    }

    /// A map is a repeated message of its entries, which is marked as one.
    fn resolve_maps(&mut self) {
        for (message, field, _) in std::mem::take(&mut self.later) {
            let Kind::Message(at) = self.messages[message].fields[field].of else { continue };
            if !self.entries.contains(&at) {
                continue;
            }
            let of = |number| {
                self.messages[at].fields.iter().find(|field| field.number == number).map(|field| field.of)
            };
            let (Some(key), Some(value)) = (of(1), of(2)) else { continue };
            if key.keys() {
                let field = &mut self.messages[message].fields[field];
                (field.of, field.shape) = (value, Shape::Map(key));
            }
        }
    }
}

/// A field, as its descriptor says it.
#[derive(Default)]
struct FieldRead {
    name: String,
    json: String,
    number: u64,
    label: u64,
    kind: u64,
    type_name: String,
    packed: Option<bool>,
    one_of: Option<usize>,
    /// `optional` in proto3, which has a oneof of its own.
    optional: bool,
}

/// Types of fields that are named.
const MESSAGE: u64 = 11;
const ENUM: u64 = 14;

impl FieldRead {
    fn take(&mut self, came: Came<'_>) -> Result<(), Problem> {
        match (came.number, came.raw) {
            (1, Raw::Run(run)) => self.name = text(run)?,
            (3, Raw::Bits(bits)) => self.number = bits,
            (4, Raw::Bits(bits)) => self.label = bits,
            (5, Raw::Bits(bits)) => self.kind = bits,
            (6, Raw::Run(run)) => self.type_name = text(run)?,
            (8, Raw::Run(options)) => each(options, |came| {
                if let (2, Raw::Bits(bits)) = (came.number, came.raw) {
                    self.packed = Some(bits != 0);
                }
                Ok(())
            })?,
            (9, Raw::Bits(bits)) => self.one_of = usize::try_from(bits).ok(),
            (10, Raw::Run(run)) => self.json = text(run)?,
            (17, Raw::Bits(bits)) => self.optional = bits != 0,
            _ => {}
        }
        Ok(())
    }
}

fn scalar(kind: u64) -> Option<Kind> {
    Some(match kind {
        1 => Kind::Double,
        2 => Kind::Float,
        3 => Kind::Int64,
        4 => Kind::Uint64,
        5 => Kind::Int32,
        6 => Kind::Fixed64,
        7 => Kind::Fixed32,
        8 => Kind::Bool,
        9 => Kind::String,
        12 => Kind::Bytes,
        13 => Kind::Uint32,
        15 => Kind::Sfixed32,
        16 => Kind::Sfixed64,
        17 => Kind::Sint32,
        18 => Kind::Sint64,
        _ => return None,
    })
}

fn each<'a>(run: &'a [u8], mut take: impl FnMut(Came<'a>) -> Result<(), Problem>) -> Result<(), Problem> {
    let mut rest = run;
    while let Some(came) =
        next(&mut rest).map_err(|problem| bad(format!("it is no set of descriptors: {}", problem.message)))?
    {
        take(came)?;
    }
    Ok(())
}

fn name_in(run: &[u8]) -> Result<String, Problem> {
    let mut name = String::new();
    each(run, |came| {
        if let (1, Raw::Run(run)) = (came.number, came.raw) {
            name = text(run)?;
        }
        Ok(())
    })?;
    if name.is_empty() { Err(bad("it is no set of descriptors: a type has no name")) } else { Ok(name) }
}

fn text(run: &[u8]) -> Result<String, Problem> {
    std::str::from_utf8(run)
        .map(str::to_owned)
        .map_err(|_| bad("it is no set of descriptors: a name is not UTF-8"))
}

fn join(space: &str, name: &str) -> String {
    if space.is_empty() { name.to_owned() } else { format!("{space}.{name}") }
}

fn bad(message: impl Into<String>) -> Problem {
    Problem::new("bad-schema", message)
}
