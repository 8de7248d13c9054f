//! How what is declared changes, and what that does to messages and consumers.

use std::sync::Arc;

use wharf_protocol::Name;

use super::State;
use crate::effect::Refusal;
use crate::queue::Queue;
use crate::timers::Timer;
use crate::{Change, Effect, QueueId, QueuePolicy};

impl State {
    pub(super) fn change(&mut self, whole: &Change, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        // What is done on behalf of an owner is done as without one.
        let change = match whole {
            Change::Own { make, .. } if make.made().is_some() => make,
            _ => whole,
        };
        match change {
            Change::DeleteQueue { name } => {
                let id = self.topology.queue(name.as_str()).map(|queue| queue.id);
                self.delete_queue(id.ok_or_else(|| Refusal::not_found("queue", name))?, effects);
                return Ok(());
            }
            Change::SetPolicy { name, policy, was } => self.check_policy(name, policy, was.as_deref())?,
            _ => {}
        }
        let stream = match change {
            Change::DeleteStream { name } => self.topology.stream(name.as_str()).map(|stream| stream.id),
            _ => None,
        };
        let changed = Arc::make_mut(&mut self.topology).change(self.applied, self.now, whole)?;
        match change {
            Change::CreateQueue { name, policy } if changed => {
                let id = self.topology.queue(name.as_str()).expect("just made").id;
                self.open_queue(id, name.clone(), policy.clone());
            }
            Change::SetPolicy { name, policy, .. } if changed => {
                let id = self.topology.queue(name.as_str()).expect("found by the topology").id;
                self.set_policy(id, policy, effects);
            }
            Change::PurgeQueue { name } => {
                let id = self.topology.queue(name.as_str()).expect("found by the topology").id;
                let queue = self.queues.get_mut(&id).expect("every declared queue is there");
                let messages = queue.purge(&mut self.timers, &mut self.live);
                effects.push(Effect::Purged { queue: name.clone(), messages });
                self.touched.push(id);
            }
            Change::RemovePipeline { name } => self.kv.forget(name),
            Change::SetDeduplication(deduplication) => self.message_ids.limit(self.now, deduplication),
            _ => {}
        }
        self.change_streams(change, stream, effects);
        self.change_owners(whole);
        if changed {
            effects.push(Effect::TopologyChanged);
        }
        Ok(())
    }

    /// Adds a queue that was declared.
    pub(super) fn open_queue(&mut self, id: QueueId, name: Name, policy: QueuePolicy) {
        let mut queue = Queue::new(id, name, policy);
        queue.unused_since = Some(self.now);
        if let Some(at) = queue.unused_until() {
            self.timers.arm(at, Timer::Unused(id));
        }
        self.limited += usize::from(queue.policy.is_limited());
        self.queues.insert(id, queue);
    }

    /// Removes a queue with all that is in it; its consumers are told.
    pub(super) fn delete_queue(&mut self, id: QueueId, effects: &mut Vec<Effect>) {
        let queue = self.queues.remove(&id).expect("the caller found it");
        Arc::make_mut(&mut self.topology).forget_queue(self.applied, &queue.name);
        self.cancel_consumers(id, effects);
        queue.abandon(&mut self.timers, &mut self.live);
        self.limited -= usize::from(queue.policy.is_limited());
        effects.push(Effect::TopologyChanged);
    }

    /// Refuses a policy that does not fit what is in the queue.
    fn check_policy(
        &self,
        name: &Name,
        policy: &QueuePolicy,
        was: Option<&QueuePolicy>,
    ) -> Result<(), Refusal> {
        let Some(queue) = self.queue_named(name.as_str()) else {
            return Err(Refusal::not_found("queue", name));
        };
        let old = &queue.policy;
        if was.is_some_and(|was| was != old) {
            return Err(Refusal::changed_meanwhile("queue", name));
        }
        let sorted_anew = (old.order, &old.fair_by) != (policy.order, &policy.fair_by);
        if sorted_anew && queue.backlog.live() > 0 {
            let messages = queue.backlog.live();
            return Err(Refusal::conflict(format!(
                "queue {name} holds {messages} messages, and their order was decided as they came: order and \
                 fair-by change while it is empty"
            )));
        }
        if old.exclusive != policy.exclusive && queue.consumers > 0 {
            let consumers = queue.consumers;
            return Err(Refusal::conflict(format!(
                "queue {name} has {consumers} consumers: exclusive changes while it has none"
            )));
        }
        Ok(())
    }

    fn set_policy(&mut self, id: QueueId, policy: &QueuePolicy, effects: &mut Vec<Effect>) {
        let queue = self.queues.get_mut(&id).expect("every declared queue is there");
        queue.set_policy(policy.clone(), self.now, &mut self.timers);
        self.touched.push(id);
        self.choose_active(id);
        self.count_limited();
        self.pass_time(self.now, effects);
        self.make_room_in(id, effects);
    }
}
