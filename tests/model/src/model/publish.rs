//! What is published: stored in all its queues, or refused as a whole.

use wharf_protocol::{ErrorCode, MessageId, Receipt, Rejection, Session, Stored};
use wharf_queue::{Effect, Entry, Order, Overflow, Publish, QueuePolicy};
use xxhash_rust::xxh3::xxh3_64;

use super::death::{deaths_after, grave_name};
use super::{Message, Model, Place, Queue};

impl Model {
    pub(super) fn publish(&mut self, publish: &Publish) {
        let receipt = self.receipt(publish);
        let new = matches!(receipt, Receipt::Stored(_));
        self.effects.push(Effect::Receipt(receipt));
        if new {
            self.store(0, &publish.entries, None);
        }
    }

    /// Lays every message where it goes; the first has number `first` of its record. `was`: the dead letter that they were.
    pub(super) fn store(&mut self, first: u16, entries: &[Entry], was: Option<&Message>) {
        let mut met = Vec::new();
        for (entry, published) in (first..).zip(entries) {
            let id = MessageId { index: self.index, entry };
            for destination in &published.destinations {
                let mut to = destination.queue.0;
                if self.streams.contains_key(&to) && destination.death.is_none() {
                    self.append(to, entry, &published.message);
                    continue;
                }
                let Some(name) = self.name_of(to) else { continue };
                let mut message = self.plain(id, &published.message);
                message.lane =
                    self.queues.get(&to).map_or(0, |queue| lane(&published.message, &queue.policy));
                if let Some(was) = was {
                    (message.attempts, message.redriven) = (was.attempts, was.redriven + 1);
                    message.deaths = deaths_after(was);
                }
                match &destination.death {
                    Some(death) => {
                        let mut death = death.clone();
                        death.queue = name;
                        (death.first_at, death.last_at, death.original) = (self.now, self.now, id);
                        (message.death, message.plain) = (Some(death), false);
                        to = self.grave(to);
                        let policy = &self.queues[&to].policy;
                        if policy.fair_by.is_some() || policy.order == Order::Key {
                            message.lane = lane(&published.message, policy);
                        }
                    }
                    None => {
                        message.expires = published.message.ttl.map(|ttl| self.now.after(ttl));
                        if let Some(delay) = published.message.delay {
                            message.place = Place::Delayed(self.now.after(delay));
                        }
                        message.plain = was.is_none()
                            && published.message.priority == 0
                            && published.message.ttl.is_none()
                            && published.message.delay.is_none();
                    }
                }
                self.put(to, message);
                met.push(to);
            }
        }
        met.sort_unstable();
        met.into_iter().for_each(|queue| self.make_room(queue));
    }

    /// The name of a queue or stream.
    pub(super) fn name_of(&self, id: u32) -> Option<String> {
        let stream = || self.streams.get(&id).map(|stream| stream.name.to_string());
        self.queues.get(&id).map(|queue| queue.name.clone()).or_else(stream)
    }

    fn receipt(&mut self, publish: &Publish) -> Receipt {
        let stored = Stored { index: self.index, entries: publish.entries.len() as u16 };
        if let Some(receipt) = publish.session.as_ref().and_then(|session| self.seen(session)) {
            return receipt;
        }
        let before = publish.dedup.and_then(|key| self.known_id(key));
        let entries: Vec<&Entry> = publish.entries.iter().collect();
        if before.is_none() {
            let numbered: Vec<(u16, &Entry)> = (0..).zip(&publish.entries).collect();
            if self.unmet(&numbered).is_some() {
                return rejected(ErrorCode::Conflict);
            }
            if !self.has_room_for_all(&entries) {
                return rejected(ErrorCode::Unavailable);
            }
            if publish.needs_consumer && !self.has_consumer(&entries) {
                return rejected(ErrorCode::NoListener);
            }
        }
        if let Some(session) = &publish.session {
            self.remember_sequence(session, before.unwrap_or(stored));
        }
        if before.is_some() {
            return Receipt::Duplicate(before);
        }
        publish.dedup.into_iter().for_each(|key| self.remember_id(key, stored));
        Receipt::Stored(stored)
    }

    fn has_consumer(&self, entries: &[&Entry]) -> bool {
        let mut to = entries.iter().flat_map(|entry| &entry.destinations).filter(|to| to.death.is_none());
        to.any(|to| self.consumers.values().any(|consumer| consumer.queue == to.queue.0))
    }

    pub(super) fn seen(&self, session: &Session) -> Option<Receipt> {
        if session.sequence == 0 {
            return Some(rejected(ErrorCode::Malformed));
        }
        let (epoch, stored) = self.producers.get(&session.producer.0)?;
        if session.epoch < *epoch {
            return Some(rejected(ErrorCode::Fenced));
        }
        let last = stored.last_key_value().map_or(0, |(last, _)| *last);
        match stored.get(&session.sequence) {
            _ if session.epoch > *epoch || session.sequence > last => None,
            Some(place) => Some(Receipt::Duplicate(Some(*place))),
            None => Some(rejected(ErrorCode::Conflict)),
        }
    }

