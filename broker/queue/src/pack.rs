//! Numbers as few bytes: what snapshots are made of.
//!
//! A number takes seven bits a byte, the lowest first (LEB128). A run of rising or nearly equal numbers is
//! written as differences, so that a waiting message takes about three bytes.

use wharf_protocol::MessageId;

/// Writes numbers and bytes.
#[derive(Debug, Default)]
pub(crate) struct Packer {
    pub(crate) out: Vec<u8>,
}

/// There is less, or something else, than there should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Short;

/// Reads what a [`Packer`] wrote.
#[derive(Debug)]
pub(crate) struct Unpacker<'a> {
    rest: &'a [u8],
}

impl Packer {
    #[expect(clippy::cast_possible_truncation, reason = "seven bits are taken at a time")]
    pub(crate) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.out.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.out.push(number as u8);
    }

    /// Three numbers, all of which nearly always take a byte: then they are written at once.
    #[expect(clippy::cast_possible_truncation, reason = "each is under 2^7")]
    pub(crate) fn three(&mut self, numbers: [u64; 3]) {
        if numbers.iter().all(|number| *number < 0x80) {
            self.out.extend_from_slice(&numbers.map(|number| number as u8));
        } else {
            numbers.into_iter().for_each(|number| self.number(number));
        }
    }

    /// A number by its difference from the one before, in either direction.
    pub(crate) fn step(&mut self, from: u64, to: u64) {
        self.number(step(from, to));
    }

    /// A message id by its difference from the one before. Nearly all are of the next record's entry 0.
    pub(crate) fn message_step(&mut self, from: MessageId, to: MessageId) {
        let step = zigzag(to.index.wrapping_sub(from.index));
        self.number(step << 1 | u64::from(to.entry > 0));
        if to.entry > 0 {
            self.number(u64::from(to.entry));
        }
    }

    /// Zero for none, one more than the number else.
    pub(crate) fn maybe(&mut self, number: Option<u64>) {
        self.number(u64::from(number.is_some()));
        if let Some(number) = number {
            self.number(number);
        }
    }

    pub(crate) fn flag(&mut self, flag: bool) {
        self.out.push(u8::from(flag));
    }

    pub(crate) fn wide(&mut self, number: u128) {
        self.out.extend_from_slice(&number.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }
}

impl<'a> Unpacker<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn number(&mut self) -> Result<u64, Short> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Short)
    }

    /// A number that fits `T`.
    pub(crate) fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Short> {
        T::try_from(self.number()?).map_err(|_| Short)
    }

    /// How many items follow: no more than there are bytes left, so a lie about it reserves little.
    pub(crate) fn count(&mut self) -> Result<usize, Short> {
        self.small().and_then(|count: usize| if count <= self.rest.len() { Ok(count) } else { Err(Short) })
    }

    pub(crate) fn step(&mut self, from: u64) -> Result<u64, Short> {
        Ok(from.wrapping_add(unzigzag(self.number()?)))
    }

    /// The message id that [`Packer::message_step`] wrote.
    pub(crate) fn message_step(&mut self, from: MessageId) -> Result<MessageId, Short> {
        let step = self.number()?;
        let index = from.index.wrapping_add(unzigzag(step >> 1));
        let entry = if step & 1 == 1 { self.small()? } else { 0 };
        Ok(MessageId { index, entry })
    }

    pub(crate) fn maybe(&mut self) -> Result<Option<u64>, Short> {
        if self.flag()? { self.number().map(Some) } else { Ok(None) }
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Short> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Short),
        }
    }

    pub(crate) fn wide(&mut self) -> Result<u128, Short> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Short)?;
        self.rest = rest;
        Ok(u128::from_le_bytes(*taken))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Short> {
        let length = self.count()?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Short> {
        let (first, rest) = self.rest.split_first().ok_or(Short)?;
        self.rest = rest;
        Ok(*first)
    }
}

/// What [`Packer::step`] writes as a number.
pub(crate) fn step(from: u64, to: u64) -> u64 {
    zigzag(to.wrapping_sub(from))
}

/// A difference with its sign in bit 0, so that small ones of either sign are small.
#[expect(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "the sign becomes bit 0")]
fn zigzag(step: u64) -> u64 {
    (step << 1) ^ (step as i64 >> 63) as u64
}

fn unzigzag(zigzag: u64) -> u64 {
    (zigzag >> 1) ^ (zigzag & 1).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(numbers: Vec<u64>, wide: u128, bytes: Vec<u8>, maybe: Option<u64>) {
            let mut packer = Packer::default();
            let mut last = 0;
            for number in &numbers {
                packer.number(*number);
                packer.step(last, *number);
                last = *number;
            }
            let id = |number: u64| MessageId { index: number >> 16, entry: number as u16 };
            let mut last = id(0);
            for number in &numbers {
                packer.message_step(last, id(*number));
                last = id(*number);
            }
            packer.maybe(maybe);
            packer.wide(wide);
            packer.bytes(&bytes);

            let mut unpacker = Unpacker::new(&packer.out);
            let mut last = 0;
            for number in &numbers {
                prop_assert_eq!(unpacker.number(), Ok(*number));
                prop_assert_eq!(unpacker.step(last), Ok(*number));
                last = *number;
            }
            let mut last = id(0);
            for number in &numbers {
                prop_assert_eq!(unpacker.message_step(last), Ok(id(*number)));
                last = id(*number);
            }
            prop_assert_eq!(unpacker.maybe(), Ok(maybe));
            prop_assert_eq!(unpacker.wide(), Ok(wide));
            prop_assert_eq!(unpacker.bytes(), Ok(&bytes[..]));
            prop_assert!(unpacker.is_at_end());
        }
    }
}
