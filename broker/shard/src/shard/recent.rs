//! The messages stored last, in memory: a consumer that keeps up never touches the disk.

use std::collections::VecDeque;

use wharf_protocol::{Message, MessageId};
use wharf_queue::Publish;

/// Payload bytes kept.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a record costs beside its payloads.
const RECORD_BYTES: usize = 256;

/// The bodies of the newest records, dense by index.
#[derive(Debug, Default)]
pub(super) struct Recent {
    first: u64,
    records: VecDeque<Option<Publish>>,
    bytes: usize,
}

impl Recent {
    /// Keeps what record `index` stored; `None` for a record without messages. Indexes come in order.
    pub(super) fn push(&mut self, index: u64, publish: Option<Publish>) {
        if self.records.is_empty() {
            self.first = index;
        }
        debug_assert_eq!(self.first + self.records.len() as u64, index, "indexes are dense");
        self.bytes += cost(publish.as_ref());
        self.records.push_back(publish);
        while self.bytes > BYTES_MAX {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= cost(oldest.as_ref());
            self.first += 1;
        }
    }

    /// The message, if it is still here.
    pub(super) fn message(&self, id: MessageId) -> Option<Message> {
        let place = usize::try_from(id.index.checked_sub(self.first)?).ok()?;
        let publish = self.records.get(place)?.as_ref()?;
        publish.entries.get(usize::from(id.entry)).map(|entry| entry.message.clone())
    }
}

fn cost(publish: Option<&Publish>) -> usize {
    let payloads = publish.map_or(0, |p| p.entries.iter().map(|entry| entry.message.payload.len()).sum());
    RECORD_BYTES + payloads
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_queue::Entry;

    fn publish(bytes: usize) -> Option<Publish> {
        let message = Message::new("a".parse().expect("a topic"), vec![0; bytes]);
        Some(Publish::from(Entry { message, destinations: Vec::new() }))
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
