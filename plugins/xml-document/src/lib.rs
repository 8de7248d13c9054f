//! An XML document as a flat list of elements that borrow from its text.
//!
//! One growing list instead of a tree of boxes: reading allocates a few times a document, not a few times an
//! element. Children are chained by index, and once an element is closed, those of one name are chained as well.

use std::borrow::Cow;

use memchr::memchr;
use quick_xml::Reader;
use quick_xml::events::Event;
use wharf_plugin::{Failure, Problem};

/// An index that leads nowhere.
pub const NONE: u32 = u32::MAX;

/// Up to this many names among an element's children are compared one by one; more are sorted.
const NAMES_COMPARED: usize = 16;

/// How deep elements may lie in one another at most.
pub const DEPTH_MAX: usize = 128;

/// A document that was read.
#[derive(Debug)]
pub struct Document<'x> {
    /// In the order of their start tags: the root is the first.
    pub elements: Vec<Element<'x>>,
    /// Those of all elements, one element's after another's.
    pub attributes: Vec<Attribute<'x>>,
}

/// An element.
#[derive(Debug)]
pub struct Element<'x> {
    /// As it is written, with its prefix; a slice of the text that was read.
    pub name: &'x str,
    /// From and to, in [`Document::attributes`].
    pub attributes: (u32, u32),
    /// All of it in one piece, trimmed; `None` where there is nothing but white space.
    pub text: Option<Cow<'x, str>>,
    /// In [`Document::elements`], or [`NONE`].
    pub first_child: u32,
    last_child: u32,
    /// In [`Document::elements`], or [`NONE`].
    pub next_sibling: u32,
    /// The next sibling of the same name.
    pub next_of_name: u32,
    /// Whether an earlier sibling has the same name.
    pub repeats: bool,
}

/// An attribute.
#[derive(Debug)]
pub struct Attribute<'x> {
    /// As it is written, with its prefix.
    pub name: &'x str,
    /// With references resolved.
    pub value: Cow<'x, str>,
}

