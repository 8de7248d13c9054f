//! Bytes in, frames out.

use bytes::{Buf, BytesMut};

use super::head::HEAD_BYTES;
use super::kind::Kind;
use super::{FRAME_BYTES_MAX, Frame, FrameError};

/// How much room a reader is given at a time.
const READ_BYTES: usize = 64 * 1024;

/// Cuts a stream of bytes into frames.
///
/// Read into [`buffer`](Self::buffer), then take frames until there are none. Payloads are slices of the buffer
/// that was read into, not copies; memory follows the bytes that came, never a length that was announced.
///
/// ```
/// use wharf_protocol::frame::{Decoder, FRAME_BYTES_DEFAULT, Frame};
///
/// let mut decoder = Decoder::new(FRAME_BYTES_DEFAULT);
/// Frame::Ping(7).encode(decoder.buffer());
/// assert_eq!(decoder.next_frame()?, Some(Frame::Ping(7)));
/// assert_eq!(decoder.next_frame()?, None);
/// # Ok::<(), wharf_protocol::frame::FrameError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    frame_bytes_max: usize,
}

impl Decoder {
    /// A decoder that takes bodies of up to `frame_bytes_max` bytes, itself at most [`FRAME_BYTES_MAX`].
    pub fn new(frame_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), frame_bytes_max: frame_bytes_max.min(FRAME_BYTES_MAX) }
    }

    /// From here on, takes bodies of up to `frame_bytes_max` bytes.
    pub fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max.min(FRAME_BYTES_MAX);
    }

    /// Where the next bytes of the stream are appended; it has room for some.
    pub fn buffer(&mut self) -> &mut BytesMut {
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 4 {
            // A frame larger than the room doubles it as it arrives.
            self.buffer.reserve(READ_BYTES.max(self.buffer.len()));
        }
        &mut self.buffer
    }

    /// The next whole frame, if its last byte has come.
    ///
    /// # Errors
    /// What keeps the bytes from being a frame. The decoder is of no use after that.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((mut head, _)) = self.buffer.split_first_chunk::<HEAD_BYTES>().map(|(h, r)| (&h[..], r))
        else {
            return Ok(None);
        };
        let length = head.get_u32_le() as usize;
        let (kind, flags, reserved) = (head.get_u8(), head.get_u8(), head.get_u16_le());
        if length > self.frame_bytes_max {
            return Err(FrameError::TooLong { kind, length, max: self.frame_bytes_max });
        }
        if reserved != 0 {
            return Err(FrameError::Reserved(reserved));
        }
        let kind = Kind::from_byte(kind).ok_or(FrameError::Kind(kind))?;
        if self.buffer.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        let body = self.buffer.split_to(length).freeze();
        Frame::decode(kind, flags, body).map(Some)
    }

    /// Whether part of a frame has come and the rest has not.
    pub fn is_within_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The stream has ended: well, if nothing is left over.
    ///
    /// # Errors
    /// [`FrameError::Truncated`].
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.buffer.is_empty() { Ok(()) } else { Err(FrameError::Truncated(self.buffer.len())) }
    }
}
