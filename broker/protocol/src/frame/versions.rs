//! The versions of pipelines that handled what a frame answers.
//!
//! ```text
//! u32 length · versions (a MessagePack array); at most 64
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::head::at_least;
use super::{FrameError, pack};
use crate::{PipelineVersion, VERSIONS_TOLD_MAX};

pub(super) fn write(versions: &[PipelineVersion], out: &mut BytesMut) {
    let start = out.len();
    out.put_u32_le(0);
    pack::write(&&versions[..versions.len().min(VERSIONS_TOLD_MAX)], out);
    let length = u32::try_from(out.len() - start - 4).expect("64 names of 255 bytes are under 4 GiB");
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

pub(super) fn read(frame: &'static str, body: &mut Bytes) -> Result<Vec<PipelineVersion>, FrameError> {
    at_least(frame, body, 4)?;
    let length = body.get_u32_le() as usize;
    at_least(frame, body, length)?;
    let versions: Vec<PipelineVersion> = pack::read(frame, &body.split_to(length))?;
    if versions.len() > VERSIONS_TOLD_MAX {
        let value = versions.len() as u64;
        return Err(FrameError::Field { frame, field: "the number of versions", value });
    }
    Ok(versions)
}
