//! Schema resolution (Avro 1.11, "Schema Resolution"): what was written with one schema, read as another one has it.
//!
//! Which part of the one becomes which part of the other follows from the two schemas alone, and is found once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use json_value::{Bytes, Value};
use wharf_plugin::Problem;

use crate::Schema;
use crate::read::Reader;
use crate::schema::{Field, Type};

/// How many pairs of types are compared: unions in unions could be tried without an end.
const PAIRS_MAX: usize = 100_000;

/// How deep pairs may lie in one another: types with names may lead from one to the next without an end.
const NESTED_MAX: usize = 256;

/// What a writer's schema becomes in a reader's.
#[derive(Debug)]
pub struct Resolution {
    writer: Rc<Schema>,
    steps: Vec<Step>,
    root: usize,
}

/// What becomes of a type of the writer's. Numbers lead to other steps, unless they are said to be types of the writer's.
#[derive(Debug)]
enum Step {
    /// It is not known yet: a type that holds itself.
    Pending,
    /// It is read as it was written; a type of the writer's.
    Same(usize),
    /// What another step makes, where the reader has a union.
    Branch(usize),
    /// An integer, as a number with a fraction: of 32 bits, or 64.
    Float,
    Double,
    /// Bytes, as text.
    Text,
    /// A text, as bytes.
    Binary,
    /// What is read for each symbol; or why there is nothing.
    Enum(Vec<Result<String, String>>),
    Array(usize),
    Map(usize),
    /// What becomes of each branch that may have been written; or why nothing does.
    Union(Vec<Result<usize, String>>),
    Record {
        /// In the writer's order.
        written: Vec<Part>,
        /// In the reader's order, each with what it is when nobody wrote it.
        members: Vec<(String, Option<Value<'static>>)>,
    },
}

#[derive(Debug)]
enum Part {
    /// The reader does not have it; a type of the writer's.
    Skipped(usize),
    /// It becomes a member.
    Member { at: usize, step: usize },
}

impl Resolution {
    /// How what `writer` wrote is read by `reader`.
    ///
    /// # Errors
    /// `schemas-differ`: nothing that was written with the one can be read by the other, and why.
    ///
    /// ```
    /// use avro_value::{Resolution, Schema};
    ///
    /// let old = br#"{"type": "record", "name": "Line", "fields": [{"name": "qty", "type": "int"}]}"#;
    /// let new = br#"{"type": "record", "name": "Line", "fields": [
    ///     {"name": "unit", "type": "string", "default": "pcs"}, {"name": "amount", "type": "double", "aliases": ["qty"]}]}"#;
    /// let resolution = Resolution::new(Schema::parse(old)?.into(), &Schema::parse(new)?)?;
    /// assert_eq!(resolution.read(&[4])?.to_json(), br#"{"unit":"pcs","amount":2.0}"#);
    /// # Ok::<(), wharf_plugin::Problem>(())
    /// ```
    pub fn new(writer: Rc<Schema>, reader: &Schema) -> Result<Self, Problem> {
        let mut resolver = Resolver {
            writer: &writer,
            reader,
            steps: Vec::new(),
            known: BTreeMap::new(),
            pairs: 0,
            nested: 0,
        };
        let root = resolver.step(writer.root, reader.root);
        let steps = resolver.steps;
        let root = root.map_err(|why| Problem::new("schemas-differ", why))?;
        Ok(Self { writer, steps, root })
    }

    /// The value that `avro` is, as the reader's schema has it.
    ///
    /// # Errors
    /// As [`Schema::read`]; `not-in-schema` for a symbol or branch that the reader's schema does not have.
    pub fn read<'a>(&'a self, avro: &'a [u8]) -> Result<Value<'a>, Problem> {
        let mut reader = Reader::new(&self.writer, avro);
        let value = self.value(&mut reader, self.root, 0)?;
        reader.end()?;
        Ok(value)
    }

