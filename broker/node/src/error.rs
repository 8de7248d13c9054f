//! What a caller of the node is told when something cannot be done.

use wharf_protocol::ErrorCode;
use wharf_shard::ShardError;

/// Why an operation was not done.
///
/// One type for every operation: callers translate it to their own wire, and do so by [`NodeError::code`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// No such thing.
    #[error("there is no {kind} {name:?}")]
    NotFound {
        /// `queue`, `pipeline`, `plugin`…
        kind: &'static str,
        /// The name that was asked for.
        name: String,
    },
    /// It exists already with other content, or something else depends on it.
    #[error("{0}")]
    Conflict(String),
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// Over a stated size.
    #[error("{0}")]
    TooLarge(String),
    /// This principal may not do that.
    #[error("{principal} may not {action} {resource:?}")]
    Forbidden {
        /// Who asked.
        principal: String,
        /// What for.
        action: &'static str,
        /// On what.
        resource: String,
    },
    /// Not now: a full disk, a quota, something that broke. The text says what to do.
    #[error("{0}")]
    Unavailable(String),
    /// A newer life of the producer took over.
    #[error("{0}")]
    Fenced(String),
    /// The node is stopping, or stopped after a failed write.
    #[error("the broker is stopping: {0}")]
    Closing(String),
}

impl NodeError {
    /// The number that travels.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound { .. } => ErrorCode::NotFound,
            Self::Conflict(_) => ErrorCode::Conflict,
            Self::Invalid(_) => ErrorCode::Malformed,
            Self::TooLarge(_) => ErrorCode::TooLarge,
            Self::Forbidden { .. } => ErrorCode::Forbidden,
            Self::Unavailable(_) => ErrorCode::Unavailable,
            Self::Fenced(_) => ErrorCode::Fenced,
            Self::Closing(_) => ErrorCode::Closing,
        }
    }
}

impl From<ShardError> for NodeError {
    fn from(error: ShardError) -> Self {
        match error {
            ShardError::Refused(refusal) => match refusal.code {
                ErrorCode::NotFound | ErrorCode::Conflict => Self::Conflict(refusal.reason),
                ErrorCode::TooLarge => Self::TooLarge(refusal.reason),
                ErrorCode::Unavailable => Self::Unavailable(refusal.reason),
                _ => Self::Invalid(refusal.reason),
            },
            ShardError::TooLarge { .. } => Self::TooLarge(error.to_string()),
            ShardError::Full(_) | ShardError::Unreadable { .. } => Self::Unavailable(error.to_string()),
            ShardError::Stopped(reason) => Self::Closing(reason),
        }
    }
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

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be made or used.
    #[error("the data folder {folder} cannot be used")]
    Folder {
        /// Which.
        folder: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The shard does not open.
    #[error(transparent)]
    Shard(#[from] wharf_shard::OpenError),
    /// The engine that runs plugins does not start.
    #[error("plugins cannot be run")]
    Engine(#[from] wharf_pipeline::EngineError),
    /// What the log says cannot be set up.
    #[error("{0}")]
    Topology(#[from] NodeError),
}
