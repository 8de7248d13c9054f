//! Why a stream is over.

use bytes::BytesMut;
use quinn::{SendStream, WriteError};
use wharf_node::NodeError;
use wharf_protocol::ErrorCode;
use wharf_protocol::frame::{Frame, FrameError, Refusal};
use wharf_transport::ReadError;

/// Why a stream is over although its client did not end it.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The client is told why.
    Refused(Refusal),
    /// Nobody is there to be told.
    Lost,
}

impl Ended {
    pub(crate) fn refused(code: ErrorCode, reason: impl Into<String>) -> Self {
        Self::Refused(Refusal { code, reason: reason.into() })
    }

    /// A frame that has no place on a stream of this role.
    pub(crate) fn unexpected(frame: &Frame, role: &str) -> Self {
        let name = frame.name();
        Self::refused(ErrorCode::Malformed, format!("{name} has no place on the stream of a {role}"))
    }
}

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Frame(error) => error.into(),
            ReadError::Slow(_) => Self::refused(ErrorCode::Malformed, error.to_string()),
            ReadError::Lost(_) => Self::Lost,
        }
    }
}

impl From<FrameError> for Ended {
    fn from(error: FrameError) -> Self {
        Self::refused(error.code(), with_sources(&error))
    }
}

impl From<WriteError> for Ended {
    fn from(_: WriteError) -> Self {
        Self::Lost
    }
}

impl From<NodeError> for Ended {
    fn from(error: NodeError) -> Self {
        Self::refused(error.code(), with_sources(&error))
    }
}

/// Writes one frame.
pub(crate) async fn write(send: &mut SendStream, frame: &Frame) -> Result<(), Ended> {
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    Ok(send.write_chunk(out.freeze()).await?)
}

/// The error and what caused it, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
