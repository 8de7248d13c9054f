//! Why bytes are not a frame.

use crate::{DecodeMessageError, ErrorCode};

/// Why bytes are not a frame. After any of these the stream is out of step and can only be closed.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The head announces more than the reader takes; nothing was kept for it.
    #[error("a frame of kind {kind:#04x} announces {length} bytes, and at most {max} are taken here")]
    TooLong {
        /// The frame's kind, which may be none.
        kind: u8,
        /// What its head says.
        length: usize,
        /// What the reader takes.
        max: usize,
    },
    /// No frame has this kind.
    #[error("{0:#04x} is no kind of frame")]
    Kind(u8),
    /// A bit is set that means nothing in this kind of frame.
    #[error("flags {flags:#04x} mean nothing in a frame of kind {kind:#04x}")]
    Flags {
        /// The frame's kind.
        kind: u8,
        /// The flags in its head.
        flags: u8,
    },
    /// The bytes that are to be zero are not.
    #[error("bytes 6 and 7 of a frame's head are {0:#06x}, not zero")]
    Reserved(u16),
    /// A body is shorter or longer than its kind or its own lengths say.
    #[error("the body of {frame} has {length} bytes, which does not fit what it holds")]
    Length {
        /// The frame's name.
        frame: &'static str,
        /// The bytes of its body.
        length: usize,
    },
    /// A number in a fixed head has no meaning.
    #[error("in {frame}, {field} is {value}")]
    Field {
        /// The frame's name.
        frame: &'static str,
        /// Which number.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The body is not the MessagePack map that its kind asks for.
    #[error("the body of {frame} is not its MessagePack map: {what}")]
    Body {
        /// The frame's name.
        frame: &'static str,
        /// What is wrong.
        what: String,
    },
    /// The message in it is not one.
    #[error("message")]
    Message(#[source] DecodeMessageError),
    /// The stream ended within a frame.
    #[error("the stream ended {0} bytes into a frame")]
    Truncated(usize),
}

impl FrameError {
    /// What the other end is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TooLong { .. } => ErrorCode::TooLarge,
            _ => ErrorCode::Malformed,
        }
    }
}
