//! Fields as they lie in a run of bytes.
//!
//! ```text
//! tag (varint): field number << 3 | wire type
//!   0 varint   1 eight bytes   2 length (varint), bytes   5 four bytes      little-endian
//! ```

use wharf_plugin::Problem;

/// How a value stands on the wire: the low three bits of what comes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Varint = 0,
    Eight = 1,
    Length = 2,
    Four = 5,
}

/// What came for a field.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Raw<'a> {
    Bits(u64),
    Run(&'a [u8]),
}

/// A field that came.
#[derive(Debug)]
pub(crate) struct Came<'a> {
    pub(crate) number: u64,
    pub(crate) wire: Wire,
    pub(crate) raw: Raw<'a>,
}

/// The next field of a message whose bytes are `rest`, taken from it; `None` at the end.
pub(crate) fn next<'a>(rest: &mut &'a [u8]) -> Result<Option<Came<'a>>, Problem> {
    if rest.is_empty() {
        return Ok(None);
    }
    let tag = varint(rest)?;
    let number = tag >> 3;
    let (wire, raw) = match tag & 7 {
        0 => (Wire::Varint, Raw::Bits(varint(rest)?)),
        1 => (Wire::Eight, Raw::Bits(little_endian(take(rest, 8)?))),
        2 => {
            let length = varint(rest)?;
            (Wire::Length, Raw::Run(take(rest, length)?))
        }
        5 => (Wire::Four, Raw::Bits(little_endian(take(rest, 4)?))),
        other => {
            let text = format!("field {number} has the wire type {other}, which is not read");
            return Err(Problem::new("not-protobuf", text));
        }
    };
    if number == 0 {
        return Err(Problem::new("not-protobuf", "no field has the number 0"));
    }
    Ok(Some(Came { number, wire, raw }))
}

/// The next value of a packed run.
pub(crate) fn next_packed(rest: &mut &[u8], wire: Wire) -> Result<u64, Problem> {
    match wire {
        Wire::Eight => Ok(little_endian(take(rest, 8)?)),
        Wire::Four => Ok(little_endian(take(rest, 4)?)),
        Wire::Varint | Wire::Length => varint(rest),
    }
}

fn varint(rest: &mut &[u8]) -> Result<u64, Problem> {
    let mut bits = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        if shift == 63 && byte > 1 {
            break;
        }
        bits |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(bits);
        }
    }
    Err(Problem::new("not-protobuf", "a number has more than 64 bits"))
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> Result<&'a [u8], Problem> {
    let split = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    let (taken, left) =
        split.ok_or_else(|| Problem::new("truncated", "the payload ends before a field does"))?;
    *rest = left;
    Ok(taken)
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

/// Writes what stands before a value.
pub(crate) fn tag(number: u32, wire: Wire, out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | wire as u64, out);
}

/// Writes a run with its length before it.
pub(crate) fn put_run(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Writes a number, seven bits a byte, the least significant first.
pub(crate) fn put_varint(mut bits: u64, out: &mut Vec<u8>) {
    while bits > 0x7f {
        out.push(bits as u8 | 0x80);
        bits >>= 7;
    }
    out.push(bits as u8);
}
