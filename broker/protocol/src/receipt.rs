//! What a publisher is told.

use serde::{Deserialize, Serialize};

use crate::{MessageId, ProducerId};

/// One message's place in its producer's run.
///
/// Resending a message with the same sequence is exact: it is stored once, however often it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Whose run.
    pub producer: ProducerId,
    /// Raised by each new life of the producer; an older epoch is fenced off.
    pub epoch: u32,
    /// Rises with each message, from 1; gaps are allowed (a rejected message leaves one).
    pub sequence: u64,
}

/// Where a published message was stored: it became the entries of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The record's index in the log.
    pub index: u64,
    /// How many messages it became: 0 when nothing is bound to its topic, over 1 when a pipeline split it.
    pub entries: u16,
}

impl Stored {
    /// The ids of the messages it became.
    pub fn ids(self) -> impl Iterator<Item = MessageId> {
        (0..self.entries).map(move |entry| MessageId { index: self.index, entry })
    }
}

/// The answer to a publish. Nobody is told `Stored` before it would survive a crash, as far as the
/// durability of the queues that hold it promises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Receipt {
    /// It is stored.
    Stored(Stored),
    /// The same sequence or message id was stored before; where, if that is still known.
    Duplicate(Option<Stored>),
    /// It was not, and will not be, stored.
    Rejected(Rejection),
}

/// Why a message was not stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// What kind of reason.
    pub code: ErrorCode,
    /// The pipeline stage that said so, as `pipeline/stage`.
    pub stage: Option<String>,
    /// One sentence for a person.
    pub reason: String,
    /// How long to wait before sending it again, where that can help.
    pub retry_after_ms: Option<u32>,
}

/// The closed list of things that go wrong on a connection. The number is what travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "u16", try_from = "u16")]
#[repr(u16)]
pub enum ErrorCode {
    /// A frame or message breaks the protocol.
    Malformed = 1,
    /// The credentials are missing or wrong.
    Unauthenticated = 2,
    /// This principal may not do that.
    Forbidden = 3,
    /// No such queue, pipeline or plugin.
    NotFound = 4,
    /// It exists already, or changed meanwhile.
    Conflict = 5,
    /// Over a stated size.
    TooLarge = 6,
    /// A stage of a pipeline refused the message.
    RejectedByStage = 7,
    /// A stage failed, or asks to try again later.
    StageFailed = 8,
    /// An alarm, a quota or a full queue holds publishers back: memory, disk, rate, messages.
    Unavailable = 9,
    /// A newer epoch of the same producer exists.
    Fenced = 10,
    /// The broker is stopping, or its disk failed.
    Closing = 11,
    /// A fault of the broker.
    Internal = 12,
    /// A request that nobody is there to answer.
    NoListener = 13,
}

impl From<ErrorCode> for u16 {
    fn from(code: ErrorCode) -> Self {
        code as Self
    }
}

/// A number that is no [`ErrorCode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no error code")]
pub struct UnknownErrorCode(u16);

impl TryFrom<u16> for ErrorCode {
    type Error = UnknownErrorCode;

    fn try_from(number: u16) -> Result<Self, UnknownErrorCode> {
        const ALL: [ErrorCode; 13] = [
            ErrorCode::Malformed,
            ErrorCode::Unauthenticated,
            ErrorCode::Forbidden,
            ErrorCode::NotFound,
            ErrorCode::Conflict,
            ErrorCode::TooLarge,
            ErrorCode::RejectedByStage,
            ErrorCode::StageFailed,
            ErrorCode::Unavailable,
            ErrorCode::Fenced,
            ErrorCode::Closing,
            ErrorCode::Internal,
            ErrorCode::NoListener,
        ];
        ALL.into_iter().find(|code| *code as u16 == number).ok_or(UnknownErrorCode(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_code_travels_as_its_number() {
        for number in 1..=13 {
            assert_eq!(ErrorCode::try_from(number).map(u16::from), Ok(number));
        }
        assert_eq!(ErrorCode::try_from(14), Err(UnknownErrorCode(14)));
    }
}
