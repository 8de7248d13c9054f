//! How messages end without an ack, and how they go from queue to queue.

use std::time::Duration;

use wharf_protocol::{Death, DeathCause, ErrorCode, MessageId, Name, Stored};
use wharf_queue::{Effect, Entry, Move, Order, PAST_DEATHS_MAX, QueuePolicy, Redrive, Resolve, Selection};

use super::publish::has_room;
use super::{Message, Model, Place, Queue};

impl Model {
    pub(super) fn expire(&mut self, queue: u32, offset: usize) {
        let dead = self.message(queue, offset).death.is_some();
        if self.queues[&queue].policy.dead_letter_expired && !dead {
            self.bury(queue, offset, DeathCause::Expired, "its time to live ran out".into());
        } else {
            self.message(queue, offset).place = Place::Gone;
        }
    }

    /// A message is given up: to the dead-letter queue; where it lies, when it is dead or lies there already; or it
    /// rests, when there is no room.
    pub(super) fn bury(&mut self, from: u32, offset: usize, cause: DeathCause, reason: String) {
        let now = self.now;
        let queue = &self.queues[&from];
        let (name, grave) = (queue.name.clone(), grave_name(queue));
        let until = now.after(Duration::from_millis(queue.policy.retry_max_ms.max(1)));
        let bytes = u64::from(queue.messages[offset].bytes);
        let room = self.takes_dead(&grave, (1, bytes));
        let message = self.message(from, offset);
        let death = message.death.clone().unwrap_or_else(|| {
            Box::new(Death {
                queue: name.clone(),
                cause,
                reason,
                stage: None,
                plugin: None,
                attempts: message.attempts,
                first_at: message.stored_at,
                last_at: now,
                original: message.id,
            })
        });
        let stays = message.death.is_some() || grave == name;
        if stays {
            if message.death.is_none() {
                message.came_at = now;
            }
            (message.expires, message.death) = (None, Some(death));
            return self.rest(from, offset, until);
        }
        if !room {
            return self.rest(from, offset, until);
        }
        message.place = Place::Gone;
        let dead = Message { death: Some(death), ..message.clone() };
        let to = self.grave(from);
        self.lay(to, Message { expires: None, ..dead }, Place::Ready);
        self.make_room(to);
    }

    /// The queue where `of`, a queue or stream, has its dead letters.
    pub(super) fn grave(&mut self, of: u32) -> u32 {
        let name = self.grave_name_of(of).expect("there");
        self.named(&name).unwrap_or_else(|| {
            self.effects.push(Effect::TopologyChanged);
            self.create(&name, QueuePolicy::default())
        })
    }

    pub(super) fn redrive(&mut self, redrive: &Redrive) {
        let Some(from) = self.named(redrive.queue.as_str()) else { return self.refuse(ErrorCode::NotFound) };
        let to = redrive.to.as_ref().map(|to| self.named(to.as_str()));
        if to == Some(None) {
            return self.refuse(ErrorCode::NotFound);
        }
        let (mut moved, mut kept, mut found) = (0, 0, Vec::new());
        for offset in 0..self.queues[&from].messages.len() {
            let message = self.queues[&from].messages[offset].clone();
            let Some(death) = message.death.as_ref().filter(|_| message.place != Place::Gone) else {
                continue;
            };
            if !selects(&redrive.select, offset, &message) {
                continue;
            }
            if is_enough(&redrive.select, moved) {
                break;
            }
            found.push(message.id);
            let target = to.flatten().or_else(|| self.named(&death.queue)).filter(|target| *target != from);
            let target = target.filter(|_| redrive.redriven_max.is_none_or(|max| message.redriven < max));
            match target.filter(|target| self.can_go(&message, *target)) {
                Some(target) => {
                    self.message(from, offset).place = Place::Gone;
                    let (redriven, deaths) = (message.redriven + 1, deaths_after(&message));
                    self.lay(
                        target,
                        Message { death: None, expires: None, redriven, deaths, ..message },
                        Place::Ready,
                    );
                    moved += 1;
                }
                None => kept += 1,
            }
        }
        kept += unknown(&redrive.select, &found);
        self.effects.push(Effect::Redriven { moved, kept });
    }

