//! A transaction as the bytes of the log.
//!
//! ```text
//! 16  u8   1: a session follows
//!     [u128 producer · u32 epoch · u64 sequence]
//!     u32  length of what follows, in MessagePack
//!          [settles, cursors]
//!     u16  how many publishes
//!     for each publish:
//!        u16  flags, as in the head of a publish: only of a deduplication key and a part of kv
//!        u16  how many entries
//!             what follows the head of a publish
//! ```

use bytes::{Buf, BufMut, BytesMut};
use wharf_protocol::{ProducerId, Session};

use super::{
    DecodeRecordError, FLAG_DEDUP, FLAG_KV, Reader, decode_fields, decode_publish, encode_published,
};
use crate::Transaction;

pub(super) fn write(transaction: &Transaction, out: &mut BytesMut) {
    let Transaction { session, publishes, settles, cursors } = transaction;
    out.put_u8(u8::from(session.is_some()));
    if let Some(session) = session {
        out.put_u128_le(session.producer.0);
        out.put_u32_le(session.epoch);
        out.put_u64_le(session.sequence);
    }
    let length_at = out.len();
    out.put_u32_le(0);
    rmp_serde::encode::write(&mut out.writer(), &(settles, cursors)).expect("memory takes every write");
    let length = u32::try_from(out.len() - length_at - 4).expect("settlements are under 4 GiB");
    out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    out.put_u16_le(u16::try_from(publishes.len()).expect("a transaction has at most 65,535 publishes"));
    for publish in publishes {
        debug_assert!(publish.session.is_none(), "the session is the transaction's");
        let kv = if publish.kv.is_some() { FLAG_KV } else { 0 };
        out.put_u16_le(if publish.dedup.is_some() { FLAG_DEDUP } else { 0 } | kv);
        out.put_u16_le(u16::try_from(publish.entries.len()).expect("at most 65,535 entries"));
        encode_published(publish, out);
    }
}

pub(super) fn read(reader: &mut Reader) -> Result<Transaction, DecodeRecordError> {
    let session = match reader.take(1)?.get_u8() {
        0 => None,
        1 => {
            let producer = ProducerId(reader.take(16)?.get_u128_le());
            let epoch = reader.u32()?;
            Some(Session { producer, epoch, sequence: reader.u64()? })
        }
        _ => return Err(DecodeRecordError::Head),
    };
    let length = reader.u32()? as usize;
    let (settles, cursors) = decode_fields(&reader.take(length)?)?;
    let count = usize::from(reader.u16()?);
    let (mut publishes, mut entries) = (Vec::with_capacity(count.min(reader.bytes.len() / 12)), 0u16);
    for _ in 0..count {
        let (flags, more) = (reader.u16()?, reader.u16()?);
        // The record's messages are numbered in 16 bits.
        entries = entries.checked_add(more).ok_or(DecodeRecordError::Head)?;
        if flags & !(FLAG_DEDUP | FLAG_KV) != 0 {
            return Err(DecodeRecordError::Head);
        }
        publishes.push(decode_publish(flags, more, reader)?);
    }
    Ok(Transaction { session, publishes, settles, cursors })
}
