//! Where a topic leads.

use std::sync::Arc;

use wharf_protocol::{Name, Topic};
use wharf_queue::{Destination, Durability, QueueId, Topology};

use super::entrance::Towards;

/// Where a topic leads.
pub(super) struct Route {
    pub(super) ingress: Arc<[Name]>,
    /// Queues that take the message as it is.
    pub(super) direct: Vec<Destination>,
    pub(super) durability: Durability,
    /// Queues that take it through a pipeline.
    pub(super) piped: Vec<(Name, QueueId)>,
}

impl Route {
    pub(super) fn new(topology: &Topology, topic: &Topic) -> Self {
        let mut route = Self {
            ingress: topology.ingress(topic).map(|(name, _)| name.clone()).collect(),
            direct: Vec::new(),
            durability: Durability::Memory,
            piped: Vec::new(),
        };
        for binding in topology.resolve(topic) {
            match &binding.pipeline {
                Some(pipeline) => route.piped.push((pipeline.clone(), binding.queue_id)),
                None => {
                    route.direct.push(Destination::from(binding.queue_id));
                    route.durability = route.durability.max(durability(topology, &binding.queue));
                }
            }
        }
        route
    }

    /// The part of it that leads to one queue, for a message that other bindings have taken: through the pipeline that
    /// gave it up, or through what stands in its place.
    pub(super) fn towards(&self, Towards { queue, pipeline }: &Towards) -> Self {
        let mut piped: Vec<_> = self.piped.iter().filter(|(_, id)| id == queue).cloned().collect();
        if piped.iter().any(|(name, _)| name == pipeline) {
            piped.retain(|(name, _)| name == pipeline);
        }
        let is_direct = piped.is_empty() && self.direct.iter().any(|to| to.queue == *queue);
        let direct = if is_direct { vec![Destination::from(*queue)] } else { Vec::new() };
        Self { ingress: Arc::clone(&self.ingress), direct, durability: self.durability, piped }
    }
}

/// What the queue or stream promises; the most when it is gone meanwhile.
pub(super) fn durability(topology: &Topology, queue: &Name) -> Durability {
    topology.durability(queue.as_str()).unwrap_or(Durability::Fsync)
}
