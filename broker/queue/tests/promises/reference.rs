//! The state machine said again, plainly: lists, searched from end to end at every step.

use std::collections::BTreeMap;
use std::time::Duration;

use wharf_protocol::{
    Death, DeathCause, ErrorCode, MessageId, Outcome, Receipt, Session, Settlement, Stored, Timestamp,
};
use wharf_queue::{
    Attach, Change, ConsumerId, Deliver, Effect, Publish, QueuePolicy, Record, Redrive, Refusal, Selection,
    Stamped,
};
use xxhash_rust::xxh3::xxh3_64;

/// The reference.
#[derive(Default)]
pub(crate) struct Model {
    index: u64,
    now: Timestamp,
    next_queue: u32,
    pub(crate) queues: BTreeMap<u32, Queue>,
    pub(crate) consumers: BTreeMap<u64, Consumer>,
    producers: BTreeMap<u128, (u32, BTreeMap<u64, Stored>)>,
    ids: BTreeMap<u128, Stored>,
    effects: Vec<Effect>,
}

pub(crate) struct Queue {
    pub(crate) name: String,
    policy: QueuePolicy,
    /// Every message that ever came, by offset.
    pub(crate) messages: Vec<Message>,
    /// Consumers that can take more, in turn.
    line: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    id: MessageId,
    stored_at: Timestamp,
    attempts: u32,
    failures: u32,
    pub(crate) priority: u8,
    expires: Option<Timestamp>,
    death: Option<Box<Death>>,
    pub(crate) place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    Ready,
    Leased,
    Delayed(Timestamp),
    Gone,
}

pub(crate) struct Consumer {
    queue: u32,
    credit: u64,
    pub(crate) auto_settle: bool,
    notify_empty: bool,
    told: bool,
    next_tag: u64,
    /// Tag, offset, deadline.
    held: Vec<(u64, usize, Timestamp)>,
    /// When its leases are looked at next: it decides which of two consumers gives back first.
    look: Option<Timestamp>,
}

impl Model {
    pub(crate) fn apply(&mut self, index: u64, stamped: &Stamped) -> Vec<Effect> {
        (self.index, self.now) = (index, stamped.at);
        while let Some(due) = self.next_due() {
            self.fall_due(due);
        }
        match &stamped.record {
            Record::Publish(publish) => self.publish(publish),
            Record::Settle { consumer, settlements } => self.settle(consumer.0, settlements),
            Record::Attach(attach) => self.attach(attach),
            Record::Credit { consumer, add, .. } => match self.consumers.get_mut(&consumer.0) {
                Some(known) => {
                    known.credit += u64::from(*add);
                    known.told &= *add == 0;
                    self.join(consumer.0);
                }
                None => self.refuse(ErrorCode::NotFound),
            },
            Record::Detach { consumer } => match self.consumers.contains_key(&consumer.0) {
                true => self.leave(consumer.0),
                false => self.refuse(ErrorCode::NotFound),
            },
            Record::Tick => {}
            Record::Restart => {
                for consumer in self.consumers.keys().copied().collect::<Vec<_>>() {
                    self.leave(consumer);
                }
            }
            Record::Topology(change) => self.change(change),
            Record::Redrive(redrive) => self.redrive(redrive),
            other => panic!("the model knows no {other:?}"),
        }
        for queue in self.queues.keys().copied().collect::<Vec<_>>() {
            self.deliver(queue);
        }
        std::mem::take(&mut self.effects)
    }

    /// What is due, earliest first: when, 0 ready 1 expired 2 leases, queue, offset or consumer.
    fn next_due(&self) -> Option<(Timestamp, u8, u32, u64)> {
        let mut due = Vec::new();
        for (id, queue) in &self.queues {
            for (offset, message) in (0..).zip(&queue.messages) {
                if let Place::Delayed(until) = message.place {
                    due.push((until, 0, *id, offset));
                }
                if let (Some(at), Place::Ready | Place::Delayed(_)) = (message.expires, message.place) {
                    due.push((at, 1, *id, offset));
                }
            }
        }
        due.extend(self.consumers.iter().filter_map(|(id, consumer)| Some((consumer.look?, 2, 0, *id))));
        due.into_iter().filter(|(at, ..)| *at <= self.now).min()
    }

    fn fall_due(&mut self, (_, kind, queue, number): (Timestamp, u8, u32, u64)) {
        match kind {
            0 => self.message(queue, number as usize).place = Place::Ready,
            1 => self.expire(queue, number as usize),
            _ => {
                let queue = self.consumers[&number].queue;
                while let Some((_, offset, deadline)) = self.consumers[&number].held.first().copied() {
                    if deadline > self.now {
                        break;
                    }
                    self.consumers.get_mut(&number).expect("there").held.remove(0);
                    let reason = "at last by holding it past its lease";
                    self.fail(queue, offset, Some(Duration::ZERO), reason);
                }
                let consumer = self.consumers.get_mut(&number).expect("there");
                consumer.look = consumer.held.first().map(|(_, _, deadline)| *deadline);
                self.join(number);
            }
        }
    }

