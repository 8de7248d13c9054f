//! What can go wrong, an enum for each operation.

use std::sync::Arc;
use std::time::Duration;

use wharf_protocol::frame::Refusal;
use wharf_protocol::{NameError, Part, PatternError, PipelineVersion, Rejection};

use crate::ContextError;

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not `host:port`, or the name is unknown.
    #[error("{address:?} is no address of a broker; one looks like localhost:7411")]
    Address {
        /// What was given.
        address: String,
        /// What resolving it said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The certificate, fingerprint or key that was given cannot be used.
    #[error("{0}")]
    Trust(String),
    /// Nobody answers.
    #[error("no answer from {address} within {waited:?}: is the broker running?")]
    Unreachable {
        /// Where.
        address: String,
        /// How long.
        waited: Duration,
    },
    /// Somebody answers, and the connection fails: most often the certificate.
    #[error("connecting to {address} failed: {reason}")]
    Failed {
        /// Where.
        address: String,
        /// What QUIC or TLS said.
        reason: String,
    },
    /// The broker does not let this client in.
    #[error("the broker refused the connection")]
    Refused(#[source] Refusal),
    /// The context file cannot be used.
    #[error("context")]
    Context(#[source] Arc<ContextError>),
    /// No socket or thread could be had.
    #[error("starting the client")]
    Start(#[source] Arc<std::io::Error>),
}

/// Why a message was not stored, or may not have been.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PublishError {
    /// The broker says that it was not, and will not be, stored.
    #[error("rejected: {}", .0.reason)]
    Rejected(Rejection),
    /// It was not sent: it is larger than the broker takes.
    #[error("the message takes {bytes} bytes, and the broker takes {max}")]
    TooLarge {
        /// What it takes.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// It was not sent: a part of it breaks its bound.
    #[error("{0}")]
    Invalid(String),
    /// The broker ended the publisher.
    #[error("the broker ended the publisher")]
    Refused(#[source] Refusal),
    /// The client was closed before there was an answer: it may be stored or not.
    #[error("the client was closed before the broker answered")]
    Closed,
}

/// Why a transaction did not happen, or may not have.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// Nothing of it happened. What it was to ack is still held, unless its lease has ended: nack it, or commit anew.
    #[error("nothing of the transaction happened: {part}: {}", .rejection.reason)]
    Rejected {
        /// Which part stands in the way.
        part: Part,
        /// Why.
        rejection: Rejection,
        /// Which versions of which pipelines handled its messages, where it
        /// [asked](crate::Transaction::tell_versions).
        versions: Vec<PipelineVersion>,
    },
    /// It was not sent: it is larger than the broker takes.
    #[error("the transaction takes {bytes} bytes, and the broker takes {max}")]
    TooLarge {
        /// What it takes.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// It was not sent: a part of it breaks its bound.
    #[error("{0}")]
    Invalid(String),
    /// The broker does not take transactions of this client any more.
    #[error("the broker ended the transactions")]
    Refused(#[source] Refusal),
    /// The client was closed before there was an answer: all of it happened, or nothing.
    #[error("the client was closed before the broker answered")]
    Closed,
}

/// Why there are no deliveries, or no more.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConsumeError {
    /// The text is not the name of a queue.
    #[error("queue")]
    Name(#[from] NameError),
    /// The text is not a pattern of topics.
    #[error("pattern")]
    Pattern(#[from] PatternError),
    /// The broker does not allow it, or ended it.
    #[error("the broker refused")]
    Refused(#[source] Refusal),
    /// The client was closed.
    #[error("the client was closed")]
    Closed,
}

/// Why a delivery is not settled, or may not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// Its lease had ended: by time, or with the connection it came on. It is delivered again.
    #[error("the lease of this delivery had ended; the message is delivered again")]
    Stale,
    /// The connection was lost before there was an answer: it may be delivered again.
    #[error("the connection was lost before the broker answered; the message may be delivered again")]
    Unknown,
}

/// Why a request has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RequestError {
    /// The topic or the reply-to is not one.
    #[error("{0}")]
    Topic(String),
    /// The request was not published.
    #[error("request")]
    Publish(#[from] PublishError),
    /// The inbox for answers could not be opened.
    #[error("inbox")]
    Inbox(#[from] ConsumeError),
    /// Nobody is there to answer.
    #[error("{0}")]
    NoListener(String),
    /// Nobody answered in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}
