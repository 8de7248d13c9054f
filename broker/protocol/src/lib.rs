//! The values that both ends of Wharf share, and the frames that carry them.
//!
//! Bytes in, values out, and back: no IO, no async, no clock. Everything that arrives from outside is
//! parsed here once; afterwards the type is the proof (a [`Topic`] has no wildcards, a [`QueueName`] is
//! not empty, [`Headers`] are well-formed MessagePack).

mod delivery;
pub mod frame;
mod headers;
mod id;
mod kept;
mod message;
mod name;
mod receipt;
mod start;
mod time;
mod topic;
mod transaction;
mod version;

pub use delivery::{Death, DeathCause, Delivery, Outcome, Settlement};
pub use headers::{DELIVER_AT, HEADERS_BYTES_MAX, Headers, HeadersBuilder, HeadersError, TRACE};
pub use id::{MessageId, ParseMessageIdError, ProducerId};
pub use kept::{
    KV_CHANGES_MAX, KV_KEY_BYTES_MAX, KV_READS_MAX, KV_SPACE_BYTES_MAX, KV_VALUE_BYTES_MAX, Kept,
};
pub use message::{DecodeMessageError, KEY_BYTES_MAX, Message, PRIORITY_MAX, REQUIRE_LISTENER};
pub use name::{NAME_BYTES_MAX, Name, NameError, QueueName};
pub use receipt::{ErrorCode, Receipt, Rejection, Session, Stored, UnknownErrorCode};
pub use start::{ParseStartError, Start};
pub use time::{ParseTimestampError, Timestamp};
pub use topic::{Pattern, PatternError, TOPIC_BYTES_MAX, Topic, TopicError};
pub use transaction::{
    Committed, Part, TRANSACTION_MESSAGES_MAX, TRANSACTION_RANGES_MAX, TransactionReceipt,
};
pub use version::{PipelineVersion, VERSIONS_TOLD_MAX};
