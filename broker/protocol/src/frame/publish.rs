//! Messages on their way to the broker, alone or several as one.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::head::{HEAD_BYTES, at_least, framed};
use super::kind::Kind;
use super::{Frame, FrameError, transact};
use crate::Message;

/// Appends a `Publish` frame to `out` without building a [`Frame`].
///
/// # Panics
/// As [`Message::encode`].
pub fn encode_publish(sequence: u64, message: &Message, out: &mut BytesMut) {
    out.reserve(HEAD_BYTES + 8 + message.encoded_bytes());
    framed(out, Kind::Publish, |out| {
        out.put_u64_le(sequence);
        message.encode(out);
    });
}

/// Appends a `PublishAll` frame to `out` without building a [`Frame`].
///
/// # Panics
/// As [`Message::encode`].
pub fn encode_publish_all(sequence: u64, messages: &[Message], out: &mut BytesMut) {
    framed(out, Kind::PublishAll, |out| {
        out.put_u64_le(sequence);
        transact::write_messages(messages, out);
    });
}

/// What [`encode_publish_all`] has written.
pub(super) fn read_all(mut body: Bytes) -> Result<Frame, FrameError> {
    at_least("PublishAll", &body, 8)?;
    let sequence = body.get_u64_le();
    Ok(Frame::PublishAll { sequence, messages: transact::read_messages("PublishAll", body)? })
}

/// What [`encode_publish`] has written.
pub(super) fn read(mut body: Bytes) -> Result<Frame, FrameError> {
    at_least("Publish", &body, 8)?;
    let sequence = body.get_u64_le();
    let message = Message::decode(body).map_err(FrameError::Message)?;
    Ok(Frame::Publish { sequence, message })
}
