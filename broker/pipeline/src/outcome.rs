//! What goes into a pipeline, and what comes out for each message.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wharf_protocol::{Message, Name, Timestamp};

use crate::text::printable;
use crate::{OnFailure, PluginRef, Step, Target};

/// How much of a problem's texts is kept: they go to publishers, headers and dead letters.
const PROBLEM_CODE_BYTES_MAX: usize = 64;
const PROBLEM_MESSAGE_BYTES_MAX: usize = 4096;
const PROBLEM_PATH_BYTES_MAX: usize = 1024;

/// A message on its way into a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The message.
    pub message: Message,
    /// How often it was delivered before; 0 before it is stored.
    pub attempt: u32,
    /// When the broker took it; `None`: now, before it is stored.
    pub published_at: Option<Timestamp>,
}

/// What a pipeline made of one message. All or nothing: when one of the messages that it became fails,
/// the message that came in has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Processed {
    /// One or more messages go on.
    Passed(Vec<Output>),
    /// Nothing goes on, on purpose: the message is settled without a dead letter.
    Dropped {
        /// The stage that dropped it; the last one, when it had become several.
        stage: Name,
    },
    /// A stage refused it or broke on it.
    Failed(Box<Failure>),
}

/// A message that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The message; of an output to a topic, it already has that topic.
    pub message: Message,
    /// Where a stage sent it; `None`: on to where it was going.
    pub to: Option<Target>,
}

/// Why a message did not come through, and what its stage's author wants done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The stage.
    pub stage: Name,
    /// Its plugin, as the pipeline names it.
    pub plugin: PluginRef,
    /// The SHA-256 of the plugin, in hexadecimal.
    pub digest: String,
    /// What is wrong.
    pub problem: Problem,
    /// What kind of failure.
    pub kind: FailureKind,
    /// What is to become of the message. A retry is the caller's to carry out, whatever this says.
    pub policy: OnFailure,
    /// What the stage was given and said, where the message is to be a dead letter. What the call took and wrote is
    /// in it when the stage was given this message alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Box<Step>>,
}

/// What kind of failure a [`Failure`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The plugin refused the message.
    Rejected,
    /// The plugin asks to try again.
    Retry {
        /// Not before this.
        after: Option<Duration>,
    },
    /// The plugin broke.
    Fault(Fault),
}

/// How a plugin broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// It panicked or did what no program may.
    Trap,
    /// It took too long.
    Deadline,
    /// It asked for more memory than it may have.
    Memory,
    /// It ran out of stack.
    Stack,
    /// It answered what the contract does not allow: a wrong number of verdicts, an unknown output, a range
    /// outside the payload, too many or too large outputs.
    Answer,
    /// It used what it was not granted.
    Grant,
    /// It broke before, several times in a row, and is not called for a while.
    Open,
    /// It could not be started.
    Start,
    /// The host failed while it ran the plugin.
    Host,
}

/// What is wrong, for the person who reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A short constant that metrics and searches count by.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// Where in the payload or configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl Fault {
    /// Every way to break.
    pub const ALL: [Self; 9] = [
        Self::Trap,
        Self::Deadline,
        Self::Memory,
        Self::Stack,
        Self::Answer,
        Self::Grant,
        Self::Open,
        Self::Start,
        Self::Host,
    ];

    /// A short constant that metrics and searches count by.
    pub fn code(self) -> &'static str {
        match self {
            Self::Trap => "plugin-trap",
            Self::Deadline => "plugin-deadline",
            Self::Memory => "plugin-memory",
            Self::Stack => "plugin-stack",
            Self::Answer => "plugin-answer",
            Self::Grant => "plugin-grant",
            Self::Open => "plugin-suspended",
            Self::Start => "plugin-start",
            Self::Host => "plugin-host",
        }
    }

    /// What is wrong, in words that may have a plugin's own among them.
    pub(crate) fn problem(self, message: impl AsRef<str>) -> Problem {
        let message = printable(message.as_ref(), PROBLEM_MESSAGE_BYTES_MAX);
        Problem { code: self.code().to_owned(), message, path: None }
    }
}

impl Problem {
    /// What a plugin says is wrong, cut and safe to print.
    pub(crate) fn of_plugin(code: &str, message: &str, path: Option<&str>) -> Self {
        Self {
            code: printable(code, PROBLEM_CODE_BYTES_MAX),
            message: printable(message, PROBLEM_MESSAGE_BYTES_MAX),
            path: path.map(|path| printable(path, PROBLEM_PATH_BYTES_MAX)),
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        match &self.path {
            Some(path) if !path.is_empty() => write!(f, " (at {path})"),
            _ => Ok(()),
        }
    }
}

impl Item {
    /// A message that was never delivered.
    pub fn new(message: Message) -> Self {
        Self { message, attempt: 0, published_at: None }
    }
}
