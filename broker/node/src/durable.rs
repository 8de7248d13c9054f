//! Durable subscriptions: a queue bound to a pattern, made for who asks, kept while it is away.

use std::time::Duration;

use wharf_protocol::{Pattern, QueueName};
use wharf_queue::{Change, QueuePolicy};

use crate::{Action, Node, NodeError, Principal};

impl Node {
    /// Sees to it that `queue` is there and gets what is published to `pattern`, for its consumers to fetch when they
    /// come. One that is made here goes when it had no consumer for `expires`, if that is given; one that was there
    /// keeps its policy.
    ///
    /// A message that several such queues get is stored once.
    ///
    /// # Errors
    /// The principal may not consume the queue, or not keep subscriptions of these topics; `queue` is the name of a
    /// stream; the principal has made as many queues as its quota allows; the node is stopping.
    pub async fn keep_subscription(
        &self,
        who: &Principal,
        queue: &QueueName,
        pattern: &Pattern,
        expires: Option<Duration>,
    ) -> Result<(), NodeError> {
        who.check(Action::Consume(queue.as_str()))?;
        who.check(Action::Subscribe(pattern))?;
        let topology = self.shard().topology().clone();
        if topology.queue(queue.as_str()).is_none() {
            let expires_ms = expires.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            let policy = QueuePolicy { expires_ms, ..QueuePolicy::default() };
            self.shard().change(who.own(Change::CreateQueue { name: queue.clone(), policy })).await?;
        }
        let bound = topology.bindings().iter().any(|each| each.pattern == *pattern && each.queue == *queue);
        if !bound {
            let (pattern, queue) = (pattern.clone(), queue.clone());
            self.shard().change(Change::Bind { pattern, queue, pipeline: None }).await?;
        }
        Ok(())
    }
}
