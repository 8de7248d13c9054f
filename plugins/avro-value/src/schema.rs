//! A schema, as a list of types that name one another by index.

use std::collections::BTreeMap;

use json_value::{Path, Value};
use wharf_plugin::Problem;

/// How many types a schema may have.
const TYPES_MAX: usize = 10_000;

/// A schema that is ready to read and write with.
#[derive(Debug, Clone)]
pub struct Schema {
    pub(crate) types: Vec<Type>,
    pub(crate) root: usize,
    /// What records, enums and fixeds are called, by their index.
    names: BTreeMap<usize, Named>,
}

/// What a schema says of a type with a name, beside what it is made of. Names are without their namespaces: it is by
/// those that schemas are matched.
#[derive(Debug, Clone, Default)]
struct Named {
    name: String,
    aliases: Vec<String>,
    /// What is read for a symbol that an enum does not have.
    default: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Record(Vec<Field>),
    Enum(Vec<String>),
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Fixed(usize),
}

#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) of: usize,
    /// Other names that it is written by.
    pub(crate) aliases: Vec<String>,
    pub(crate) default: Option<Value<'static>>,
}

impl Schema {
    /// The schema that a document is.
    ///
    /// # Errors
    /// `bad-schema`, with the JSON pointer, or the line and column where it is no JSON.
    pub fn parse(document: &[u8]) -> Result<Self, Problem> {
        let json =
            json_value::read(document).map_err(|problem| Problem { code: "bad-schema".into(), ..problem })?;
        let mut parser = Parser {
            types: Vec::new(),
            named: BTreeMap::new(),
            names: BTreeMap::new(),
            path: Path::default(),
        };
        let root = parser.of(&json, "")?;
        Ok(Self { types: parser.types, root, names: parser.names })
    }

    /// What a type is called, without its namespace; nothing where it has no name.
    pub(crate) fn name(&self, of: usize) -> &str {
        self.names.get(&of).map_or("", |named| named.name.as_str())
    }

    /// Whether what was written as `name` is read as this type.
    pub(crate) fn is_called(&self, of: usize, name: &str) -> bool {
        self.names
            .get(&of)
            .is_some_and(|own| own.name == name || own.aliases.iter().any(|alias| alias == name))
    }

    /// What is read for a symbol that an enum does not have.
    pub(crate) fn default_symbol(&self, of: usize) -> Option<&str> {
        self.names.get(&of)?.default.as_deref()
    }
}

struct Parser<'v> {
    types: Vec<Type>,
    /// Where the records, enums and fixeds are, by full name.
    named: BTreeMap<String, usize>,
    names: BTreeMap<usize, Named>,
    path: Path<'v>,
}

impl<'v> Parser<'v> {
    /// Recursion ends with the depth that the reader of JSON allows.
    fn of(&mut self, json: &'v Value<'_>, space: &str) -> Result<usize, Problem> {
        match json {
            Value::String(name) => self.by_name(name, space),
            Value::Array(branches) => {
                let mut union = Vec::with_capacity(branches.len());
                for (index, branch) in branches.iter().enumerate() {
                    self.path.enter_item(index);
                    if matches!(branch, Value::Array(_)) {
                        return Err(self.bad("a union stands in no other"));
                    }
                    union.push(self.of(branch, space)?);
                    self.path.leave();
                }
                if union.is_empty() {
                    return Err(self.bad("a union has one branch at least"));
                }
                self.add(Type::Union(union))
            }
            Value::Object(_) => self.complex(json, space),
            other => {
                Err(self
                    .bad(&format!("a type is a name, an object or an array, and this is {}", other.kind())))
            }
        }
    }

    fn by_name(&mut self, name: &str, space: &str) -> Result<usize, Problem> {
        let primitive = match name {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "int" => Type::Int,
            "long" => Type::Long,
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            "string" => Type::String,
            _ => {
                let known = self.named.get(&full_name(name, space)).or_else(|| self.named.get(name)).copied();
                return known
                    .ok_or_else(|| self.bad(&format!("there is no type `{name}` before this place")));
            }
        };
        self.add(primitive)
    }