    fn publish(&mut self, publish: &Publish) {
        let stored = Stored { index: self.index, entries: publish.entries.len() as u16 };
        if let Some(receipt) = publish.session.as_ref().and_then(|session| self.seen(session)) {
            self.effects.push(Effect::Receipt(receipt));
            return;
        }
        let before = publish.dedup.and_then(|key| self.ids.get(&key).copied());
        if let Some(Session { producer, epoch, sequence }) = publish.session {
            let known = self.producers.entry(producer.0).or_default();
            if known.0 != epoch {
                *known = (epoch, BTreeMap::new());
            }
            known.1.insert(sequence, before.unwrap_or(stored));
        }
        if before.is_some() {
            self.effects.push(Effect::Receipt(Receipt::Duplicate(before)));
            return;
        }
        self.ids.extend(publish.dedup.map(|key| (key, stored)));
        self.effects.push(Effect::Receipt(Receipt::Stored(stored)));
        for (entry, published) in (0..).zip(&publish.entries) {
            let id = MessageId { index: self.index, entry };
            for destination in &published.destinations {
                let Some(queue) = self.queues.get(&destination.queue.0) else { continue };
                let priority = published.message.priority;
                let mut message = self.plain(id, self.now, priority);
                let mut to = destination.queue.0;
                match &destination.death {
                    Some(death) => {
                        let mut death = death.clone();
                        death.queue = queue.name.clone();
                        (death.first_at, death.last_at, death.original) = (self.now, self.now, id);
                        message.death = Some(death);
                        to = self.grave(to);
                    }
                    None => {
                        message.expires = published.message.ttl.map(|ttl| self.now.after(ttl));
                        if let Some(delay) = published.message.delay {
                            message.place = Place::Delayed(self.now.after(delay));
                        }
                    }
                }
                self.queues.get_mut(&to).expect("there").messages.push(message);
            }
        }
    }

    fn seen(&self, session: &Session) -> Option<Receipt> {
        let (epoch, stored) = self.producers.get(&session.producer.0)?;
        let rejected = |code| {
            let (reason, stage, retry_after_ms) = (String::new(), None, None);
            Some(Receipt::Rejected(wharf_protocol::Rejection { code, stage, reason, retry_after_ms }))
        };
        if session.epoch < *epoch {
            return rejected(ErrorCode::Fenced);
        }
        let last = stored.last_key_value().map_or(0, |(last, _)| *last);
        match stored.get(&session.sequence) {
            _ if session.epoch > *epoch || session.sequence > last => None,
            Some(place) => Some(Receipt::Duplicate(Some(*place))),
            None => rejected(ErrorCode::Conflict),
        }
    }

    fn attach(&mut self, attach: &Attach) {
        let Some(queue) = self.named(attach.queue.as_str()) else { return self.refuse(ErrorCode::NotFound) };
        if self.consumers.contains_key(&attach.consumer.0) {
            return self.refuse(ErrorCode::Conflict);
        }
        let Attach { credit, auto_settle, notify_empty, .. } = *attach;
        let credit = u64::from(credit);
        let (told, next_tag, held, look) = (false, 1, Vec::new(), None);
        let consumer = Consumer { queue, credit, auto_settle, notify_empty, told, next_tag, held, look };
        self.consumers.insert(attach.consumer.0, consumer);
        self.join(attach.consumer.0);
    }

    fn join(&mut self, id: u64) {
        let consumer = &self.consumers[&id];
        let line = &mut self.queues.get_mut(&consumer.queue).expect("there").line;
        if consumer.credit > 0 && !line.contains(&id) {
            line.push(id);
        }
    }

    fn leave(&mut self, id: u64) {
        let consumer = self.consumers.remove(&id).expect("there");
        self.queues.get_mut(&consumer.queue).expect("there").line.retain(|each| *each != id);
        for (_, offset, _) in consumer.held {
            let message = self.message(consumer.queue, offset);
            message.attempts += 1;
            message.place = Place::Ready;
            self.expire_if_due(consumer.queue, offset);
        }
    }

