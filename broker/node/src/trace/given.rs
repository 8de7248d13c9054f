//! A message as it came to a pipeline, whole, so that the pipeline can be given it again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use wharf_pipeline::Item;
use wharf_protocol::{Message, Timestamp};

/// The largest message that is kept whole in a trace, encoded.
pub const GIVEN_BYTES_MAX: usize = 64 * 1024;

/// A message as it came to a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// The message as it is encoded, in base64.
    message: String,
    /// How often it was delivered before.
    #[serde(default, skip_serializing_if = "is_zero")]
    attempt: u32,
    /// When it was stored; `None`: it was not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    published_at: Option<Timestamp>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(attempt: &u32) -> bool {
    *attempt == 0
}

impl Given {
    /// `item`, unless it is over [`GIVEN_BYTES_MAX`].
    pub fn of(item: &Item) -> Option<Self> {
        let bytes = item.message.encoded_bytes();
        if bytes > GIVEN_BYTES_MAX {
            return None;
        }
        let mut encoded = BytesMut::with_capacity(bytes);
        item.message.encode(&mut encoded);
        let message = BASE64.encode(&encoded);
        Some(Self { message, attempt: item.attempt, published_at: item.published_at })
    }

    /// What it was made of; `None` when the trace was damaged.
    pub fn item(&self) -> Option<Item> {
        let encoded = BASE64.decode(&self.message).ok()?;
        let message = Message::decode(encoded.into()).ok()?;
        Some(Item { message, attempt: self.attempt, published_at: self.published_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(bytes: usize) -> Item {
        let mut message = Message::new("a.b".parse().expect("a topic"), vec![0xff; bytes]);
        message.key = Some("k".into());
        message.ttl = Some(std::time::Duration::from_secs(7));
        Item { message, attempt: 3, published_at: Some(Timestamp(5)) }
    }

    #[test]
    fn a_message_comes_back_as_it_was_kept() {
        let given = Given::of(&item(1000)).expect("small");
        let json = serde_json::to_string(&given).expect("it serialises");
        let given: Given = serde_json::from_str(&json).expect("what was written");
        assert_eq!(given.item(), Some(item(1000)));
    }

    #[test]
    fn one_over_the_bound_is_not_kept_and_a_damaged_one_is_none() {
        assert_eq!(Given::of(&item(GIVEN_BYTES_MAX)), None);
        let damaged = Given { message: "AAAA".into(), attempt: 0, published_at: None };
        assert_eq!(damaged.item(), None);
    }
}
