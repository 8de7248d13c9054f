//! Every change that a topology knows.

use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use wharf_protocol::{Name, Pattern};

use crate::{Deduplication, LentKind, PipelineEventKind, QueuePolicy, StreamPolicy, TrialKind};

/// A change of topology. One that cannot be done is refused and changes nothing; one that is already so
/// changes nothing either.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Makes a queue. Refused when there is one of that name with another policy.
    CreateQueue {
        /// Its name.
        name: Name,
        /// How it treats its messages.
        policy: QueuePolicy,
    },
    /// Removes a queue with all its messages and bindings; its consumers are told.
    DeleteQueue {
        /// Its name.
        name: Name,
    },
    /// Settles all that waits in a queue; what consumers hold stays theirs.
    PurgeQueue {
        /// Its name.
        name: Name,
    },
    /// Sends messages of matching topics to a queue; a binding of the same pattern and queue is replaced.
    Bind {
        /// Which topics.
        pattern: Pattern,
        /// Where to.
        queue: Name,
        /// Through which pipeline.
        pipeline: Option<Name>,
    },
    /// Removes a binding.
    Unbind {
        /// Its pattern.
        pattern: Pattern,
        /// Its queue.
        queue: Name,
    },
    /// Registers a plugin's version; the component itself lies elsewhere, by its digest.
    PutPlugin {
        /// The plugin's name.
        name: Name,
        /// Its version: immutable once registered.
        version: Name,
        /// The SHA-256 of the component.
        digest: [u8; 32],
        /// The component's size.
        bytes: u64,
        /// The kinds it exports: `validator`, `router`, `transformer`, `enricher`.
        kinds: Vec<String>,
        /// One line for listings.
        summary: String,
        /// Who registered it.
        by: String,
    },
    /// Forgets a plugin's version.
    RemovePlugin {
        /// The plugin's name.
        name: Name,
        /// Its version.
        version: Name,
    },
    /// Adds a version to a pipeline, made when there is none, and activates it.
    ApplyPipeline {
        /// The pipeline's name.
        name: Name,
        /// The specification, opaque here.
        spec: ByteString,
        /// Topics whose messages pass it on their way in; `None`: bindings name it.
        ingress: Option<Pattern>,
        /// Who applied it.
        by: String,
        /// Why.
        note: String,
        /// Queues and streams whose deliveries pass it on their way out.
        #[serde(default)]
        delivery: Vec<Pattern>,
    },
    /// Activates an older version. Written before [`Change::ActivatePipeline`] was there.
    RollbackPipeline {
        /// The pipeline's name.
        name: Name,
        /// The number; `None`: the one that was active before.
        to: Option<u32>,
        /// Who asked for it.
        by: String,
    },
    /// Removes a pipeline with its history. Refused while a binding names it.
    RemovePipeline {
        /// Its name.
        name: Name,
    },
    /// Publishes a message again and again; a schedule of that name is replaced.
    PutSchedule {
        /// Its name.
        name: Name,
        /// When: a cron expression, opaque here.
        cron: ByteString,
        /// By which clock: the IANA name of a time zone, opaque here.
        time_zone: ByteString,
        /// What, as [`Message::encode`](wharf_protocol::Message::encode) writes it.
        message: Bytes,
        /// Who put it.
        by: String,
    },
    /// Stops or resumes a schedule.
    PauseSchedule {
        /// Its name.
        name: Name,
        /// Whether it is to rest.
        paused: bool,
    },
    /// Removes a schedule.
    RemoveSchedule {
        /// Its name.
        name: Name,
    },
    /// Changes how a queue treats its messages, those that wait included. Refused when it changes what
    /// waiting messages were sorted by ([`QueuePolicy::order`], [`QueuePolicy::fair_by`]) and there are any,
    /// or [`QueuePolicy::exclusive`] while a consumer is attached.
    SetPolicy {
        /// The queue's name.
        name: Name,
        /// How it treats its messages from now on.
        policy: QueuePolicy,
        /// Refused as a conflict when its policy is another one than this: somebody else changed it meanwhile.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<Box<QueuePolicy>>,
    },
    /// Says how long message ids are remembered.
    SetDeduplication(Deduplication),
    /// Makes a stream. Refused when there is one of that name with another policy, or a queue.
    CreateStream {
        /// Its name.
        name: Name,
        /// How it keeps its messages.
        policy: StreamPolicy,
    },
    /// Removes a stream with all its messages, groups and bindings; readers and members are told.
    DeleteStream {
        /// Its name.
        name: Name,
    },
    /// Gives a stream another policy, by which it keeps its messages at once.
    SetStreamPolicy {
        /// Its name.
        name: Name,
        /// How it keeps its messages from now on; partitions and what is known of keys stay.
        policy: StreamPolicy,
        /// Refused as a conflict when its policy is another one than this: somebody else changed it meanwhile.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<Box<StreamPolicy>>,
    },
    /// Adds a version to a pipeline that is there, and leaves the one in use in use.
    StagePipeline {
        /// The pipeline's name.
        name: Name,
        /// The specification, opaque here.
        spec: ByteString,
        /// Topics whose messages pass it on their way in.
        ingress: Option<Pattern>,
        /// Queues and streams whose deliveries pass it on their way out.
        delivery: Vec<Pattern>,
        /// Who staged it.
        by: String,
        /// Why.
        note: String,
    },
    /// Activates a version that is there; a trial of the pipeline ends with it.
    ActivatePipeline {
        /// The pipeline's name.
        name: Name,
        /// Which version.
        number: u32,
        /// How the history calls it: [`PipelineEventKind::activates`].
        how: PipelineEventKind,
        /// Who asked for it.
        by: String,
        /// Why.
        note: String,
    },
    /// Begins a trial of a version beside the one in use. Refused while there is another.
    BeginTrial {
        /// The pipeline's name.
        name: Name,
        /// The version on trial.
        number: u32,
        /// Its share of the messages, in millionths.
        share_ppm: u32,
        /// What the trial does with them.
        kind: TrialKind,
        /// Who began it.
        by: String,
        /// Why.
        note: String,
    },
    /// Lends a table or schema to plugins, in place of the one of that name; the content lies elsewhere, by its digest.
    Lend {
        /// What it is.
        kind: LentKind,
        /// Its name.
        name: Name,
        /// The SHA-256 of the content.
        digest: [u8; 32],
        /// The content's size.
        bytes: u64,
        /// How the content is written, opaque here.
        format: String,
        /// Who put it.
        by: String,
    },
    /// Lends a table or schema no more.
    TakeBack {
        /// What it is.
        kind: LentKind,
        /// Its name.
        name: Name,
    },
    /// Ends a pipeline's trial: all messages pass the version in use again.
    EndTrial {
        /// The pipeline's name.
        name: Name,
        /// Who ended it.
        by: String,
        /// Why.
        note: String,
    },
    /// Makes a queue or stream as somebody's. Refused when its owner has made as many as it may; one that is there
    /// already stays whose it is.
    Own {
        /// Who makes it.
        owner: String,
        /// How many queues and streams it may have made; `None`: any number.
        most: Option<u32>,
        /// The [`CreateQueue`](Self::CreateQueue) or [`CreateStream`](Self::CreateStream).
        make: Box<Self>,
    },
    /// Bounds what the queues and streams of an owner hold together: a publish that brings more is refused. What is
    /// there stays.
    BoundOwner {
        /// Whose.
        owner: String,
        /// In bytes of messages that are not settled, or kept by a stream; `None`: no bound.
        stored_bytes_max: Option<u64>,
    },
}
