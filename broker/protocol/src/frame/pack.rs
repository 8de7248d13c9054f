//! MessagePack bodies, read with bounds.

use bytes::{BufMut, BytesMut};
use rmp_serde::Deserializer;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::FrameError;

/// How deep maps and arrays may lie in each other. The library's own default of 1,024 overflows a small stack.
const DEPTH_MAX: usize = 16;

/// Appends `body` as a map by field names, so that a later version can add some.
pub(super) fn write(body: &impl Serialize, out: &mut BytesMut) {
    rmp_serde::encode::write_named(&mut out.writer(), body).expect("writing to memory does not fail");
}

/// The value that is all of `bytes`.
pub(super) fn read<T: DeserializeOwned>(frame: &'static str, bytes: &[u8]) -> Result<T, FrameError> {
    let (value, rest) = read_first(frame, bytes)?;
    if rest > 0 {
        return Err(FrameError::Body { frame, what: format!("{rest} bytes follow it") });
    }
    Ok(value)
}

/// The value at the beginning of `bytes`, and how many of them follow it.
pub(super) fn read_first<T: DeserializeOwned>(
    frame: &'static str,
    bytes: &[u8],
) -> Result<(T, usize), FrameError> {
    let mut rest = bytes;
    let mut deserializer = Deserializer::new(&mut rest);
    deserializer.set_max_depth(DEPTH_MAX);
    let value = T::deserialize(&mut deserializer)
        .map_err(|error| FrameError::Body { frame, what: error.to_string() })?;
    Ok((value, rest.len()))
}
