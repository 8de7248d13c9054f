//! From the text of a `.proto` file to a schema.

use std::collections::BTreeMap;

use wharf_plugin::Problem;

use crate::schema::{Enum, FIELDS_MAX, Field, Kind, Message, NESTING_MAX, Schema, Shape};
use crate::token::{Token, Tokens};

impl Schema {
    /// The schema that the text of one `.proto` file is, and its message `message`; the first one where none is named.
    ///
    /// Services, options and reserved names are passed over; imports, groups and extensions are refused.
    ///
    /// # Errors
    /// `bad-schema`, with the line.
    pub fn of_text(text: &str, message: Option<&str>) -> Result<Self, Problem> {
        let mut parser = Parser {
            tokens: Tokens::new(text),
            proto3: false,
            fields: 0,
            messages: Vec::new(),
            enums: Vec::new(),
            later: Vec::new(),
        };
        parser.file()?;
        parser.resolve()?;
        let Parser { messages, enums, .. } = parser;
        let first = (!messages.is_empty()).then_some(0);
        Self::of(messages, enums, message, first)
    }
}

struct Parser<'a> {
    tokens: Tokens<'a>,
    proto3: bool,
    fields: usize,
    messages: Vec<Message>,
    enums: Vec<Enum>,
    /// Fields whose types are names: message, field, name.
    later: Vec<(usize, usize, &'a str)>,
}

impl<'a> Parser<'a> {
    fn file(&mut self) -> Result<(), Problem> {
        let mut package = "";
        while let Some(token) = self.tokens.next()? {
            match token {
                Token::Word("syntax") => {
                    self.tokens.mark('=')?;
                    self.proto3 = match self.tokens.next()? {
                        Some(Token::Text("proto3")) => true,
                        Some(Token::Text("proto2")) => false,
                        _ => return Err(self.tokens.bad("the syntax is \"proto3\" or \"proto2\"")),
                    };
                    self.tokens.mark(';')?;
                }
                Token::Word("package") => {
                    package = self.tokens.word("the package's name")?;
                    self.tokens.mark(';')?;
                }
                Token::Word("import") => {
                    return Err(self
                        .tokens
                        .bad("imports are not read: put what is needed into this one text"));
                }
                Token::Word("option" | "service") => self.tokens.skip_statement()?,
                Token::Word("message") => self.message(package, 0)?,
                Token::Word("enum") => self.enumeration(package)?,
                Token::Mark(';') => {}
                _ => return Err(self.tokens.bad("`message` or `enum` was expected")),
            }
        }
        Ok(())
    }

    fn message(&mut self, space: &str, depth: usize) -> Result<(), Problem> {
        if depth == NESTING_MAX {
            return Err(self.tokens.bad("messages are declared too deep in one another"));
        }
        let name = join(space, self.tokens.word("a message's name")?);
        let at = self.messages.len();
        self.messages.push(Message::new(name.clone()));
        self.tokens.mark('{')?;
        let mut one_ofs = 0;
        while !self.tokens.take('}')? {
            match self.tokens.peek()? {
                Some(Token::Word("message")) => {
                    self.tokens.next()?;
                    self.message(&name, depth + 1)?;
                }
                Some(Token::Word("enum")) => {
                    self.tokens.next()?;
                    self.enumeration(&name)?;
                }
                Some(Token::Word("oneof")) => {
                    self.tokens.next()?;
                    self.tokens.word("the oneof's name")?;
                    self.tokens.mark('{')?;
                    while !self.tokens.take('}')? {
                        match self.tokens.peek()? {
                            Some(Token::Word("option")) => self.tokens.skip_statement()?,
                            _ => self.field(at, Some(one_ofs))?,
                        }
                    }
                    one_ofs += 1;
                }
                Some(Token::Word("option" | "reserved" | "extensions")) => self.tokens.skip_statement()?,
                Some(Token::Word("extend" | "group")) => {
                    return Err(self.tokens.bad("extensions and groups are not read"));
                }
                Some(Token::Mark(';')) => self.tokens.mark(';')?,
                _ => self.field(at, None)?,
            }
        }
        Ok(())
    }