    /// A dead letter ends, and what it became is stored; nothing happens unless all of it can.
    pub(super) fn resolve_letter(&mut self, resolve: &Resolve) {
        let Some(from) = self.named(resolve.queue.as_str()) else { return self.refuse(ErrorCode::NotFound) };
        let offset = resolve.offset as usize;
        let there = |message: &&Message| {
            message.id == resolve.id && message.place != Place::Gone && message.death.is_some()
        };
        let Some(letter) = self.queues[&from].messages.get(offset).filter(there).cloned() else {
            return self.refuse(ErrorCode::NotFound);
        };
        let entries: Vec<&Entry> = resolve.becomes.iter().flat_map(|publish| &publish.entries).collect();
        let mut to = entries.iter().flat_map(|entry| &entry.destinations);
        if !entries.is_empty() && to.all(|to| self.name_of(to.queue.0).is_none()) {
            return self.refuse(ErrorCode::Conflict);
        }
        let numbered: Vec<(u16, &Entry)> = (0..).zip(entries.iter().copied()).collect();
        if self.unmet(&numbered).is_some() {
            return self.refuse(ErrorCode::Conflict);
        }
        if !self.has_room_for_all(&entries) {
            return self.refuse(ErrorCode::Unavailable);
        }
        if letter.place == Place::Leased {
            return self.refuse(ErrorCode::Conflict);
        }
        self.message(from, offset).place = Place::Gone;
        let stored = Stored { index: self.index, entries: entries.len() as u16 };
        self.effects.push(Effect::Resolved(stored));
        if let Some(publish) = &resolve.becomes {
            self.store(0, &publish.entries, Some(&letter));
        }
    }

    pub(super) fn relocate(&mut self, order: &Move) {
        let (from, to) = (self.named(order.queue.as_str()), self.named(order.to.as_str()));
        let (Some(from), Some(to)) = (from, to) else { return self.refuse(ErrorCode::NotFound) };
        let sorted = |queue: u32| {
            let policy = &self.queues[&queue].policy;
            (policy.order, policy.fair_by.clone())
        };
        if from == to || (sorted(to) != (Order::Fifo, None) && sorted(from) != sorted(to)) {
            return self.refuse(ErrorCode::Conflict);
        }
        let (mut moved, mut kept, mut found) = (0, 0, Vec::new());
        for offset in 0..self.queues[&from].messages.len() {
            let message = self.queues[&from].messages[offset].clone();
            if message.place == Place::Gone || !selects(&order.select, offset, &message) {
                continue;
            }
            if is_enough(&order.select, moved) {
                break;
            }
            found.push(message.id);
            if !self.can_go(&message, to) {
                kept += 1;
                continue;
            }
            let source = self.queues.get_mut(&from).expect("there");
            source.messages[offset].place = Place::Gone;
            source.moved += 1;
            let place = message.place;
            self.lay(to, message, place);
            moved += 1;
        }
        kept += unknown(&order.select, &found);
        self.effects.push(Effect::Moved { moved, kept });
    }

    /// Whether the dead-letter queue of a stream takes one of its messages, of which it notes no bytes.
    pub(super) fn grave_has_room(&self, stream: u32) -> bool {
        self.grave_name_of(stream).is_some_and(|grave| self.takes_dead(&grave, (1, 0)))
    }

    /// The name of the queue where `of`, a queue or stream, has its dead letters.
    pub(super) fn grave_name_of(&self, of: u32) -> Option<String> {
        let stream = || self.streams.get(&of).map(|stream| named(stream.policy.dead_letter.as_ref()));
        self.queues.get(&of).map(grave_name).or_else(stream)
    }

    fn can_go(&self, message: &Message, to: u32) -> bool {
        message.place != Place::Leased && has_room(&self.queues[&to], (1, u64::from(message.bytes)))
    }

    /// A message of another queue comes to this one.
    pub(super) fn lay(&mut self, queue: u32, message: Message, place: Place) {
        let (failures, came_at, plain, overdue) = (0, self.now, false, false);
        let mut message = Message { failures, came_at, plain, overdue, place, ..message };
        let expired = self.queues[&queue].expiry(&message).is_some_and(|at| at <= self.now);
        message.overdue = expired && matches!(place, Place::Delayed(_));
        self.put(queue, message);
    }
}

/// The name of the queue where a queue has its dead letters.
pub(super) fn grave_name(queue: &Queue) -> String {
    named(queue.policy.dead_letter.as_ref())
}

fn named(dead_letter: Option<&Name>) -> String {
    dead_letter.map_or("dead-letters".into(), ToString::to_string)
}

fn selects(select: &Selection, offset: usize, message: &Message) -> bool {
    match select {
        Selection::Oldest(_) => true,
        Selection::Ids(ids) => ids.contains(&message.id),
        Selection::Offsets { from, to } => (*from..*to).contains(&(offset as u64)),
        Selection::At(offsets) => offsets.contains(&(offset as u64)),
    }
}

/// How many of the ids asked for are of no message that was found.
fn unknown(select: &Selection, found: &[MessageId]) -> u64 {
    let Selection::Ids(ids) = select else { return 0 };
    ids.iter().filter(|id| !found.contains(id)).count() as u64
}

/// The deaths that a dead letter has behind it when it lives again: the first, and the newest.
pub(super) fn deaths_after(letter: &Message) -> Vec<Death> {
    let mut deaths = letter.deaths.clone();
    deaths.extend(letter.death.as_deref().cloned());
    if deaths.len() > PAST_DEATHS_MAX {
        deaths.remove(1);
    }
    deaths
}

fn is_enough(select: &Selection, moved: u64) -> bool {
    matches!(select, Selection::Oldest(limit) if moved == u64::from(*limit))
}