/// Reads `xml`, in which line ends are already `\n` ([`with_newlines`]). The root is element 0. `]]>` in text is refused, as
/// XML 1.0 §2.4 says.
///
/// # Errors
/// `not-xml`, `too-deep`, `doctype-refused` or `unsupported-encoding`, with the line and column.
///
/// ```
/// let document = xml_document::read("<a x='1'><b/>text</a>", xml_document::DEPTH_MAX)?;
/// assert_eq!(document.elements[1].name, "b");
/// assert_eq!(document.attributes[0].value, "1");
/// # Ok::<(), wharf_plugin::Problem>(())
/// ```
pub fn read(xml: &str, max_depth: usize) -> Result<Document<'_>, Problem> {
    // The reader skips a byte order mark without counting its bytes, so that its offsets would be of another text.
    let xml = xml.strip_prefix('\u{feff}').unwrap_or(xml);
    if xml.starts_with('\u{feff}') {
        return Err(not_xml(xml, 0, "there are two byte order marks"));
    }
    let mut document = Document { elements: Vec::with_capacity(xml.len() / 32), attributes: Vec::new() };
    let mut open: Vec<u32> = Vec::with_capacity(max_depth.min(16));
    let mut heads = Vec::new();
    // Hardly a document has a `]`: one look for it spares each piece of text a search.
    let may_end_cdata = memchr(b']', xml.as_bytes()).is_some();
    let mut reader = Reader::from_str(xml);
    reader.config_mut().check_comments = true;
    loop {
        let start = offset(reader.buffer_position());
        let event = reader
            .read_event()
            .map_err(|error| not_xml(xml, offset(reader.error_position()), &error.to_string()))?;
        match event {
            Event::Start(tag) => {
                if open.len() == max_depth {
                    let message = format!("elements lie more than {max_depth} deep in one another");
                    return Err(problem("too-deep", xml, start, &message));
                }
                open.push(document.open(xml, start, tag.len(), tag.name().as_ref().len(), open.last())?);
            }
            Event::Empty(tag) => {
                if open.len() == max_depth {
                    let message = format!("elements lie more than {max_depth} deep in one another");
                    return Err(problem("too-deep", xml, start, &message));
                }
                document.open(xml, start, tag.len(), tag.name().as_ref().len(), open.last())?;
            }
            Event::End(_) => {
                let closed = open.pop().expect("the reader matches end tags");
                document.close(closed, &mut heads);
            }
            Event::Text(text) => {
                let text = text.into_inner();
                if may_end_cdata && let Some(at) = text.find("]]>") {
                    return Err(not_xml(xml, start + at, "`]]>` in text is written `]]&gt;`"));
                }
                document.text(xml, start, open.last(), text)?;
            }
            Event::CData(text) => document.text(xml, start, open.last(), text.into_inner())?,
            Event::GeneralRef(reference) => {
                let mut value = String::new();
                resolve(&reference.into_inner(), &mut value).map_err(|error| error.at(xml, start))?;
                document.text(xml, start, open.last(), Cow::Owned(value))?;
            }
            Event::DocType(_) => {
                let message =
                    "a document type is not accepted: it could declare entities; send the document without";
                return Err(problem("doctype-refused", xml, start, message));
            }
            Event::Decl(_) if start > 0 => {
                return Err(not_xml(xml, start, "`<?xml` stands at the beginning of a document alone"));
            }
            Event::Decl(declaration) => {
                let encoding =
                    declaration.encoding().transpose().ok().flatten().unwrap_or(Cow::Borrowed("UTF-8"));
                if !encoding.eq_ignore_ascii_case("utf-8") && !xml.is_ascii() {
                    return Err(unsupported_encoding(xml, start, &encoding));
                }
            }
            Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    if let Some(&unclosed) = open.last() {
        let name = document.elements[unclosed as usize].name;
        return Err(not_xml(xml, xml.len(), &format!("the document ends within `{name}`")));
    }
    if document.elements.is_empty() {
        return Err(not_xml(xml, xml.len(), "there is no element"));
    }
    Ok(document)
}

impl<'x> Document<'x> {
    /// Adds the element whose tag's content is `length` bytes after the `<` at `start`.
    fn open(
        &mut self,
        xml: &'x str,
        start: usize,
        length: usize,
        name_length: usize,
        parent: Option<&u32>,
    ) -> Result<u32, Problem> {
        let content = &xml[start + 1..start + 1 + length];
        let name = &content[..name_length];
        if !is_name(name) {
            return Err(not_xml(xml, start + 1, &format!("`{name}` is not a name")));
        }
        let index = length32(self.elements.len());
        match parent {
            Some(&parent) => {
                let parent = &mut self.elements[parent as usize];
                let previous = std::mem::replace(&mut parent.last_child, index);
                match previous {
                    NONE => parent.first_child = index,
                    previous => self.elements[previous as usize].next_sibling = index,
                }
            }
            None if index > 0 => return Err(not_xml(xml, start, "there is a second root element")),
            None => {}
        }
        let from = length32(self.attributes.len());
        self.read_attributes(xml, start + 1 + name_length, &content[name_length..])?;
        self.elements.push(Element {
            name,
            attributes: (from, length32(self.attributes.len())),
            text: None,
            first_child: NONE,
            last_child: NONE,
            next_sibling: NONE,
            next_of_name: NONE,
            repeats: false,
        });
        Ok(index)
    }

    /// Reads `raw`, which is what stands after an element's name, at `offset`.
    fn read_attributes(&mut self, xml: &'x str, offset: usize, raw: &'x str) -> Result<(), Problem> {
        let first = self.attributes.len();
        let wrong = |rest: &str, what: &str| Err(not_xml(xml, offset + raw.len() - rest.len(), what));
        let mut rest = raw;
        loop {
            let trimmed = rest.trim_ascii_start();
            if trimmed.is_empty() {
                break;
            }
            if trimmed.len() == rest.len() {
                return wrong(rest, "an attribute needs white space before it");
            }
            let end = trimmed.bytes().position(|byte| !CONTINUES_NAME[usize::from(byte)]);
            let (name, after) = trimmed.split_at(end.unwrap_or(trimmed.len()));
            let ends = after.bytes().next().is_none_or(|byte| byte == b'=' || byte.is_ascii_whitespace());
            if !ends || !name.bytes().next().is_some_and(starts_name) {
                let end = trimmed.bytes().position(|byte| byte == b'=' || byte.is_ascii_whitespace());
                let name = &trimmed[..end.unwrap_or(trimmed.len())];
                return wrong(trimmed, &format!("`{name}` is not the name of an attribute"));
            }
            let Some(after) = after.trim_ascii_start().strip_prefix('=') else {
                return wrong(trimmed, &format!("attribute `{name}` has no value"));
            };
            let after = after.trim_ascii_start();
            let Some(quote) = after.bytes().next().filter(|quote| matches!(quote, b'"' | b'\'')) else {
                return wrong(after, &format!("the value of attribute `{name}` is not in quotes"));
            };
            let (mut plain, mut end) = (true, None);
            for (at, byte) in after.bytes().enumerate().skip(1) {
                if byte == quote {
                    end = Some(at);
                    break;
                }
                plain &= !matches!(byte, b'&' | b'<' | b'\t' | b'\n');
            }
            let Some(end) = end else {
                return wrong(after, &format!("the value of attribute `{name}` does not end"));
            };
            let (value, after) = (&after[1..end], &after[end + 1..]);
            let value = match plain {
                true => Cow::Borrowed(value),
                false => attribute_value(value)
                    .map_err(|error| error.at(xml, offset + raw.len() - trimmed.len()))?,
            };
            self.attributes.push(Attribute { name, value });
            rest = after;
        }
        match duplicate(&self.attributes[first..]) {
            Some(name) => wrong(raw, &format!("attribute `{name}` is there twice")),
            None => Ok(()),
        }
    }

    fn text(
        &mut self,
        xml: &str,
        start: usize,
        open: Option<&u32>,
        piece: Cow<'x, str>,
    ) -> Result<(), Problem> {
        let blank = piece.bytes().all(|byte| byte.is_ascii_whitespace());
        let Some(&element) = open else {
            if blank {
                return Ok(());
            }
            return Err(not_xml(xml, start, "there is text outside the root element"));
        };
        match &mut self.elements[element as usize].text {
            // White space is of interest only between text and text; what follows is trimmed at the close.
            text @ None if !blank => *text = Some(piece),
            None => {}
            Some(text) => text.to_mut().push_str(&piece),
        }
        Ok(())
    }

    /// Trims the text of a finished element, and chains its children of one name.
    fn close(&mut self, index: u32, heads: &mut Vec<u32>) {
        let element = &mut self.elements[index as usize];
        element.text = match element.text.take() {
            Some(Cow::Borrowed(text)) => Some(Cow::Borrowed(text.trim())),
            Some(Cow::Owned(text)) => Some(Cow::Owned(text.trim().to_owned())),
            None => None,
        };
        element.text.take_if(|text| text.is_empty());
        // `heads` holds the last element of each name so far, and the name met last is tried first.
        heads.clear();
        let first = element.first_child;
        let (mut child, mut last) = (first, 0);
        while child != NONE {
            let name = self.elements[child as usize].name;
            let known = match heads.get(last) {
                Some(&head) if self.elements[head as usize].name == name => Some(last),
                _ => heads.iter().position(|&head| self.elements[head as usize].name == name),
            };
            match known {
                Some(at) => {
                    let previous = std::mem::replace(&mut heads[at], child);
                    self.elements[previous as usize].next_of_name = child;
                    self.elements[child as usize].repeats = true;
                    last = at;
                }
                None if heads.len() == NAMES_COMPARED => return self.chain_sorted(first),
                None => {
                    last = heads.len();
                    heads.push(child);
                }
            }
            child = self.elements[child as usize].next_sibling;
        }
    }

    /// The same for many names, in n·log n: a document must not be able to make reading it quadratic.
    fn chain_sorted(&mut self, first: u32) {
        let mut children = Vec::new();
        let mut child = first;
        while child != NONE {
            children.push(child);
            child = self.elements[child as usize].next_sibling;
        }
        children.sort_by_key(|&child| self.elements[child as usize].name);
        for pair in children.windows(2) {
            let same = self.elements[pair[0] as usize].name == self.elements[pair[1] as usize].name;
            self.elements[pair[0] as usize].next_of_name = if same { pair[1] } else { NONE };
            self.elements[pair[1] as usize].repeats = same;
        }
    }
}

/// A value, with references resolved and white space made spaces (XML 1.0 §3.3.3).
fn attribute_value(raw: &str) -> Result<Cow<'_, str>, BadReference> {
    let mut value = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find(['&', '<', '\t', '\n']) {
        value.push_str(&rest[..at]);
        rest = match rest.as_bytes()[at] {
            b'&' => {
                let (name, after) = rest[at + 1..].split_once(';').ok_or_else(|| BadReference::new("&"))?;
                resolve(name, &mut value)?;
                after
            }
            b'<' => return Err(BadReference("`<` in the value of an attribute is written `&lt;`".into())),
            _ => {
                value.push(' ');
                &rest[at + 1..]
            }
        };
    }
    value.push_str(rest);
    Ok(Cow::Owned(value))
}