    fn value<'a>(&'a self, from: &mut Reader<'a>, step: usize, depth: usize) -> Result<Value<'a>, Problem> {
        from.enter(depth)?;
        Ok(match &self.steps[step] {
            Step::Pending => unreachable!("each step is known once all are"),
            Step::Same(written) => from.value(*written, depth)?,
            Step::Branch(step) => self.value(from, *step, depth + 1)?,
            Step::Float => {
                let number = from.long()?;
                from.float(f64::from(number as f32))?
            }
            Step::Double => {
                let number = from.long()?;
                from.float(number as f64)?
            }
            Step::Text => Value::String(Cow::Borrowed(from.text()?)),
            Step::Binary => Value::String(Cow::Owned(Bytes::Base64.encode(from.text()?.as_bytes()))),
            Step::Enum(symbols) => {
                let symbol = &symbols[from.choice("symbol", symbols.len())?];
                let symbol = symbol.as_ref().map_err(|why| from.problem("not-in-schema", why.clone()))?;
                Value::String(Cow::Borrowed(symbol))
            }
            Step::Array(items) => from.array(|from| self.value(from, *items, depth + 1))?,
            Step::Map(values) => from.map(|from| self.value(from, *values, depth + 1))?,
            Step::Union(branches) => {
                let branch = &branches[from.choice("branch", branches.len())?];
                let branch = branch.as_ref().map_err(|why| from.problem("not-in-schema", why.clone()))?;
                self.value(from, *branch, depth + 1)?
            }
            Step::Record { written, members } => {
                let mut values: Vec<Option<Value<'a>>> =
                    members.iter().map(|(_, default)| default.clone()).collect();
                for part in written {
                    from.count(1)?;
                    match part {
                        Part::Skipped(written) => drop(from.value(*written, depth + 1)?),
                        Part::Member { at, step } => {
                            values[*at] = Some(self.value(from, *step, depth + 1)?)
                        }
                    }
                }
                let made = members.iter().zip(values).map(|((name, _), value)| {
                    (Cow::Borrowed(name.as_str()), value.expect("it was written, or has a default"))
                });
                Value::Object(made.collect())
            }
        })
    }
}

struct Resolver<'s> {
    writer: &'s Schema,
    reader: &'s Schema,
    steps: Vec<Step>,
    /// Which step is for which pair of types.
    known: BTreeMap<(usize, usize), usize>,
    pairs: usize,
    nested: usize,
}

