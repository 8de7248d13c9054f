//! How consumers come and go, and messages come back from them: attach, credit, settle, renew, lapse, leave.

use std::time::Duration;

use wharf_protocol::{DeathCause, Outcome, Settlement};

use super::State;
use super::death::GivenUp;
use super::line::join_line;
use crate::consumer::Consumer;
use crate::effect::{Refusal, STALE_TAGS_MAX};
use crate::queue::{Fate, Queue};
use crate::seeded::{self, Fault};
use crate::timers::Timer;
use crate::{Attach, ConsumerId, Effect, QueueId, Refused};

/// The most consumers at a time.
const CONSUMERS_MAX: usize = 65_536;

/// How a lease ends without the message being done.
enum Return {
    /// The consumer left: not a failure.
    Left,
    /// The lease lapsed.
    Lapsed,
    /// The consumer said "again", and when.
    Nacked(Option<Duration>),
    /// The consumer said "never", or a pipeline on the way to it, and why.
    Refused(GivenUp),
}

impl State {
    pub(super) fn attach(&mut self, attach: &Attach) -> Result<(), Refusal> {
        let Some(info) = self.topology.queue(attach.queue.as_str()) else {
            return Err(Refusal::not_found("queue", &attach.queue));
        };
        if self.consumers.contains_key(&attach.consumer) {
            return Err(Refusal::conflict(format!("there is a consumer {} already", attach.consumer)));
        }
        if self.consumers.len() >= CONSUMERS_MAX {
            return Err(Refusal::full("consumers", CONSUMERS_MAX));
        }
        let queue = self.queues.get_mut(&info.id).expect("every declared queue is there");
        if queue.policy.exclusive && queue.consumers > 0 {
            let reason = format!("queue {} is exclusive, and has its one consumer", attach.queue);
            return Err(Refusal::conflict(reason));
        }
        let mut consumer = Consumer::new(info.id, self.applied);
        consumer.credit = u64::from(attach.credit);
        let bytes = i64::try_from(attach.credit_bytes).unwrap_or(i64::MAX);
        consumer.bytes = (bytes > 0).then_some(bytes);
        consumer.auto_settle = attach.auto_settle;
        consumer.notify_empty = attach.notify_empty;
        if let Some(at) = queue.unused_until() {
            self.timers.cancel(at, Timer::Unused(info.id));
        }
        queue.unused_since = None;
        queue.consumers += 1;
        join_line(queue, attach.consumer, &mut consumer);
        self.touched.push(info.id);
        self.consumers.insert(attach.consumer, consumer);
        self.choose_active(info.id);
        Ok(())
    }

    pub(super) fn credit(&mut self, id: ConsumerId, add: u32, bytes: u64) -> Result<(), Refusal> {
        let consumer = self.consumers.get_mut(&id).ok_or_else(|| Refusal::not_found("consumer", &id))?;
        let queue = self.queues.get_mut(&consumer.queue).expect("a queue's consumers go with it");
        consumer.grant(add, bytes);
        if add > 0 || bytes > 0 {
            // Asking again, it wants to hear again.
            queue.untold += u64::from(consumer.in_line && consumer.notify_empty && consumer.told_empty);
            consumer.told_empty = false;
        }
        join_line(queue, id, consumer);
        self.touched.push(consumer.queue);
        Ok(())
    }

    pub(super) fn detach(&mut self, id: ConsumerId, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let consumer = self.consumers.remove(&id).ok_or_else(|| Refusal::not_found("consumer", &id))?;
        self.leave(id, &consumer, effects);
        if self.queues[&consumer.queue].policy.exclusive {
            self.delete_queue(consumer.queue, effects);
        }
        Ok(())
    }

    /// All consumers leave.
    pub(super) fn restart(&mut self, effects: &mut Vec<Effect>) {
        self.restart_groups();
        for queue in self.queues.values_mut() {
            queue.takers.clear();
            queue.untold = 0;
        }
        let exclusive = |queue: &&Queue| queue.policy.exclusive && queue.consumers > 0;
        let bereft: Vec<QueueId> = self.queues.values().filter(exclusive).map(|queue| queue.id).collect();
        for (id, mut consumer) in std::mem::take(&mut self.consumers) {
            consumer.in_line = false;
            self.leave(id, &consumer, effects);
        }
        for id in bereft {
            self.delete_queue(id, effects);
        }
    }

