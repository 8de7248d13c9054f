//! What a stage takes and says, copied aside while somebody asks for it: for recordings that a plugin's tests repeat.
//!
//! Off, it is one branch a batch. On, a message costs a few reference counts: it is written as text by whoever
//! records, not by the thread that runs plugins. Who reads too slowly misses messages, and is told how many.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use wharf_protocol::{Message, Name, Timestamp};

use crate::harness;
use crate::host::Unit;
use crate::instance::Answer;
use crate::{Grant, Item, Kind, Problem};

/// The version of a recording's format: raised when a reader of the last one would misread a file.
pub const RECORDING_VERSION: u32 = 1;

/// Messages that wait for a recording's reader before the next are missed.
const WAITING_MAX: usize = 1024;

/// Bytes of messages that wait for a recording's reader before the next are missed.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The first line of a recording: of which stage it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordingHead {
    /// [`RECORDING_VERSION`].
    #[serde(rename = "wharf-recording")]
    pub recording: u32,
    /// The pipeline's name.
    pub pipeline: String,
    /// Its version.
    pub version: u32,
    /// The stage's name.
    pub stage: String,
    /// Its plugin, as `name@version`.
    pub plugin: String,
    /// The plugin's SHA-256, in hexadecimal.
    pub digest: String,
    /// As what it is used.
    pub kind: Kind,
    /// The stage's configuration.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// The names of the declared outputs.
    pub outputs: Vec<String>,
    /// What the stage grants.
    pub grants: Vec<Grant>,
}

/// A message as it entered a stage, and what the stage made of it: one line of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// The message.
    pub message: harness::Message,
    /// The time that the plugin saw, in milliseconds since 1970.
    pub now_ms: u64,
    /// What became of it.
    pub result: harness::Outcome,
}

/// A recording that is being made. Dropping it ends it.
pub struct Recording {
    /// Of which stage.
    pub head: RecordingHead,
    copies: mpsc::Receiver<Copy>,
    shared: Arc<Shared>,
}

/// Why a stage cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The pipeline has no stage of that name.
    #[error("the pipeline has no stage {stage}; its stages are: {stages}")]
    NoSuchStage {
        /// Which was asked for.
        stage: Name,
        /// Which there are.
        stages: String,
    },
    /// Somebody else records it.
    #[error("stage {0} is being recorded already; one recording of a stage is made at a time")]
    Busy(Name),
}

/// Where a stage hands its copies to.
#[derive(Default)]
pub(crate) struct Tap {
    on: AtomicBool,
    to: Mutex<Option<(mpsc::Sender<Copy>, Arc<Shared>)>>,
}

#[derive(Default)]
struct Shared {
    waiting_bytes: AtomicUsize,
    missed: AtomicU64,
}

/// A message and what was said of it, not yet written.
struct Copy {
    item: Item,
    now: Timestamp,
    said: Said,
    bytes: usize,
}

enum Said {
    Passed(Vec<(Option<String>, Message)>),
    Dropped,
    Rejected(Problem),
    Retry(Problem, Option<std::time::Duration>),
    Fault(Problem),
}

impl Recording {
    pub(crate) fn new(head: RecordingHead, tap: &Tap) -> Option<Self> {
        let mut to = tap.to.lock().unwrap_or_else(PoisonError::into_inner);
        if to.as_ref().is_some_and(|(sender, _)| !sender.is_closed()) {
            return None;
        }
        let (sender, copies) = mpsc::channel(WAITING_MAX);
        let shared = Arc::<Shared>::default();
        *to = Some((sender, Arc::clone(&shared)));
        tap.on.store(true, Relaxed);
        Some(Self { head, copies, shared })
    }

    /// The next message; `None` once the stage is gone, with its pipeline's version.
    ///
    /// # Cancel safety
    /// What is not taken stays.
    pub async fn next(&mut self) -> Option<Recorded> {
        let copy = self.copies.recv().await?;
        self.shared.waiting_bytes.fetch_sub(copy.bytes, Relaxed);
        Some(copy.written())
    }

    /// How many messages came while too many waited.
    pub fn missed(&self) -> u64 {
        self.shared.missed.load(Relaxed)
    }
}

impl Tap {
    /// Whether anybody records.
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// Hands over copies of `units` and of what was said of them.
    pub(crate) fn offer(&self, units: &[Unit], answers: &[Answer], outputs: &[String], now: Timestamp) {
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((sender, shared)) = &*to else { return };
        for (unit, answer) in units.iter().zip(answers) {
            let copy = Copy::new(unit, answer, outputs, now);
            let bytes = copy.bytes;
            if shared.waiting_bytes.load(Relaxed) + bytes > WAITING_BYTES_MAX {
                shared.missed.fetch_add(1, Relaxed);
                continue;
            }
            shared.waiting_bytes.fetch_add(bytes, Relaxed);
            match sender.try_send(copy) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => {
                    shared.waiting_bytes.fetch_sub(bytes, Relaxed);
                    shared.missed.fetch_add(1, Relaxed);
                }
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    *to = None;
                    self.on.store(false, Relaxed);
                    return;
                }
            }
        }
    }
}

impl Copy {
    fn new(unit: &Unit, answer: &Answer, outputs: &[String], now: Timestamp) -> Self {
        let message = &unit.item.message;
        let name = |id: usize| outputs.get(id).cloned();
        let said = match answer {
            Answer::Keep => Said::Passed(vec![(None, message.clone())]),
            Answer::Drop => Said::Dropped,
            Answer::To(ids) => {
                Said::Passed(ids.iter().map(|&id| (name(id.into()), message.clone())).collect())
            }
            Answer::Headers(headers) => {
                Said::Passed(vec![(None, Message { headers: headers.clone(), ..message.clone() })])
            }
            Answer::Emitted(emitted) => {
                let output =
                    |output: &crate::host::Emitted| (output.to.and_then(name), output.message.clone());
                Said::Passed(emitted.iter().map(output).collect())
            }
            Answer::Reject(problem) => Said::Rejected(problem.clone()),
            Answer::Retry(problem, after) => Said::Retry(problem.clone(), *after),
            Answer::Fault(fault, text) => Said::Fault(fault.problem(text.clone())),
        };
        let size = |message: &Message| message.payload.len() + message.headers.as_bytes().len();
        let made = match &said {
            Said::Passed(made) => made.iter().map(|(_, message)| size(message)).sum(),
            _ => 0,
        };
        let bytes = size(message) + made;
        Self { item: unit.item.clone(), now, said, bytes }
    }

    fn written(self) -> Recorded {
        let result = match self.said {
            Said::Passed(made) => harness::Outcome::Passed(
                made.into_iter().map(|(to, message)| harness::Output::written(to, &message)).collect(),
            ),
            Said::Dropped => harness::Outcome::Dropped,
            Said::Rejected(problem) => harness::Outcome::Rejected(problem),
            Said::Retry(problem, after) => {
                let after = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
                harness::Outcome::Retry(problem, after)
            }
            Said::Fault(problem) => harness::Outcome::Fault(problem),
        };
        Recorded { message: harness::Message::from(&self.item), now_ms: self.now.0, result }
    }
}
