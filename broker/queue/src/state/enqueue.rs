//! How messages come into queues: published, dead-lettered, sent on their way again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use wharf_protocol::{Death, DeathCause, Message, MessageId, Name, Receipt, Rejection, Stored};

use super::State;
use crate::backlog::Slot;
use crate::effect::Refusal;
use crate::producers::Seen;
use crate::queue::{Extra, Fate, Queue};
use crate::{DEAD_LETTERS, Destination, Effect, Entry, Publish, QueueId, Redrive, Selection};

/// The longest text kept of a death; what is over it is cut off. Dead letters are kept in memory.
const DEATH_TEXT_BYTES_MAX: usize = 1_024;

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
        self.enqueue_all(0, &publish.entries, effects);
    }

    /// Lays every message where it goes; the first has number `first` of its record.
    pub(super) fn enqueue_all(&mut self, first: u16, entries: &[Entry], effects: &mut Vec<Effect>) {
        for (entry, number) in entries.iter().zip(first..) {
            let id = MessageId { index: self.applied, entry: number };
            for destination in &entry.destinations {
                match &destination.death {
                    None => self.enqueue(id, destination.queue, &entry.message),
                    Some(death) => self.enqueue_dead(id, destination, death, &entry.message, effects),
                }
            }
        }
    }

    /// The answer to a publish; what is to be stored is remembered as stored.
    fn receipt(&mut self, publish: &Publish) -> Receipt {
        let entries = u16::try_from(publish.entries.len()).expect("a publish has at most 65,535 entries");
        let stored = Stored { index: self.applied, entries };
        if let Some(session) = &publish.session {
            match self.producers.check(session) {
                Ok(Seen::New) => {}
                Ok(Seen::Before(place)) => {
                    self.producers.touch(session.producer, self.now);
                    return Receipt::Duplicate(place);
                }
                Err(Refusal { code, reason }) => {
                    let retry_after_ms = None;
                    return Receipt::Rejected(Rejection { code, stage: None, reason, retry_after_ms });
                }
            }
        }
        let known = publish.dedup.is_some_and(|key| self.message_ids.find(key).is_some());
        if !known && let Some((_, rejection)) = self.unmet_expectation(&publish.entries) {
            return Receipt::Rejected(rejection);
        }
        let receipt = self.remember(publish.dedup, stored);
        if let (Some(session), Receipt::Stored(place) | Receipt::Duplicate(Some(place))) =
            (&publish.session, &receipt)
        {
            self.producers.store(session, *place, self.now);
        }
        receipt
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

    fn enqueue(&mut self, id: MessageId, queue: QueueId, message: &Message) {
        // Deleted between routing and the record.
        let Some(queue) = self.queues.get_mut(&queue) else {
            return self.append_to_stream(id, queue, message);
        };
        let plain = message.priority == 0 && message.ttl.is_none() && message.delay.is_none();
        let extra = (!plain).then(|| Extra {
            priority: message.priority,
            expires: message.ttl.map(|ttl| self.now.after(as_encoded(ttl))),
            not_before: message.delay.map(|delay| self.now.after(as_encoded(delay))),
            ..Extra::default()
        });
        queue.push(Slot { id, stored_at: self.now }, extra, &mut self.timers);
        self.live.add(id.index);
        self.touched.push(queue.id);
    }

    /// Lays a message that a pipeline stage gave up where the queue it was on its way to has its dead letters.
    fn enqueue_dead(
        &mut self,
        id: MessageId,
        destination: &Destination,
        death: &Death,
        message: &Message,
        effects: &mut Vec<Effect>,
    ) {
        let Some(name) = self.backlog_name(destination.queue) else { return };
        let (name, now) = (name.to_string(), self.now);
        let death =
            Death { queue: name, attempts: 0, first_at: now, last_at: now, original: id, ..death.clone() };
        let target = self.dead_letter_queue(destination.queue, effects);
        let extra = Extra { priority: message.priority, death: Some(Box::new(death)), ..Extra::default() };
        self.lay(target, Slot { id, stored_at: now }, extra);
    }

    /// Gives up a message that is nowhere: it goes to its queue's dead-letter queue. One that is dead already,
    /// or lies in the very queue it would go to, stays, and rests for the longest retry delay: so no
    /// dead letter goes in circles.
    pub(super) fn dead_letter(
        &mut self,
        from: QueueId,
        offset: u64,
        cause: DeathCause,
        reason: String,
        effects: &mut Vec<Effect>,
    ) {
        let queue = self.queues.get_mut(&from).expect("the caller found it");
        let slot = queue.backlog.slot(offset).expect("a message that is given up is not settled");
        let known = queue.extras.get(&offset).cloned().unwrap_or_default();
        let death = known.death.unwrap_or_else(|| {
            Box::new(Death {
                queue: queue.name.to_string(),
                cause,
                reason: bounded(&reason),
                stage: None,
                plugin: None,
                attempts: known.attempts,
                first_at: slot.stored_at,
                last_at: self.now,
                original: slot.id,
            })
        });
        let was_dead = queue.extras.get(&offset).is_some_and(|extra| extra.death.is_some());
        if was_dead || dead_letter_name(&queue.policy.dead_letter) == queue.name {
            queue.die_here(offset, death, &mut self.timers);
            let rest = Duration::from_millis(queue.policy.retry_max_ms);
            queue.delay(offset, self.now.after(rest), &mut self.timers);
            return;
        }
        let (slot, extra) = queue.remove(offset, Fate::DeadLettered, &mut self.timers, &mut self.live);
        let target = self.dead_letter_queue(from, effects);
        let (attempts, priority) = (extra.attempts, extra.priority);
        self.lay(target, slot, Extra { attempts, priority, death: Some(death), ..Extra::default() });
    }

    /// Sends dead letters on their way again.
    pub(super) fn redrive(&mut self, redrive: &Redrive, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let not_found = |name: &Name| Refusal::not_found("queue", name);
        let topology = Arc::clone(&self.topology);
        let from = topology.queue(redrive.queue.as_str()).ok_or_else(|| not_found(&redrive.queue))?.id;
        let to = match &redrive.to {
            Some(name) => Some(topology.queue(name.as_str()).ok_or_else(|| not_found(name))?.id),
            None => None,
        };
        let dead = self.queues[&from].dead();
        let (offsets, limit): (Vec<u64>, usize) = match &redrive.select {
            Selection::Oldest(limit) => (dead.map(|(offset, _)| offset).collect(), *limit as usize),
            Selection::Offsets { from, to } => {
                let chosen = dead.filter(|(offset, _)| (*from..*to).contains(offset));
                (chosen.map(|(offset, _)| offset).collect(), usize::MAX)
            }
            Selection::Ids(ids) => {
                let ids: BTreeSet<&MessageId> = ids.iter().collect();
                let chosen = dead.filter(|(_, id)| ids.contains(id)).map(|(offset, _)| offset);
                (chosen.collect(), usize::MAX)
            }
        };

        let (mut moved, mut kept, mut found) = (0, 0, BTreeSet::new());
        for offset in offsets {
            if moved as usize == limit {
                break;
            }
            let queue = self.queues.get_mut(&from).expect("found above");
            let death = queue.extras.get(&offset).and_then(|extra| extra.death.as_deref());
            let death = death.expect("a dead letter has its death");
            let original = topology.queue(&death.queue).map(|queue| queue.id);
            let id = queue.backlog.slot(offset).expect("a dead letter is not settled").id;
            found.insert(id);
            // One that died on its way into no queue at all has none to go back to.
            let target = to.or(original).filter(|target| *target != from);
            let Some(target) = target.filter(|_| queue.withdraw(offset, &mut self.timers)) else {
                kept += 1;
                continue;
            };
            let (slot, extra) = queue.remove(offset, Fate::Redriven, &mut self.timers, &mut self.live);
            let (attempts, priority) = (extra.attempts, extra.priority);
            self.lay(target, slot, Extra { attempts, priority, ..Extra::default() });
            moved += 1;
        }
        if let Selection::Ids(ids) = &redrive.select {
            kept += ids.iter().filter(|id| !found.contains(id)).count() as u64;
        }
        effects.push(Effect::Redriven { moved, kept });
        Ok(())
    }

    /// Adds a message of an earlier or this record to a queue that is there.
    pub(super) fn lay(&mut self, queue: QueueId, slot: Slot, extra: Extra) {
        self.live.add(slot.id.index);
        let target = self.queues.get_mut(&queue).expect("the caller found it");
        target.push(slot, Some(extra), &mut self.timers);
        self.touched.push(queue);
    }

    /// The queue where `queue`, or a stream, has its dead letters, made when there is none.
    pub(super) fn dead_letter_queue(&mut self, queue: QueueId, effects: &mut Vec<Effect>) -> QueueId {
        let name = self.dead_letter_name(queue);
        if let Some(known) = self.topology.queue(name.as_str()) {
            return known.id;
        }
        let id = Arc::make_mut(&mut self.topology).dead_letter_queue(self.applied, &name);
        let policy = self.topology.queue(name.as_str()).expect("just made").policy.clone();
        self.queues.insert(id, Queue::new(id, name, policy));
        effects.push(Effect::TopologyChanged);
        id
    }

    fn dead_letter_name(&self, backlog: QueueId) -> Name {
        let queue = self.queues.get(&backlog).map(|queue| &queue.policy.dead_letter);
        let named = queue.or_else(|| self.streams.get(&backlog).map(|stream| &stream.policy.dead_letter));
        dead_letter_name(named.expect("the caller found it"))
    }

    /// The name of a queue or stream.
    fn backlog_name(&self, backlog: QueueId) -> Option<&Name> {
        let queue = self.queues.get(&backlog).map(|queue| &queue.name);
        queue.or_else(|| self.streams.get(&backlog).map(|stream| &stream.name))
    }
}

/// A duration as a message's encoding has it: at least a millisecond, so that a replay sees the same.
fn as_encoded(duration: Duration) -> Duration {
    duration.max(Duration::from_millis(1))
}

/// A text as far as it is kept.
pub(super) fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(DEATH_TEXT_BYTES_MAX)].to_owned()
}

/// Where the dead letters go of a policy that says `named`.
fn dead_letter_name(named: &Option<Name>) -> Name {
    let default = || DEAD_LETTERS.parse().expect("the constant is a name");
    named.clone().unwrap_or_else(default)
}
