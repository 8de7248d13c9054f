//! Where a stage's declared outputs lead.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wharf_protocol::{NameError, QueueName, Topic, TopicError};

/// Where a declared output leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// Published again, to this topic.
    Topic(Topic),
    /// Straight into this queue.
    Queue(QueueName),
}

/// Why a text is not a [`Target`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Neither form.
    #[error("an output leads to \"topic:NAME\" or \"queue:NAME\", not to {0:?}")]
    Form(String),
    /// Not a topic.
    #[error("output: {0}")]
    Topic(#[source] TopicError),
    /// Not a queue name.
    #[error("output: {0}")]
    Queue(#[source] NameError),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        match text.split_once(':') {
            Some(("topic", topic)) => topic.parse().map(Self::Topic).map_err(TargetError::Topic),
            Some(("queue", queue)) => queue.parse().map(Self::Queue).map_err(TargetError::Queue),
            _ => Err(TargetError::Form(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = TargetError;

    fn try_from(text: String) -> Result<Self, TargetError> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(topic) => write!(f, "topic:{topic}"),
            Self::Queue(queue) => write!(f, "queue:{queue}"),
        }
    }
}
