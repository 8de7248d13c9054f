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
    let mut rest = bytes;
    let mut deserializer = Deserializer::new(&mut rest);
    deserializer.set_max_depth(DEPTH_MAX);
    let value = T::deserialize(&mut deserializer)
        .map_err(|error| FrameError::Body { frame, what: error.to_string() })?;
    if !rest.is_empty() {
        return Err(FrameError::Body { frame, what: format!("{} bytes follow it", rest.len()) });
    }
    Ok(value)
}
