//! The stream of a world: offsets are dense and immutable, and every reader sees the same (I5).

use wharf_protocol::MessageId;
use wharf_shard::{ShardError, StreamRead};

use super::World;
use crate::Label;
use crate::history::{Queue, Seen};

/// The stream's name.
pub(super) const TRAIL: Queue = "trail";
/// Messages of one read: a few, so that a run has many.
const READ_MESSAGES: usize = 16;
/// The number by which the reader is known in the history.
const READER: u32 = u32::MAX;

/// What earlier reads found at each offset.
pub(super) type Trail = std::collections::BTreeMap<u64, (MessageId, Option<Label>)>;

impl World {
    /// Reads the stream from `from` to its end, and compares what is there with what was read before.
    pub(super) async fn read_trail(&mut self, mut from: u64) {
        let Some(stream) = self.shard().topology().stream(TRAIL).map(|info| info.id) else { return };
        loop {
            let read =
                StreamRead { stream, partition: 0, from, messages_max: READ_MESSAGES, bytes_max: 1 << 20 };
            let run = match self.shard().read_stream(read).await {
                Ok(run) => run,
                Err(_) if self.is_stopped() => return,
                Err(error @ ShardError::Unreadable { .. }) => {
                    return self.violation("unreadable", format!("offset {from} of the stream: {error}"));
                }
                Err(error) => return self.violation("stream", format!("offset {from}: {error}")),
            };
            for message in &run.messages {
                if message.offset != from {
                    self.violation("stream", format!("offset {} comes where {from} is due", message.offset));
                }
                from = message.offset + 1;
                let found = (message.id, Label::read(&message.message.payload));
                let known = *self.trail.entry(message.offset).or_insert(found);
                if known != found {
                    let what = format!("offset {}: {found:?}, and it was {known:?}", message.offset);
                    self.violation("stream", what);
                }
            }
            if run.messages.is_empty() {
                if from < run.next {
                    self.violation("stream", format!("nothing at {from}, though the next is {}", run.next));
                }
                return;
            }
        }
    }

    /// Reads all of it at the end, as the consumer of what was published to it.
    pub(super) async fn drain_trail(&mut self) {
        let known = self.trail.last_key_value().map(|(offset, _)| *offset);
        self.read_trail(0).await;
        for (offset, (id, label)) in self.trail.clone() {
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
        if known.is_some() && !there {
            self.violation("stream", "it was read, and is gone");
        }
    }
}
