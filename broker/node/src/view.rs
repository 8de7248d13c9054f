//! What people see of a node: plain values, for the admin API and the console.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wharf_pipeline::{CpuUse, Need, PipelineSpec, Plugin, Reads, StageStats, Step};
use wharf_protocol::{Death, MessageId, Name, Pattern, QueueName, Timestamp};
use wharf_queue::{GroupView, PartitionView, PipelineEventKind, QueuePolicy, Topology};

use crate::TraceCounts;
use crate::pipelines::TrialView;
use crate::signature::Signer;

/// A queue: what it promises, and its numbers. `ready + leased + delayed + settled = enqueued`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueView {
    /// Its name.
    pub name: QueueName,
    /// How it treats its messages.
    pub policy: QueuePolicy,
    /// Messages that the next consumer with credit gets.
    pub ready: u64,
    /// Messages that consumers hold.
    pub leased: u64,
    /// Messages that wait for their time.
    pub delayed: u64,
    /// Consumers attached.
    pub consumers: u64,
    /// Messages that ever came in.
    pub enqueued: u64,
    /// Messages that are done, in any way.
    pub settled: u64,
    /// Messages that consumers acked, or got at most once.
    pub acked: u64,
    /// Messages that went to the dead-letter queue.
    pub dead_lettered: u64,
    /// Messages whose time to live ran out.
    pub expired: u64,
    /// Deliveries, first and further ones.
    pub delivered: u64,
    /// Deliveries that were nacked or whose lease lapsed.
    pub failed: u64,
    /// Deliveries that came back because their consumer left.
    pub returned: u64,
    /// Dead letters that lie here.
    pub dead: u64,
    /// Messages that were purged.
    pub purged: u64,
    /// Messages that were dropped to make room for newer ones.
    pub dropped: u64,
    /// Messages that were moved to another queue.
    pub moved: u64,
    /// Dead letters that were sent on their way again from here.
    pub redriven: u64,
    /// Bytes of the messages that are not settled.
    pub bytes: u64,
    /// Keys, or tenants, of which a message is in flight or rests after a failure.
    pub lanes_in_flight: u64,
    /// Ready messages that wait for the turn of their key or tenant.
    pub lanes_waiting: u64,
    /// When the oldest message that is not settled was stored.
    pub oldest_stored_at: Option<Timestamp>,
}

/// Topics, and the queue that their messages go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Which topics.
    pub pattern: Pattern,
    /// Where to.
    pub queue: QueueName,
    /// Through which pipeline.
    pub pipeline: Option<Name>,
}

/// One version of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginView {
    /// Its name.
    pub name: Name,
    /// Its version.
    pub version: Name,
    /// The SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// The component's size.
    pub bytes: u64,
    /// As what it can be used.
    pub kinds: Vec<String>,
    /// One line about it.
    pub summary: String,
    /// When it was uploaded.
    pub uploaded_at: Timestamp,
    /// Who did.
    pub by: String,
    /// Pipelines with a version that uses it.
    pub used_by: Vec<Name>,
    /// Which fields it reads; only when one plugin is asked for.
    pub reads: Option<Reads>,
    /// The JSON Schema of its configuration; only when one plugin is asked for.
    pub config_schema: Option<String>,
    /// What its stages are to grant by name; only when one plugin is asked for.
    pub needs: Option<Vec<Need>>,
    /// What of the host it uses, by the names that a stage grants; only when one plugin is asked for.
    pub uses: Option<Vec<String>>,
    /// Who signed it.
    pub signer: Signer,
}

/// What a collection of plugins removed, or would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Versions that no version of a pipeline uses.
    pub plugins: Vec<CollectedPlugin>,
    /// Files that no record names.
    pub strays: u64,
    /// Their bytes.
    pub stray_bytes: u64,
    /// Whether another collection would find more.
    pub more: bool,
    /// Whether nothing was removed.
    pub dry_run: bool,
}

/// A version that a collection removed, or would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectedPlugin {
    /// The plugin.
    pub name: Name,
    /// Its version.
    pub version: Name,
    /// The SHA-256 of its component, in hexadecimal.
    pub digest: String,
    /// The component's size.
    pub bytes: u64,
}