    pub(super) fn has_room_for_all(&self, entries: &[&Entry]) -> bool {
        self.queues.iter().all(|(id, queue)| {
            let mut coming = (0, 0);
            for entry in entries {
                for destination in &entry.destinations {
                    let to = match destination.death {
                        None => Some(destination.queue.0),
                        Some(_) => self.grave_name_of(destination.queue.0).and_then(|name| self.named(&name)),
                    };
                    if to == Some(*id) {
                        coming = (coming.0 + 1, coming.1 + entry.message.encoded_bytes() as u64);
                    }
                }
            }
            coming.0 == 0 || self.has_room_for(queue, coming)
        })
    }

    fn has_room_for(&self, queue: &Queue, (messages, bytes): (u64, u64)) -> bool {
        let there = queue.count(|_| true);
        let staying = queue.count(|message| message.place != Place::Ready);
        let policy = &queue.policy;
        if within(policy, (there.0 + messages, there.1 + bytes)) {
            return true;
        }
        let fits = within(policy, (staying.0 + messages, staying.1 + bytes));
        let over = |is: u64, most: u64| if most == 0 { 0 } else { is.saturating_sub(most) };
        let excess =
            (over(there.0 + messages, policy.max_messages).max(1), over(there.1 + bytes, policy.max_bytes));
        match policy.overflow {
            Overflow::Reject => false,
            Overflow::DropOldest => fits,
            Overflow::DeadLetter => {
                let grave = grave_name(queue);
                fits && grave != queue.name && self.takes_dead(&grave, excess)
            }
        }
    }

    /// Whether a dead-letter queue takes so many messages and bytes.
    pub(super) fn takes_dead(&self, grave: &str, more: (u64, u64)) -> bool {
        let Some(grave) = self.named(grave).map(|id| &self.queues[&id]) else { return true };
        grave.policy.overflow == Overflow::DropOldest || has_room(grave, more)
    }

    /// Lets the oldest go until a queue is within its limits, as far as that is possible.
    pub(super) fn make_room(&mut self, id: u32) {
        while let Some(queue) = self.queues.get(&id).filter(|queue| !has_room(queue, (0, 0))) {
            let Some(victim) = queue.victim() else { return };
            let bytes = u64::from(queue.messages[victim].bytes);
            let grave = grave_name(queue);
            match queue.policy.overflow {
                Overflow::DropOldest => {
                    let queue = self.queues.get_mut(&id).expect("there");
                    queue.messages[victim].place = Place::Gone;
                    queue.dropped += 1;
                }
                Overflow::DeadLetter if grave != queue.name && self.takes_dead(&grave, (1, bytes)) => {
                    let reason = "it was the oldest when its queue was full";
                    self.bury(id, victim, wharf_protocol::DeathCause::Overflow, reason.into());
                }
                Overflow::DeadLetter | Overflow::Reject => return,
            }
        }
    }

    fn plain(&self, id: MessageId, message: &wharf_protocol::Message) -> Message {
        Message {
            id,
            stored_at: self.now,
            came_at: self.now,
            bytes: message.encoded_bytes() as u32,
            lane: 0,
            attempts: 0,
            failures: 0,
            priority: message.priority,
            expires: None,
            death: None,
            redriven: 0,
            deaths: Vec::new(),
            place: Place::Ready,
            plain: true,
            overdue: false,
        }
    }

    /// A message comes to a queue.
    pub(super) fn put(&mut self, queue: u32, message: Message) {
        let queue = self.queues.get_mut(&queue).expect("there");
        if message.place == Place::Ready {
            queue.tenant(message.lane, self.now);
        }
        queue.messages.push(message);
    }
}

/// Whether so much more is within a queue's limits.
pub(super) fn has_room(queue: &Queue, (messages, bytes): (u64, u64)) -> bool {
    let there = queue.count(|_| true);
    within(&queue.policy, (there.0 + messages, there.1 + bytes))
}

fn within(policy: &QueuePolicy, (messages, bytes): (u64, u64)) -> bool {
    (policy.max_messages == 0 || messages <= policy.max_messages)
        && (policy.max_bytes == 0 || bytes <= policy.max_bytes)
}

fn lane(message: &wharf_protocol::Message, policy: &QueuePolicy) -> u32 {
    let value = match &policy.fair_by {
        Some(header) => message.headers.get(header),
        None if policy.order == Order::Key => message.key.as_deref(),
        None => None,
    };
    value.map_or(0, |value| (xxh3_64(value) as u32).max(1))
}

fn rejected(code: ErrorCode) -> Receipt {
    Receipt::Rejected(Rejection { code, stage: None, reason: String::new(), retry_after_ms: None })
}
