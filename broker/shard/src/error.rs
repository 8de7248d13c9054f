//! What a caller of a shard is told when something cannot be done.

use wharf_protocol::{ErrorCode, MessageId};
use wharf_queue::Refusal;

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// The state refused, and nothing changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A record is over what a segment of the log holds.
    #[error("a record of {bytes} bytes is over the log's {max}")]
    TooLarge {
        /// The record's size.
        bytes: usize,
        /// The largest that fits.
        max: usize,
    },
    /// The disk has no room: nothing was written, and it is worth trying again.
    #[error("the disk is full: {0}")]
    Full(String),
    /// A stored message cannot be read back.
    #[error("message {id} cannot be read: {reason}")]
    Unreadable {
        /// Which.
        id: MessageId,
        /// Why.
        reason: String,
    },
    /// The shard stopped: it was told to, or a write failed.
    #[error("{0}")]
    Stopped(String),
}

impl ShardError {
    /// The number that travels.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(refusal) => refusal.code,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::Full(_) | Self::Unreadable { .. } => ErrorCode::Unavailable,
            Self::Stopped(_) => ErrorCode::Closing,
        }
    }
}

/// Why a shard did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log does not open.
    #[error("the log does not open")]
    Log(#[from] wharf_log::OpenError),
    /// The first record cannot be written.
    #[error("the log takes no records")]
    Append(#[from] wharf_log::AppendError),
    /// A thread cannot be started.
    #[error("a thread cannot be started")]
    Thread(#[source] std::io::Error),
    /// The thread that folds the state died; it said why.
    #[error("the state could not be folded from the log; see the log lines before this")]
    Recovery,
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