/// A pipeline and the version of it that is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineView {
    /// Its name.
    pub name: Name,
    /// The number of the version in use.
    pub number: u32,
    /// Topics whose messages pass it on their way in.
    pub ingress: Option<Pattern>,
    /// Queues and streams whose deliveries pass it on their way out.
    pub delivery: Vec<Pattern>,
    /// Every version that is kept, by number.
    pub versions: Vec<PipelineVersionView>,
    /// Queues whose bindings name it.
    pub bound_to: Vec<QueueName>,
    /// The specification in use, as TOML; every plugin has its version.
    pub spec: String,
    /// What each stage has done since this version was activated or the broker started.
    pub stages: Vec<StageStats>,
    /// What it has taken of processor time since then.
    pub cpu: CpuUse,
    /// Why it does not run, when it does not.
    pub broken: Option<String>,
    /// The version that is tried beside it.
    pub trial: Option<TrialView>,
}

/// One version of a pipeline, in use or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineVersionView {
    /// Its number.
    pub number: u32,
    /// When it was applied or staged.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    pub note: String,
}

/// One step in the life of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineChange {
    /// The version that it is about.
    pub number: u32,
    /// What was done with it.
    pub kind: PipelineEventKind,
    /// When.
    pub at: Timestamp,
    /// Who; `wharf` for the broker itself.
    pub by: String,
    /// Why.
    pub note: String,
    /// The place in the log: of a version that was activated, messages stored later passed it.
    pub index: u64,
    /// Whether it is what put the version in use to use.
    pub active: bool,
}

/// What a pipeline would do with a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TryReport {
    /// The pipeline.
    pub pipeline: Name,
    /// The number of the version that ran; 0 of one that came as a file.
    pub number: u32,
    /// What each stage was given, said and changed.
    pub steps: Vec<Step>,
    /// `passed`, `dropped` or `failed`.
    pub result: TryResult,
    /// Where each resulting message would have been stored.
    pub destinations: Vec<TryDestination>,
}

/// What came of a message in a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TryResult {
    /// One or more messages come out.
    Passed,
    /// Nothing does, on purpose.
    Dropped,
    /// A stage refused it or broke on it.
    Failed,
}

/// One message that a trial made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TryDestination {
    /// Its topic.
    pub topic: String,
    /// Queues that would store it as it is; none when nothing is bound.
    pub queues: Vec<QueueName>,
    /// Queues whose binding has a pipeline that comes next, and that pipeline: it may refuse it.
    pub through: Vec<(QueueName, Name)>,
}

/// One dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterView {
    /// Its id.
    pub id: MessageId,
    /// The queue where it lies.
    pub queue: QueueName,
    /// Its place there.
    pub offset: u64,
    /// What it takes, encoded.
    pub bytes: u32,
    /// Why.
    pub death: Death,
    /// How often it was sent on its way again.
    pub redriven: u32,
    /// How often another message was put in its place.
    pub edited: u32,
    /// Its deaths before this one, oldest first: the first and the newest.
    pub past: Vec<Death>,
}

/// A node at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The broker's version.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// Where its data is.
    pub data: PathBuf,
    /// Queues.
    pub queues: u64,
    /// Messages that are not settled.
    pub messages: u64,
    /// Why publishes are refused, if they are.
    pub alarm: Option<String>,
    /// Those of the configuration, and what they use.
    pub principals: Vec<PrincipalView>,
    /// The log.
    pub log: LogView,
}

/// The log in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogView {
    /// The index of the last record.
    pub last_index: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Segments with records.
    pub segments: u64,
    /// Records appended since the start.
    pub records: u64,
    /// Bytes appended since the start.
    pub bytes_appended: u64,
    /// Syncs since the start.
    pub syncs: u64,
    /// Syncs by duration: the upper edge of each bucket in microseconds, and its count.
    pub sync_time_us: Vec<(u64, u64)>,
    /// All syncs together, in microseconds.
    pub sync_time_total_us: u64,
}