    fn field(&mut self, message: usize, one_of: Option<usize>) -> Result<(), Problem> {
        let mut word = self.tokens.word("a field's type")?;
        let mut shape = Shape::One { implicit: self.proto3 && one_of.is_none() };
        match word {
            "repeated" => shape = Shape::Many { packed: self.proto3 },
            "optional" => shape = Shape::One { implicit: false },
            "required" => shape = Shape::Required,
            _ => {}
        }
        if matches!(word, "repeated" | "optional" | "required") {
            word = self.tokens.word("a field's type")?;
        }
        if word == "map" && self.tokens.take('<')? {
            let key = self.tokens.word("the type of a map's keys")?;
            let key = Kind::scalar(key).filter(|key| key.keys());
            shape = Shape::Map(
                key.ok_or_else(|| self.tokens.bad("the key of a map is an integer, bool or string"))?,
            );
            self.tokens.mark(',')?;
            word = self.tokens.word("the type of a map's values")?;
            self.tokens.mark('>')?;
        }
        let name = self.tokens.word("a field's name")?.to_owned();
        self.tokens.mark('=')?;
        let number = self.tokens.word("a field's number")?;
        let number: u32 =
            number.parse().ok().filter(|number| (1..1 << 29).contains(number)).ok_or_else(|| {
                self.tokens.bad(&format!("`{number}` is not the number of a field: 1 to 536870911"))
            })?;
        let mut field = Field { json: camel(&name), name, number, of: Kind::Bool, shape, one_of };
        self.options(&mut field)?;
        self.tokens.mark(';')?;
        self.count()?;
        let fields = &mut self.messages[message].fields;
        if let Some(other) = fields.iter().find(|other| other.number == number || other.name == field.name) {
            let text = format!("the fields `{}` and `{}` have one number or name", other.name, field.name);
            return Err(self.tokens.bad(&text));
        }
        match Kind::scalar(word) {
            Some(kind) => field.of = kind,
            None => self.later.push((message, fields.len(), word)),
        }
        fields.push(field);
        Ok(())
    }

    /// `[json_name = "x", packed = true]`; others are passed over.
    fn options(&mut self, field: &mut Field) -> Result<(), Problem> {
        if !self.tokens.take('[')? {
            return Ok(());
        }
        let (mut name, mut depth) = ("", 0_usize);
        loop {
            match self.tokens.next()? {
                Some(Token::Mark(']')) if depth == 0 => return Ok(()),
                Some(Token::Mark('{' | '[')) => depth += 1,
                Some(Token::Mark('}' | ']')) => depth = depth.saturating_sub(1),
                Some(Token::Word(value)) if name == "packed" && matches!(field.shape, Shape::Many { .. }) => {
                    field.shape = Shape::Many { packed: value == "true" };
                    name = "";
                }
                Some(Token::Text(text)) if name == "json_name" => field.json = text.to_owned(),
                Some(Token::Word(word)) => name = word,
                Some(_) => {}
                None => return Err(self.tokens.bad("`]` was expected")),
            }
        }
    }

    fn enumeration(&mut self, space: &str) -> Result<(), Problem> {
        let name = join(space, self.tokens.word("an enum's name")?);
        let mut values = Vec::new();
        self.tokens.mark('{')?;
        while !self.tokens.take('}')? {
            match self.tokens.peek()? {
                Some(Token::Word("option" | "reserved")) => self.tokens.skip_statement()?,
                Some(Token::Mark(';')) => self.tokens.mark(';')?,
                _ => {
                    let value = self.tokens.word("a value's name")?.to_owned();
                    self.tokens.mark('=')?;
                    let number = self.tokens.word("a value's number")?;
                    let number = number
                        .parse()
                        .map_err(|_| self.tokens.bad(&format!("`{number}` is not the number of a value")))?;
                    values.push((value, number));
                    self.count()?;
                    self.tokens.skip_statement()?;
                }
            }
        }
        if values.is_empty() {
            return Err(self.tokens.bad(&format!("the enum `{name}` has no values")));
        }
        self.enums.push(Enum { name, values });
        Ok(())
    }

    fn count(&mut self) -> Result<(), Problem> {
        self.fields += 1;
        if self.fields > FIELDS_MAX {
            return Err(self.tokens.bad(&format!("a schema has at most {FIELDS_MAX} fields and values")));
        }
        Ok(())
    }

    /// A name is looked for from the inside out, as in C++.
    fn resolve(&mut self) -> Result<(), Problem> {
        let messages =
            self.messages.iter().enumerate().map(|(at, each)| (each.name.clone(), Kind::Message(at)));
        let enums = self.enums.iter().enumerate().map(|(at, each)| (each.name.clone(), Kind::Enum(at)));
        let known: BTreeMap<String, Kind> = messages.chain(enums).collect();
        for &(message, field, name) in &self.later {
            let mut space = self.messages[message].name.as_str();
            let kind = loop {
                let full = match name.strip_prefix('.') {
                    Some(full) => full.to_owned(),
                    None => join(space, name),
                };
                match known.get(&full) {
                    Some(kind) => break Some(*kind),
                    None if space.is_empty() => break None,
                    None => space = space.rsplit_once('.').map_or("", |(outer, _)| outer),
                }
            };
            let kind =
                kind.ok_or_else(|| Problem::new("bad-schema", format!("there is no type `{name}`")))?;
            let field = &mut self.messages[message].fields[field];
            field.of = kind;
            // A message that is not there is not an empty one.
            if matches!((kind, field.shape), (Kind::Message(_), Shape::One { .. })) {
                field.shape = Shape::One { implicit: false };
            }
        }
        Ok(())
    }
}

fn join(space: &str, name: &str) -> String {
    if space.is_empty() { name.to_owned() } else { format!("{space}.{name}") }
}

/// `unit_price` is `unitPrice`.
pub(crate) fn camel(name: &str) -> String {
    let mut upper = false;
    let mut camel = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '_' => upper = true,
            character if upper => {
                camel.push(character.to_ascii_uppercase());
                upper = false;
            }
            character => camel.push(character),
        }
    }
    camel
}