/// A reference that stands for nothing.
struct BadReference(String);

impl BadReference {
    fn new(name: &str) -> Self {
        Self(format!("`&{name};` stands for nothing: only amp, lt, gt, apos, quot and numbers do"))
    }

    fn at(self, xml: &str, offset: usize) -> Problem {
        not_xml(xml, offset, &self.0)
    }
}

/// Appends what `&name;` stands for.
fn resolve(name: &str, out: &mut String) -> Result<(), BadReference> {
    let bad = || BadReference::new(name);
    let character = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "apos" => '\'',
        "quot" => '"',
        _ => {
            let number = name.strip_prefix('#').ok_or_else(bad)?;
            let code = match number.strip_prefix('x') {
                Some(hex) if hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => u32::from_str_radix(hex, 16),
                None if number.bytes().all(|byte| byte.is_ascii_digit()) => number.parse(),
                _ => return Err(bad()),
            };
            code.ok().and_then(char::from_u32).filter(|&character| is_character(character)).ok_or_else(bad)?
        }
    };
    out.push(character);
    Ok(())
}

/// Why a payload that is no UTF-8 is refused: what it says of its own encoding is the better reason, where it does.
pub fn not_utf8(payload: &[u8], otherwise: Failure) -> Failure {
    const DECLARATION_BYTES_MAX: usize = 256;
    let encoding = match payload {
        [0xfe, 0xff, ..] | [0xff, 0xfe, ..] => Some("UTF-16".to_owned()),
        _ => {
            let start = payload.get(..DECLARATION_BYTES_MAX).unwrap_or(payload);
            let text = String::from_utf8_lossy(start);
            match Reader::from_str(&text).read_event() {
                Ok(Event::Decl(declaration)) => {
                    declaration.encoding().transpose().ok().flatten().map(Cow::into_owned)
                }
                _ => None,
            }
        }
    };
    match encoding.filter(|encoding| !encoding.eq_ignore_ascii_case("utf-8")) {
        Some(encoding) => unsupported_encoding("", 0, &encoding).into(),
        None => otherwise,
    }
}