    fn deliver(&mut self, id: u32) {
        let queue = self.queues.get_mut(&id).expect("there");
        loop {
            let ready = queue.messages.iter().enumerate().filter(|(_, each)| each.place == Place::Ready);
            let next = ready.min_by_key(|(offset, each)| (31 - each.priority, *offset)).map(|(at, _)| at);
            let (Some(offset), false) = (next, queue.line.is_empty()) else { break };
            let taker = queue.line.remove(0);
            let consumer = self.consumers.get_mut(&taker).expect("there");
            let message = &mut queue.messages[offset];
            let deadline = self.now.after(Duration::from_millis(queue.policy.lease_ms));
            message.place = if consumer.auto_settle { Place::Gone } else { Place::Leased };
            if !consumer.auto_settle {
                consumer.held.push((consumer.next_tag, offset, deadline));
                consumer.look = consumer.look.or(Some(deadline));
            }
            self.effects.push(Effect::Deliver(Deliver {
                consumer: ConsumerId(taker),
                tag: consumer.next_tag,
                id: message.id,
                offset: offset as u64,
                attempt: message.attempts + 1,
                redelivered: message.attempts > 0,
                stored_at: message.stored_at,
                death: message.death.clone(),
            }));
            (consumer.credit, consumer.next_tag, consumer.told) =
                (consumer.credit - 1, consumer.next_tag + 1, false);
            if consumer.credit > 0 {
                queue.line.push(taker);
            }
        }
        if queue.messages.iter().all(|each| each.place != Place::Ready) {
            for taker in &queue.line {
                let consumer = self.consumers.get_mut(taker).expect("there");
                if consumer.notify_empty && !consumer.told {
                    consumer.told = true;
                    self.effects.push(Effect::Empty { consumer: ConsumerId(*taker) });
                }
            }
        }
    }

    fn settle(&mut self, id: u64, settlements: &[Settlement]) {
        let (mut accepted, mut stale) = (0, Vec::new());
        for Settlement { first, last, outcome } in settlements {
            for tag in *first..=*last {
                let held = self.consumers.get(&id).map(|consumer| &consumer.held);
                let Some(at) = held.and_then(|held| held.iter().position(|(held, ..)| *held == tag)) else {
                    stale.push(tag);
                    continue;
                };
                let consumer = self.consumers.get_mut(&id).expect("it holds the tag");
                let (_, offset, _) = consumer.held.remove(at);
                let queue = consumer.queue;
                accepted += 1;
                match outcome {
                    Outcome::Ack => self.message(queue, offset).place = Place::Gone,
                    Outcome::Nack { delay } => self.fail(queue, offset, *delay, "at last by a nack"),
                    Outcome::DeadLetter { reason } => {
                        self.message(queue, offset).attempts += 1;
                        self.message(queue, offset).failures += 1;
                        self.bury(queue, offset, DeathCause::Rejected, reason.clone());
                    }
                }
            }
        }
        if self.consumers.contains_key(&id) {
            self.join(id);
        }
        self.effects.push(Effect::Settled { consumer: ConsumerId(id), accepted, stale });
    }

    /// A delivery failed: dead, expired, or again after `delay` (`None`: the policy's).
    fn fail(&mut self, queue: u32, offset: usize, delay: Option<Duration>, how: &str) {
        let (index, now) = (self.index, self.now);
        let policy = self.queues[&queue].policy.clone();
        let message = self.message(queue, offset);
        message.attempts += 1;
        message.failures += 1;
        message.place = Place::Ready;
        let failures = message.failures;
        if failures >= policy.max_attempts && message.death.is_none() {
            return self.bury(
                queue,
                offset,
                DeathCause::MaxAttempts,
                format!("failed {failures} times, {how}"),
            );
        }
        let base = (0..failures.saturating_sub(1))
            .fold(policy.retry_min_ms, |ms, _| policy.retry_max_ms.min(ms * 2));
        let seed = [index.to_le_bytes(), (offset as u64).to_le_bytes()].concat();
        let backoff = Duration::from_millis(base + xxh3_64(&seed) % (base / 4 + 1));
        let until = now.after(delay.unwrap_or(backoff));
        if until > now {
            message.place = Place::Delayed(until);
        }
        self.expire_if_due(queue, offset);
    }

    fn expire_if_due(&mut self, queue: u32, offset: usize) {
        let now = self.now;
        if self.message(queue, offset).expires.is_some_and(|at| at <= now) {
            self.expire(queue, offset);
        }
    }

    fn expire(&mut self, queue: u32, offset: usize) {
        if self.queues[&queue].policy.dead_letter_expired {
            self.bury(queue, offset, DeathCause::Expired, "its time to live ran out".into());
        } else {
            self.message(queue, offset).place = Place::Gone;
        }
    }

