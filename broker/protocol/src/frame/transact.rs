//! What is to happen together or not at all: a batch of messages, or a transaction.
//!
//! ```text
//! PublishAll   u64 sequence · messages
//! Transact     u64 sequence · u32 length of the map · {settles} (MessagePack) · messages
//! Transacted   u64 sequence · receipt (MessagePack)
//! messages     each: u32 length · message; at most 4,096
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::head::at_least;
use super::{FrameError, pack};
use crate::{Message, Settlement, TRANSACTION_MESSAGES_MAX, TRANSACTION_RANGES_MAX, TransactionReceipt};

/// Messages and settlements of one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transact {
    /// Its place in the run of the transactor's session: what comes again under it is a duplicate.
    pub sequence: u64,
    /// What is published.
    pub messages: Vec<Message>,
    /// What is settled.
    pub settles: Vec<ConsumerSettlement>,
}

/// What becomes of deliveries of a consumer, or of a group's member, of the same connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerSettlement {
    /// The consumer, by the number that [`Subscribed`](super::Subscribed) or
    /// [`ReaderOpened`](super::ReaderOpened) told.
    pub consumer: u64,
    /// Which deliveries, and what becomes of them.
    pub settlement: Settlement,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transacted {
    /// Which.
    pub sequence: u64,
    /// The answer.
    pub receipt: TransactionReceipt,
}

/// What a `Transact` frame has beside messages.
#[derive(Serialize, Deserialize)]
struct Rest<S> {
    settles: S,
}

/// Appends messages, each after its length.
///
/// # Panics
/// As [`Message::encode`].
pub(super) fn write_messages(messages: &[Message], out: &mut BytesMut) {
    for message in messages {
        let bytes = message.encoded_bytes();
        out.put_u32_le(u32::try_from(bytes).expect("a message is under 4 GiB"));
        message.encode(out);
    }
}

pub(super) fn write(transact: &Transact, out: &mut BytesMut) {
    out.put_u64_le(transact.sequence);
    let length_at = out.len();
    out.put_u32_le(0);
    pack::write(&Rest { settles: &transact.settles }, out);
    let length = u32::try_from(out.len() - length_at - 4).expect("settlements are under 4 GiB");
    out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    write_messages(&transact.messages, out);
}

pub(super) fn read(mut body: Bytes) -> Result<Transact, FrameError> {
    const FRAME: &str = "Transact";
    at_least(FRAME, &body, 12)?;
    let (sequence, length) = (body.get_u64_le(), body.get_u32_le() as usize);
    at_least(FRAME, &body, length)?;
    let Rest::<Vec<ConsumerSettlement>> { settles } = pack::read(FRAME, &body.split_to(length))?;
    let ranges = settles.len();
    if ranges > TRANSACTION_RANGES_MAX {
        let field = "the number of settlements";
        return Err(FrameError::Field { frame: FRAME, field, value: ranges as u64 });
    }
    if let Some(wrong) = settles.iter().find(|each| each.settlement.last < each.settlement.first) {
        let value = wrong.settlement.last;
        return Err(FrameError::Field { frame: FRAME, field: "the last tag of a range", value });
    }
    Ok(Transact { sequence, messages: read_messages(FRAME, body)?, settles })
}

pub(super) fn read_messages(frame: &'static str, mut body: Bytes) -> Result<Vec<Message>, FrameError> {
    let mut messages = Vec::new();
    while body.has_remaining() {
        if messages.len() == TRANSACTION_MESSAGES_MAX {
            let value = messages.len() as u64 + 1;
            return Err(FrameError::Field { frame, field: "the number of messages", value });
        }
        at_least(frame, &body, 4)?;
        let length = body.get_u32_le() as usize;
        at_least(frame, &body, length)?;
        messages.push(Message::decode(body.split_to(length)).map_err(FrameError::Message)?);
    }
    Ok(messages)
}

pub(super) fn write_answer(transacted: &Transacted, out: &mut BytesMut) {
    out.put_u64_le(transacted.sequence);
    pack::write(&transacted.receipt, out);
}

pub(super) fn read_answer(mut body: Bytes) -> Result<Transacted, FrameError> {
    at_least("Transacted", &body, 8)?;
    let sequence = body.get_u64_le();
    Ok(Transacted { sequence, receipt: pack::read("Transacted", &body)? })
}
