//! Leases that are to begin anew.
//!
//! ```text
//!  0  u64  number, by which the answer names this frame
//!  8  for each range of tags: u64 first · u64 last
//! ```
//!
//! The answer, `Renewed`, is laid out as `Settled` is: the number, then the tags that were stale.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Frame, FrameError};

const RANGE_BYTES: usize = 16;

pub(super) fn write(number: u64, tags: &[(u64, u64)], out: &mut BytesMut) {
    out.reserve(8 + tags.len() * RANGE_BYTES);
    out.put_u64_le(number);
    for (first, last) in tags {
        out.put_u64_le(*first);
        out.put_u64_le(*last);
    }
}

pub(super) fn read(mut body: Bytes) -> Result<Frame, FrameError> {
    const FRAME: &str = "Renew";
    if body.len() % RANGE_BYTES != 8 {
        return Err(FrameError::Length { frame: FRAME, length: body.len() });
    }
    let number = body.get_u64_le();
    let mut tags = Vec::with_capacity(body.len() / RANGE_BYTES);
    while body.has_remaining() {
        let (first, last) = (body.get_u64_le(), body.get_u64_le());
        if last < first {
            return Err(FrameError::Field { frame: FRAME, field: "the last tag of a range", value: last });
        }
        tags.push((first, last));
    }
    Ok(Frame::Renew { number, tags })
}
