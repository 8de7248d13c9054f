//! How published messages come into queues.

use std::time::Duration;

use wharf_protocol::{ErrorCode, Message, MessageId, Receipt, Rejection, Stored};

use super::State;
use crate::backlog::Slot;
use crate::effect::Refusal;
use crate::lane::LaneId;
use crate::past::Past;
use crate::queue::Extra;
use crate::seeded::{self, Fault};
use crate::{Effect, Entry, Publish, QueueId, kv};

/// What a message brings from an earlier life: that of the dead letter which it was.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    /// Deliveries that ended without settling it.
    pub(super) attempts: u32,
    /// Its deaths, and how often it was sent on its way again.
    pub(super) past: Option<Box<Past>>,
}

impl State {
    /// Stores what a published message became, unless it was stored before. Whether it was is decided here,
    /// in the record that stores it.
    pub(super) fn publish(&mut self, publish: &Publish, effects: &mut Vec<Effect>) {
        let receipt = self.receipt(publish);
        let new = matches!(receipt, Receipt::Stored(_));
        effects.push(Effect::Receipt(receipt));
        if !new {
            return;
        }
        self.remember_kv(publish);
        self.enqueue_all(0, &publish.entries, None, effects);
    }

    /// Lays every message where it goes; the first has number `first` of its record. `life`: what they bring from an
    /// earlier one.
    pub(super) fn enqueue_all(
        &mut self,
        first: u16,
        entries: &[Entry],
        life: Option<&Life>,
        effects: &mut Vec<Effect>,
    ) {
        for (entry, number) in entries.iter().zip(first..) {
            let number = if seeded::is(Fault::IdReused) { first } else { number };
            let id = MessageId { index: self.applied, entry: number };
            for destination in &entry.destinations {
                match &destination.death {
                    None => self.enqueue(id, destination.queue, &entry.message, life),
                    Some(death) => self.enqueue_dead(id, destination, death, &entry.message, life, effects),
                }
            }
        }
        self.make_room(entries, effects);
    }

    /// The answer to a publish; what is to be stored is remembered as stored.
    fn receipt(&mut self, publish: &Publish) -> Receipt {
        let entries = u16::try_from(publish.entries.len()).expect("a publish has at most 65,535 entries");
        let stored = Stored { index: self.applied, entries };
        if self.is_behind_stale(publish) {
            return rejected(kv::stale());
        }
        if let Some(session) = &publish.session
            && let Some(told) = self.told_before(session)
        {
            self.producers.touch(session, self.now);
            return told;
        }
        let known = publish.dedup.is_some_and(|key| self.message_ids.find(key).is_some());
        if !known && !self.is_current(publish) {
            return rejected(kv::stale());
        }
        if !known && let Some((_, rejection)) = self.unmet_expectation((0..).zip(&publish.entries)) {
            return Receipt::Rejected(rejection);
        }
        if !known && let Err(refusal) = self.find_room(&publish.entries) {
            return rejected(refusal);
        }
        if publish.needs_consumer && !known && !self.has_consumer(&publish.entries) {
            let reason = "nobody is listening: no queue that it would go to has a consumer".to_owned();
            return rejected(Refusal { code: ErrorCode::NoListener, reason });
        }
        let receipt = self.remember(publish.dedup, stored);
        if let (Some(session), Receipt::Stored(place) | Receipt::Duplicate(Some(place))) =
            (&publish.session, &receipt)
        {
            self.producers.store(session, *place, self.now);
        }
        receipt
    }

    fn has_consumer(&self, entries: &[Entry]) -> bool {
        let mut to = entries.iter().flat_map(|entry| &entry.destinations).filter(|to| to.death.is_none());
        to.any(|to| self.queues.get(&to.queue).is_some_and(|queue| queue.consumers > 0))
    }

    /// Remembers a message id as stored, unless it is one that is remembered.
    pub(super) fn remember(&mut self, dedup: Option<u128>, stored: Stored) -> Receipt {
        let Some(key) = dedup else { return Receipt::Stored(stored) };
        if let Some(place) = self.message_ids.find(key) {
            return Receipt::Duplicate(Some(place));
        }
        self.message_ids.store(key, stored, self.now, self.topology.deduplication());
        Receipt::Stored(stored)
    }

    fn enqueue(&mut self, id: MessageId, queue: QueueId, message: &Message, life: Option<&Life>) {
        // Deleted between routing and the record.
        let Some(queue) = self.queues.get_mut(&queue) else {
            return self.append_to_stream(id, queue, message);
        };
        let slot = Slot { id, stored_at: self.now, bytes: bytes_of(message) };
        let lane = if queue.lanes.is_some() { LaneId::of(message, &queue.policy) } else { LaneId::NONE };
        let plain = message.priority == 0 && message.ttl.is_none() && message.delay.is_none();
        if plain && life.is_none() {
            queue.push_plain(slot, lane, &mut self.timers);
        } else {
            let Life { attempts, past } = life.cloned().unwrap_or_default();
            let extra = Extra {
                attempts,
                past,
                priority: message.priority,
                expires: message.ttl.map(|ttl| self.now.after(as_encoded(ttl))),
                not_before: message.delay.map(|delay| self.now.after(as_encoded(delay))),
                ..Extra::default()
            };
            queue.push(slot, lane, extra, self.now, &mut self.timers);
        }
        self.live.add(id.index);
        self.touched.push(queue.id);
    }
}

fn rejected(Refusal { code, reason }: Refusal) -> Receipt {
    Receipt::Rejected(Rejection { code, stage: None, reason, retry_after_ms: None })
}

/// What a message takes, as its queue counts it.
pub(super) fn bytes_of(message: &Message) -> u32 {
    u32::try_from(message.encoded_bytes()).unwrap_or(u32::MAX)
}

/// A duration as a message's encoding has it: at least a millisecond, so that a replay sees the same.
fn as_encoded(duration: Duration) -> Duration {
    duration.max(Duration::from_millis(1))
}
