//! How messages go to consumers and come back: attach, credit, deliver, settle, lapse, leave.

use std::time::Duration;

use wharf_protocol::{DeathCause, Outcome, Settlement};

use super::State;
use crate::consumer::Consumer;
use crate::effect::{Refusal, STALE_TAGS_MAX};
use crate::queue::{Fate, Queue};
use crate::timers::Timer;
use crate::{Attach, ConsumerId, Deliver, Effect, QueueId};

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
    /// The consumer said "never", and why.
    Refused(String),
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
        let mut consumer = Consumer::new(info.id, u64::from(attach.credit));
        consumer.auto_settle = attach.auto_settle;
        consumer.notify_empty = attach.notify_empty;
        let queue = self.queues.get_mut(&info.id).expect("every declared queue is there");
        queue.consumers += 1;
        join_line(queue, attach.consumer, &mut consumer);
        self.touched.push(info.id);
        self.consumers.insert(attach.consumer, consumer);
        Ok(())
    }

    pub(super) fn credit(&mut self, id: ConsumerId, add: u32) -> Result<(), Refusal> {
        let consumer = self.consumers.get_mut(&id).ok_or_else(|| Refusal::not_found("consumer", &id))?;
        let queue = self.queues.get_mut(&consumer.queue).expect("a queue's consumers go with it");
        consumer.credit = consumer.credit.saturating_add(u64::from(add));
        if add > 0 {
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
        Ok(())
    }

    /// All consumers leave.
    pub(super) fn restart(&mut self, effects: &mut Vec<Effect>) {
        self.restart_groups();
        for queue in self.queues.values_mut() {
            queue.takers.clear();
            queue.untold = 0;
        }
        for (id, mut consumer) in std::mem::take(&mut self.consumers) {
            consumer.in_line = false;
            self.leave(id, &consumer, effects);
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

    /// Brings ready messages and consumers with credit together in the queues that this record touched.
    pub(super) fn deliver(&mut self, effects: &mut Vec<Effect>) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for id in touched.drain(..) {
            self.deliver_from(id, effects);
            if let Some(queue) = self.queues.get(&id) {
                assert!(queue.is_conserved(), "queue {}: what came in is somewhere", queue.name);
            }
        }
        self.touched = touched;
    }

    /// Delivers from one queue, one message to each consumer in turn.
    fn deliver_from(&mut self, id: QueueId, effects: &mut Vec<Effect>) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let deadline = self.now.after(queue.policy.lease());
        while let Some(next) = queue.takers.front().copied() {
            let Some(taken) = queue.take() else { break };
            let consumer = self.consumers.get_mut(&next).expect("who stands in line is attached");
            leave_line(queue, consumer);
            queue.takers.pop_front();
            consumer.credit -= 1;
            consumer.told_empty = false;
            let tag = if consumer.auto_settle {
                queue.settle_leased(taken.offset, Fate::Acked, &mut self.timers, &mut self.live);
                consumer.pass_tag()
            } else {
                if consumer.armed.is_none() {
                    consumer.armed = Some(deadline);
                    self.timers.arm(deadline, Timer::Lease(next));
                }
                consumer.lease(taken.offset, deadline)
            };
            join_line(queue, next, consumer);
            effects.push(Effect::Deliver(Deliver {
                consumer: next,
                tag,
                id: taken.slot.id,
                offset: taken.offset,
                attempt: taken.attempt,
                redelivered: taken.attempt > 1,
                stored_at: taken.slot.stored_at,
                death: taken.death,
            }));
        }
        if queue.untold > 0 && queue.ready == 0 {
            for id in &queue.takers {
                let consumer = self.consumers.get_mut(id).expect("who stands in line is attached");
                if consumer.notify_empty && !consumer.told_empty {
                    consumer.told_empty = true;
                    effects.push(Effect::Empty { consumer: *id });
                }
            }
            queue.untold = 0;
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
            return false;
        };
        let queue = consumer.queue;
        match outcome {
            Outcome::Ack => {
                let queue = self.queues.get_mut(&queue).expect("a queue's consumers go with it");
                queue.settle_leased(offset, Fate::Acked, &mut self.timers, &mut self.live);
            }
            Outcome::Nack { delay } => self.give_back(queue, offset, Return::Nacked(*delay), effects),
            Outcome::DeadLetter { reason } => {
                self.give_back(queue, offset, Return::Refused(reason.clone()), effects);
            }
        }
        true
    }

    /// Takes back what a consumer holds past its deadline.
    pub(super) fn lapse(&mut self, id: ConsumerId, effects: &mut Vec<Effect>) {
        let now = self.now;
        let consumer = self.consumers.get_mut(&id).expect("a consumer's timer goes with it");
        consumer.armed = None;
        let queue = consumer.queue;
        while let Some(offset) = self.consumers.get_mut(&id).and_then(|consumer| consumer.lapse(now)) {
            self.give_back(queue, offset, Return::Lapsed, effects);
        }
        let consumer = self.consumers.get_mut(&id).expect("giving back keeps consumers");
        consumer.armed = consumer.deadline();
        if let Some(at) = consumer.armed {
            self.timers.arm(at, Timer::Lease(id));
        }
        join_line(self.queues.get_mut(&queue).expect("a queue's consumers go with it"), id, consumer);
    }

    fn leave(&mut self, id: ConsumerId, consumer: &Consumer, effects: &mut Vec<Effect>) {
        if let Some(at) = consumer.armed {
            self.timers.cancel(at, Timer::Lease(id));
        }
        let queue = self.queues.get_mut(&consumer.queue).expect("a queue's consumers go with it");
        queue.consumers -= 1;
        if consumer.in_line {
            queue.untold -= u64::from(consumer.notify_empty && !consumer.told_empty);
            queue.takers.retain(|each| *each != id);
        }
        for offset in consumer.held() {
            self.give_back(consumer.queue, offset, Return::Left, effects);
        }
        self.touched.push(consumer.queue);
    }

    /// Decides where a message goes whose lease ended without it being done.
    fn give_back(&mut self, id: QueueId, offset: u64, how: Return, effects: &mut Vec<Effect>) {
        self.touched.push(id);
        let now = self.now;
        let queue = self.queues.get_mut(&id).expect("a queue's consumers go with it");
        let failed = !matches!(how, Return::Left);
        let extra = queue.unlease(offset, failed);
        let (failures, dead) = (extra.failures, extra.death.is_some());
        let expired = extra.expires.is_some_and(|at| at <= now);

        if let Return::Refused(reason) = how {
            return self.dead_letter(id, offset, DeathCause::Rejected, reason, effects);
        }
        if failed && !dead && failures >= queue.policy.max_attempts {
            let reason = match how {
                Return::Lapsed => format!("failed {failures} times, at last by holding it past its lease"),
                _ => format!("failed {failures} times, at last by a nack"),
            };
            return self.dead_letter(id, offset, DeathCause::MaxAttempts, reason, effects);
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
            until if until > now => queue.delay(offset, until, &mut self.timers),
            _ => queue.ready(offset),
        }
    }
}

/// Notes the tags from `from` up to `to`, as far as there is room.
fn add_stale(stale: &mut Vec<u64>, from: u64, to: u64) {
    stale.extend((from..to).take(STALE_TAGS_MAX - stale.len()));
}

/// Puts a consumer that can take more, and does not yet, at the end of its queue's line.
fn join_line(queue: &mut Queue, id: ConsumerId, consumer: &mut Consumer) {
    if consumer.can_take() && !consumer.in_line {
        consumer.in_line = true;
        queue.untold += u64::from(consumer.notify_empty && !consumer.told_empty);
        queue.takers.push_back(id);
    }
}

/// Notes that a consumer is about to leave its queue's line.
fn leave_line(queue: &mut Queue, consumer: &mut Consumer) {
    consumer.in_line = false;
    queue.untold -= u64::from(consumer.notify_empty && !consumer.told_empty);
}
