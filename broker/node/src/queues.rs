//! Queues and bindings, as an administrator sees and changes them.

use wharf_protocol::{Name, Pattern, QueueName};
use wharf_queue::{Change, QueuePolicy};
use wharf_shard::ShardError;

use crate::view::{Binding, QueueView};
use crate::{Action, Node, NodeError, Principal};

/// How often a change of a policy is made from what others have made of it meanwhile.
pub(crate) const POLICY_TRIES_MAX: usize = 16;

impl Node {
    /// Makes a queue. The same name with the same policy again is fine.
    ///
    /// # Errors
    /// It exists with another policy; the policy is impossible; the principal has made as many as its quota allows;
    /// not allowed.
    pub async fn create_queue(
        &self,
        who: &Principal,
        name: QueueName,
        policy: QueuePolicy,
    ) -> Result<QueueView, NodeError> {
        who.check(Action::Administer)?;
        self.shard().change(who.own(Change::CreateQueue { name: name.clone(), policy })).await?;
        self.queue(who, &name).await
    }

    /// Changes how a queue treats its messages, those that wait included: to what `next` makes of its policy. Where
    /// somebody else changed that meanwhile, `next` is asked again, so that neither change is lost.
    ///
    /// # Errors
    /// What `next` says; no such queue; the policy is impossible, or cannot be had while there are messages or
    /// consumers; others change it all the time; not allowed.
    pub async fn change_policy<E: From<NodeError>>(
        &self,
        who: &Principal,
        name: &QueueName,
        next: impl Fn(&QueuePolicy) -> Result<QueuePolicy, E>,
    ) -> Result<QueueView, E> {
        who.check(Action::Administer)?;
        for _ in 0..POLICY_TRIES_MAX {
            let was = self.policy_of(name)?;
            let (policy, name_of_it) = (next(&was)?, name.clone());
            let change = Change::SetPolicy { name: name_of_it, policy, was: Some(Box::new(was.clone())) };
            match self.shard().change(change).await {
                Ok(_) => return Ok(self.queue(who, name).await?),
                Err(ShardError::Refused(_)) if self.policy_of(name)? != was => {}
                Err(error) => return Err(NodeError::from(error).into()),
            }
        }
        Err(restless("queue", name).into())
    }

    /// Gives a queue another policy, whatever it has now.
    ///
    /// # Errors
    /// No such queue; the policy is impossible, or cannot be had while there are messages or consumers; not
    /// allowed.
    pub async fn set_policy(
        &self,
        who: &Principal,
        name: &QueueName,
        policy: QueuePolicy,
    ) -> Result<QueueView, NodeError> {
        who.check(Action::Administer)?;
        self.known(name)?;
        self.shard().change(Change::SetPolicy { name: name.clone(), policy, was: None }).await?;
        self.queue(who, name).await
    }

    fn policy_of(&self, name: &QueueName) -> Result<QueuePolicy, NodeError> {
        let topology = self.shard().topology();
        topology.queue(name.as_str()).map(|queue| queue.policy.clone()).ok_or_else(|| missing(name))
    }

    /// Removes a queue with its messages and bindings; its consumers are told.
    ///
    /// # Errors
    /// No such queue; not allowed.
    pub async fn delete_queue(&self, who: &Principal, name: &QueueName) -> Result<(), NodeError> {
        who.check(Action::Administer)?;
        self.known(name)?;
        self.shard().change(Change::DeleteQueue { name: name.clone() }).await?;
        Ok(())
    }

    /// Settles all that waits in a queue; what consumers hold stays theirs. Returns how many.
    ///
    /// # Errors
    /// No such queue; not allowed.
    pub async fn purge_queue(&self, who: &Principal, name: &QueueName) -> Result<u64, NodeError> {
        who.check(Action::Administer)?;
        self.known(name)?;
        let changed = self.shard().change(Change::PurgeQueue { name: name.clone() }).await?;
        Ok(changed.messages)
    }

