//! A message, and its one encoding: on the wire, in the log, on the wire again.
//!
//! ```text
//!  0  u8   version, 1
//!  1  u8   priority, 0 to 31
//!  2  u16  topic length
//!  4  u16  key length, 0xffff: no key
//!  6  u16  message id length, 0: none
//!  8  u16  reply-to length, 0: none
//! 10  u16  zero
//! 12  u32  headers length
//! 16  u64  time to live in milliseconds, 0: for ever
//! 24  u64  delay in milliseconds, 0: none
//! 32  topic · key · message id · reply-to · headers (a MessagePack map) · payload (the rest)
//! ```
//!
//! Integers are little-endian. A fixed head costs 16 ns to read where a serialised one costs 250 to 400; what
//! follows is sliced, not copied.

use std::fmt;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use crate::{Headers, HeadersError, Topic, TopicError};

/// A header of requests: when it is there, whatever its value, the message is refused with
/// [`ErrorCode::NoListener`](crate::ErrorCode::NoListener) unless somebody is there to answer it.
pub const REQUIRE_LISTENER: &str = "wharf-require-listener";

/// The highest priority; 0 is the lowest and the default.
pub const PRIORITY_MAX: u8 = 31;

/// The longest key and the longest message id, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 32;
const NO_KEY: u16 = u16::MAX;

