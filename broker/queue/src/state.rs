//! The state: all queues, consumers, topology and memory of duplicates, as of one record.

use std::sync::Arc;

use wharf_protocol::Timestamp;

use crate::{DeadLetter, Effect, QueueView, RestoreError, Stamped, Topology, Waiting};

/// All delivery state of one shard, as of one record.
#[derive(Debug, Default)]
pub struct State {
    topology: Arc<Topology>,
}

impl State {
    /// Folds record `index` into the state and appends what is to be done about it to `effects`.
    ///
    /// # Panics
    /// If `index` or the stamp go back: the log is dense and its stamps never decrease.
    pub fn apply(&mut self, index: u64, stamped: &Stamped, effects: &mut Vec<Effect>) {
        let _ = (index, stamped, effects);
    }
    /// The index of the last record applied; 0 before any.
    pub fn applied(&self) -> u64 {
        0
    }
    /// The last stamp.
    pub fn now(&self) -> Timestamp {
        Timestamp(0)
    }
    /// What is declared. Cheap to clone and keep.
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }
    /// No record below this one is needed any more (conservative).
    pub fn oldest_live_index(&self) -> u64 {
        0
    }
    /// When time next changes something: apply a `Tick` then. Never late, rarely early.
    pub fn next_timer(&self) -> Option<Timestamp> {
        None
    }
    /// A hash of all that matters: equal states hash equal.
    pub fn hash(&self) -> u64 {
        0
    }
    /// The state as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        Vec::new()
    }
    /// The state that was written by [`snapshot`](Self::snapshot).
    ///
    /// # Errors
    /// What keeps the bytes from being one.
    pub fn restore(bytes: &[u8]) -> Result<Self, RestoreError> {
        let _ = bytes;
        Ok(Self::default())
    }
    /// One queue in numbers.
    pub fn queue(&self, name: &str) -> Option<QueueView> {
        let _ = name;
        None
    }
    /// All queues in numbers, by name.
    pub fn queues(&self) -> impl Iterator<Item = QueueView> {
        std::iter::empty()
    }
    /// At most `max` ready messages of a queue, in the order in which they would be delivered.
    pub fn peek(&self, queue: &str, max: usize) -> Vec<Waiting> {
        let _ = (queue, max);
        Vec::new()
    }
    /// At most `max` dead letters of a queue from offset `from` on.
    pub fn dead_letters(&self, queue: &str, from: u64, max: usize) -> Vec<DeadLetter> {
        let _ = (queue, from, max);
        Vec::new()
    }
}
