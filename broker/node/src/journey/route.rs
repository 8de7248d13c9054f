//! Where a topic leads.

use std::sync::Arc;

use wharf_protocol::{Name, Topic};
use wharf_queue::{Destination, Durability, QueueId, Topology};

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
}

/// What the queue or stream promises; the most when it is gone meanwhile.
pub(super) fn durability(topology: &Topology, queue: &Name) -> Durability {
    topology.durability(queue.as_str()).unwrap_or(Durability::Fsync)
}
