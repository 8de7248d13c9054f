//! Streams as they are declared. They share names and numbers with queues: a binding leads to either.

use serde::{Deserialize, Serialize};
use wharf_protocol::Name;

use super::Topology;
use super::change::QUEUES_MAX;
use crate::effect::Refusal;
use crate::{DEAD_LETTERS, Durability, QueueId, StreamPolicy};

/// One declared stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamInfo {
    /// Its number.
    pub id: QueueId,
    /// How it keeps its messages.
    pub policy: StreamPolicy,
}

impl Topology {
    /// The stream `name`.
    pub fn stream(&self, name: &str) -> Option<&StreamInfo> {
        self.streams.get(name)
    }

    /// All streams, by name.
    pub fn streams(&self) -> impl ExactSizeIterator<Item = (&Name, &StreamInfo)> {
        self.streams.iter()
    }

    /// What a publish into the queue or stream `name` waits for.
    pub fn durability(&self, name: &str) -> Option<Durability> {
        let queue = self.queues.get(name).map(|queue| queue.policy.durability);
        queue.or_else(|| self.streams.get(name).map(|stream| stream.policy.durability))
    }

    /// What a publish into the queue or stream of this number waits for.
    pub fn durability_of(&self, backlog: QueueId) -> Option<Durability> {
        let queue =
            self.queues.values().find(|queue| queue.id == backlog).map(|queue| queue.policy.durability);
        let stream = || self.streams.values().find(|stream| stream.id == backlog);
        queue.or_else(|| stream().map(|stream| stream.policy.durability))
    }

    /// The number of the queue or stream `name`.
    pub fn backlog(&self, name: &str) -> Option<QueueId> {
        let queue = self.queues.get(name).map(|queue| queue.id);
        queue.or_else(|| self.streams.get(name).map(|stream| stream.id))
    }

    pub(crate) fn stream_named(&self, name: &str) -> Option<(&Name, &StreamInfo)> {
        self.streams.get_key_value(name)
    }

    pub(super) fn create_stream(&mut self, name: &Name, policy: &StreamPolicy) -> Result<bool, Refusal> {
        self.check_stream(policy)?;
        if let Some(stream) = self.streams.get(name) {
            if stream.policy == *policy {
                return Ok(false);
            }
            return Err(Refusal::conflict(format!("stream {name} exists with another policy")));
        }
        if self.queues.contains_key(name) {
            return Err(Refusal::conflict(format!(
                "there is a queue {name}: streams and queues share names"
            )));
        }
        let of_queues = self.queues.values().map(|queue| &queue.policy.dead_letter);
        let of_streams = self.streams.values().map(|stream| &stream.policy.dead_letter);
        let mut all = of_queues.chain(of_streams).chain(std::iter::once(&policy.dead_letter));
        if name.as_str() == DEAD_LETTERS || all.any(|dead_letter| dead_letter.as_ref() == Some(name)) {
            let reason =
                format!("{name} is where dead letters go, and those need a queue; choose another name");
            return Err(Refusal::conflict(reason));
        }
        if self.queues.len() + self.streams.len() >= QUEUES_MAX || self.next_queue == u32::MAX {
            return Err(Refusal::full("queues and streams", QUEUES_MAX));
        }
        let id = QueueId(self.next_queue);
        self.next_queue += 1;
        self.streams.insert(name.clone(), StreamInfo { id, policy: policy.clone() });
        Ok(true)
    }

    pub(super) fn set_stream_policy(
        &mut self,
        name: &Name,
        policy: &StreamPolicy,
        was: Option<&StreamPolicy>,
    ) -> Result<bool, Refusal> {
        self.check_stream(policy)?;
        let stream = self.streams.get_mut(name).ok_or_else(|| Refusal::not_found("stream", name))?;
        if was.is_some_and(|was| *was != stream.policy) {
            return Err(Refusal::changed_meanwhile("stream", name));
        }
        if let Some(problem) = stream.policy.fixed(policy) {
            return Err(Refusal::conflict(problem));
        }
        if stream.policy == *policy {
            return Ok(false);
        }
        stream.policy = policy.clone();
        Ok(true)
    }

    pub(super) fn delete_stream(&mut self, name: &Name) -> Result<bool, Refusal> {
        self.streams.remove(name).ok_or_else(|| Refusal::not_found("stream", name))?;
        self.disown(name);
        self.bindings.retain(|binding| binding.queue != *name);
        self.rebuild_matcher();
        Ok(true)
    }

    /// Refuses a queue, or dead letters, where there is a stream of that name.
    pub(super) fn check_no_stream(&self, name: &Name) -> Result<(), Refusal> {
        if self.streams.contains_key(name) {
            return Err(Refusal::conflict(format!(
                "there is a stream {name}: streams and queues share names, and dead letters need a queue"
            )));
        }
        Ok(())
    }

    fn check_stream(&self, policy: &StreamPolicy) -> Result<(), Refusal> {
        if let Some(problem) = policy.problem() {
            return Err(Refusal::malformed(problem));
        }
        policy.dead_letter.as_ref().map_or(Ok(()), |name| self.check_no_stream(name))
    }
}