impl Resolver<'_> {
    /// The step from a type of the writer's to one of the reader's; or why there is none. Recursion ends at
    /// [`NESTED_MAX`], and with a pair that is met within itself.
    fn step(&mut self, from: usize, to: usize) -> Result<usize, String> {
        if let Some(known) = self.known.get(&(from, to)) {
            return Ok(*known);
        }
        self.pairs += 1;
        if self.pairs > PAIRS_MAX {
            return Err(format!("more than {PAIRS_MAX} pairs of types would have to be compared"));
        }
        if self.nested == NESTED_MAX {
            return Err(format!("types lie more than {NESTED_MAX} deep in one another"));
        }
        let at = self.steps.len();
        self.steps.push(Step::Pending);
        self.known.insert((from, to), at);
        self.nested += 1;
        let made = self.make(from, to);
        self.nested -= 1;
        match made {
            Ok(step) => {
                self.steps[at] = step;
                Ok(at)
            }
            Err(why) => {
                // What was made since may lead here.
                self.known.retain(|_, other| *other < at);
                self.steps.truncate(at);
                Err(why)
            }
        }
    }

    fn make(&mut self, from: usize, to: usize) -> Result<Step, String> {
        let (writer, reader) = (self.writer, self.reader);
        Ok(match (&writer.types[from], &reader.types[to]) {
            (Type::Union(branches), _) => {
                let steps: Vec<_> = branches.iter().map(|branch| self.step(*branch, to)).collect();
                if let Some(Err(why)) = steps.first()
                    && steps.iter().all(Result::is_err)
                {
                    return Err(why.clone());
                }
                Step::Union(steps)
            }
            (_, Type::Union(branches)) => Step::Branch(self.branch(from, branches)?),
            (Type::Null, Type::Null)
            | (Type::Boolean, Type::Boolean)
            | (Type::Int, Type::Int | Type::Long)
            | (Type::Long, Type::Long)
            | (Type::Float, Type::Float | Type::Double)
            | (Type::Double, Type::Double)
            | (Type::Bytes, Type::Bytes)
            | (Type::String, Type::String) => Step::Same(from),
            (Type::Int | Type::Long, Type::Float) => Step::Float,
            (Type::Int | Type::Long, Type::Double) => Step::Double,
            (Type::Bytes, Type::String) => Step::Text,
            (Type::String, Type::Bytes) => Step::Binary,
            (Type::Array(items), Type::Array(read)) => Step::Array(self.step(*items, *read)?),
            (Type::Map(values), Type::Map(read)) => Step::Map(self.step(*values, *read)?),
            (Type::Fixed(size), Type::Fixed(read)) if size == read => {
                self.same_name(from, to)?;
                Step::Same(from)
            }
            (Type::Enum(symbols), Type::Enum(read)) => {
                self.same_name(from, to)?;
                let default = reader.default_symbol(to);
                let symbols = symbols.iter().map(|symbol| match (read.contains(symbol), default) {
                    (true, _) => Ok(symbol.clone()),
                    (false, Some(default)) => Ok(default.to_owned()),
                    (false, None) => Err(format!(
                        "`{symbol}` is none of the symbols that are read, and they have no default"
                    )),
                });
                Step::Enum(symbols.collect())
            }
            (Type::Record(fields), Type::Record(read)) => {
                self.same_name(from, to)?;
                self.record(fields, read)?
            }
            (written, read) => {
                return Err(format!("{} is written, and {} is read", kind(written), kind(read)));
            }
        })
    }

    /// The first branch of the same kind that what is written can be; or else the first of any.
    fn branch(&mut self, from: usize, branches: &[usize]) -> Result<usize, String> {
        let written = std::mem::discriminant(&self.writer.types[from]);
        let is_same = |branch: &&usize| std::mem::discriminant(&self.reader.types[**branch]) == written;
        let (same, others): (Vec<&usize>, Vec<&usize>) = branches.iter().partition(is_same);
        let mut first = None;
        for branch in same.into_iter().chain(others) {
            match self.step(from, *branch) {
                Ok(step) => return Ok(step),
                Err(why) if self.pairs > PAIRS_MAX => return Err(why),
                Err(why) => {
                    first.get_or_insert(why);
                }
            }
        }
        let why = first.unwrap_or_default();
        Err(format!(
            "{} is written, and no branch of the union reads it: {why}",
            kind(&self.writer.types[from])
        ))
    }

    fn record(&mut self, fields: &[Field], read: &[Field]) -> Result<Step, String> {
        // A field is its namesake's, and only else that of one which has its name for an alias.
        let mut to: Vec<Option<usize>> =
            fields.iter().map(|field| read.iter().position(|own| own.name == field.name)).collect();
        for (field, to) in fields.iter().zip(&mut to) {
            let is_alias = |own: &Field| own.aliases.contains(&field.name);
            let alias =
                read.iter().position(is_alias).filter(|at| to.is_none() && !is_namesake(fields, &read[*at]));
            *to = to.or(alias);
        }
        let mut written = Vec::with_capacity(fields.len());
        for (field, to) in fields.iter().zip(&to) {
            written.push(match *to {
                None => Part::Skipped(field.of),
                Some(at) => {
                    let step = self.step(field.of, read[at].of);
                    Part::Member { at, step: step.map_err(|why| format!("field `{}`: {why}", field.name))? }
                }
            });
        }
        let mut members = Vec::with_capacity(read.len());
        for (at, field) in read.iter().enumerate() {
            let default = match (to.contains(&Some(at)), &field.default) {
                (true, _) => None,
                (false, Some(default)) => Some(self.default(field, default)?),
                (false, None) => {
                    return Err(format!("field `{}` is not written, and has no default", field.name));
                }
            };
            members.push((field.name.clone(), default));
        }
        Ok(Step::Record { written, members })
    }

    /// A default is the JSON of a schema, which is not in all that of a payload: what is read is what it is written as.
    fn default(&self, field: &Field, default: &Value<'static>) -> Result<Value<'static>, String> {
        let wrong = |problem: Problem| format!("the default of field `{}`: {}", field.name, problem.message);
        let avro = self.reader.write_default(field.of, default).map_err(wrong)?;
        let value = Reader::new(self.reader, &avro).value(field.of, 0).map_err(wrong)?;
        Ok(value.into_owned())
    }

    fn same_name(&self, from: usize, to: usize) -> Result<(), String> {
        let name = self.writer.name(from);
        if self.reader.is_called(to, name) {
            return Ok(());
        }
        let own = self.reader.name(to);
        Err(format!("`{name}` is written, and `{own}` is read; `aliases` of `{own}` may have `{name}`"))
    }
}

/// Whether one of the fields has the very name of this one.
fn is_namesake(fields: &[Field], of: &Field) -> bool {
    fields.iter().any(|field| field.name == of.name)
}

fn kind(of: &Type) -> &'static str {
    match of {
        Type::Null => "null",
        Type::Boolean => "a boolean",
        Type::Int => "an int",
        Type::Long => "a long",
        Type::Float => "a float",
        Type::Double => "a double",
        Type::Bytes => "bytes",
        Type::String => "a string",
        Type::Record(_) => "a record",
        Type::Enum(_) => "an enum",
        Type::Array(_) => "an array",
        Type::Map(_) => "a map",
        Type::Union(_) => "a union",
        Type::Fixed(_) => "a fixed",
    }
}
