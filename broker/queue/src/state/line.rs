//! How ready messages and consumers with credit come together.

use super::State;
use crate::consumer::Consumer;
use crate::queue::{Fate, Queue};
use crate::timers::Timer;
use crate::{ConsumerId, Deliver, Effect, QueueId};

impl State {
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
        while let Some((place, next)) = next_taker(queue) {
            let Some(taken) = queue.take(self.now) else { break };
            let consumer = self.consumers.get_mut(&next).expect("who stands in line is attached");
            leave_line(queue, consumer);
            queue.takers.remove(place);
            consumer.spend(taken.slot.bytes);
            consumer.told_empty = false;
            let tag = if consumer.auto_settle {
                queue.settle_leased(taken.offset, Fate::Acked, self.now, &mut self.timers, &mut self.live);
                consumer.pass_tag()
            } else {
                // A policy with shorter leases may have come since.
                if let Some(later) = consumer.armed.take_if(|armed| *armed > deadline) {
                    self.timers.cancel(later, Timer::Lease(next));
                }
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
        // Whoever still stands in line gets nothing now. Where what is ready waits for its turn, it gets some later.
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

    /// Finds the one consumer of a queue that is served, where its policy says that one is: the oldest. A lease
    /// that lapses does not make it another, only leaving does.
    pub(super) fn choose_active(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        if !queue.policy.single_active {
            queue.active = None;
            return;
        }
        if queue.active.is_none_or(|active| !self.consumers.contains_key(&active)) {
            let mine = self.consumers.iter().filter(|(_, consumer)| consumer.queue == id);
            let oldest = mine.min_by_key(|(_, consumer)| consumer.attached_by);
            queue.active = oldest.map(|(id, _)| *id);
        }
    }
}

/// The consumer that gets the next message, and its place in the line.
fn next_taker(queue: &Queue) -> Option<(usize, ConsumerId)> {
    if !queue.policy.single_active {
        return queue.takers.front().map(|next| (0, *next));
    }
    let place = queue.takers.iter().position(|taker| Some(*taker) == queue.active)?;
    Some((place, queue.takers[place]))
}

/// Puts a consumer that can take more, and does not yet, at the end of its queue's line.
pub(super) fn join_line(queue: &mut Queue, id: ConsumerId, consumer: &mut Consumer) {
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
