//! Records as the bytes of the log.
//!
//! ```text
//!  0  u8   version, 1
//!  1  u8   kind
//!  2  u16  flags: 1 a session follows, 2 a deduplication key follows, 4 it needs a consumer, 8 a part of kv
//!          follows; 0 unless a publish
//!  4  u16  how many entries; 0 unless a publish
//!  6  u16  zero
//!  8  u64  when, in milliseconds since 1970
//!
//! a publish (kind 0)                              any other: its fields in MessagePack
//! 16  u64  the topology's revision
//!     [u128 producer · u32 epoch · u64 sequence]
//!     [u128 deduplication key]
//!     [u32 length of the part of kv · the part in MessagePack]
//!     for each entry:
//!        u32  length of the message
//!        u16  how many destinations
//!        for each: u32 queue · u32 length of its death, 0: none · the death in MessagePack
//!        the message
//! ```
//!
//! An edit (kind 40) is drawn in `codec/edit.rs`, the end of a dead letter (kind 41) in `codec/resolve.rs`, a transaction
//! (kind 24) in `codec/transaction.rs`; a claim of a producer (kind 25) is its id, u128; what a pipeline gave up on the way to a consumer is kind 36.
//!
//! Integers are little-endian. A publish is what the broker does all day: it is laid out by hand, and read
//! back as slices of the record.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wharf_protocol::{DecodeMessageError, Message, ProducerId, Session, Timestamp};

use crate::{ConsumerId, Destination, Entry, Publish, QueueId, Record, Stamped};

mod edit;
mod resolve;
mod transaction;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 16;
const FLAG_SESSION: u16 = 1;
const FLAG_DEDUP: u16 = 2;
const FLAG_NEEDS_CONSUMER: u16 = 4;
const FLAG_KV: u16 = 8;
const FLAGS: u16 = FLAG_SESSION | FLAG_DEDUP | FLAG_NEEDS_CONSUMER | FLAG_KV;
/// Deeper MessagePack is refused: without a bound, 700 bytes overflow a stack.
const DEPTH_MAX: usize = 32;

