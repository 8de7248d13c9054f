//! Messages on their way to a consumer, and the credit that lets them come.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::head::{HEAD_BYTES, at_least, framed, framed_with};
use super::kind::Kind;
use super::{Frame, FrameError, pack};
use crate::{Delivery, Message, MessageId, Timestamp};

/// Of a `Deliver` frame: it may have been delivered before.
pub(super) const FLAG_REDELIVERED: u8 = 1;

/// The fixed head of a `Deliver` body.
const DELIVER_BYTES: usize = 48;

/// Appends a `Deliver` frame to `out` without building a [`Frame`].
///
/// # Panics
/// As [`Message::encode`].
pub fn encode_deliver(delivery: &Delivery, out: &mut BytesMut) {
    out.reserve(HEAD_BYTES + DELIVER_BYTES + delivery.message.encoded_bytes());
    let flags = if delivery.redelivered { FLAG_REDELIVERED } else { 0 };
    framed_with(out, Kind::Deliver, flags, |out| {
        out.put_u64_le(delivery.tag);
        out.put_u64_le(delivery.offset);
        out.put_u64_le(delivery.id.index);
        out.put_u64_le(delivery.stored_at.0);
        out.put_u32_le(delivery.attempt);
        out.put_u16_le(delivery.id.entry);
        out.put_u16_le(delivery.partition);
        let length_at = out.len();
        out.put_u64_le(0);
        if let Some(death) = &delivery.death {
            let start = out.len();
            pack::write(death.as_ref(), out);
            let length = u32::try_from(out.len() - start).expect("a death is small");
            out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        }
        delivery.message.encode(out);
    });
}

/// What [`encode_deliver`] has written.
pub(super) fn read(redelivered: bool, mut body: Bytes) -> Result<Frame, FrameError> {
    at_least("Deliver", &body, DELIVER_BYTES)?;
    let mut head = body.split_to(DELIVER_BYTES);
    let (tag, offset) = (head.get_u64_le(), head.get_u64_le());
    let (index, stored_at) = (head.get_u64_le(), Timestamp(head.get_u64_le()));
    let (attempt, entry) = (head.get_u32_le(), head.get_u16_le());
    let partition = head.get_u16_le();
    let death = match head.get_u32_le() as usize {
        0 => None,
        length => {
            at_least("Deliver", &body, length)?;
            Some(Box::new(pack::read("Deliver", &body.split_to(length))?))
        }
    };
    let message = Message::decode(body).map_err(FrameError::Message)?;
    let id = MessageId { index, entry };
    Ok(Frame::Deliver(Delivery {
        tag,
        id,
        offset,
        attempt,
        redelivered,
        stored_at,
        partition,
        death,
        message,
    }))
}

/// Appends a `Credit` frame.
pub(super) fn write_credit(messages: u32, bytes: u64, out: &mut BytesMut) {
    framed(out, Kind::Credit, |out| {
        out.put_u32_le(messages);
        if bytes > 0 {
            out.put_u32_le(0);
            out.put_u64_le(bytes);
        }
    });
}

/// What [`write_credit`] has written.
pub(super) fn read_credit(mut body: Bytes) -> Result<Frame, FrameError> {
    let length = body.len();
    if length != 4 && length != 16 {
        return Err(FrameError::Length { frame: "Credit", length });
    }
    let messages = body.get_u32_le();
    if length == 4 {
        return Ok(Frame::Credit { messages, bytes: 0 });
    }
    let zero = body.get_u32_le();
    if zero != 0 {
        return Err(FrameError::Field {
            frame: "Credit",
            field: "the gap before the bytes",
            value: zero.into(),
        });
    }
    Ok(Frame::Credit { messages, bytes: body.get_u64_le() })
}
