//! Reading streams, by any task: where messages lie is asked of the owner, who gives along what is still in memory;
//! the rest is read from the log, neighbours together, off the async threads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use wharf_protocol::{Message, MessageId, Timestamp};
use wharf_queue::{QueueId, Waiting};

/// Messages that one read asks for at most.
pub const STREAM_READ_MESSAGES_MAX: usize = 4_096;

/// What to read of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamRead {
    /// The stream.
    pub stream: QueueId,
    /// Which of its partitions.
    pub partition: u16,
    /// The first offset.
    pub from: u64,
    /// The most messages, at most [`STREAM_READ_MESSAGES_MAX`].
    pub messages_max: usize,
    /// The most bytes of payload; a first message that is larger comes alone.
    pub bytes_max: usize,
}

/// Messages of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamRun {
    /// The messages, by offset. In a compacted stream there are gaps; at the front also where retention took
    /// what was asked for.
    pub messages: Vec<StreamMessage>,
    /// The first offset that is kept.
    pub first: u64,
    /// The offset that the next message gets: there was nothing at or past it.
    pub next: u64,
    /// Where to read on.
    pub after: u64,
}

/// A message at its place in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamMessage {
    /// Its place.
    pub offset: u64,
    /// Its id in the broker.
    pub id: MessageId,
    /// When it was stored.
    pub stored_at: Timestamp,
    /// The message.
    pub message: Message,
}

/// Where messages of a partition lie, and those of them that are still in memory.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) places: Vec<Waiting>,
    /// One for each place.
    pub(crate) bodies: Vec<Option<Message>>,
    pub(crate) first: u64,
    pub(crate) next: u64,
}

/// Which streams somebody waits at, and for what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tails(Arc<Mutex<HashMap<QueueId, watch::Sender<Tail>>>>);

/// How far a stream is, as far as somebody watched it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Rises with each batch that brought messages.
    pub version: u64,
    /// The stream was deleted, or the shard stopped.
    pub gone: bool,
}

impl Tails {
    /// Told of what comes to `stream` from now on.
    pub(crate) fn watch(&self, stream: QueueId) -> watch::Receiver<Tail> {
        let mut tails = self.lock();
        // Those that nobody watches any more go when somebody comes: their number follows the watchers.
        tails.retain(|_, tail| tail.receiver_count() > 0);
        tails.entry(stream).or_insert_with(|| watch::channel(Tail::default()).0).subscribe()
    }

    /// More came to `stream`.
    pub(crate) fn grew(&self, stream: QueueId) {
        if let Some(tail) = self.lock().get(&stream) {
            tail.send_modify(|tail| tail.version += 1);
        }
    }

    /// Nothing comes to `stream` any more.
    pub(crate) fn gone(&self, stream: QueueId) {
        if let Some(tail) = self.lock().remove(&stream) {
            tail.send_modify(|tail| tail.gone = true);
        }
    }

    /// Nothing comes to any stream any more.
    pub(crate) fn close(&self) {
        for (_, tail) in self.lock().drain() {
            tail.send_modify(|tail| tail.gone = true);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<QueueId, watch::Sender<Tail>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
