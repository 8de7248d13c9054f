//! The end of a dead letter as bytes.
//!
//! ```text
//! 16  u32  length of what follows
//!     queue · offset · id, in MessagePack
//!     [when something became of it:
//!        u16  flags, as in the head of a publish: only of a part of kv
//!        u16  how many entries
//!             what follows the head of a publish]
//! ```

use bytes::{Buf as _, BufMut, BytesMut};
use wharf_protocol::{MessageId, Name, Timestamp};

use super::{
    DecodeRecordError, FLAG_KV, RESOLVE, Reader, decode_fields, decode_publish, encode_published, put_head,
};
use crate::Resolve;

pub(super) fn write(at: Timestamp, resolve: &Resolve, out: &mut BytesMut) {
    let Resolve { queue, offset, id, becomes } = resolve;
    put_head(RESOLVE, 0, 0, at, out);
    let fields = rmp_serde::to_vec(&(queue, offset, id)).expect("memory takes every write");
    out.put_u32_le(u32::try_from(fields.len()).expect("a name and three numbers are short"));
    out.put_slice(&fields);
    if let Some(publish) = becomes {
        debug_assert!(publish.session.is_none() && publish.dedup.is_none(), "it belongs to nobody's run");
        out.put_u16_le(if publish.kv.is_some() { FLAG_KV } else { 0 });
        out.put_u16_le(u16::try_from(publish.entries.len()).expect("at most 65,535 entries"));
        encode_published(publish, out);
    }
}

pub(super) fn read(reader: &mut Reader) -> Result<Resolve, DecodeRecordError> {
    let length = reader.u32()? as usize;
    let (queue, offset, id): (Name, u64, MessageId) = decode_fields(&reader.take(length)?)?;
    let becomes = match reader.bytes.has_remaining() {
        false => None,
        true => {
            let (flags, entries) = (reader.u16()?, reader.u16()?);
            if flags & !FLAG_KV != 0 {
                return Err(DecodeRecordError::Head);
            }
            Some(decode_publish(flags, entries, reader)?)
        }
    };
    Ok(Resolve { queue, offset, id, becomes })
}
