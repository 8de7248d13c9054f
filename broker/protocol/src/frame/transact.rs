//! What is to happen together or not at all: a batch of messages, or a transaction.
//!
//! ```text
//! PublishAll   u64 sequence · messages
//! Transact     u64 sequence · u32 length of the map · {settles, tell_versions} (MessagePack) · messages
//! Transacted   u64 sequence · receipt (MessagePack) · versions, when asked for and there are any
//! versions     u32 length · a MessagePack array; at most 64
//! messages     each: u32 length · message; at most 4,096
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::head::at_least;
use super::{FrameError, pack, versions};
use crate::{
    Message, PipelineVersion, Settlement, TRANSACTION_MESSAGES_MAX, TRANSACTION_RANGES_MAX,
    TransactionReceipt,
};

/// Messages and settlements of one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transact {
    /// Its place in the run of the transactor's session: what comes again under it is a duplicate.
    pub sequence: u64,
    /// What is published.
    pub messages: Vec<Message>,
    /// What is settled.
    pub settles: Vec<ConsumerSettlement>,
    /// Tell with the answer which versions of which pipelines handled the messages. A broker that does not know of
    /// it tells none.
    pub tell_versions: bool,
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
    /// By which versions of pipelines its messages were handled, each once; told to those alone who ask.
    pub versions: Vec<PipelineVersion>,
}

/// What a `Transact` frame has beside messages.
#[derive(Serialize, Deserialize)]
struct Rest<S> {
    settles: S,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    tell_versions: bool,
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
    pack::write(&Rest { settles: &transact.settles, tell_versions: transact.tell_versions }, out);
    let length = u32::try_from(out.len() - length_at - 4).expect("settlements are under 4 GiB");
    out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    write_messages(&transact.messages, out);
}

pub(super) fn read(mut body: Bytes) -> Result<Transact, FrameError> {
    const FRAME: &str = "Transact";
    at_least(FRAME, &body, 12)?;
    let (sequence, length) = (body.get_u64_le(), body.get_u32_le() as usize);
    at_least(FRAME, &body, length)?;
    let rest: Rest<Vec<ConsumerSettlement>> = pack::read(FRAME, &body.split_to(length))?;
    let Rest { settles, tell_versions } = rest;
    let ranges = settles.len();
    if ranges > TRANSACTION_RANGES_MAX {
        let field = "the number of settlements";
        return Err(FrameError::Field { frame: FRAME, field, value: ranges as u64 });
    }
    if let Some(wrong) = settles.iter().find(|each| each.settlement.last < each.settlement.first) {
        let value = wrong.settlement.last;
        return Err(FrameError::Field { frame: FRAME, field: "the last tag of a range", value });
    }
    Ok(Transact { sequence, messages: read_messages(FRAME, body)?, settles, tell_versions })
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
    if !transacted.versions.is_empty() {
        versions::write(&transacted.versions, out);
    }
}

pub(super) fn read_answer(mut body: Bytes) -> Result<Transacted, FrameError> {
    const FRAME: &str = "Transacted";
    at_least(FRAME, &body, 8)?;
    let sequence = body.get_u64_le();
    let (receipt, rest) = pack::read_first(FRAME, &body)?;
    body.advance(body.len() - rest);
    let versions = if body.is_empty() { Vec::new() } else { versions::read(FRAME, &mut body)? };
    match body.len() {
        0 => Ok(Transacted { sequence, receipt, versions }),
        rest => Err(FrameError::Body { frame: FRAME, what: format!("{rest} bytes follow it") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Committed, Stored};

    fn answer(versions: Vec<PipelineVersion>) -> Transacted {
        let stored = Stored { index: 7, entries: 2 };
        let committed = Committed { stored, duplicates: vec![1], unrouted: vec![] };
        Transacted { sequence: 3, receipt: TransactionReceipt::Committed(committed), versions }
    }

    fn version(number: u32) -> PipelineVersion {
        PipelineVersion { pipeline: "orders".parse().expect("a name"), number }
    }

    #[test]
    fn who_does_not_ask_sends_and_gets_the_bytes_that_older_ends_know() {
        let mut asked = BytesMut::new();
        write(&Transact { sequence: 1, ..Transact::default() }, &mut asked);
        assert_eq!(&asked[8..], b"\x0a\0\0\0\x81\xa7settles\x90");

        let mut told = BytesMut::new();
        write_answer(&answer(Vec::new()), &mut told);
        let receipt: TransactionReceipt =
            pack::read("Transacted", &told[8..]).expect("a receipt and no more");
        assert_eq!(receipt, answer(Vec::new()).receipt);
    }

    #[test]
    fn an_older_transaction_does_not_ask() {
        let older = Bytes::from_static(b"\x01\0\0\0\0\0\0\0\x0a\0\0\0\x81\xa7settles\x90");
        assert_eq!(read(older).expect("of before"), Transact { sequence: 1, ..Transact::default() });
    }

    #[test]
    fn versions_follow_the_receipt_as_a_whole_or_not_at_all() {
        let mut out = BytesMut::new();
        write_answer(&answer(Vec::new()), &mut out);
        let plain = out.len();
        out.clear();
        write_answer(&answer(vec![version(1), version(2)]), &mut out);
        let bytes = out.freeze();
        assert_eq!(read_answer(bytes.clone()).expect("just written").versions, [version(1), version(2)]);
        for cut in (8..bytes.len()).filter(|cut| *cut != plain) {
            assert!(read_answer(bytes.slice(..cut)).is_err(), "cut at {cut}");
        }
        let mut longer = BytesMut::from(&bytes[..]);
        longer.put_u8(0);
        assert!(read_answer(longer.freeze()).is_err(), "a byte too many");
    }
}
