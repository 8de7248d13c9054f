//! Messages and enums, as lists that name one another by index.

use wharf_plugin::Problem;

use crate::wire::Wire;

/// How many fields and values a schema may have.
pub(crate) const FIELDS_MAX: usize = 10_000;

/// How deep messages may be declared in one another.
pub(crate) const NESTING_MAX: usize = 32;

/// A schema, and which of its messages a payload is.
#[derive(Debug, Clone)]
pub struct Schema {
    pub(crate) messages: Vec<Message>,
    pub(crate) enums: Vec<Enum>,
    pub(crate) root: usize,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    /// With its package, and the messages around it.
    pub(crate) name: String,
    pub(crate) fields: Vec<Field>,
    /// The numbers of the fields, in order, each with its place in `fields`.
    numbers: Vec<(u32, usize)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// In the schema.
    pub(crate) name: String,
    /// In JSON.
    pub(crate) json: String,
    pub(crate) number: u32,
    pub(crate) of: Kind,
    pub(crate) shape: Shape,
    /// Which `oneof` of the message it is part of.
    pub(crate) one_of: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `implicit`: a zero is not written, and not there is zero (proto3 without `optional`).
    One {
        implicit: bool,
    },
    Many {
        packed: bool,
    },
    /// Of keys of this kind.
    Map(Kind),
    Required,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    Message(usize),
    Enum(usize),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Enum {
    pub(crate) name: String,
    /// The first of several with one number is its name.
    pub(crate) values: Vec<(String, i32)>,
}

impl Schema {
    /// The schema whose payloads are the message `name`, by its whole name or the end of it; `first` where none is named.
    pub(crate) fn of(
        mut messages: Vec<Message>,
        enums: Vec<Enum>,
        name: Option<&str>,
        first: Option<usize>,
    ) -> Result<Self, Problem> {
        let root = match name {
            Some(name) => {
                let end = format!(".{name}");
                let whole = messages.iter().position(|each| each.name == name);
                let root = whole.or_else(|| messages.iter().position(|each| each.name.ends_with(&end)));
                root.ok_or_else(|| format!("there is no message `{name}`"))
            }
            None => first.ok_or_else(|| "there is no message".to_owned()),
        };
        let root = root.map_err(|message| Problem::new("bad-schema", message))?;
        for message in &mut messages {
            message.index()?;
        }
        Ok(Self { messages, enums, root })
    }
}

impl Message {
    pub(crate) fn new(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    /// Where the field of this number is in `fields`.
    pub(crate) fn at(&self, number: u64) -> Option<usize> {
        let number = u32::try_from(number).ok()?;
        let found = self.numbers.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(self.numbers[found].1)
    }

    /// Makes the index by number.
    fn index(&mut self) -> Result<(), Problem> {
        self.numbers = self.fields.iter().enumerate().map(|(at, field)| (field.number, at)).collect();
        self.numbers.sort_unstable();
        match self.numbers.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            None => Ok(()),
            Some(pair) => {
                let text = format!("two fields of {} have the number {}", self.name, pair[0].0);
                Err(Problem::new("bad-schema", text))
            }
        }
    }
}

impl Kind {
    pub(crate) fn scalar(name: &str) -> Option<Self> {
        Some(match name {
            "double" => Self::Double,
            "float" => Self::Float,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "uint32" => Self::Uint32,
            "uint64" => Self::Uint64,
            "sint32" => Self::Sint32,
            "sint64" => Self::Sint64,
            "fixed32" => Self::Fixed32,
            "fixed64" => Self::Fixed64,
            "sfixed32" => Self::Sfixed32,
            "sfixed64" => Self::Sfixed64,
            "bool" => Self::Bool,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            _ => return None,
        })
    }

    pub(crate) fn wire(self) -> Wire {
        match self {
            Self::Double | Self::Fixed64 | Self::Sfixed64 => Wire::Eight,
            Self::Float | Self::Fixed32 | Self::Sfixed32 => Wire::Four,
            Self::String | Self::Bytes | Self::Message(_) => Wire::Length,
            _ => Wire::Varint,
        }
    }

    /// Whether several can stand in one run of bytes.
    pub(crate) fn packs(self) -> bool {
        self.wire() != Wire::Length
    }

    /// Whether it can be the key of a map.
    pub(crate) fn keys(self) -> bool {
        !matches!(self, Self::Double | Self::Float | Self::Bytes | Self::Message(_) | Self::Enum(_))
    }
}