/// Everything that metrics show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Every queue.
    pub queues: Vec<QueueView>,
    /// Every stream, and the groups that read it.
    pub streams: Vec<StreamLoad>,
    /// The stages of every pipeline.
    pub pipelines: BTreeMap<Name, Vec<StageStats>>,
    /// Versions on trial.
    pub trials: Vec<(Name, TrialView)>,
    /// What every pipeline has taken of processor time.
    pub cpu: BTreeMap<Name, CpuUse>,
    /// Whether a pipeline does not run, and refuses its messages.
    pub broken: BTreeMap<Name, bool>,
    /// The log.
    pub log: LogView,
    /// Publishes taken, by what they were told.
    pub publishes: PublishCounts,
    /// Traces kept and lost.
    pub traces: TraceCounts,
    /// Whether an alarm holds publishers back.
    pub alarm: bool,
    /// Those of the configuration, and what they use.
    pub principals: Vec<PrincipalView>,
}

/// Publishes since the start, by what their publishers were told; transactions are not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishCounts {
    /// Stored, or dropped by a pipeline on purpose.
    pub accepted: u64,
    /// Stored before.
    pub duplicates: u64,
    /// Refused by access, size, alarm, a pipeline or a queue.
    pub rejected: u64,
    /// Accepted with nothing bound to their topic.
    pub unrouted: u64,
}

impl QueueView {
    pub(crate) fn new(view: wharf_queue::QueueView, policy: QueuePolicy) -> Self {
        Self {
            name: view.name,
            policy,
            ready: view.ready,
            leased: view.leased,
            delayed: view.delayed,
            consumers: view.consumers,
            enqueued: view.enqueued,
            settled: view.settled,
            acked: view.acked,
            dead_lettered: view.dead_lettered,
            expired: view.expired,
            delivered: view.delivered,
            failed: view.failed,
            returned: view.returned,
            dead: view.dead,
            purged: view.purged,
            dropped: view.dropped,
            moved: view.moved,
            redriven: view.redriven,
            bytes: view.bytes,
            lanes_in_flight: view.lanes_in_flight,
            lanes_waiting: view.lanes_waiting,
            oldest_stored_at: view.oldest_stored_at,
        }
    }
}

impl PluginView {
    pub(crate) fn new(
        topology: &Topology,
        name: &Name,
        version: &Name,
        plugin: &wharf_queue::Plugin,
        signer: Signer,
    ) -> Self {
        let uses = |spec: &PipelineSpec| {
            spec.stages
                .iter()
                .any(|stage| stage.plugin.name == *name && stage.plugin.version.as_ref() == Some(version))
        };
        let used_by = topology.pipelines().filter(|(_, pipeline)| {
            let mut specs = pipeline.versions.values().map(|version| PipelineSpec::from_toml(&version.spec));
            specs.any(|spec| spec.is_ok_and(|spec| uses(&spec)))
        });
        Self {
            name: name.clone(),
            version: version.clone(),
            digest: hex::encode(plugin.digest),
            bytes: plugin.bytes,
            kinds: plugin.kinds.clone(),
            summary: plugin.summary.clone(),
            uploaded_at: plugin.at,
            by: plugin.by.clone(),
            used_by: used_by.map(|(name, _)| name.clone()).collect(),
            reads: None,
            config_schema: None,
            needs: None,
            uses: None,
            signer,
        }
    }

    /// Adds what only the component itself tells.
    pub(crate) fn describe(&mut self, plugin: &Plugin) {
        let description = plugin.description();
        self.config_schema = description.config_schema.clone();
        self.reads = Some(description.reads.clone());
        self.needs = Some(plugin.needs().to_vec());
        self.uses = Some(plugin.uses());
    }
}

/// A stream in numbers, and how far its groups are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamLoad {
    /// Its name.
    pub name: Name,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionView>,
    /// Its groups, by name.
    pub groups: Vec<GroupView>,
}

/// What a principal uses of its quota.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrincipalView {
    /// Its name.
    pub name: String,
    /// Connections that it has.
    pub connections: u32,
    /// How often what it published has waited for its rate.
    pub waits: u64,
    /// Queues and streams that it has made.
    pub queues: u64,
    /// The bytes in those, where its quota bounds them.
    pub stored_bytes: Option<u64>,
}