fn unsupported_encoding(xml: &str, start: usize, encoding: &str) -> Problem {
    let message = format!("the document says that it is {encoding}; only UTF-8 is read");
    problem("unsupported-encoding", xml, start, &message)
}

/// The same text with `\n` at the ends of its lines (XML 1.0 §2.11).
pub fn with_newlines(xml: &str) -> Cow<'_, str> {
    if memchr(b'\r', xml.as_bytes()).is_none() {
        return Cow::Borrowed(xml);
    }
    Cow::Owned(xml.replace("\r\n", "\n").replace('\r', "\n"))
}

/// Whether XML has the character at all (XML 1.0 §2.2).
pub fn is_character(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

/// Whether a name may begin with this byte; what is not ASCII counts as a letter.
pub const fn starts_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':' | 0x80..)
}

/// Which bytes may stand after it.
static CONTINUES_NAME: [bool; 256] = {
    let mut continues = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let it = byte as u8;
        continues[byte] = starts_name(it) || it.is_ascii_digit() || matches!(it, b'-' | b'.');
        byte += 1;
    }
    continues
};

/// Whether a text is a name in XML 1.0 §2.3; what is not ASCII counts as a letter.
pub fn is_name(name: &str) -> bool {
    let continues = |byte: &u8| CONTINUES_NAME[usize::from(*byte)];
    let (fours, rest) = name.as_bytes().as_chunks::<4>();
    name.bytes().next().is_some_and(starts_name)
        && fours.iter().all(|[a, b, c, d]| continues(a) & continues(b) & continues(c) & continues(d))
        && rest.iter().all(continues)
}

fn duplicate<'x>(attributes: &[Attribute<'x>]) -> Option<&'x str> {
    if attributes.len() <= NAMES_COMPARED {
        let later = |at: usize| attributes[at + 1..].iter().any(|other| other.name == attributes[at].name);
        return (0..attributes.len()).find(|&at| later(at)).map(|at| attributes[at].name);
    }
    let mut names: Vec<&str> = attributes.iter().map(|attribute| attribute.name).collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// `not-xml`, for what is found after reading.
pub fn not_xml(xml: &str, offset: usize, what: &str) -> Problem {
    problem("not-xml", xml, offset, &format!("the payload is not well-formed XML: {what}"))
}

/// A problem at the line and column of `offset`.
pub fn problem(code: &'static str, xml: &str, offset: usize, message: &str) -> Problem {
    let before = &xml.as_bytes()[..offset.min(xml.len())];
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    // A column counts characters; the offset may lie within one.
    let column = before[line_start..].iter().filter(|&&byte| byte & 0xc0 != 0x80).count() + 1;
    Problem::new(code, message).at(format!("line {line}, column {column}"))
}

fn offset(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

fn length32(length: usize) -> u32 {
    u32::try_from(length).expect("a document is under 4 GiB")
}
