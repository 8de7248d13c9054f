//! One running broker, embeddable in any tokio program. [`Node`] is its handle.
//!
//! The way of a message is [`Node::publish`]; the shard that stores it is [`shard`]; what a consumer gets comes
//! out of [`Subscription`].

#![allow(
    missing_docs,
    unused_variables,
    clippy::todo,
    dead_code,
    missing_debug_implementations,
    reason = "a stub"
)]

mod access;
mod error;

pub use access::{Action, Credentials, Identity, Principal};
pub use error::NodeError;

mod config;
pub use config::Config;

// STUB: signatures are final, bodies are being written. Split into files by noun as they are.
use bytes::Bytes;
use std::future::Future;
use wharf_protocol::*;

/// One running broker. Cheap to clone; the last clone does not stop it, [`Node::shutdown`] does.
#[derive(Clone, Debug)]
pub struct Node;

/// A message to publish and its place in its producer's run, if it has one.
#[derive(Clone, Debug)]
pub struct Publication {
    pub message: Message,
    pub session: Option<Session>,
}

/// How a queue is consumed.
#[derive(Clone, Debug, Default)]
pub struct SubscribeOptions {
    /// At most once: settled as it is delivered.
    pub auto_settle: bool,
    /// Tell when nothing is ready ([`Event::Empty`]).
    pub notify_empty: bool,
    /// Messages that may be delivered before the first credit.
    pub credit: u32,
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Deliveries were appended.
    Deliveries,
    /// There is credit, and nothing to deliver (only with `notify_empty`; comes after all deliveries before it).
    Empty,
}

pub struct Subscription;
impl Subscription {
    /// Waits for at least one delivery and appends what waits, at most 256. Err when the queue was deleted (NotFound) or node stops (Closing). Cancel safe. Dropping the Subscription detaches the consumer: its leases return.
    pub async fn next(&mut self, out: &mut Vec<Delivery>) -> Result<Event, NodeError> {
        todo!()
    }
    pub fn controls(&self) -> Controls {
        todo!()
    }
}
/// Credit and settles of one subscription; Clone, usable from another task.
#[derive(Clone)]
pub struct Controls;
impl Controls {
    /// Allows `add` more messages.
    pub async fn credit(&self, add: u32) -> Result<(), NodeError> {
        todo!()
    }
    /// Hands settlements on, in order; the future that comes back resolves when they are durable, with the tags that were stale.
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<Settled, NodeError> {
        todo!()
    }
}
/// Resolves when the settlements are durable, to the tags that were stale (their lease had ended).
pub struct Settled;
impl Future for Settled {
    type Output = Result<Vec<u64>, NodeError>;
    fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        todo!()
    }
}

/// Resolves when the whole batch is decided and durable: a receipt for each publication, in order. Never fails: what could not be stored is `Receipt::Rejected`.
pub struct Receipts;
impl Future for Receipts {
    type Output = Vec<Receipt>;
    fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        todo!()
    }
}

/// A live view of what is published; lossy: a slow reader misses messages, and is told how many.
pub struct Tap;
impl Tap {
    /// Waits for at least one message and appends what waits; returns how many were missed before them.
    pub async fn next(&mut self, out: &mut Vec<Message>) -> Result<u64, NodeError> {
        todo!()
    }
}

impl Node {
    pub async fn start(config: Config) -> Result<Self, StartError> {
        todo!()
    }
    /// Whose credentials these are; `None`: nobody's.
    pub fn authenticate(&self, credentials: Credentials<'_>) -> Option<Principal> {
        todo!()
    }
    pub fn config(&self) -> &Config {
        todo!()
    }
    /// The way of a message. Returns once the batch has its place in the order of the log; the receipts come when it is durable.
    pub async fn publish(&self, who: &Principal, batch: Vec<Publication>) -> Receipts {
        todo!()
    }
    pub async fn subscribe(
        &self,
        who: &Principal,
        queue: &QueueName,
        options: SubscribeOptions,
    ) -> Result<Subscription, NodeError> {
        todo!()
    }
    pub fn tap(&self, who: &Principal, pattern: Pattern) -> Result<Tap, NodeError> {
        todo!()
    }
    /// Resolves when the node stops by itself (a failed write), with the reason.
    pub async fn stopped(&self) -> String {
        todo!()
    }
    /// Drains, writes a snapshot and stops.
    pub async fn shutdown(&self) {
        todo!()
    }

