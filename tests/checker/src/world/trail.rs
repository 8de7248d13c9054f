//! The streams of a world: offsets are dense and immutable, and every reader sees the same (I5); of a compacted one,
//! the last message of each key is there.

use std::collections::BTreeMap;

use wharf_protocol::MessageId;
use wharf_queue::Publish;
use wharf_shard::{ShardError, StreamMessage, StreamRead};

use super::World;
use crate::Label;
use crate::history::{Queue, Seen};

/// The stream that keeps everything, read from any place and by a group.
pub(super) const TRAIL: Queue = "trail";
/// Its partitions.
pub(super) const PARTITIONS: u16 = 2;
/// The compacted stream.
pub(super) const LEDGER: Queue = "ledger";
/// Messages of one read: a few, so that a run has many.
const READ_MESSAGES: usize = 16;
/// The number by which the reader is known in the history.
const READER: u32 = u32::MAX;

/// What earlier reads found at each partition and offset.
pub(super) type Trail = BTreeMap<(u16, u64), (MessageId, Option<Label>)>;

/// Of each key of the compacted stream, the record of the last message that was confirmed.
pub(super) type Ledger = BTreeMap<u64, u64>;

impl World {
    /// Reads a partition of the trail from `from` to its end, and compares what is there with what was read before.
    pub(super) async fn read_trail(&mut self, partition: u16, mut from: u64) {
        while let Some((messages, next)) = self.read_run(TRAIL, partition, from).await {
            for message in &messages {
                if message.offset != from {
                    self.violation("stream", format!("offset {} comes where {from} is due", message.offset));
                }
                from = message.offset + 1;
                let found = (message.id, Label::read(&message.message.payload));
                let known = *self.trail.entry((partition, message.offset)).or_insert(found);
                if known != found {
                    let what = format!("offset {}: {found:?}, and it was {known:?}", message.offset);
                    self.violation("stream", what);
                }
            }
            if messages.is_empty() {
                if from < next {
                    self.violation("stream", format!("nothing at {from}, though the next is {next}"));
                }
                return;
            }
        }
    }

    /// Some messages of a stream, and its next offset; `None` when it cannot be read, which is told.
    async fn read_run(
        &mut self,
        stream: Queue,
        partition: u16,
        from: u64,
    ) -> Option<(Vec<StreamMessage>, u64)> {
        let stream = self.shard().topology().stream(stream)?.id;
        let read = StreamRead { stream, partition, from, messages_max: READ_MESSAGES, bytes_max: 1 << 20 };
        match self.shard().read_stream(read).await {
            Ok(run) => return Some((run.messages, run.next)),
            Err(_) if self.is_stopped() => {}
            Err(error @ ShardError::Unreadable { .. }) => {
                self.violation("unreadable", format!("offset {from} of a stream: {error}"));
            }
            Err(error) => self.violation("stream", format!("offset {from}: {error}")),
        }
        None
    }

    /// Reads all of them at the end, as the consumer of what was published there.
    pub(super) async fn drain_streams(&mut self) {
        let known = !self.trail.is_empty();
        for partition in 0..PARTITIONS {
            self.read_trail(partition, 0).await;
        }
        for ((_, offset), (id, label)) in self.trail.clone() {
            let queue = TRAIL;
            let (consumer, boot, attempt, redelivered) = (READER, self.boot, 1, false);
            self.history.read(Seen {
                queue,
                consumer,
                boot,
                label,
                id,
                offset,
                attempt,
                redelivered,
                died_in: None,
            });
        }
        let there = self.shard().topology().stream(TRAIL).is_some();
        if known && !there {
            self.violation("stream", "it was read, and is gone");
        }
        self.read_ledger().await;
    }

    /// Whether this goes to the compacted stream.
    pub(super) fn is_of_ledger(&self, publish: &Publish) -> bool {
        let ledger = self.shard().topology().stream(LEDGER).map(|info| info.id);
        publish.entries[0].destinations.iter().any(|each| Some(each.queue) == ledger)
    }

    /// Reads the compacted stream: each key once, at its last message that was confirmed or a later one.
    async fn read_ledger(&mut self) {
        let (mut found, mut from) = (BTreeMap::new(), 0);
        while let Some((messages, _)) = self.read_run(LEDGER, 0, from).await {
            let Some(last) = messages.last() else { break };
            from = last.offset + 1;
            for message in &messages {
                let Some(label) = Label::read(&message.message.payload) else {
                    self.violation("phantom", format!("offset {} of the ledger", message.offset));
                    continue;
                };
                if let Some(before) = found.insert(label.key(), message.id.index) {
                    let what = format!("key {} lies in records {before} and {}", label.key(), message.id);
                    self.violation("compaction", what);
                }
            }
        }
        if self.is_stopped() {
            return;
        }
        for (key, confirmed) in self.ledger.clone() {
            if found.get(&key).is_none_or(|index| *index < confirmed) {
                let what = format!(
                    "the last message of key {key}, confirmed in record {confirmed}, is lost: there is {:?}",
                    found.get(&key)
                );
                self.violation("lost", what);
            }
        }
    }
}
