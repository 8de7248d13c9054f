//! From a value to MessagePack.

use json_value::{Integer, Path, Value, integer, real};
use wharf_plugin::Problem;

use crate::LargeIntegers;

/// The MessagePack of `value`: each value in the shortest form that holds it.
///
/// # Errors
/// `number-too-large`, with the JSON pointer.
pub fn write(value: &Value<'_>, large_integers: LargeIntegers) -> Result<Vec<u8>, Problem> {
    let mut writer = Writer { large_integers, path: Path::default(), out: Vec::new() };
    writer.value(value)?;
    Ok(writer.out)
}

struct Writer<'v> {
    large_integers: LargeIntegers,
    path: Path<'v>,
    out: Vec<u8>,
}

impl<'v> Writer<'v> {
    /// Recursion ends with the depth that the reader of JSON allows.
    fn value(&mut self, value: &'v Value<'_>) -> Result<(), Problem> {
        match value {
            Value::Null => self.out.push(0xc0),
            Value::Bool(bool) => self.out.push(0xc2 + u8::from(*bool)),
            Value::Number(text) => self.number(text)?,
            Value::String(text) => self.text(text),
            Value::Bytes(bytes) => {
                self.length(bytes.len(), &[(0xff, 0xc4), (0xffff, 0xc5), (u64::from(u32::MAX), 0xc6)]);
                self.out.extend_from_slice(bytes);
            }
            Value::Array(items) => {
                self.short_length(items.len(), 0x90, &[(0xffff, 0xdc), (u64::from(u32::MAX), 0xdd)]);
                for (index, item) in items.iter().enumerate() {
                    self.path.enter_item(index);
                    self.value(item)?;
                    self.path.leave();
                }
            }
            Value::Object(members) => {
                self.short_length(members.len(), 0x80, &[(0xffff, 0xde), (u64::from(u32::MAX), 0xdf)]);
                for (name, value) in members {
                    self.text(name);
                    self.path.enter(name);
                    self.value(value)?;
                    self.path.leave();
                }
            }
        }
        Ok(())
    }

    fn number(&mut self, text: &str) -> Result<(), Problem> {
        match (integer(text), self.large_integers) {
            (Some(Integer::Signed(number @ ..-32)), _) => {
                let (kind, width) = match number {
                    -0x80.. => (0xd0, 1),
                    -0x8000.. => (0xd1, 2),
                    -0x8000_0000.. => (0xd2, 4),
                    _ => (0xd3, 8),
                };
                self.out.push(kind);
                self.out.extend_from_slice(&number.to_be_bytes()[8 - width..]);
            }
            (Some(Integer::Signed(number @ ..=0x7f)), _) => self.out.push(number as i8 as u8),
            (Some(Integer::Signed(number)), _) => self.unsigned(number as u64),
            (Some(Integer::Unsigned(number)), _) => self.unsigned(number),
            (Some(Integer::TooLarge), LargeIntegers::Text) => self.text(text),
            (Some(Integer::TooLarge), LargeIntegers::Reject) => {
                let message = "an integer of more than 64 bits has no MessagePack; `large-integers` may say \"text\" \
                               or \"float\"";
                return Err(self.path.problem("number-too-large", message));
            }
            (Some(Integer::TooLarge) | None, _) => {
                let number = real(text)
                    .ok_or_else(|| self.path.problem("number-too-large", "the number is past all doubles"))?;
                self.out.push(0xcb);
                self.out.extend_from_slice(&number.to_be_bytes());
            }
        }
        Ok(())
    }

    fn unsigned(&mut self, number: u64) {
        let forms = [(0xff, 0xcc), (0xffff, 0xcd), (u64::from(u32::MAX), 0xce), (u64::MAX, 0xcf)];
        self.sized(number, &forms);
    }

    fn text(&mut self, text: &str) {
        match text.len() {
            length @ ..32 => self.out.push(0xa0 | length as u8),
            length => self.length(length, &[(0xff, 0xd9), (0xffff, 0xda), (u64::from(u32::MAX), 0xdb)]),
        }
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Arrays and maps: up to 15 the length is part of the kind.
    fn short_length(&mut self, length: usize, short: u8, forms: &[(u64, u8)]) {
        match length {
            ..16 => self.out.push(short | length as u8),
            _ => self.length(length, forms),
        }
    }

    fn length(&mut self, length: usize, forms: &[(u64, u8)]) {
        self.sized(length as u64, forms);
    }

    /// The first form whose largest number is not below `number`. The last of a payload's lengths is 4 GiB, which no
    /// payload is.
    fn sized(&mut self, number: u64, forms: &[(u64, u8)]) {
        let form = forms.iter().find(|(max, _)| number <= *max).expect("a payload is shorter than 4 GiB");
        let width = (64 - form.0.leading_zeros()) as usize / 8;
        self.out.push(form.1);
        self.out.extend_from_slice(&number.to_be_bytes()[8 - width..]);
    }
}
