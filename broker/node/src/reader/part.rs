//! One partition, as one reader reads it: ahead of what it delivers, in the background.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use wharf_protocol::Timestamp;
use wharf_queue::QueueId;
use wharf_shard::{Shard, ShardError, StreamMessage, StreamRead, StreamRun};

/// Messages read ahead in one read.
const RUN_MESSAGES_MAX: usize = 1_024;
/// Bytes that a reader reads ahead in one read of all its partitions.
const RUNS_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes that it reads ahead of one partition at least, however many there are.
const RUN_BYTES_MIN: usize = 64 * 1024;

/// A partition, from a place on.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) number: u16,
    /// By which a group's member has it.
    pub(super) generation: u64,
    /// Offsets below this one may have been delivered before.
    pub(super) seen: u64,
    /// How often members failed with what is to be delivered.
    failures: BTreeMap<u64, u32>,
    /// All before it is delivered, settled or gone.
    pub(super) position: u64,
    /// Settled above the position, first and last, rising: not to be delivered.
    settled: VecDeque<(u64, u64)>,
    /// Deliver nothing from this offset on.
    pub(super) end: Option<u64>,
    ahead: VecDeque<StreamMessage>,
    /// Where the next read begins.
    next_read: u64,
    reading: Option<Reading>,
    /// There was nothing more when the stream was of this version.
    dry_at: Option<u64>,
    bytes_max: usize,
}

#[derive(Debug)]
struct Reading {
    task: JoinHandle<()>,
    outcome: Arc<Outcome>,
    /// Of the stream, when it began.
    version: u64,
}

/// What a read in the background found, once it did.
type Outcome = Mutex<Option<Result<StreamRun, ShardError>>>;

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Part {
    /// Partition `number` of those `parts` that a reader has, from `position` on.
    pub(super) fn new(number: u16, position: u64, parts: usize) -> Self {
        Self {
            number,
            generation: 0,
            seen: 0,
            failures: BTreeMap::new(),
            position,
            settled: VecDeque::new(),
            end: None,
            ahead: VecDeque::new(),
            next_read: position,
            reading: None,
            dry_at: None,
            bytes_max: (RUNS_BYTES_MAX / parts.max(1)).max(RUN_BYTES_MIN),
        }
    }

    /// As a group's member has it.
    pub(super) fn assigned(assignment: &wharf_queue::Assignment, parts: usize) -> Self {
        let settled = assignment.settled.iter().copied().collect();
        let failures = assignment.failures.iter().copied().collect();
        let (generation, seen) = (assignment.generation, assignment.seen);
        Self {
            generation,
            seen,
            failures,
            settled,
            ..Self::new(assignment.partition, assignment.floor, parts)
        }
    }

    /// Reads on in the background, if there may be more and little lies here; tells `arrived` when it has. `version`
    /// is the stream's.
    pub(super) fn read_ahead(&mut self, shard: &Shard, stream: QueueId, version: u64, arrived: &Arc<Notify>) {
        let enough = self.ahead.len() >= RUN_MESSAGES_MAX / 2;
        if enough
            || self.reading.is_some()
            || self.dry_at == Some(version)
            || self.is_past_end(self.next_read)
        {
            return;
        }
        let read = StreamRead {
            stream,
            partition: self.number,
            from: self.next_read,
            messages_max: RUN_MESSAGES_MAX,
            bytes_max: self.bytes_max,
        };
        let outcome = Arc::<Outcome>::default();
        let (shard, arrived, slot) = (shard.clone(), Arc::clone(arrived), Arc::clone(&outcome));
        let task = tokio::spawn(async move {
            let run = shard.read_stream(read).await;
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(run);
            arrived.notify_one();
        });
        self.reading = Some(Reading { task, outcome, version });
    }

    /// Takes what was read in the background, if it is here.
    pub(super) fn arrive(&mut self) -> Result<(), ShardError> {
        let Some(reading) = &self.reading else { return Ok(()) };
        let Some(run) = reading.outcome.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        let (run, version) = (run?, reading.version);
        self.reading = None;
        if run.after >= run.next {
            self.dry_at = Some(version);
        }
        self.next_read = run.after;
        self.ahead.extend(run.messages);
        Ok(())
    }

    /// When the next message that lies here was stored.
    pub(super) fn next_stored_at(&mut self) -> Option<Timestamp> {
        self.pass_over_settled();
        self.ahead
            .front()
            .filter(|message| !self.is_past_end(message.offset))
            .map(|message| message.stored_at)
    }

    /// The next message that lies here, and the first offset that goes with it: those between are settled or gone.
    pub(super) fn take(&mut self) -> Option<(u64, StreamMessage)> {
        self.pass_over_settled();
        if self.is_past_end(self.ahead.front()?.offset) {
            return None;
        }
        let message = self.ahead.pop_front()?;
        let first = std::mem::replace(&mut self.position, message.offset + 1);
        Some((first, message))
    }

    /// The number of a delivery that is the member's first of this offset: as many failures are known, and what may
    /// have been delivered before counts as once.
    pub(super) fn attempt(&mut self, offset: u64) -> u32 {
        let failures = self.failures.remove(&offset).unwrap_or(0);
        failures.max(u32::from(offset < self.seen)).saturating_add(1)
    }

    /// Whether all that it is to deliver, up to its end, is delivered.
    pub(super) fn is_done(&self) -> bool {
        match self.ahead.front() {
            Some(message) => self.is_past_end(message.offset),
            None => self.reading.is_none() && self.is_past_end(self.next_read),
        }
    }

    fn is_past_end(&self, offset: u64) -> bool {
        self.end.is_some_and(|end| offset >= end)
    }

    fn pass_over_settled(&mut self) {
        while let (Some((first, last)), Some(message)) = (self.settled.front().copied(), self.ahead.front()) {
            if message.offset < first {
                return;
            }
            if message.offset > last {
                self.settled.pop_front();
            } else {
                self.ahead.pop_front();
            }
        }
    }
}
