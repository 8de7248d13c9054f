//! From a value to CBOR.

use json_value::{Integer, Path, Value, integer, real};
use wharf_plugin::Problem;

use crate::binary::{binary, minus_one};

/// How many digits an integer may have: making bytes of them takes time by their square.
const DIGITS_MAX: usize = 308;

/// The CBOR of `value`, each part in its preferred form.
///
/// # Errors
/// `number-too-large`, with the JSON pointer.
pub fn write(value: &Value<'_>, deterministic: bool) -> Result<Vec<u8>, Problem> {
    let mut writer = Writer { deterministic, path: Path::default(), out: Vec::new() };
    writer.value(value)?;
    Ok(writer.out)
}

struct Writer<'v> {
    deterministic: bool,
    path: Path<'v>,
    out: Vec<u8>,
}

impl<'v> Writer<'v> {
    /// Recursion ends with the depth that the reader of JSON allows.
    fn value(&mut self, value: &'v Value<'_>) -> Result<(), Problem> {
        match value {
            Value::Null => self.out.push(0xf6),
            Value::Bool(bool) => self.out.push(0xf4 + u8::from(*bool)),
            Value::Number(text) => self.number(text)?,
            Value::String(text) => self.string(3, text.as_bytes()),
            Value::Bytes(bytes) => self.string(2, bytes),
            Value::Array(items) => {
                self.head(4, items.len() as u64);
                for (index, item) in items.iter().enumerate() {
                    self.path.enter_item(index);
                    self.value(item)?;
                    self.path.leave();
                }
            }
            Value::Object(members) => {
                self.head(5, members.len() as u64);
                let mut members: Vec<_> = members.iter().collect();
                if self.deterministic {
                    // Shorter names have smaller heads, so this is the order of the encoded bytes.
                    members.sort_by_key(|(name, _)| (name.len(), name.as_bytes()));
                }
                for (name, value) in members {
                    self.string(3, name.as_bytes());
                    self.path.enter(name);
                    self.value(value)?;
                    self.path.leave();
                }
            }
        }
        Ok(())
    }

    fn number(&mut self, text: &str) -> Result<(), Problem> {
        match integer(text) {
            Some(Integer::Signed(number @ 0..)) => self.head(0, number as u64),
            Some(Integer::Signed(number)) => self.head(1, !number as u64),
            Some(Integer::Unsigned(number)) => self.head(0, number),
            Some(Integer::TooLarge) => self.large_integer(text)?,
            None => {
                let number = real(text)
                    .ok_or_else(|| self.path.problem("number-too-large", "the number is past all doubles"))?;
                self.float(number);
            }
        }
        Ok(())
    }

    fn large_integer(&mut self, text: &str) -> Result<(), Problem> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.len() > DIGITS_MAX {
            let message =
                format!("an integer of {} digits is too large, at most {DIGITS_MAX} are taken", digits.len());
            return Err(self.path.problem("number-too-large", message));
        }
        let bytes = if digits.len() < text.len() { minus_one(binary(digits)) } else { binary(digits) };
        let major = if digits.len() < text.len() { 1 } else { 0 };
        match <[u8; 8]>::try_from(bytes.as_slice()) {
            // Below zero, CBOR's integers reach one bit further than 64 bits with a sign.
            Ok(bytes) => self.head(major, u64::from_be_bytes(bytes)),
            Err(_) => {
                self.head(6, 2 + u64::from(major));
                self.string(2, &bytes);
            }
        }
        Ok(())
    }

    /// The shortest of 16, 32 and 64 bits that is the same number.
    fn float(&mut self, number: f64) {
        let single = number as f32;
        if f64::from(single).to_bits() != number.to_bits() {
            self.out.push(0xfb);
            self.out.extend_from_slice(&number.to_be_bytes());
        } else if let Some(half) = half(single) {
            self.out.push(0xf9);
            self.out.extend_from_slice(&half.to_be_bytes());
        } else {
            self.out.push(0xfa);
            self.out.extend_from_slice(&single.to_be_bytes());
        }
    }

    fn string(&mut self, major: u8, bytes: &[u8]) {
        self.head(major, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    fn head(&mut self, major: u8, argument: u64) {
        let (information, width) = match argument {
            0..=23 => (argument as u8, 0),
            24..=0xff => (24, 1),
            0x100..=0xffff => (25, 2),
            0x1_0000..=0xffff_ffff => (26, 4),
            _ => (27, 8),
        };
        self.out.push(major << 5 | information);
        self.out.extend_from_slice(&argument.to_be_bytes()[8 - width..]);
    }
}

/// The 16 bits that are the same number, where there are any.
fn half(number: f32) -> Option<u16> {
    let bits = number.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let (exponent, fraction) = ((bits >> 23 & 0xff) as i32 - 127, bits & 0x7f_ffff);
    match exponent {
        _ if number == 0.0 => Some(sign),
        // Normal: 5 bits of exponent, and the lowest 13 of the fraction are not used.
        -14..=15 => {
            (fraction & 0x1fff == 0).then(|| sign | ((exponent + 15) as u16) << 10 | (fraction >> 13) as u16)
        }
        // Subnormal: a multiple of 2^-24.
        -24..-14 => {
            let (whole, shift) = (fraction | 0x80_0000, -1 - exponent);
            (whole & ((1 << shift) - 1) == 0).then(|| sign | (whole >> shift) as u16)
        }
        _ => None,
    }
}
