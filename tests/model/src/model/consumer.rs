//! Consumers: they come, get messages, settle and renew them, and leave.

use std::time::Duration;

use wharf_protocol::{DeathCause, ErrorCode, Outcome, Settlement, Timestamp};
use wharf_queue::{Attach, Backoff, ConsumerId, Deliver, Effect, QueuePolicy};
use xxhash_rust::xxh3::xxh3_64;

use super::{Consumer, Model, Place};

impl Model {
    pub(super) fn attach(&mut self, attach: &Attach) {
        let Some(queue) = self.named(attach.queue.as_str()) else { return self.refuse(ErrorCode::NotFound) };
        let mut others = self.consumers.values().filter(|consumer| consumer.queue == queue);
        let taken = self.queues[&queue].policy.exclusive && others.next().is_some();
        if self.consumers.contains_key(&attach.consumer.0) || taken {
            return self.refuse(ErrorCode::Conflict);
        }
        let consumer = Consumer {
            queue,
            attached_by: self.index,
            credit: u64::from(attach.credit),
            bytes: (attach.credit_bytes > 0).then_some(attach.credit_bytes as i64),
            auto_settle: attach.auto_settle,
            notify_empty: attach.notify_empty,
            told: false,
            next_tag: 1,
            held: Vec::new(),
            look: None,
        };
        self.consumers.insert(attach.consumer.0, consumer);
        self.queues.get_mut(&queue).expect("there").unused_since = None;
        self.choose_active(queue);
        self.join(attach.consumer.0);
    }

    pub(super) fn credit(&mut self, id: u64, add: u32, bytes: u64) {
        let Some(known) = self.consumers.get_mut(&id) else { return self.refuse(ErrorCode::NotFound) };
        known.credit += u64::from(add);
        known.bytes = known.bytes.map(|left| left + bytes as i64);
        known.told &= add == 0 && bytes == 0;
        self.join(id);
    }

    pub(super) fn leave(&mut self, id: u64) {
        let consumer = self.consumers.remove(&id).expect("there");
        let gone = !self.consumers.values().any(|other| other.queue == consumer.queue);
        let queue = self.queues.get_mut(&consumer.queue).expect("there");
        queue.line.retain(|each| *each != id);
        if gone {
            queue.unused_since = Some(self.now);
        }
        for (_, offset, _) in consumer.held {
            self.come_back(consumer.queue, offset, false);
            self.ready_or_expired(consumer.queue, offset);
        }
        self.choose_active(consumer.queue);
    }

    pub(super) fn restart(&mut self) {
        let mut bereft: Vec<u32> = self.consumers.values().map(|consumer| consumer.queue).collect();
        bereft.retain(|queue| self.queues[queue].policy.exclusive);
        bereft.sort_unstable();
        for consumer in self.consumers.keys().copied().collect::<Vec<_>>() {
            self.leave(consumer);
        }
        bereft.into_iter().for_each(|queue| self.delete(queue));
        self.restart_groups();
    }

    pub(super) fn choose_active(&mut self, id: u32) {
        let mine = self.consumers.iter().filter(|(_, consumer)| consumer.queue == id);
        let oldest = mine.min_by_key(|(_, consumer)| consumer.attached_by).map(|(id, _)| *id);
        let queue = self.queues.get_mut(&id).expect("there");
        queue.active = oldest.filter(|_| queue.policy.single_active);
    }

    fn join(&mut self, id: u64) {
        let consumer = &self.consumers[&id];
        let line = &mut self.queues.get_mut(&consumer.queue).expect("there").line;
        let can_take = consumer.credit > 0 && consumer.bytes.is_none_or(|bytes| bytes > 0);
        if can_take && !line.contains(&id) {
            line.push(id);
        }
    }