    /// Every queue, by name.
    ///
    /// # Errors
    /// Not allowed.
    pub async fn queues(&self, who: &Principal) -> Result<Vec<QueueView>, NodeError> {
        who.check(Action::Administer)?;
        self.queue_views().await
    }

    /// One queue.
    ///
    /// # Errors
    /// No such queue; not allowed.
    pub async fn queue(&self, who: &Principal, name: &QueueName) -> Result<QueueView, NodeError> {
        who.check(Action::Administer)?;
        let wanted = name.clone();
        let found = self.shard().query(move |state, _| {
            let policy = state.topology().queue(wanted.as_str())?.policy.clone();
            Some(QueueView::new(state.queue(wanted.as_str())?, policy))
        });
        found.await?.ok_or_else(|| missing(name))
    }

    /// Sends messages of matching topics to a queue, through a pipeline if one is named. A binding of the same
    /// pattern and queue is replaced.
    ///
    /// # Errors
    /// No such queue or pipeline; not allowed.
    pub async fn bind(&self, who: &Principal, binding: Binding) -> Result<(), NodeError> {
        who.check(Action::Administer)?;
        if self.shard().topology().backlog(binding.queue.as_str()).is_none() {
            return Err(NodeError::NotFound { kind: "queue or stream", name: binding.queue.to_string() });
        }
        if let Some(pipeline) = &binding.pipeline
            && self.shard().topology().pipeline(pipeline.as_str()).is_none()
        {
            return Err(NodeError::NotFound { kind: "pipeline", name: pipeline.to_string() });
        }
        let Binding { pattern, queue, pipeline } = binding;
        self.shard().change(Change::Bind { pattern, queue, pipeline }).await?;
        Ok(())
    }

    /// Removes a binding.
    ///
    /// # Errors
    /// No such binding; not allowed.
    pub async fn unbind(
        &self,
        who: &Principal,
        pattern: &Pattern,
        queue: &QueueName,
    ) -> Result<(), NodeError> {
        who.check(Action::Administer)?;
        let topology = self.shard().topology().clone();
        let bound = |binding: &&wharf_queue::Binding| binding.pattern == *pattern && binding.queue == *queue;
        if !topology.bindings().iter().any(|binding| bound(&binding)) {
            return Err(NodeError::NotFound { kind: "binding", name: format!("{pattern} to {queue}") });
        }
        self.shard().change(Change::Unbind { pattern: pattern.clone(), queue: queue.clone() }).await?;
        Ok(())
    }

    /// Every binding, by pattern.
    ///
    /// # Errors
    /// Not allowed.
    pub async fn bindings(&self, who: &Principal) -> Result<Vec<Binding>, NodeError> {
        who.check(Action::Administer)?;
        let topology = self.shard().topology();
        let bindings = topology.bindings().iter().map(|binding| Binding {
            pattern: binding.pattern.clone(),
            queue: binding.queue.clone(),
            pipeline: binding.pipeline.clone(),
        });
        Ok(bindings.collect())
    }

    pub(crate) async fn queue_views(&self) -> Result<Vec<QueueView>, NodeError> {
        let views = self.shard().query(|state, _| {
            let policy = |name: &QueueName| state.topology().queue(name.as_str()).map(|q| q.policy.clone());
            let views = state.queues().filter_map(|view| Some((policy(&view.name)?, view)));
            views.map(|(policy, view)| QueueView::new(view, policy)).collect()
        });
        Ok(views.await?)
    }

    fn known(&self, name: &QueueName) -> Result<(), NodeError> {
        match self.shard().topology().queue(name.as_str()) {
            Some(_) => Ok(()),
            None => Err(missing(name)),
        }
    }
}

/// What a change of a policy is told that never found it as it had been a moment before.
pub(crate) fn restless(kind: &str, name: &Name) -> NodeError {
    let reason = format!("others change the policy of {kind} {name} all the time; try again");
    NodeError::Conflict(reason)
}

fn missing(name: &QueueName) -> NodeError {
    NodeError::NotFound { kind: "queue", name: name.to_string() }
}
