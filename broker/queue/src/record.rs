//! What is written to the log: every change of the state, with all that is needed to make it again.

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use wharf_protocol::{
    Death, DeathCause, Message, MessageId, Name, Pattern, ProducerId, Session, Settlement, Timestamp,
};

use crate::{
    Deduplication, KvChange, KvPart, LentKind, PipelineEventKind, QueuePolicy, StreamPolicy, Transaction,
    TrialKind,
};

mod stream;

pub use stream::{Commit, Failed, JoinGroup, Passed, ResetGroup};
pub use wharf_protocol::Start;

/// A record and the moment it is about. A log's stamps never go back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// When the log's owner took it: the only time that the state knows.
    pub at: Timestamp,
    /// What happened.
    pub record: Record,
}

/// One change of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Messages come in.
    Publish(Publish),
    /// A consumer says what became of deliveries.
    Settle {
        /// Who.
        consumer: ConsumerId,
        /// Which deliveries, and what became of them.
        settlements: Vec<Settlement>,
    },
    /// A consumer comes.
    Attach(Attach),
    /// A consumer can take more.
    Credit {
        /// Who.
        consumer: ConsumerId,
        /// How many messages more.
        add: u32,
        /// How many bytes of messages more; nothing to a consumer whose bytes are unbounded.
        bytes: u64,
    },
    /// A consumer leaves; what it holds goes back.
    Detach {
        /// Who.
        consumer: ConsumerId,
    },
    /// Time passes.
    Tick,
    /// The broker started again: all consumers are gone, and what they held goes back.
    Restart,
    /// Queues, bindings, plugins or pipelines change.
    Topology(Change),
    /// Dead letters are sent on their way again.
    Redrive(Redrive),
    /// A consumer needs longer: the leases of deliveries start anew.
    Renew {
        /// Who.
        consumer: ConsumerId,
        /// Which deliveries, as first and last tags.
        tags: Vec<(u64, u64)>,
    },
    /// Waiting messages go to another queue.
    Move(Move),
    /// A member comes to a group of a stream.
    JoinGroup(JoinGroup),
    /// A member leaves its group; others take over its partitions.
    LeaveGroup {
        /// Who.
        member: ConsumerId,
    },
    /// A member of a group says what it is done with.
    Commit(Commit),
    /// A group is set to another place.
    ResetGroup(ResetGroup),
    /// A group is forgotten; its members are told.
    DeleteGroup {
        /// The stream.
        stream: Name,
        /// The group.
        group: Name,
    },
    /// Publishes and settlements that happen together or not at all.
    Transaction(Box<Transaction>),
    /// A new life of a producer begins; older ones are fenced off.
    ClaimProducer(ProducerId),
    /// What pipelines remember is changed by hand.
    ChangeKv(Vec<KvChange>),
    /// A pipeline on the way to a consumer gave up deliveries of its: they are dead letters.
    Refuse {
        /// The consumer that holds them.
        consumer: ConsumerId,
        /// Which, and why.
        refused: Vec<Refused>,
    },
    /// A dead letter is mended.
    Edit(Box<Edit>),
}

impl Record {
    /// The message that this record holds under number `entry` of a [`MessageId`].
    pub fn message(&self, entry: u16) -> Option<&Message> {
        match self {
            Self::Publish(publish) => publish.entries.get(usize::from(entry)).map(|entry| &entry.message),
            Self::Transaction(transaction) => transaction.message(entry),
            Self::Edit(edit) => (entry == 0).then_some(&edit.message),
            _ => None,
        }
    }

    /// The bytes of all payloads in this record; `None` when it is of a kind that holds no messages.
    pub fn payload_bytes(&self) -> Option<usize> {
        match self {
            Self::Publish(publish) => Some(publish.payload_bytes()),
            Self::Transaction(transaction) => {
                Some(transaction.publishes.iter().map(Publish::payload_bytes).sum())
            }
            Self::Edit(edit) => Some(edit.message.payload.len()),
            _ => None,
        }
    }
}

/// A queue's number: never used again, even when the queue is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QueueId(pub u32);

/// A consumer's number: chosen by the log's owner, never used twice between two restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConsumerId(pub u64);

