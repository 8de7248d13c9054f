//! The edit of a dead letter as bytes.
//!
//! ```text
//! 16  u32  length of what follows
//!     queue · offset · id, in MessagePack
//!     the message, to the end of the record
//! ```

use bytes::{BufMut, BytesMut};
use wharf_protocol::{Message, MessageId, Name, Timestamp};

use super::{DecodeRecordError, EDIT, Reader, decode_fields, put_head};
use crate::Edit;

pub(super) fn write(at: Timestamp, edit: &Edit, out: &mut BytesMut) {
    put_head(EDIT, 0, 0, at, out);
    let fields = rmp_serde::to_vec(&(&edit.queue, edit.offset, edit.id)).expect("memory takes every write");
    out.put_u32_le(u32::try_from(fields.len()).expect("a name and three numbers are short"));
    out.put_slice(&fields);
    edit.message.encode(out);
}

pub(super) fn read(reader: &mut Reader) -> Result<Edit, DecodeRecordError> {
    let length = reader.u32()? as usize;
    let (queue, offset, id): (Name, u64, MessageId) = decode_fields(&reader.take(length)?)?;
    let rest = reader.bytes.len();
    let message = Message::decode(reader.take(rest)?)
        .map_err(|source| DecodeRecordError::Message { entry: 0, source })?;
    Ok(Edit { queue, offset, id, message })
}
