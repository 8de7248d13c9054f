//! Room: what a queue's limits let in, and what goes to make room.
//!
//! A publish is taken as a whole or refused as a whole, before anything of it is remembered: so the same
//! sequence, sent again when there is room, is stored. All that lies in a queue counts, in whatever place it is.
//! Where the policy makes room by letting the oldest go, only ready messages go: a publish for which there
//! would be no room even then is refused.

use std::collections::{BTreeMap, BTreeSet};

use wharf_protocol::{DeathCause, ErrorCode};

use super::State;
use super::death::GivenUp;
use super::enqueue::bytes_of;
use crate::effect::Refusal;
use crate::queue::{Fate, Queue};
use crate::{Effect, Entry, Overflow, QueueId};

/// Messages and bytes that come to a queue.
#[derive(Clone, Copy, Debug, Default)]
struct Coming {
    messages: u64,
    bytes: u64,
}

impl State {
    /// Refuses what is published if one of its queues has no room for it.
    pub(super) fn find_room<'a>(
        &self,
        entries: impl IntoIterator<Item = &'a Entry> + Clone,
    ) -> Result<(), Refusal> {
        if !self.purses.is_empty() {
            self.find_owners_room(entries.clone())?;
        }
        if self.limited == 0 {
            return Ok(());
        }
        let mut coming: BTreeMap<QueueId, Coming> = BTreeMap::new();
        for entry in entries {
            for destination in &entry.destinations {
                // Streams have their own bounds, a queue may be gone by now, and a dead-letter queue that is not there
                // yet has no limits.
                let to = match &destination.death {
                    None => self.queues.get(&destination.queue),
                    Some(_) => self.grave_of(destination.queue),
                };
                if let Some(to) = to.filter(|queue| queue.policy.is_limited()) {
                    let coming = coming.entry(to.id).or_default();
                    coming.messages += 1;
                    coming.bytes += u64::from(bytes_of(&entry.message));
                }
            }
        }
        coming.into_iter().try_for_each(|(id, coming)| self.find_room_in(&self.queues[&id], coming))
    }

    fn find_room_in(&self, queue: &Queue, coming: Coming) -> Result<(), Refusal> {
        if queue.has_room(coming.messages, coming.bytes) {
            return Ok(());
        }
        let staying = (queue.leased + queue.delayed, queue.bytes.get() - queue.ready_bytes);
        let fits = queue.policy.allows(staying.0 + coming.messages, staying.1.saturating_add(coming.bytes));
        match queue.policy.overflow {
            Overflow::DropOldest if fits => return Ok(()),
            Overflow::DeadLetter if fits && queue.dead_letters_to() != queue.name => {
                let (messages, bytes) = excess(queue, coming);
                let to = self.queue_named(queue.dead_letters_to().as_str());
                match to.filter(|to| !takes_dead_letters(to, messages, bytes)) {
                    None => return Ok(()),
                    Some(to) => return Err(full(to, "dead-letter queue")),
                }
            }
            Overflow::Reject | Overflow::DropOldest | Overflow::DeadLetter => {}
        }
        Err(full(queue, "queue"))
    }

    /// Lets the oldest go in the queues to which these messages came.
    pub(super) fn make_room(&mut self, entries: &[Entry], effects: &mut Vec<Effect>) {
        if self.limited == 0 {
            return;
        }
        let destinations = entries.iter().flat_map(|entry| &entry.destinations);
        let met = destinations.filter_map(|destination| {
            let queue = match &destination.death {
                None => self.queues.get(&destination.queue),
                Some(_) => self.grave_of(destination.queue),
            };
            Some(queue?.id)
        });
        for id in met.collect::<BTreeSet<QueueId>>() {
            self.make_room_in(id, effects);
        }
    }

    /// Lets the oldest go until a queue is within its limits, or as far as that is possible: what comes to a
    /// dead-letter queue may find it a publish's length over them.
    pub(super) fn make_room_in(&mut self, id: QueueId, effects: &mut Vec<Effect>) {
        while let Some(queue) = self.queues.get_mut(&id).filter(|queue| !queue.has_room(0, 0)) {
            let dead_letters = queue.policy.overflow == Overflow::DeadLetter;
            if queue.policy.overflow == Overflow::Reject
                || (dead_letters && queue.dead_letters_to() == queue.name)
            {
                return;
            }
            let Some(oldest) = queue.victim() else { return };
            if dead_letters && !self.has_room_for_dead(id, oldest) {
                return;
            }
            let queue = self.queues.get_mut(&id).expect("found above");
            assert!(queue.withdraw(oldest, &mut self.timers), "what goes to make room is ready");
            if dead_letters {
                let reason = "it was the oldest when its queue was full";
                self.dead_letter(id, oldest, GivenUp::new(DeathCause::Overflow, reason), effects);
            } else {
                queue.remove(oldest, Fate::Dropped, &mut self.timers, &mut self.live);
            }
        }
    }

    /// Whether the dead-letter queue of a queue takes one of its messages.
    pub(super) fn has_room_for_dead(&self, id: QueueId, offset: u64) -> bool {
        let queue = &self.queues[&id];
        let bytes = queue.backlog.slot(offset).map_or(0, |slot| u64::from(slot.bytes));
        let to = self.queue_named(queue.dead_letters_to().as_str());
        to.is_none_or(|to| takes_dead_letters(to, 1, bytes))
    }

    /// Whether the dead-letter queue of a stream takes one of its messages.
    pub(super) fn has_room_for_dead_of_stream(&self, id: QueueId) -> bool {
        // A stream does not note what its messages take.
        self.grave_of(id).is_none_or(|to| takes_dead_letters(to, 1, 0))
    }

    /// Counts anew the queues that have limits.
    pub(crate) fn count_limited(&mut self) {
        self.limited = self.queues.values().filter(|queue| queue.policy.is_limited()).count();
    }
}

/// Whether dead letters find room: they push nothing out of a queue that says "dead-letter", for that would
/// send them in circles.
fn takes_dead_letters(queue: &Queue, messages: u64, bytes: u64) -> bool {
    queue.policy.overflow == Overflow::DropOldest || queue.has_room(messages, bytes)
}

/// How much has to go, of messages and bytes, for what comes.
fn excess(queue: &Queue, coming: Coming) -> (u64, u64) {
    let over = |is: u64, most: u64| if most == 0 { 0 } else { is.saturating_sub(most) };
    let messages = over(queue.backlog.live() + coming.messages, queue.policy.max_messages);
    let bytes = over(queue.bytes.get().saturating_add(coming.bytes), queue.policy.max_bytes);
    (messages.max(1), bytes)
}

fn full(queue: &Queue, what: &str) -> Refusal {
    let of = |most: u64| if most == 0 { String::new() } else { format!(" of {most}") };
    let (messages, bytes) = (queue.backlog.live(), queue.bytes.get());
    let reason = format!(
        "{what} {} is full: {messages}{} messages, {bytes}{} bytes; consume or purge some, or raise its limits",
        queue.name,
        of(queue.policy.max_messages),
        of(queue.policy.max_bytes),
    );
    Refusal { code: ErrorCode::Unavailable, reason }
}