impl fmt::Display for ConsumerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What one published message became: stored as a whole, or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// Whose run it belongs to; a sequence already seen is a duplicate.
    pub session: Option<Session>,
    /// A hash of topic and message id; the same one within the window is a duplicate.
    pub dedup: Option<u128>,
    /// [`Topology::revision`](crate::Topology::revision) by which it was routed and processed.
    pub topology: u64,
    /// It is refused when none of its queues has a consumer: a request that nobody would answer.
    pub needs_consumer: bool,
    /// What its pipelines read and changed of what they remember.
    pub kv: Option<Box<KvPart>>,
    /// The messages it became; at most 65,535. None: nothing is bound to its topic.
    pub entries: Vec<Entry>,
}

impl Publish {
    /// The bytes of all its payloads.
    pub fn payload_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.message.payload.len()).sum()
    }
}

impl From<Entry> for Publish {
    fn from(entry: Entry) -> Self {
        Self { entries: vec![entry], ..Self::default() }
    }
}

/// One message, stored once, and all the queues it goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The message as it is stored.
    pub message: Message,
    /// Where it goes; at most 65,535. A queue that is gone by now is passed over.
    pub destinations: Vec<Destination>,
}

/// One way for a message to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The queue.
    pub queue: QueueId,
    /// Given up on its way there: it goes to that queue's dead-letter queue instead, in the same record.
    /// `queue`, `original`, `attempts` and both times are filled in when it is applied.
    pub death: Option<Box<Death>>,
}

impl From<QueueId> for Destination {
    fn from(queue: QueueId) -> Self {
        Self { queue, death: None }
    }
}

/// A consumer comes to a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Its number.
    pub consumer: ConsumerId,
    /// The queue.
    pub queue: Name,
    /// How many messages it can take at once.
    pub credit: u32,
    /// At most once: settled as it is delivered.
    pub auto_settle: bool,
    /// Tell it, once each time, when the queue has nothing ready, not even for later: what waits for the turn of its
    /// key or tenant, or for another consumer's place, is ready.
    pub notify_empty: bool,
    /// How many bytes of messages it can take; 0: unbounded. It gets the next message while any are left, so
    /// it may get one message more than it said; an ack gives nothing back, [`Record::Credit`] does.
    #[serde(default)]
    pub credit_bytes: u64,
}

impl Default for Attach {
    /// A consumer without credit of the default dead-letter queue: all but the flags is to be set.
    fn default() -> Self {
        let queue = crate::DEAD_LETTERS.parse().expect("the constant is a name");
        Self {
            consumer: ConsumerId(0),
            queue,
            credit: 0,
            auto_settle: false,
            notify_empty: false,
            credit_bytes: 0,
        }
    }
}

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
        /// What, as [`Message::encode`] writes it.
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

/// Sends dead letters on their way again: with a fresh count of failures, and without their death.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redrive {
    /// The queue where they lie.
    pub queue: Name,
    /// Which of them.
    pub select: Selection,
    /// Where to; `None`: each to the queue where it died. One whose queue is gone stays.
    pub to: Option<Name>,
    /// One that was redriven as often before stays: it would die again. `None`: however often.
    #[serde(default)]
    pub redriven_max: Option<u32>,
}

/// Puts another message in the place of a dead letter: with its death, its attempts and its past, under a new id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The queue where it lies.
    pub queue: Name,
    /// Its place there.
    pub offset: u64,
    /// Its id: it is refused when another lies there by now.
    pub id: MessageId,
    /// What takes its place.
    pub message: Message,
}

/// A delivery that a stage gave up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Its tag.
    pub tag: u64,
    /// What kind of reason.
    pub cause: DeathCause,
    /// One sentence for a person.
    pub reason: String,
    /// The stage, as `pipeline/stage`.
    pub stage: String,
    /// The SHA-256 of the stage's plugin, in hexadecimal.
    pub plugin: String,
}

/// Takes messages that wait, ready or delayed, from one queue to another. They keep their priority, delay,
/// time to live, attempts and death, and begin anew in the count of failures. Those for which the other queue
/// has no room stay, and so does what consumers hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Where they lie.
    pub queue: Name,
    /// Which of them; at most [`MOVED_MAX`] in one record.
    pub select: Selection,
    /// Where to: another queue.
    pub to: Name,
}

/// The most messages that one [`Move`] looks at: whoever wants more asks again.
pub const MOVED_MAX: usize = 65_536;

/// Which messages: of the dead letters for a [`Redrive`], of all for a [`Move`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selection {
    /// Those with these ids.
    Ids(Vec<MessageId>),
    /// The oldest, at most so many.
    Oldest(u32),
    /// Those whose offset is at least `from` and less than `to`.
    Offsets {
        /// The first offset.
        from: u64,
        /// The offset after the last.
        to: u64,
    },
    /// Those with these offsets.
    At(Vec<u64>),
}
