//! The head of a frame, and what its decoders share.

use bytes::{BufMut, Bytes, BytesMut};

use super::FrameError;
use super::kind::Kind;

/// The bytes of a frame before its body.
pub const HEAD_BYTES: usize = 8;

/// Appends a frame without flags.
pub(super) fn framed(out: &mut BytesMut, kind: Kind, body: impl FnOnce(&mut BytesMut)) {
    framed_with(out, kind, 0, body);
}

/// Writes the head with a length of 0, then the body, then the length.
pub(super) fn framed_with(out: &mut BytesMut, kind: Kind, flags: u8, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_slice(&[0, 0, 0, 0, kind as u8, flags, 0, 0]);
    body(out);
    let length = u32::try_from(out.len() - start - HEAD_BYTES).expect("a body is under 4 GiB");
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// `body`, if it has exactly `bytes` bytes.
pub(super) fn fixed(frame: &'static str, body: Bytes, bytes: usize) -> Result<Bytes, FrameError> {
    if body.len() == bytes { Ok(body) } else { Err(FrameError::Length { frame, length: body.len() }) }
}

/// Refuses a `body` of fewer than `bytes` bytes.
pub(super) fn at_least(frame: &'static str, body: &Bytes, bytes: usize) -> Result<(), FrameError> {
    if body.len() >= bytes { Ok(()) } else { Err(FrameError::Length { frame, length: body.len() }) }
}