    // --- administration; each checks `who` -------------------------------------------------
    pub async fn create_queue(
        &self,
        who: &Principal,
        name: QueueName,
        policy: QueuePolicy,
    ) -> Result<QueueView, NodeError> {
        todo!()
    } // same policy again: fine; another: Conflict
    pub async fn delete_queue(&self, who: &Principal, name: &QueueName) -> Result<(), NodeError> {
        todo!()
    }
    pub async fn purge_queue(&self, who: &Principal, name: &QueueName) -> Result<u64, NodeError> {
        todo!()
    }
    pub async fn queues(&self, who: &Principal) -> Result<Vec<QueueView>, NodeError> {
        todo!()
    }
    pub async fn queue(&self, who: &Principal, name: &QueueName) -> Result<QueueView, NodeError> {
        todo!()
    }
    pub async fn bind(&self, who: &Principal, binding: Binding) -> Result<(), NodeError> {
        todo!()
    }
    pub async fn unbind(
        &self,
        who: &Principal,
        pattern: &Pattern,
        queue: &QueueName,
    ) -> Result<(), NodeError> {
        todo!()
    }
    pub async fn bindings(&self, who: &Principal) -> Result<Vec<Binding>, NodeError> {
        todo!()
    }
    pub async fn put_plugin(
        &self,
        who: &Principal,
        name: Name,
        version: String,
        wasm: Bytes,
    ) -> Result<PluginView, NodeError> {
        todo!()
    }
    pub async fn plugins(&self, who: &Principal) -> Result<Vec<PluginView>, NodeError> {
        todo!()
    }
    pub async fn plugin(
        &self,
        who: &Principal,
        name: &Name,
        version: Option<&str>,
    ) -> Result<PluginView, NodeError> {
        todo!()
    }
    pub async fn remove_plugin(&self, who: &Principal, name: &Name, version: &str) -> Result<(), NodeError> {
        todo!()
    }
    /// `spec` is the pipeline file's text, TOML or JSON; its name must agree with `name` when it has one.
    pub async fn apply_pipeline(
        &self,
        who: &Principal,
        name: Name,
        spec: &str,
        note: Option<String>,
    ) -> Result<PipelineView, NodeError> {
        todo!()
    }
    pub async fn pipelines(&self, who: &Principal) -> Result<Vec<PipelineView>, NodeError> {
        todo!()
    }
    pub async fn pipeline(&self, who: &Principal, name: &Name) -> Result<PipelineView, NodeError> {
        todo!()
    }
    pub async fn pipeline_history(
        &self,
        who: &Principal,
        name: &Name,
    ) -> Result<Vec<PipelineChange>, NodeError> {
        todo!()
    }
    /// To the version before the active one, or to `to`.
    pub async fn rollback_pipeline(
        &self,
        who: &Principal,
        name: &Name,
        to: Option<u32>,
        note: Option<String>,
    ) -> Result<PipelineView, NodeError> {
        todo!()
    }
    pub async fn remove_pipeline(&self, who: &Principal, name: &Name) -> Result<(), NodeError> {
        todo!()
    }
    /// What every stage would do; delivers nothing. Serialises to JSON.
    pub async fn try_pipeline(
        &self,
        who: &Principal,
        name: &Name,
        message: Message,
    ) -> Result<TryReport, NodeError> {
        todo!()
    }
    pub async fn dead_letters(
        &self,
        who: &Principal,
        queue: Option<&QueueName>,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<Vec<DeadLetterView>, NodeError> {
        todo!()
    }
    pub async fn dead_letter(
        &self,
        who: &Principal,
        id: MessageId,
    ) -> Result<(DeadLetterView, Message), NodeError> {
        todo!()
    }
    /// Moves dead letters back where they died (or to `to`), all or these; how many.
    pub async fn redrive(
        &self,
        who: &Principal,
        ids: Option<Vec<MessageId>>,
        to: Option<&QueueName>,
    ) -> Result<u64, NodeError> {
        todo!()
    }
    pub async fn status(&self, who: &Principal) -> Result<Status, NodeError> {
        todo!()
    }
    /// Everything that /metrics shows.
    pub async fn metrics(&self) -> Result<Metrics, NodeError> {
        todo!()
    }
    /// Whether publishing is possible now; the reason when not.
    pub fn ready(&self) -> Result<(), String> {
        todo!()
    }
}

/// Why a node did not start: folder locked, log damaged, .. with the path and what to do.
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct StartError;

// All views: Clone, Debug, Serialize (kebab-case), Deserialize; plain pub fields.
/// What a queue promises. (re-exported from wharf-queue)
pub struct QueuePolicy {/* durability: fsync|os|memory, lease_ms, max_attempts, retry {min_ms,max_ms}, dead_letter: Option<Name> */}
pub struct QueueView {/* name, policy, ready, leased, delayed, consumers, enqueued, settled, dead_lettered, expired */}
pub struct Binding {
    pub pattern: Pattern,
    pub queue: QueueName,
    pub pipeline: Option<Name>,
}
pub struct PluginView {/* name, version, digest (hex), bytes, kinds: Vec<String>, summary, config_schema: Option<String>, uploaded_at, by, used_by: Vec<String> */}
pub struct PipelineView {/* name, number (active version), ingress: Option<Pattern>, spec: text, stages: Vec<StageView{name, plugin, version, digest, on_failure, stats..}> , bound_to: Vec<QueueName> */}
pub struct PipelineChange {/* number, activated_at, by, note, active: bool */}
pub struct DeadLetterView {/* id, queue (the dead-letter queue), death: Death, topic? */}
pub struct Status {/* version, started_at, data folder, queues, messages, memory, log stats, alarms: Vec<String> */}
pub struct Metrics {/* per queue counters, per stage stats, log stats, connections.. */}
pub struct TryReport {/* stages: Vec<pipeline::StageTrace>, result */}