/// What a publisher sends and a consumer gets. Cheap to clone: its parts are slices of shared buffers.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it is published.
    pub topic: Topic,
    /// Names and values beside the payload.
    pub headers: Headers,
    /// Opaque to the broker; plugins give it meaning.
    pub payload: Bytes,
    /// Messages with the same key keep their order; at most [`KEY_BYTES_MAX`] bytes.
    pub key: Option<Bytes>,
    /// The publisher's own id: a second message with it, within the deduplication window, is a duplicate.
    pub message_id: Option<ByteString>,
    /// Where an answer is to be published.
    pub reply_to: Option<Topic>,
    /// 0 to [`PRIORITY_MAX`]; a higher one is delivered first.
    pub priority: u8,
    /// How long after it was stored it may still be delivered.
    pub ttl: Option<Duration>,
    /// How long after it was stored it is delivered at the earliest.
    pub delay: Option<Duration>,
}

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeMessageError {
    /// The lengths in the head do not fit the bytes that came.
    #[error("a message of {0} bytes is shorter than its own lengths say")]
    Truncated(usize),
    /// A version of the encoding that this end does not know.
    #[error("message encoding {0} is not known here, only {VERSION}")]
    Version(u8),
    /// Over [`PRIORITY_MAX`].
    #[error("priority {0} is over {PRIORITY_MAX}")]
    Priority(u8),
    /// The key or message id is over [`KEY_BYTES_MAX`].
    #[error("a key or message id takes at most {KEY_BYTES_MAX} bytes, this one takes {0}")]
    KeyTooLong(usize),
    /// The message id is not UTF-8.
    #[error("the message id is not UTF-8")]
    MessageId,
    /// The topic is not one.
    #[error("topic")]
    Topic(#[source] TopicError),
    /// The reply-to is not a topic.
    #[error("reply-to")]
    ReplyTo(#[source] TopicError),
    /// The headers are not well-formed.
    #[error("headers")]
    Headers(#[source] HeadersError),
}

impl Message {
    /// A message with neither headers nor key, for ever, at once.
    pub fn new(topic: Topic, payload: impl Into<Bytes>) -> Self {
        Self {
            topic,
            headers: Headers::EMPTY,
            payload: payload.into(),
            key: None,
            message_id: None,
            reply_to: None,
            priority: 0,
            ttl: None,
            delay: None,
        }
    }

    /// How many bytes [`encode`](Self::encode) writes.
    pub fn encoded_bytes(&self) -> usize {
        HEAD_BYTES
            + self.topic.as_str().len()
            + self.key.as_ref().map_or(0, Bytes::len)
            + self.message_id.as_ref().map_or(0, |id| id.len())
            + self.reply_to.as_ref().map_or(0, |topic| topic.as_str().len())
            + self.headers.as_bytes().len()
            + self.payload.len()
    }

    /// Appends the encoding to `out`.
    ///
    /// # Panics
    /// If the key or the message id is longer than [`KEY_BYTES_MAX`].
    pub fn encode(&self, out: &mut BytesMut) {
        let reply_to = self.reply_to.as_ref().map_or("", Topic::as_str);
        let message_id: &str = self.message_id.as_deref().unwrap_or("");
        let key = self.key.as_deref();
        assert!(key.is_none_or(|key| key.len() <= KEY_BYTES_MAX), "a key fits its bound");
        assert!(message_id.len() <= KEY_BYTES_MAX, "a message id fits its bound");
        out.reserve(self.encoded_bytes());
        out.put_u8(VERSION);
        out.put_u8(self.priority);
        out.put_u16_le(length16(self.topic.as_str().len()));
        out.put_u16_le(key.map_or(NO_KEY, |key| length16(key.len())));
        out.put_u16_le(length16(message_id.len()));
        out.put_u16_le(length16(reply_to.len()));
        out.put_u16_le(0);
        out.put_u32_le(u32::try_from(self.headers.as_bytes().len()).expect("headers fit their bound"));
        out.put_u64_le(milliseconds(self.ttl));
        out.put_u64_le(milliseconds(self.delay));
        out.put_slice(self.topic.as_str().as_bytes());
        out.put_slice(key.unwrap_or_default());
        out.put_slice(message_id.as_bytes());
        out.put_slice(reply_to.as_bytes());
        out.put_slice(self.headers.as_bytes());
        out.put_slice(&self.payload);
    }

    /// The message that is all of `bytes`; its parts share them.
    ///
    /// # Errors
    /// What keeps the bytes from being a message.
    pub fn decode(mut bytes: Bytes) -> Result<Self, DecodeMessageError> {
        let total = bytes.len();
        if total < HEAD_BYTES {
            return Err(DecodeMessageError::Truncated(total));
        }
        let mut head = bytes.split_to(HEAD_BYTES);
        let version = head.get_u8();
        if version != VERSION {
            return Err(DecodeMessageError::Version(version));
        }
        let priority = head.get_u8();
        if priority > PRIORITY_MAX {
            return Err(DecodeMessageError::Priority(priority));
        }
        let topic_bytes = usize::from(head.get_u16_le());
        let key_bytes = head.get_u16_le();
        let id_bytes = usize::from(head.get_u16_le());
        let reply_to_bytes = usize::from(head.get_u16_le());
        head.advance(2);
        let headers_bytes = head.get_u32_le() as usize;
        let (ttl, delay) = (duration(head.get_u64_le()), duration(head.get_u64_le()));
        let mut take = |length: usize| {
            if length > bytes.len() {
                return Err(DecodeMessageError::Truncated(total));
            }
            Ok(bytes.split_to(length))
        };
        let topic = Topic::from_bytes(take(topic_bytes)?).map_err(DecodeMessageError::Topic)?;
        let key = match key_bytes {
            NO_KEY => None,
            length => Some(short(take(usize::from(length))?)?),
        };
        let message_id = match short(take(id_bytes)?)? {
            id if id.is_empty() => None,
            id => Some(ByteString::try_from(id).map_err(|_| DecodeMessageError::MessageId)?),
        };
        let reply_to = match take(reply_to_bytes)? {
            none if none.is_empty() => None,
            text => Some(Topic::from_bytes(text).map_err(DecodeMessageError::ReplyTo)?),
        };
        let headers = Headers::from_bytes(take(headers_bytes)?).map_err(DecodeMessageError::Headers)?;
        Ok(Self { topic, headers, payload: bytes, key, message_id, reply_to, priority, ttl, delay })
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic)
            .field("headers", &self.headers)
            .field("key", &self.key)
            .field("message_id", &self.message_id)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

fn short(bytes: Bytes) -> Result<Bytes, DecodeMessageError> {
    if bytes.len() > KEY_BYTES_MAX {
        return Err(DecodeMessageError::KeyTooLong(bytes.len()));
    }
    Ok(bytes)
}

fn length16(length: usize) -> u16 {
    u16::try_from(length).expect("topics, keys and ids fit their bounds")
}

/// Whole milliseconds, at least one: a zero would mean "none".
fn milliseconds(duration: Option<Duration>) -> u64 {
    duration.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX).max(1))
}

fn duration(milliseconds: u64) -> Option<Duration> {
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::HeadersBuilder;

    fn encoded(message: &Message) -> Bytes {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        assert_eq!(out.len(), message.encoded_bytes());
        out.freeze()
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let topic = || "[a-zé]{1,8}(\\.[a-z0-9]{0,8}){0,4}";
        (
            (topic(), proptest::option::of(topic()), proptest::option::of("[!-~]{1,40}")),
            proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
            proptest::collection::btree_map("[a-z-]{1,20}", ".{0,40}", 0..6),
            proptest::collection::vec(any::<u8>(), 0..2000),
            (0..=PRIORITY_MAX, proptest::option::of(1..u64::MAX), proptest::option::of(1..u64::MAX)),
        )
            .prop_map(|((topic, reply_to, id), key, headers, payload, (priority, ttl, delay))| {
                Message {
                    topic: topic.parse().expect("a topic"),
                    headers: headers
                        .iter()
                        .map(|(n, v)| (n.as_str(), v.as_bytes()))
                        .collect::<HeadersBuilder>()
                        .build()
                        .expect("small"),
                    payload: payload.into(),
                    key: key.map(Bytes::from),
                    message_id: id.map(ByteString::from),
                    reply_to: reply_to.map(|t| t.parse().expect("a topic")),
                    priority,
                    ttl: ttl.map(Duration::from_millis),
                    delay: delay.map(Duration::from_millis),
                }
            })
    }

    proptest! {
        #[test]
        fn a_message_is_read_back_as_it_was_written(message in any_message()) {
            prop_assert_eq!(Message::decode(encoded(&message)), Ok(message));
        }

        #[test]
        fn a_cut_or_changed_message_is_an_error_or_a_message_but_never_a_panic(
            message in any_message(), cut in 0usize..4000, at in 0usize..4000, byte in any::<u8>(),
        ) {
            let mut bytes = encoded(&message).to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut);
            let _ = Message::decode(bytes.into());
        }
    }

    #[test]
    fn a_lie_about_a_length_is_an_error() {
        let mut bytes = encoded(&Message::new("a.b".parse().expect("a topic"), "body")).to_vec();
        bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        let total = bytes.len();
        assert_eq!(Message::decode(bytes.into()), Err(DecodeMessageError::Truncated(total)));
    }
}