    /// Takes the consumers of a queue that is about to go with all that they hold.
    pub(super) fn cancel_consumers(&mut self, queue: QueueId, effects: &mut Vec<Effect>) {
        let mine = self.consumers.extract_if(.., |_, consumer| consumer.queue == queue);
        for (id, consumer) in mine {
            if let Some(at) = consumer.armed {
                self.timers.cancel(at, Timer::Lease(id));
            }
            effects.push(Effect::Cancelled { consumer: id });
        }
    }

    /// Does what a consumer says of its deliveries; what it does not hold is told as stale.
    pub(super) fn settle(&mut self, id: ConsumerId, settlements: &[Settlement], effects: &mut Vec<Effect>) {
        let (mut accepted, mut stale) = (0_u64, Vec::new());
        for Settlement { first, last, outcome } in settlements {
            let held =
                self.consumers.get(&id).map_or(*first..*first, |consumer| consumer.tags(*first, *last));
            add_stale(&mut stale, *first, held.start.min(last.saturating_add(1)));
            for tag in held.clone() {
                match self.settle_one(id, tag, outcome, effects) {
                    true => accepted += 1,
                    false => add_stale(&mut stale, tag, tag + 1),
                }
            }
            add_stale(&mut stale, held.end.max(*first), last.saturating_add(1));
        }
        self.go_on(id);
        effects.push(Effect::Settled { consumer: id, accepted, stale });
    }

    /// Does what a consumer says of deliveries that it holds, all of them.
    pub(super) fn settle_held(
        &mut self,
        id: ConsumerId,
        settlements: &[Settlement],
        effects: &mut Vec<Effect>,
    ) {
        for Settlement { first, last, outcome } in settlements {
            for tag in *first..=*last {
                let settled = self.settle_one(id, tag, outcome, effects);
                assert!(settled, "consumer {id} holds delivery {tag}: it was checked");
            }
        }
        self.go_on(id);
    }

    /// A consumer that has settled something may take more.
    fn go_on(&mut self, id: ConsumerId) {
        if let Some(consumer) = self.consumers.get_mut(&id) {
            let queue = self.queues.get_mut(&consumer.queue).expect("a queue's consumers go with it");
            join_line(queue, id, consumer);
            self.touched.push(consumer.queue);
        }
    }

    /// Settles one delivery, if the consumer holds it.
    fn settle_one(&mut self, id: ConsumerId, tag: u64, outcome: &Outcome, effects: &mut Vec<Effect>) -> bool {
        let consumer = self.consumers.get_mut(&id).expect("the caller found it");
        let Some(offset) = consumer.release(tag) else {
            return seeded::is(Fault::LeaseNotCheckedOnAck);
        };
        let queue = consumer.queue;
        match outcome {
            Outcome::Ack => {
                let queue = self.queues.get_mut(&queue).expect("a queue's consumers go with it");
                queue.settle_leased(offset, Fate::Acked, self.now, &mut self.timers, &mut self.live);
            }
            Outcome::Nack { delay } => self.give_back(queue, offset, Return::Nacked(*delay), effects),
            Outcome::DeadLetter { reason } => {
                let how = Return::Refused(GivenUp::new(DeathCause::Rejected, reason.clone()));
                self.give_back(queue, offset, how, effects);
            }
        }
        true
    }

    /// Gives up what pipelines on the way to a consumer refused; what it does not hold is told as stale.
    pub(super) fn refuse(&mut self, id: ConsumerId, refused: &[Refused], effects: &mut Vec<Effect>) {
        let (mut accepted, mut stale) = (0_u64, Vec::new());
        for each in refused {
            let consumer = self.consumers.get_mut(&id);
            let held = consumer.and_then(|consumer| Some((consumer.queue, consumer.release(each.tag)?)));
            match held {
                Some((queue, offset)) => {
                    let (stage, plugin) = (Some(each.stage.clone()), Some(each.plugin.clone()));
                    let given_up = GivenUp { stage, plugin, ..GivenUp::new(each.cause, each.reason.clone()) };
                    self.give_back(queue, offset, Return::Refused(given_up), effects);
                    accepted += 1;
                }
                None => add_stale(&mut stale, each.tag, each.tag.saturating_add(1)),
            }
        }
        self.go_on(id);
        effects.push(Effect::Settled { consumer: id, accepted, stale });
    }

