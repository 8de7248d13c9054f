//! Streams and their groups, as an administrator sees and changes them.

use bytes::Bytes;
use wharf_protocol::{Name, Start, Timestamp};
use wharf_queue::{Change, GroupView, PartitionView, ResetGroup, StreamPolicy};
use wharf_shard::{ShardError, StreamMessage};

use crate::queues::{POLICY_TRIES_MAX, restless};
use crate::view::StreamLoad;
use crate::{Action, Node, NodeError, Principal};

/// A stream in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamView {
    /// Its name.
    pub name: Name,
    /// How it keeps its messages.
    pub policy: StreamPolicy,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionView>,
    /// How many groups read it.
    pub groups: usize,
}

/// The last message of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastOfKey {
    /// The partition where it lies.
    pub partition: u16,
    /// The message and its place.
    pub message: StreamMessage,
}

impl Node {
    /// Makes a stream. The same name with the same policy again is fine.
    ///
    /// # Errors
    /// It exists with another policy, or there is a queue of that name; the policy is impossible; the principal has
    /// made as many queues and streams as its quota allows; not allowed.
    pub async fn create_stream(
        &self,
        who: &Principal,
        name: Name,
        policy: StreamPolicy,
    ) -> Result<StreamView, NodeError> {
        who.check(Action::Administer)?;
        self.shard().change(who.own(Change::CreateStream { name: name.clone(), policy })).await?;
        self.stream(who, &name).await
    }

    /// Changes how a stream keeps its messages, at once: to what `next` makes of its policy. Where somebody else
    /// changed that meanwhile, `next` is asked again, so that neither change is lost.
    ///
    /// # Errors
    /// What `next` says; no such stream; the policy is impossible, or changes what stays; others change it all the
    /// time; not allowed.
    pub async fn change_stream_policy<E: From<NodeError>>(
        &self,
        who: &Principal,
        name: &Name,
        next: impl Fn(&StreamPolicy) -> Result<StreamPolicy, E>,
    ) -> Result<StreamView, E> {
        who.check(Action::Administer)?;
        for _ in 0..POLICY_TRIES_MAX {
            let was = self.stream_policy_of(name)?;
            let (policy, name_of_it) = (next(&was)?, name.clone());
            let change =
                Change::SetStreamPolicy { name: name_of_it, policy, was: Some(Box::new(was.clone())) };
            match self.shard().change(change).await {
                Ok(_) => return Ok(self.stream(who, name).await?),
                Err(ShardError::Refused(_)) if self.stream_policy_of(name)? != was => {}
                Err(error) => return Err(NodeError::from(error).into()),
            }
        }
        Err(restless("stream", name).into())
    }

    fn stream_policy_of(&self, name: &Name) -> Result<StreamPolicy, NodeError> {
        let topology = self.shard().topology();
        topology.stream(name.as_str()).map(|info| info.policy.clone()).ok_or_else(|| missing("stream", name))
    }

    /// Removes a stream with its messages, groups and bindings; its readers are told.
    ///
    /// # Errors
    /// No such stream; not allowed.
    pub async fn delete_stream(&self, who: &Principal, name: &Name) -> Result<(), NodeError> {
        who.check(Action::Administer)?;
        self.shard().change(Change::DeleteStream { name: name.clone() }).await?;
        Ok(())
    }

    /// Every stream, by number.
    ///
    /// # Errors
    /// Not allowed.
    pub async fn streams(&self, who: &Principal) -> Result<Vec<StreamView>, NodeError> {
        who.check(Action::Administer)?;
        let views = self.shard().query(|state, _| state.streams().collect::<Vec<_>>()).await?;
        let topology = self.shard().topology().clone();
        let policy = |name: &Name| topology.stream(name.as_str()).map(|info| info.policy.clone());
        let views = views.into_iter().filter_map(|view| Some((policy(&view.name)?, view)));
        Ok(views.map(|(policy, view)| StreamView::new(view, policy)).collect())
    }