    fn bury(&mut self, from: u32, offset: usize, cause: DeathCause, reason: String) {
        let now = self.now;
        let queue = &self.queues[&from];
        let (name, rest) = (queue.name.clone(), Duration::from_millis(queue.policy.retry_max_ms));
        let stays = queue.messages[offset].death.is_some() || grave_name(queue) == name;
        let message = self.message(from, offset);
        let (attempts, first_at, original) = (message.attempts, message.stored_at, message.id);
        let (stage, plugin, last_at) = (None, None, now);
        let death =
            Death { queue: name, cause, reason, stage, plugin, attempts, first_at, last_at, original };
        let death = message.death.clone().unwrap_or_else(|| Box::new(death));
        if stays {
            message.death = Some(death);
            message.expires = None;
            message.place = if rest.is_zero() { Place::Ready } else { Place::Delayed(now.after(rest)) };
            return;
        }
        let (priority, place) = (message.priority, Place::Ready);
        message.place = Place::Gone;
        let to = self.grave(from);
        let dead =
            Message { attempts, place, death: Some(death), ..self.plain(original, first_at, priority) };
        self.queues.get_mut(&to).expect("there").messages.push(dead);
    }

    fn grave(&mut self, of: u32) -> u32 {
        let name = grave_name(&self.queues[&of]);
        self.named(&name).unwrap_or_else(|| {
            self.effects.push(Effect::TopologyChanged);
            self.create(&name, QueuePolicy::default())
        })
    }

    fn create(&mut self, name: &str, policy: QueuePolicy) -> u32 {
        self.next_queue += 1;
        let queue = Queue { name: name.to_owned(), policy, messages: Vec::new(), line: Vec::new() };
        self.queues.insert(self.next_queue - 1, queue);
        self.next_queue - 1
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::CreateQueue { name, policy } => match self.named(name.as_str()) {
                None => {
                    self.create(name.as_str(), policy.clone());
                    self.effects.push(Effect::TopologyChanged);
                }
                Some(id) if self.queues[&id].policy == *policy => {}
                Some(_) => self.refuse(ErrorCode::Conflict),
            },
            Change::DeleteQueue { name } => {
                let Some(id) = self.named(name.as_str()) else { return self.refuse(ErrorCode::NotFound) };
                self.queues.remove(&id);
                for (consumer, _) in self.consumers.extract_if(.., |_, consumer| consumer.queue == id) {
                    self.effects.push(Effect::Cancelled { consumer: ConsumerId(consumer) });
                }
                self.effects.push(Effect::TopologyChanged);
            }
            Change::PurgeQueue { name } => {
                let Some(id) = self.named(name.as_str()) else { return self.refuse(ErrorCode::NotFound) };
                let messages = &mut self.queues.get_mut(&id).expect("there").messages;
                let waiting = messages.iter_mut().filter(|m| !matches!(m.place, Place::Leased | Place::Gone));
                let count = waiting.map(|message| message.place = Place::Gone).count() as u64;
                self.effects.push(Effect::Purged { queue: name.clone(), messages: count });
            }
            other => panic!("the model knows no {other:?}"),
        }
    }

    fn redrive(&mut self, redrive: &Redrive) {
        let Some(from) = self.named(redrive.queue.as_str()) else { return self.refuse(ErrorCode::NotFound) };
        let to = redrive.to.as_ref().map(|to| self.named(to.as_str()));
        if to == Some(None) {
            return self.refuse(ErrorCode::NotFound);
        }
        let (mut moved, mut kept) = (0, 0);
        for offset in 0..self.queues[&from].messages.len() {
            let message = self.queues[&from].messages[offset].clone();
            let Some(death) = message.death.filter(|_| message.place != Place::Gone) else { continue };
            match &redrive.select {
                Selection::Oldest(limit) if moved == u64::from(*limit) => break,
                Selection::Ids(ids) if !ids.contains(&message.id) => continue,
                _ => {}
            }
            let target = to.flatten().or_else(|| self.named(&death.queue)).filter(|target| *target != from);
            let Some(target) = target.filter(|_| message.place != Place::Leased) else {
                kept += 1;
                continue;
            };
            self.message(from, offset).place = Place::Gone;
            let plain = self.plain(message.id, message.stored_at, message.priority);
            let again = Message { attempts: message.attempts, ..plain };
            self.queues.get_mut(&target).expect("there").messages.push(again);
            moved += 1;
        }
        self.effects.push(Effect::Redriven { moved, kept });
    }

    fn plain(&self, id: MessageId, stored_at: Timestamp, priority: u8) -> Message {
        let (attempts, failures, expires, death) = (0, 0, None, None);
        Message { id, stored_at, attempts, failures, priority, expires, death, place: Place::Ready }
    }

    fn named(&self, name: &str) -> Option<u32> {
        self.queues.iter().find(|(_, queue)| queue.name == name).map(|(id, _)| *id)
    }

    fn message(&mut self, queue: u32, offset: usize) -> &mut Message {
        &mut self.queues.get_mut(&queue).expect("there").messages[offset]
    }

    fn refuse(&mut self, code: ErrorCode) {
        self.effects.push(Effect::Refused(Refusal { code, reason: String::new() }));
    }
}

fn grave_name(queue: &Queue) -> String {
    queue.policy.dead_letter.as_ref().map_or("dead-letters".into(), ToString::to_string)
}