    /// Starts leases anew; tags that the consumer does not hold are told as stale.
    pub(super) fn renew(&mut self, id: ConsumerId, tags: &[(u64, u64)], effects: &mut Vec<Effect>) {
        let (mut renewed, mut stale) = (0_u64, Vec::new());
        for (first, last) in tags {
            let Some(consumer) = self.consumers.get_mut(&id) else {
                add_stale(&mut stale, *first, last.saturating_add(1));
                continue;
            };
            let deadline = self.now.after(self.queues[&consumer.queue].policy.lease());
            let held = consumer.tags(*first, *last);
            add_stale(&mut stale, *first, held.start.min(last.saturating_add(1)));
            for tag in held.clone() {
                match consumer.renew(tag, deadline) {
                    true => renewed += 1,
                    false => add_stale(&mut stale, tag, tag + 1),
                }
            }
            add_stale(&mut stale, held.end.max(*first), last.saturating_add(1));
        }
        self.arm_lease(id);
        effects.push(Effect::Renewed { consumer: id, renewed, stale });
    }

    /// Arms a consumer's timer for the next of its leases to lapse, if it is armed for none or for later.
    fn arm_lease(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        let Some(deadline) = consumer.deadline() else { return };
        if let Some(armed) = consumer.armed.filter(|armed| *armed > deadline) {
            self.timers.cancel(armed, Timer::Lease(id));
            consumer.armed = None;
        }
        if consumer.armed.is_none() {
            consumer.armed = Some(deadline);
            self.timers.arm(deadline, Timer::Lease(id));
        }
    }

    /// Takes back what a consumer holds past its deadline.
    pub(super) fn lapse(&mut self, id: ConsumerId, effects: &mut Vec<Effect>) {
        let now = self.now;
        let consumer = self.consumers.get_mut(&id).expect("a consumer's timer goes with it");
        consumer.armed = None;
        let queue = consumer.queue;
        for offset in consumer.lapse(now) {
            self.give_back(queue, offset, Return::Lapsed, effects);
        }
        self.arm_lease(id);
        let consumer = self.consumers.get_mut(&id).expect("giving back keeps consumers");
        join_line(self.queues.get_mut(&queue).expect("a queue's consumers go with it"), id, consumer);
    }

    fn leave(&mut self, id: ConsumerId, consumer: &Consumer, effects: &mut Vec<Effect>) {
        if let Some(at) = consumer.armed {
            self.timers.cancel(at, Timer::Lease(id));
        }
        let queue = self.queues.get_mut(&consumer.queue).expect("a queue's consumers go with it");
        queue.consumers -= 1;
        if queue.consumers == 0 {
            queue.unused_since = Some(self.now);
            if let Some(at) = queue.unused_until() {
                self.timers.arm(at, Timer::Unused(queue.id));
            }
        }
        if consumer.in_line {
            queue.untold -= u64::from(consumer.notify_empty && !consumer.told_empty);
            queue.takers.retain(|each| *each != id);
        }
        for offset in consumer.held() {
            self.give_back(consumer.queue, offset, Return::Left, effects);
        }
        self.choose_active(consumer.queue);
        self.touched.push(consumer.queue);
    }

    /// Decides where a message goes whose lease ended without it being done.
    fn give_back(&mut self, id: QueueId, offset: u64, how: Return, effects: &mut Vec<Effect>) {
        self.touched.push(id);
        let now = self.now;
        let queue = self.queues.get_mut(&id).expect("a queue's consumers go with it");
        let failed = !matches!(how, Return::Left);
        let extra = queue.unlease(offset, failed, now, &mut self.timers);
        let (failures, dead) = (extra.failures, extra.death.is_some());
        let expired = queue.is_expired(offset, now);

        if let Return::Refused(given_up) = how {
            return self.dead_letter(id, offset, given_up, effects);
        }
        if failed && !dead && failures >= queue.policy.max_attempts {
            let reason = match how {
                Return::Lapsed => format!("failed {failures} times, at last by holding it past its lease"),
                _ => format!("failed {failures} times, at last by a nack"),
            };
            return self.dead_letter(id, offset, GivenUp::new(DeathCause::MaxAttempts, reason), effects);
        }
        if expired {
            return self.expire(id, offset, effects);
        }
        let delay = match how {
            Return::Nacked(None) => queue.policy.retry_delay(failures, [self.applied, offset]),
            Return::Nacked(Some(delay)) => delay,
            // A lapsed lease has waited already.
            Return::Lapsed | Return::Left | Return::Refused(_) => Duration::ZERO,
        };
        match now.after(delay) {
            until if until > now => queue.delay(offset, until, now, &mut self.timers),
            _ => queue.ready(offset, now),
        }
    }
}

/// Notes the tags from `from` up to `to`, as far as there is room.
fn add_stale(stale: &mut Vec<u64>, from: u64, to: u64) {
    stale.extend((from..to).take(STALE_TAGS_MAX - stale.len()));
}