    /// One stream.
    ///
    /// # Errors
    /// No such stream; not allowed.
    pub async fn stream(&self, who: &Principal, name: &Name) -> Result<StreamView, NodeError> {
        who.check(Action::Administer)?;
        let wanted = name.clone();
        let found = self.shard().query(move |state, _| {
            let policy = state.topology().stream(wanted.as_str())?.policy.clone();
            Some(StreamView::new(state.stream(wanted.as_str())?, policy))
        });
        found.await?.ok_or_else(|| missing("stream", name))
    }

    /// Every group of a stream, by name.
    ///
    /// # Errors
    /// No such stream; not allowed.
    pub async fn groups(&self, who: &Principal, stream: &Name) -> Result<Vec<GroupView>, NodeError> {
        who.check(Action::Administer)?;
        let wanted = stream.clone();
        let groups = self.shard().query(move |state, _| {
            state.topology().stream(wanted.as_str()).map(|_| state.groups(wanted.as_str()))
        });
        groups.await?.ok_or_else(|| missing("stream", stream))
    }

    /// Sets a group to another place: in all partitions, or in one. Its members begin there at once.
    ///
    /// # Errors
    /// No such stream, group or partition; not allowed.
    pub async fn reset_group(
        &self,
        who: &Principal,
        stream: Name,
        group: Name,
        to: Start,
        partition: Option<u16>,
    ) -> Result<(), NodeError> {
        who.check(Action::Administer)?;
        self.shard().reset_group(ResetGroup { stream, group, to, partition }).await?;
        Ok(())
    }

    /// Forgets a group; its members are told.
    ///
    /// # Errors
    /// No such stream or group; not allowed.
    pub async fn delete_group(&self, who: &Principal, stream: Name, group: Name) -> Result<(), NodeError> {
        who.check(Action::Administer)?;
        self.shard().delete_group(stream, group).await?;
        Ok(())
    }

    /// The last message of a key, if there is one.
    ///
    /// # Errors
    /// No such stream, or it does not know its keys; not allowed.
    pub async fn last_of_key(
        &self,
        who: &Principal,
        stream: &Name,
        key: Bytes,
    ) -> Result<Option<LastOfKey>, NodeError> {
        let options = crate::ReadOptions { credit: 1, last_of: Some(key), ..crate::ReadOptions::default() };
        let mut reader = self.read_stream(who, stream, options).await?;
        let mut found = Vec::new();
        reader.next(&mut found).await?;
        Ok(found.pop().map(|delivery| LastOfKey {
            partition: delivery.partition,
            message: StreamMessage {
                offset: delivery.offset,
                id: delivery.id,
                stored_at: delivery.stored_at,
                message: delivery.message,
            },
        }))
    }
}

impl Node {
    pub(crate) async fn stream_loads(&self) -> Result<Vec<StreamLoad>, NodeError> {
        let loads = self.shard().query(|state, _| {
            let load = |view: wharf_queue::StreamView| StreamLoad {
                groups: state.groups(view.name.as_str()),
                name: view.name,
                partitions: view.partitions,
            };
            state.streams().map(load).collect()
        });
        Ok(loads.await?)
    }
}

impl StreamView {
    fn new(view: wharf_queue::StreamView, policy: StreamPolicy) -> Self {
        Self { name: view.name, policy, partitions: view.partitions, groups: view.groups }
    }

    /// How many messages are kept.
    pub fn messages(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.messages).sum()
    }

    /// How many bytes they have, as they are encoded.
    pub fn bytes(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.bytes).sum()
    }

    /// When the oldest one was stored.
    pub fn oldest_at(&self) -> Option<Timestamp> {
        self.partitions.iter().filter_map(|partition| partition.oldest_at).min()
    }
}

fn missing(kind: &'static str, name: &Name) -> NodeError {
    NodeError::NotFound { kind, name: name.to_string() }
}
