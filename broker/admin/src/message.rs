//! A message as JSON: what is UTF-8 is shown as text, what is not as base64.
//!
//! ```json
//! {"topic": "orders.eu.created", "headers": {"tenant": "acme"}, "key": "o-17", "payload": "<order/>"}
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wharf_protocol::{HeadersBuilder, KEY_BYTES_MAX, Message, PRIORITY_MAX};

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename = "Message")]
#[schema(as = Message)]
pub struct MessageJson {
    /// Where it was, or would be, published.
    pub topic: String,
    /// Names and values.
    #[serde(default)]
    pub headers: BTreeMap<String, TextOrBytes>,
    /// Messages with the same key keep their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<TextOrBytes>,
    /// The publisher's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Where an answer is to be published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// 0 to 31.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: u8,
    /// How long after it was stored it may still be delivered, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// How long after it was stored it is delivered at the earliest, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// The payload: text, or base64 when `payload_encoding` says so.
    #[serde(default)]
    pub payload: String,
    /// Absent when the payload is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_encoding: Option<PayloadEncoding>,
}

/// How a payload that is not text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PayloadEncoding {
    /// RFC 4648 §4, with padding.
    Base64,
}

/// A header's value or a key: a string where it is UTF-8, else `{"base64": "…"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum TextOrBytes {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Bytes {
        /// RFC 4648 §4, with padding.
        base64: String,
    },
}

/// Why a JSON message is not one.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct InvalidMessage {
    field: &'static str,
    reason: String,
}

impl TextOrBytes {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes { base64: BASE64.encode(bytes) },
        }
    }

    fn into_bytes(self, field: &'static str) -> Result<Vec<u8>, InvalidMessage> {
        match self {
            Self::Text(text) => Ok(text.into_bytes()),
            Self::Bytes { base64 } => BASE64.decode(base64).map_err(invalid(field)),
        }
    }
}

impl From<&Message> for MessageJson {
    fn from(message: &Message) -> Self {
        let (payload, payload_encoding) = match std::str::from_utf8(&message.payload) {
            Ok(text) => (text.to_owned(), None),
            Err(_) => (BASE64.encode(&message.payload), Some(PayloadEncoding::Base64)),
        };
        let headers = message.headers.iter();
        Self {
            topic: message.topic.to_string(),
            headers: headers.map(|(name, value)| (name.to_owned(), TextOrBytes::new(value))).collect(),
            key: message.key.as_deref().map(TextOrBytes::new),
            message_id: message.message_id.as_deref().map(ToOwned::to_owned),
            reply_to: message.reply_to.as_ref().map(ToString::to_string),
            priority: message.priority,
            ttl_ms: message.ttl.map(milliseconds),
            delay_ms: message.delay.map(milliseconds),
            payload,
            payload_encoding,
        }
    }
}

impl TryFrom<MessageJson> for Message {
    type Error = InvalidMessage;

    fn try_from(json: MessageJson) -> Result<Self, InvalidMessage> {
        let payload = match json.payload_encoding {
            None => Bytes::from(json.payload),
            Some(PayloadEncoding::Base64) => BASE64.decode(json.payload).map_err(invalid("payload"))?.into(),
        };
        let mut headers = HeadersBuilder::default();
        for (name, value) in json.headers {
            headers.set(&name, value.into_bytes("headers")?);
        }
        let too_long = || format!("over {KEY_BYTES_MAX} bytes");
        let key = json.key.map(|key| key.into_bytes("key")).transpose()?;
        if key.as_ref().is_some_and(|key| key.len() > KEY_BYTES_MAX) {
            return Err(InvalidMessage { field: "key", reason: too_long() });
        }
        if json.message_id.as_ref().is_some_and(|id| id.len() > KEY_BYTES_MAX) {
            return Err(InvalidMessage { field: "message_id", reason: too_long() });
        }
        if json.priority > PRIORITY_MAX {
            return Err(InvalidMessage { field: "priority", reason: format!("over {PRIORITY_MAX}") });
        }
        Ok(Self {
            topic: json.topic.parse().map_err(invalid("topic"))?,
            headers: headers.build().map_err(invalid("headers"))?,
            payload,
            key: key.map(Bytes::from),
            message_id: json.message_id.filter(|id| !id.is_empty()).map(Into::into),
            reply_to: json.reply_to.map(|to| to.parse().map_err(invalid("reply_to"))).transpose()?,
            priority: json.priority,
            ttl: json.ttl_ms.map(Duration::from_millis),
            delay: json.delay_ms.map(Duration::from_millis),
        })
    }
}

fn invalid<E: ToString>(field: &'static str) -> impl Fn(E) -> InvalidMessage {
    move |error| InvalidMessage { field, reason: error.to_string() }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn is_zero(priority: &u8) -> bool {
    *priority == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        let mut message = Message::new("orders.eu".parse().expect("a topic"), "<order/>");
        message.headers =
            HeadersBuilder::default().set("tenant", "acme").set("digest", [0xff, 0]).build().expect("small");
        message.key = Some(Bytes::from_static(b"o-17"));
        message.ttl = Some(Duration::from_secs(3));
        message
    }

    #[test]
    fn text_is_shown_as_text_and_bytes_as_base64() {
        let json = serde_json::to_value(MessageJson::from(&message())).expect("encodes");
        let expected = serde_json::json!({
            "topic": "orders.eu", "headers": {"tenant": "acme", "digest": {"base64": "/wA="}},
            "key": "o-17", "ttl_ms": 3000, "payload": "<order/>",
        });
        assert_eq!(json, expected);

        let binary = Message { payload: Bytes::from_static(&[0xff]), ..message() };
        let json = serde_json::to_value(MessageJson::from(&binary)).expect("encodes");
        assert_eq!((&json["payload"], &json["payload_encoding"]), (&"/w==".into(), &"base64".into()));
    }

    #[test]
    fn a_message_is_read_back_as_it_was_shown() {
        for payload in [&b"<order/>"[..], &[0xff, 0xfe], b""] {
            let message = Message { payload: Bytes::copy_from_slice(payload), ..message() };
            let text = serde_json::to_string(&MessageJson::from(&message)).expect("encodes");
            let json: MessageJson = serde_json::from_str(&text).expect("decodes");
            let read = Message::try_from(json).expect("a message");
            assert_eq!(read.payload, message.payload);
            assert_eq!(read.headers.get("digest"), message.headers.get("digest"));
            assert_eq!((read.topic, read.key, read.ttl), (message.topic, message.key, message.ttl));
        }
    }

    #[test]
    fn what_no_message_may_have_is_refused_by_its_field() {
        let refused = |json: serde_json::Value| {
            let json: MessageJson = serde_json::from_value(json).expect("decodes");
            Message::try_from(json).expect_err("refused").to_string()
        };
        assert!(refused(serde_json::json!({"topic": "a.#"})).starts_with("topic: "));
        assert!(refused(serde_json::json!({"topic": "a", "priority": 32})).starts_with("priority: "));
        assert!(refused(serde_json::json!({"topic": "a", "key": "k".repeat(1025)})).starts_with("key: "));
        let lie = serde_json::json!({"topic": "a", "payload": "?", "payload_encoding": "base64"});
        assert!(refused(lie).starts_with("payload: "));
    }
}
