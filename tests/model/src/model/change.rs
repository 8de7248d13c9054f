//! Queues come, change and go.

use wharf_protocol::ErrorCode;
use wharf_queue::{Change, ConsumerId, Effect, Order, QueuePolicy, Schedule};

use super::{Model, Place, Queue};

impl Model {
    pub(super) fn change(&mut self, change: &Change) {
        match change {
            Change::CreateQueue { name, policy } => {
                if is_impossible(policy) {
                    return self.refuse(ErrorCode::Malformed);
                }
                if self.stream_named(name).is_some() || self.leads_to_stream(policy) {
                    return self.refuse(ErrorCode::Conflict);
                }
                match self.named(name.as_str()) {
                    None => {
                        self.create(name.as_str(), policy.clone());
                        self.effects.push(Effect::TopologyChanged);
                    }
                    Some(id) if self.queues[&id].policy == *policy => {}
                    Some(_) => self.refuse(ErrorCode::Conflict),
                }
            }
            Change::DeleteQueue { name } => match self.named(name.as_str()) {
                Some(id) => self.delete(id),
                None => self.refuse(ErrorCode::NotFound),
            },
            Change::PurgeQueue { name } => {
                let Some(id) = self.named(name.as_str()) else { return self.refuse(ErrorCode::NotFound) };
                let messages = &mut self.queues.get_mut(&id).expect("there").messages;
                let waiting = messages.iter_mut().filter(|m| !matches!(m.place, Place::Leased | Place::Gone));
                let count = waiting.map(|message| message.place = Place::Gone).count() as u64;
                self.effects.push(Effect::Purged { queue: name.clone(), messages: count });
            }
            Change::SetPolicy { name, policy, was } => {
                let Some(id) = self.named(name.as_str()) else { return self.refuse(ErrorCode::NotFound) };
                if was.as_deref().is_some_and(|was| *was != self.queues[&id].policy) {
                    return self.refuse(ErrorCode::Conflict);
                }
                self.set_policy(id, policy);
            }
            Change::CreateStream { name, policy } => self.create_stream(name, policy),
            Change::SetStreamPolicy { name, policy, was } => {
                self.set_stream_policy(name, policy, was.as_deref());
            }
            Change::DeleteStream { name } => self.delete_stream(name),
            Change::Bind { pattern, queue, pipeline } => self.bind(pattern, queue, pipeline.as_ref()),
            Change::Unbind { pattern, queue } => self.unbind(pattern, queue),
            Change::PutSchedule { name, cron, time_zone, message, by } => {
                let (cron, time_zone, message) = (cron.clone(), time_zone.clone(), message.clone());
                let (by, since, paused) = (by.clone(), self.now, false);
                self.put_schedule(name, Schedule { cron, time_zone, message, paused, since, by });
            }
            Change::PauseSchedule { name, paused } => self.pause_schedule(name, *paused),
            Change::RemoveSchedule { name } => self.remove_schedule(name),
            Change::SetDeduplication(deduplication) => self.set_deduplication(deduplication),
            other => panic!("the model knows no {other:?}"),
        }
    }

    fn set_policy(&mut self, id: u32, policy: &QueuePolicy) {
        let attached = self.consumers.values().any(|consumer| consumer.queue == id);
        let queue = self.queues.get_mut(&id).expect("there");
        let sorted_anew = (queue.policy.order, &queue.policy.fair_by) != (policy.order, &policy.fair_by);
        let holds = queue.messages.iter().any(|message| message.place != Place::Gone);
        if (sorted_anew && holds) || (queue.policy.exclusive != policy.exclusive && attached) {
            return self.refuse(ErrorCode::Conflict);
        }
        if is_impossible(policy) {
            return self.refuse(ErrorCode::Malformed);
        }
        if self.leads_to_stream(policy) {
            return self.refuse(ErrorCode::Conflict);
        }
        let queue = self.queues.get_mut(&id).expect("there");
        if queue.policy == *policy {
            return;
        }
        if sorted_anew {
            (queue.tenants, queue.period) = (Default::default(), 0);
        }
        (queue.policy, queue.policy_at) = (policy.clone(), self.now);
        queue.unused_since = (!attached).then_some(self.now);
        queue.messages.iter_mut().for_each(|message| message.overdue = false);
        self.choose_active(id);
        self.pass_time();
        self.make_room(id);
        self.effects.push(Effect::TopologyChanged);
    }

    pub(super) fn create(&mut self, name: &str, policy: QueuePolicy) -> u32 {
        let queue = Queue {
            name: name.to_owned(),
            policy,
            policy_at: self.now,
            messages: Vec::new(),
            line: Vec::new(),
            active: None,
            unused_since: Some(self.now),
            tenants: Default::default(),
            period: 0,
            dropped: 0,
            moved: 0,
        };
        self.next_queue += 1;
        self.queues.insert(self.next_queue - 1, queue);
        self.next_queue - 1
    }

    /// Whether dead letters would go to a stream.
    fn leads_to_stream(&self, policy: &QueuePolicy) -> bool {
        policy.dead_letter.as_ref().is_some_and(|name| self.stream_named(name).is_some())
    }

    pub(super) fn delete(&mut self, id: u32) {
        let queue = self.queues.remove(&id).expect("there");
        self.bindings.retain(|(_, to)| to.as_str() != queue.name);
        for (consumer, _) in self.consumers.extract_if(.., |_, consumer| consumer.queue == id) {
            self.effects.push(Effect::Cancelled { consumer: ConsumerId(consumer) });
        }
        self.effects.push(Effect::TopologyChanged);
    }
}

fn is_impossible(policy: &QueuePolicy) -> bool {
    policy.fair_by.is_some() && policy.order == Order::Key
}