    pub(super) fn deliver(&mut self, id: u32) {
        loop {
            let queue = self.queues.get_mut(&id).expect("there");
            let single = queue.policy.single_active;
            let taker = queue.line.iter().position(|taker| !single || Some(*taker) == queue.active);
            let Some(taker) = taker else { break };
            let Some(offset) = queue.next(self.now) else { break };
            let taker = queue.line.remove(taker);
            let consumer = self.consumers.get_mut(&taker).expect("there");
            let message = &mut queue.messages[offset];
            let deadline = self.now.after(Duration::from_millis(queue.policy.lease_ms));
            let (lane, auto_settle) = (message.lane, consumer.auto_settle);
            message.place = if auto_settle { Place::Gone } else { Place::Leased };
            if !auto_settle {
                consumer.held.push((consumer.next_tag, offset, deadline));
                consumer.look = Some(consumer.look.map_or(deadline, |look| look.min(deadline)));
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
            consumer.credit -= 1;
            consumer.bytes = consumer.bytes.map(|left| left - i64::from(message.bytes));
            (consumer.next_tag, consumer.told) = (consumer.next_tag + 1, false);
            if let Some(tenant) = queue.tenant(lane, self.now) {
                tenant.work_ms += 1;
                tenant.in_flight += u64::from(!auto_settle);
            }
            self.join(taker);
        }
        if self.queues[&id].messages.iter().any(|message| message.place == Place::Ready) {
            return;
        }
        for taker in &self.queues[&id].line {
            let consumer = self.consumers.get_mut(taker).expect("there");
            if consumer.notify_empty && !consumer.told {
                consumer.told = true;
                self.effects.push(Effect::Empty { consumer: ConsumerId(*taker) });
            }
        }
    }

    pub(super) fn settle(&mut self, id: u64, settlements: &[Settlement]) {
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
                    Outcome::Ack => {
                        self.land(queue, offset);
                        self.message(queue, offset).place = Place::Gone;
                    }
                    Outcome::Nack { delay } => self.fail(queue, offset, *delay, "at last by a nack"),
                    Outcome::DeadLetter { reason } => {
                        self.come_back(queue, offset, true);
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

    pub(super) fn renew(&mut self, id: u64, tags: &[(u64, u64)]) {
        let (mut renewed, mut stale) = (0, Vec::new());
        for tag in tags.iter().flat_map(|(first, last)| *first..=*last) {
            let held = self.consumers.get_mut(&id).and_then(|consumer| {
                let lease = self.queues[&consumer.queue].policy.lease_ms;
                Some((consumer.held.iter_mut().find(|(held, ..)| *held == tag)?, lease))
            });
            match held {
                Some((held, lease)) => {
                    held.2 = self.now.after(Duration::from_millis(lease));
                    renewed += 1;
                }
                None => stale.push(tag),
            }
        }
        self.look_no_later(id);
        self.effects.push(Effect::Renewed { consumer: ConsumerId(id), renewed, stale });
    }

    fn look_no_later(&mut self, id: u64) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        let next = consumer.held.iter().map(|(_, _, deadline)| *deadline).min();
        consumer.look = next.map(|next| consumer.look.map_or(next, |look| look.min(next))).or(consumer.look);
    }

    pub(super) fn lapse(&mut self, id: u64) {
        let now = self.now;
        let consumer = self.consumers.get_mut(&id).expect("there");
        let queue = consumer.queue;
        consumer.look = None;
        for (_, offset, _) in
            consumer.held.extract_if(.., |(_, _, deadline)| *deadline <= now).collect::<Vec<_>>()
        {
            self.fail(queue, offset, Some(Duration::ZERO), "at last by holding it past its lease");
        }
        self.look_no_later(id);
        self.join(id);
    }

    /// A delivery failed: dead, expired, or again after `delay` (`None`: the policy's).
    fn fail(&mut self, queue: u32, offset: usize, delay: Option<Duration>, how: &str) {
        self.come_back(queue, offset, true);
        let policy = self.queues[&queue].policy.clone();
        let message = self.message(queue, offset);
        let failures = message.failures;
        if failures >= policy.max_attempts && message.death.is_none() {
            let reason = format!("failed {failures} times, {how}");
            return self.bury(queue, offset, DeathCause::MaxAttempts, reason);
        }
        if self.is_expired(queue, offset) {
            return self.expire(queue, offset);
        }
        let until = self.now.after(delay.unwrap_or_else(|| backoff(&policy, failures, self.index, offset)));
        match until > self.now {
            true => self.rest(queue, offset, until),
            false => self.ready(queue, offset),
        }
    }

    fn ready_or_expired(&mut self, queue: u32, offset: usize) {
        match self.is_expired(queue, offset) {
            true => self.expire(queue, offset),
            false => self.ready(queue, offset),
        }
    }

    /// A lease is over, and the message is not done.
    fn come_back(&mut self, queue: u32, offset: usize, failed: bool) {
        self.land(queue, offset);
        let message = self.message(queue, offset);
        message.attempts += 1;
        message.failures += u32::from(failed);
        message.plain = false;
    }

    fn land(&mut self, queue: u32, offset: usize) {
        let (lane, now) = (self.message(queue, offset).lane, self.now);
        if let Some(tenant) = self.queues.get_mut(&queue).expect("there").tenant(lane, now) {
            tenant.in_flight -= 1;
        }
    }

    /// A message waits for a consumer again.
    pub(super) fn ready(&mut self, queue: u32, offset: usize) {
        let now = self.now;
        let message = self.message(queue, offset);
        message.place = Place::Ready;
        let lane = message.lane;
        self.queues.get_mut(&queue).expect("there").tenant(lane, now);
    }

    /// A message waits for its time.
    pub(super) fn rest(&mut self, queue: u32, offset: usize, until: Timestamp) {
        let expired = self.is_expired(queue, offset);
        let message = self.message(queue, offset);
        (message.place, message.plain, message.overdue) = (Place::Delayed(until), false, expired);
    }

    pub(super) fn is_expired(&self, queue: u32, offset: usize) -> bool {
        let queue = &self.queues[&queue];
        queue.expiry(&queue.messages[offset]).is_some_and(|at| at <= self.now)
    }
}

fn backoff(policy: &QueuePolicy, failures: u32, index: u64, offset: usize) -> Duration {
    let grown = match policy.retry {
        Backoff::Fixed => policy.retry_min_ms,
        Backoff::Linear => policy.retry_min_ms * u64::from(failures),
        Backoff::Exponential => policy.retry_min_ms * 2_u64.pow(failures - 1),
    };
    let base = grown.min(policy.retry_max_ms);
    let seed = [index.to_le_bytes(), (offset as u64).to_le_bytes()].concat();
    Duration::from_millis(base + xxh3_64(&seed) % (base * u64::from(policy.retry_jitter_percent) / 100 + 1))
}
