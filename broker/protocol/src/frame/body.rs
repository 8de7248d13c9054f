//! The bodies that are MessagePack maps.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ErrorCode, Name, Pattern, ProducerId, QueueName};

/// The first frame of a connection, on its control stream.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The versions of the protocol that the client speaks, the best first.
    pub versions: Vec<u16>,
    /// The client's program and its version, for logs.
    pub client: String,
    /// The secret by which the broker knows the client, unless its certificate does.
    #[serde(default)]
    pub token: Option<String>,
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("versions", &self.versions)
            .field("client", &self.client)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .finish()
    }
}

/// The answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The broker's program and its version.
    pub server: String,
    /// The version of the protocol that is spoken from here on.
    pub version: u16,
    /// What the broker takes.
    pub limits: Limits,
}

/// What the broker takes from one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The longest body of a frame.
    pub frame_bytes_max: u32,
    /// Messages of one publisher that may be unconfirmed; more wait in the stream's window.
    pub unconfirmed_max: u32,
    /// The most credit that one consumer may hold.
    pub credit_max: u32,
    /// Streams that may be open at once, the control stream included.
    pub streams_max: u32,
}

/// The last frame before an end closes the connection in good order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// One sentence for a person.
    pub reason: String,
}

/// Why a stream, or on the control stream a connection, ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// What kind of reason.
    pub code: ErrorCode,
    /// One sentence for a person.
    pub reason: String,
}

/// Makes a stream a publisher's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPublisher {
    /// Makes resending exact; without it, what is resent may be stored twice.
    #[serde(default)]
    pub session: Option<ProducerSession>,
    /// In place of a session: the name of a producer, whose next life begins with this. The answer has the
    /// session; its earlier lives are fenced off.
    #[serde(default)]
    pub producer: Option<Name>,
    /// Tell with each confirm which versions of which pipelines handled the message. A broker that does not know
    /// of it tells none.
    #[serde(default)]
    pub tell_versions: bool,
}

/// Makes a stream a transactor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTransactor {
    /// Makes resending exact.
    pub session: ProducerSession,
}

/// A producer, and which of its lives this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerSession {
    /// Chosen at random, once.
    #[serde(with = "producer_bytes")]
    pub producer: ProducerId,
    /// Raised by each new life; older ones are fenced off.
    pub epoch: u32,
}

/// MessagePack has no integer of 128 bits: a producer id travels as 16 bytes, the most significant first.
mod producer_bytes {
    use serde::de::{Deserializer, Error};
    use serde::{Deserialize, Serializer};

    use crate::ProducerId;

    pub(super) fn serialize<S: Serializer>(id: &ProducerId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&id.0.to_be_bytes())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ProducerId, D::Error> {
        let bytes = bytes::Bytes::deserialize(deserializer)?;
        let bytes: [u8; 16] =
            bytes.as_ref().try_into().map_err(|_| D::Error::custom("a producer id has 16 bytes"))?;
        Ok(ProducerId(u128::from_be_bytes(bytes)))
    }
}

/// The answer to [`OpenPublisher`] and [`OpenTransactor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The highest sequence of the session that is stored, where the broker knows it.
    #[serde(default)]
    pub last_sequence: Option<u64>,
    /// The session of the producer that was opened by its name.
    #[serde(default)]
    pub session: Option<ProducerSession>,
}

/// Makes a stream a consumer's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe {
    /// From where.
    pub queue: QueueName,
    /// How many messages may be delivered at first.
    pub credit: u32,
    /// Settle each message before it is delivered: at most once.
    #[serde(default)]
    pub auto_settle: bool,
    /// Send `Empty` once nothing is left to deliver.
    #[serde(default)]
    pub until_empty: bool,
    /// How many bytes of encoded messages may be delivered at first; 0: no bound. The next message comes while any
    /// are left, so that one may go over. What is settled gives nothing back: `Credit` does.
    #[serde(default)]
    pub credit_bytes: u64,
    /// Bind the queue to a pattern first, and make it when there is none.
    #[serde(default)]
    pub durable: Option<Durable>,
}

/// The topics of a durable subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durable {
    /// Which topics.
    pub pattern: Pattern,
    /// A queue that is made for it goes when it had no consumer for so long; 0: it stays.
    #[serde(default)]
    pub expires_ms: u64,
}

/// The answer to [`Subscribe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribed {
    /// How long a delivery is leased, in milliseconds; 0 when the broker does not say. The queue's policy may
    /// change it later.
    #[serde(default)]
    pub lease_ms: u64,
    /// By which a [`Transact`](super::Transact) on this connection names the consumer.
    #[serde(default)]
    pub consumer: u64,
}

/// Why a subscription is over although nobody closed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// What kind of reason.
    pub code: ErrorCode,
    /// One sentence for a person.
    pub reason: String,
}