    fn complex(&mut self, json: &'v Value<'_>, space: &str) -> Result<usize, Problem> {
        let kind = match json.member("type") {
            Some(Value::String(kind)) => kind.as_ref(),
            // `{"type": {…}}`, and a union in its place, say no more than what is inside.
            Some(inner @ (Value::Object(_) | Value::Array(_))) => {
                return self.inside("type", inner, space);
            }
            _ => return Err(self.bad("a type has a `type`")),
        };
        match kind {
            "record" | "error" => self.record(json, space),
            "enum" => {
                let (at, _) = self.named(json, space)?;
                let symbols = self.texts(json, "symbols")?;
                let default = json.member("default").and_then(Value::as_str);
                if let Some(default) = default.filter(|default| !symbols.iter().any(|own| own == default)) {
                    return Err(self.bad(&format!("the default `{default}` is none of the symbols")));
                }
                self.names.entry(at).or_default().default = default.map(str::to_owned);
                self.types[at] = Type::Enum(symbols);
                Ok(at)
            }
            "fixed" => {
                let (at, _) = self.named(json, space)?;
                let size = match json.member("size") {
                    Some(Value::Number(size)) => size.parse().ok(),
                    _ => None,
                };
                self.types[at] = Type::Fixed(size.ok_or_else(|| self.bad("a fixed has a `size`"))?);
                Ok(at)
            }
            "array" => {
                let items = json.member("items").ok_or_else(|| self.bad("an array has `items`"))?;
                let items = self.inside("items", items, space)?;
                self.add(Type::Array(items))
            }
            "map" => {
                let values = json.member("values").ok_or_else(|| self.bad("a map has `values`"))?;
                let values = self.inside("values", values, space)?;
                self.add(Type::Map(values))
            }
            name => self.by_name(name, space),
        }
    }

    fn record(&mut self, json: &'v Value<'_>, space: &str) -> Result<usize, Problem> {
        // The name is known before the fields, which may be of the record's own type.
        let (at, space) = self.named(json, space)?;
        let Some(Value::Array(list)) = json.member("fields") else {
            return Err(self.bad("a record has `fields`, an array"));
        };
        let mut fields: Vec<Field> = Vec::with_capacity(list.len());
        self.path.enter("fields");
        for (index, field) in list.iter().enumerate() {
            self.path.enter_item(index);
            let name = field.member("name").and_then(Value::as_str);
            let name = name.ok_or_else(|| self.bad("a field has a `name`"))?.to_owned();
            if fields.iter().any(|other| other.name == name) {
                return Err(self.bad(&format!("two fields are named `{name}`")));
            }
            let of = field.member("type").ok_or_else(|| self.bad("a field has a `type`"))?;
            let of = self.inside("type", of, &space)?;
            let default = field.member("default").cloned().map(Value::into_owned);
            fields.push(Field { name, of, aliases: self.aliases(field)?, default });
            self.path.leave();
        }
        self.path.leave();
        self.types[at] = Type::Record(fields);
        Ok(at)
    }

    fn inside(&mut self, member: &'v str, json: &'v Value<'_>, space: &str) -> Result<usize, Problem> {
        self.path.enter(member);
        let at = self.of(json, space)?;
        self.path.leave();
        Ok(at)
    }

    /// Makes room for a type with a name, and gives the namespace of what is inside.
    fn named(&mut self, json: &Value<'_>, space: &str) -> Result<(usize, String), Problem> {
        let name = json.member("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| self.bad("a record, enum or fixed has a `name`"))?;
        let space = json.member("namespace").and_then(Value::as_str).unwrap_or(space);
        let full = full_name(name, space);
        let at = self.add(Type::Null)?;
        if self.named.insert(full.clone(), at).is_some() {
            return Err(self.bad(&format!("two types are named `{full}`")));
        }
        let aliases = self.aliases(json)?.iter().map(|alias| without_space(alias).to_owned()).collect();
        let own = Named { name: without_space(name).to_owned(), aliases, default: None };
        self.names.insert(at, own);
        Ok((at, full.rsplit_once('.').map_or("", |(space, _)| space).to_owned()))
    }

    fn aliases(&self, json: &Value<'_>) -> Result<Vec<String>, Problem> {
        match json.member("aliases") {
            Some(Value::Array(aliases)) if !aliases.is_empty() => self.texts(json, "aliases"),
            _ => Ok(Vec::new()),
        }
    }

    fn texts(&self, json: &Value<'_>, member: &str) -> Result<Vec<String>, Problem> {
        let texts = match json.member(member) {
            Some(Value::Array(items)) => {
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
            }
            _ => None,
        };
        texts
            .filter(|texts| !texts.is_empty())
            .ok_or_else(|| self.bad(&format!("`{member}` is an array of texts")))
    }

    fn add(&mut self, of: Type) -> Result<usize, Problem> {
        if self.types.len() == TYPES_MAX {
            return Err(self.bad(&format!("a schema has at most {TYPES_MAX} types")));
        }
        self.types.push(of);
        Ok(self.types.len() - 1)
    }

    fn bad(&self, message: &str) -> Problem {
        self.path.problem("bad-schema", message)
    }
}

fn full_name(name: &str, space: &str) -> String {
    if name.contains('.') || space.is_empty() { name.to_owned() } else { format!("{space}.{name}") }
}

fn without_space(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, name)| name)
}