const PUBLISH: u8 = 0;
const SETTLE: u8 = 1;
const ATTACH: u8 = 2;
const CREDIT: u8 = 3;
const DETACH: u8 = 4;
const TICK: u8 = 5;
const RESTART: u8 = 6;
const TOPOLOGY: u8 = 7;
const REDRIVE: u8 = 8;
const RENEW: u8 = 9;
const MOVE: u8 = 10;
const TRANSACTION: u8 = 24;
const CLAIM_PRODUCER: u8 = 25;
const REFUSE: u8 = 36;
const JOIN_GROUP: u8 = 16;
const LEAVE_GROUP: u8 = 17;
const COMMIT: u8 = 18;
const RESET_GROUP: u8 = 19;
const DELETE_GROUP: u8 = 20;
const CHANGE_KV: u8 = 32;
const EDIT: u8 = 40;
const RESOLVE: u8 = 41;

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub enum DecodeRecordError {
    /// The lengths in the record do not fit the bytes that came.
    #[error("a record of {0} bytes is shorter than its own lengths say")]
    Truncated(usize),
    /// There is more than one record.
    #[error("{0} bytes follow the record's end")]
    Trailing(usize),
    /// A version of the encoding that this broker does not know.
    #[error("record encoding {0} is not known here, only {VERSION}; a newer broker wrote it")]
    Version(u8),
    /// A kind that this broker does not know.
    #[error("record kind {0} is not known here")]
    Kind(u8),
    /// Flags or reserved bytes that this broker does not know.
    #[error("the head of the record has bits set that are not known here")]
    Head,
    /// A message in it is not one.
    #[error("entry {entry}")]
    Message {
        /// Which, from 0.
        entry: u16,
        /// What is wrong with it.
        source: DecodeMessageError,
    },
    /// A part in MessagePack is not what it should be.
    #[error("a field")]
    Field(#[from] rmp_serde::decode::Error),
}

impl Stamped {
    /// Appends the encoding to `out`.
    ///
    /// # Panics
    /// If there are more than 65,535 entries, or destinations of one entry, or a message or a death of 4 GiB.
    pub fn encode(&self, out: &mut BytesMut) {
        let at = self.at;
        match &self.record {
            Record::Publish(publish) => encode_publish(at, publish, out),
            Record::Settle { consumer, settlements } => {
                encode_fields(SETTLE, at, &(consumer, settlements), out);
            }
            Record::Attach(attach) => encode_fields(ATTACH, at, attach, out),
            Record::Credit { consumer, add, bytes } => {
                encode_fields(CREDIT, at, &(consumer, add, bytes), out);
            }
            Record::Detach { consumer } => encode_fields(DETACH, at, consumer, out),
            Record::Tick => encode_fields(TICK, at, &(), out),
            Record::Restart => encode_fields(RESTART, at, &(), out),
            Record::Topology(change) => encode_fields(TOPOLOGY, at, change, out),
            Record::Redrive(redrive) => encode_fields(REDRIVE, at, redrive, out),
            Record::Renew { consumer, tags } => encode_fields(RENEW, at, &(consumer, tags), out),
            Record::Move(moved) => encode_fields(MOVE, at, moved, out),
            Record::Transaction(transaction) => {
                put_head(TRANSACTION, 0, 0, at, out);
                transaction::write(transaction, out);
            }
            Record::ClaimProducer(producer) => {
                put_head(CLAIM_PRODUCER, 0, 0, at, out);
                out.put_u128_le(producer.0);
            }
            Record::ChangeKv(changes) => encode_fields(CHANGE_KV, at, changes, out),
            Record::Refuse { consumer, refused } => encode_fields(REFUSE, at, &(consumer, refused), out),
            Record::Edit(edit) => edit::write(at, edit, out),
            Record::Resolve(resolve) => resolve::write(at, resolve, out),
            Record::JoinGroup(join) => encode_fields(JOIN_GROUP, at, join, out),
            Record::LeaveGroup { member } => encode_fields(LEAVE_GROUP, at, member, out),
            Record::Commit(commit) => encode_fields(COMMIT, at, commit, out),
            Record::ResetGroup(reset) => encode_fields(RESET_GROUP, at, reset, out),
            Record::DeleteGroup { stream, group } => encode_fields(DELETE_GROUP, at, &(stream, group), out),
        }
    }

    /// The record that is all of `bytes`; messages share them.
    ///
    /// # Errors
    /// What keeps the bytes from being a record.
    pub fn decode(mut bytes: Bytes) -> Result<Self, DecodeRecordError> {
        let total = bytes.len();
        if total < HEAD_BYTES {
            return Err(DecodeRecordError::Truncated(total));
        }
        let version = bytes.get_u8();
        if version != VERSION {
            return Err(DecodeRecordError::Version(version));
        }
        let kind = bytes.get_u8();
        let (flags, entries, zero) = (bytes.get_u16_le(), bytes.get_u16_le(), bytes.get_u16_le());
        let at = Timestamp(bytes.get_u64_le());
        let publish = kind == PUBLISH;
        if zero != 0 || flags & !FLAGS != 0 || (!publish && (flags, entries) != (0, 0)) {
            return Err(DecodeRecordError::Head);
        }
        let record = match kind {
            PUBLISH => {
                let mut reader = Reader { bytes, total };
                let publish = decode_publish(flags, entries, &mut reader)?;
                reader.end()?;
                Record::Publish(publish)
            }
            SETTLE => {
                let (consumer, settlements) = decode_fields(&bytes)?;
                Record::Settle { consumer, settlements }
            }
            ATTACH => Record::Attach(decode_fields(&bytes)?),
            CREDIT => {
                let Credit { consumer, add, bytes } = decode_fields(&bytes)?;
                Record::Credit { consumer, add, bytes }
            }
            DETACH => Record::Detach { consumer: decode_fields(&bytes)? },
            TICK => {
                decode_fields::<()>(&bytes)?;
                Record::Tick
            }
            RESTART => {
                decode_fields::<()>(&bytes)?;
                Record::Restart
            }
            TOPOLOGY => Record::Topology(decode_fields(&bytes)?),
            REDRIVE => Record::Redrive(decode_fields(&bytes)?),
            RENEW => {
                let (consumer, tags) = decode_fields(&bytes)?;
                Record::Renew { consumer, tags }
            }
            MOVE => Record::Move(decode_fields(&bytes)?),
            TRANSACTION => {
                let mut reader = Reader { bytes, total };
                let transaction = transaction::read(&mut reader)?;
                reader.end()?;
                Record::Transaction(Box::new(transaction))
            }
            CLAIM_PRODUCER => {
                let mut reader = Reader { bytes, total };
                let producer = ProducerId(reader.take(16)?.get_u128_le());
                reader.end()?;
                Record::ClaimProducer(producer)
            }
            CHANGE_KV => Record::ChangeKv(decode_fields(&bytes)?),
            JOIN_GROUP => Record::JoinGroup(decode_fields(&bytes)?),
            LEAVE_GROUP => Record::LeaveGroup { member: decode_fields(&bytes)? },
            COMMIT => Record::Commit(decode_fields(&bytes)?),
            RESET_GROUP => Record::ResetGroup(decode_fields(&bytes)?),
            DELETE_GROUP => {
                let (stream, group) = decode_fields(&bytes)?;
                Record::DeleteGroup { stream, group }
            }
            REFUSE => {
                let (consumer, refused) = decode_fields(&bytes)?;
                Record::Refuse { consumer, refused }
            }
            EDIT => Record::Edit(Box::new(edit::read(&mut Reader { bytes, total })?)),
            RESOLVE => {
                let mut reader = Reader { bytes, total };
                let resolve = resolve::read(&mut reader)?;
                reader.end()?;
                Record::Resolve(Box::new(resolve))
            }
            kind => return Err(DecodeRecordError::Kind(kind)),
        };
        Ok(Self { at, record })
    }
}

/// The fields of [`Record::Credit`]; the first records had no bytes in them.
#[derive(Deserialize)]
struct Credit {
    consumer: ConsumerId,
    add: u32,
    #[serde(default)]
    bytes: u64,
}

fn put_head(kind: u8, flags: u16, entries: u16, at: Timestamp, out: &mut BytesMut) {
    out.put_u8(VERSION);
    out.put_u8(kind);
    out.put_u16_le(flags);
    out.put_u16_le(entries);
    out.put_u16_le(0);
    out.put_u64_le(at.0);
}

fn encode_fields(kind: u8, at: Timestamp, fields: &impl Serialize, out: &mut BytesMut) {
    put_head(kind, 0, 0, at, out);
    rmp_serde::encode::write(&mut out.writer(), fields).expect("memory takes every write");
}

fn decode_fields<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeRecordError> {
    let mut rest = bytes;
    let mut decoder = rmp_serde::Deserializer::new(&mut rest);
    decoder.set_max_depth(DEPTH_MAX);
    let fields = T::deserialize(&mut decoder)?;
    match rest.len() {
        0 => Ok(fields),
        trailing => Err(DecodeRecordError::Trailing(trailing)),
    }
}

fn encode_publish(at: Timestamp, publish: &Publish, out: &mut BytesMut) {
    let entries = u16::try_from(publish.entries.len()).expect("a publish has at most 65,535 entries");
    let session = if publish.session.is_some() { FLAG_SESSION } else { 0 };
    let dedup = if publish.dedup.is_some() { FLAG_DEDUP } else { 0 };
    let consumer = if publish.needs_consumer { FLAG_NEEDS_CONSUMER } else { 0 };
    let kv = if publish.kv.is_some() { FLAG_KV } else { 0 };
    put_head(PUBLISH, session | dedup | consumer | kv, entries, at, out);
    encode_published(publish, out);
}

/// What follows the head of a publish.
fn encode_published(publish: &Publish, out: &mut BytesMut) {
    out.put_u64_le(publish.topology);
    if let Some(session) = &publish.session {
        out.put_u128_le(session.producer.0);
        out.put_u32_le(session.epoch);
        out.put_u64_le(session.sequence);
    }
    if let Some(key) = publish.dedup {
        out.put_u128_le(key);
    }
    if let Some(kv) = &publish.kv {
        let kv = rmp_serde::to_vec(kv).expect("memory takes every write");
        out.put_u32_le(u32::try_from(kv.len()).expect("a part of kv is under 4 GiB"));
        out.put_slice(&kv);
    }
    for entry in &publish.entries {
        out.put_u32_le(u32::try_from(entry.message.encoded_bytes()).expect("a message is under 4 GiB"));
        out.put_u16_le(u16::try_from(entry.destinations.len()).expect("at most 65,535 destinations"));
        for destination in &entry.destinations {
            out.put_u32_le(destination.queue.0);
            let death = destination
                .death
                .as_ref()
                .map(|death| rmp_serde::to_vec(death).expect("memory takes every write"));
            let death = death.unwrap_or_default();
            out.put_u32_le(u32::try_from(death.len()).expect("a death is under 4 GiB"));
            out.put_slice(&death);
        }
        entry.message.encode(out);
    }
}

fn decode_publish(flags: u16, entries: u16, reader: &mut Reader) -> Result<Publish, DecodeRecordError> {
    let topology = reader.u64()?;
    let needs_consumer = flags & FLAG_NEEDS_CONSUMER != 0;
    let mut publish = Publish { topology, needs_consumer, ..Publish::default() };
    if flags & FLAG_SESSION != 0 {
        let producer = ProducerId(reader.take(16)?.get_u128_le());
        let epoch = reader.u32()?;
        publish.session = Some(Session { producer, epoch, sequence: reader.u64()? });
    }
    if flags & FLAG_DEDUP != 0 {
        publish.dedup = Some(reader.take(16)?.get_u128_le());
    }
    if flags & FLAG_KV != 0 {
        let length = reader.u32()? as usize;
        publish.kv = Some(Box::new(decode_fields(&reader.take(length)?)?));
    }
    // No entry takes less than its two lengths: a lie about their number reserves nothing.
    publish.entries.reserve_exact(usize::from(entries).min(reader.bytes.len() / 6));
    for entry in 0..entries {
        let message_bytes = reader.u32()? as usize;
        let count = usize::from(reader.take(2)?.get_u16_le());
        let mut destinations = Vec::with_capacity(count.min(reader.bytes.len() / 8));
        for _ in 0..count {
            let queue = QueueId(reader.u32()?);
            let death = match reader.u32()? as usize {
                0 => None,
                length => Some(Box::new(decode_fields(&reader.take(length)?)?)),
            };
            destinations.push(Destination { queue, death });
        }
        let message = Message::decode(reader.take(message_bytes)?)
            .map_err(|source| DecodeRecordError::Message { entry, source })?;
        publish.entries.push(Entry { message, destinations });
    }
    Ok(publish)
}

/// What is left of a record of `total` bytes.
struct Reader {
    bytes: Bytes,
    total: usize,
}

impl Reader {
    fn take(&mut self, length: usize) -> Result<Bytes, DecodeRecordError> {
        if length > self.bytes.len() {
            return Err(DecodeRecordError::Truncated(self.total));
        }
        Ok(self.bytes.split_to(length))
    }

    fn u16(&mut self) -> Result<u16, DecodeRecordError> {
        self.bytes.try_get_u16_le().map_err(|_| DecodeRecordError::Truncated(self.total))
    }

    fn u32(&mut self) -> Result<u32, DecodeRecordError> {
        self.bytes.try_get_u32_le().map_err(|_| DecodeRecordError::Truncated(self.total))
    }

    fn u64(&mut self) -> Result<u64, DecodeRecordError> {
        self.bytes.try_get_u64_le().map_err(|_| DecodeRecordError::Truncated(self.total))
    }

    /// Nothing may be left.
    fn end(&self) -> Result<(), DecodeRecordError> {
        match self.bytes.remaining() {
            0 => Ok(()),
            trailing => Err(DecodeRecordError::Trailing(trailing)),
        }
    }
}
