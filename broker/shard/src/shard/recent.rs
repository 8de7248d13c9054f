//! The messages stored last, in memory: a consumer that keeps up never touches the disk.

use std::collections::VecDeque;

use wharf_protocol::{Message, MessageId};
use wharf_queue::Record;

/// Payload bytes kept.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a record costs beside its payloads.
const RECORD_BYTES: usize = 256;

/// The bodies of the newest records, dense by index.
#[derive(Debug, Default)]
pub(super) struct Recent {
    first: u64,
    records: VecDeque<Option<Record>>,
    bytes: usize,
}

impl Recent {
    /// Keeps record `index`, if it is of a kind that holds messages. Indexes come in order.
    pub(super) fn push(&mut self, index: u64, record: Record) {
        if self.records.is_empty() {
            self.first = index;
        }
        debug_assert_eq!(self.first + self.records.len() as u64, index, "indexes are dense");
        let record = record.payload_bytes().is_some().then_some(record);
        self.bytes += cost(record.as_ref());
        self.records.push_back(record);
        while self.bytes > BYTES_MAX {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= cost(oldest.as_ref());
            self.first += 1;
        }
    }

    /// The message, if it is still here.
    pub(super) fn message(&self, id: MessageId) -> Option<Message> {
        let place = usize::try_from(id.index.checked_sub(self.first)?).ok()?;
        self.records.get(place)?.as_ref()?.message(id.entry).cloned()
    }
}

fn cost(record: Option<&Record>) -> usize {
    RECORD_BYTES + record.and_then(Record::payload_bytes).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_queue::{Entry, Publish};

    fn publish(bytes: usize) -> Record {
        let message = Message::new("a".parse().expect("a topic"), vec![0; bytes]);
        Record::Publish(Publish::from(Entry { message, destinations: Vec::new() }))
    }

    #[test]
    fn the_oldest_make_room_for_the_newest() {
        let mut recent = Recent::default();
        for index in 7..7 + 40 {
            recent.push(index, publish(1024 * 1024));
        }
        let id = |index| MessageId { index, entry: 0 };
        assert!(recent.message(id(7)).is_none());
        assert!(recent.message(id(46)).is_some());
        assert!(recent.message(id(47)).is_none());
        assert!(recent.bytes <= BYTES_MAX);
    }
}
