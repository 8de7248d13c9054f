//! The handle of a running broker, and how it starts and stops.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use tokio::task::JoinHandle;
use wharf_pipeline::{Compiler, Engine, EngineConfig, Limits};
use wharf_protocol::{Pattern, Timestamp};
use wharf_queue::{Change, DEAD_LETTERS, QueuePolicy};
use wharf_shard::Shard;

use crate::access::Access;
use crate::alarm::{Alarms, Marks};
use crate::audit::Audit;
use crate::components::Components;
use crate::error::StartError;
use crate::lent;
use crate::memories::Memories;
use crate::memory;
use crate::owner;
use crate::pipelines::Pipelines;

use crate::scheduler::Scheduler;
use crate::status::Counts;
use crate::tap::Taps;
use crate::trace::Tracing;
use crate::transfers::Transfers;
use crate::{Config, Credentials, NodeError, Principal, Tap};

/// One running broker. Cheap to clone; it runs until [`Node::shutdown`], whatever becomes of the clones.
///
/// ```
/// # use wharf_node::{Config, Identity, Node, Principal, Publication};
/// # use wharf_protocol::{Message, Receipt};
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let data = folder.path();
/// let node = Node::start(Config::new(data)).await?;
/// let me = Principal::system();
/// node.create_queue(&me, "orders".parse()?, Default::default()).await?;
/// node.bind(&me, wharf_node::Binding {
///     pattern: "orders.#".parse()?,
///     queue: "orders".parse()?,
///     pipeline: None,
/// }).await?;
///
/// let message = Message::new("orders.eu".parse()?, "an order");
/// let receipts = node.publish(&me, vec![Publication::from(message)]).await;
/// assert!(matches!(receipts.await[..], [Receipt::Stored(_)]));
/// node.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Node(Arc<Rooms>);

/// What the steps of a message's way take what they need from. Nothing outside this file sees it whole.
struct Rooms {
    config: Config,
    access: Access,
    shard: Shard,
    engine: Engine,
    components: Arc<Components>,
    pipelines: Pipelines,
    memories: Arc<Memories>,
    /// One table or schema at a time is put or removed: the library shows what the log says last.
    lending: tokio::sync::Mutex<()>,
    taps: Taps,
    alarms: Arc<Alarms>,
    counts: Arc<Counts>,
    started_at: Timestamp,
    started: Instant,
    watch: Mutex<Option<JoinHandle<()>>>,
    scheduler: Scheduler,
    transfers: Transfers,
    tracing: Arc<Tracing>,
    audit: Audit,
}

/// A handle that lets the node go when nobody else holds it.
pub(crate) struct WeakNode(Weak<Rooms>);

impl WeakNode {
    pub(crate) fn upgrade(&self) -> Option<Node> {
        self.0.upgrade().map(Node)
    }
}

impl Node {
    /// Opens the data folder, folds the state from the log, prepares every pipeline, and is ready.
    ///
    /// # Errors
    /// What keeps it from starting, and in which file.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let folder = |source| StartError::Folder { folder: config.data.clone(), source };
        make_private(&config.data).map_err(folder)?;
        let shard = Shard::open(&config.data.join("shard-0"), shard_options(&config)).await?;
        let components =
            Arc::new(Components::open(config.data.join("plugins"), config.trust.clone()).map_err(folder)?);
        let audit = Audit::open(config.data.join("audit")).map_err(folder)?;
        let engine = Engine::new(engine_config(&config))?;
        let memories = Memories::new(shard.kv().clone());
        engine.remember_in(Arc::clone(&memories) as Arc<dyn wharf_pipeline::Memories>);
        lent::open(engine.library(), &config.data, &shard.topology());
        let pipelines = Pipelines::default();
        pipelines.open(&engine, &components, &shard.topology().clone()).await?;
        let dead_letters = DEAD_LETTERS.parse().expect("the constant is a name");
        if shard.topology().queue(DEAD_LETTERS).is_none() {
            let policy = QueuePolicy::default();
            shard
                .change(Change::CreateQueue { name: dead_letters, policy })
                .await
                .map_err(NodeError::from)?;
        }
        owner::bound(&shard, &config.principals).await?;
        let alarms = Arc::new(Alarms::default());
        alarms.look(&config.data, config.disk_free_bytes_min);
        let watch = alarms.watch(config.data.clone(), marks(&config));
        let node = Self(Arc::new(Rooms {
            access: Access::new(config.principals.clone()),
            shard,
            engine,
            components,
            pipelines,
            memories,
            lending: tokio::sync::Mutex::default(),
            taps: Taps::default(),
            alarms,
            counts: Arc::default(),
            started_at: Timestamp::wall_clock(),
            started: Instant::now(),
            watch: Mutex::new(Some(watch)),
            scheduler: Scheduler::default(),
            transfers: Transfers::default(),
            audit,
            tracing: Arc::new(Tracing::open(&config.data.join("traces"), config.trace)),
            config,
        }));
        node.resume_trials().await?;
        node.0.scheduler.start(node.downgrade());
        Ok(node)
    }

    /// Whose credentials these are; `None`: nobody's.
    pub fn authenticate(&self, credentials: Credentials<'_>) -> Option<Principal> {
        self.0.access.authenticate(credentials)
    }

    /// What it was started with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// A live view of the messages whose topic matches `pattern` and that `who` may consume: at most once, lossy.
    ///
    /// # Errors
    /// The node is stopping.
    pub fn tap(&self, who: &Principal, pattern: Pattern) -> Result<Tap, NodeError> {
        match self.0.shard.failure() {
            Some(_) => Err(self.0.shard.gone().into()),
            None => Ok(self.0.taps.open(who.clone(), pattern)),
        }
    }

    /// Resolves when the node stops by itself, after a failed write, to the reason. It takes nothing more then:
    /// end the process and look at the disk.
    pub async fn failed(&self) -> String {
        self.0.shard.failed().await
    }

    /// Finishes what has its place in the log, writes a snapshot, and stops. Consumers are told.
    pub async fn shutdown(&self) {
        let watch = self.0.watch.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(watch) = watch {
            watch.abort();
        }
        self.0.scheduler.stop().await;
        self.0.pipelines.trials.stop().await;
        self.0.taps.close();
        self.0.shard.stop().await;
        self.0.tracing.stop().await;
    }

    /// A handle that does not keep the node.
    pub(crate) fn downgrade(&self) -> WeakNode {
        WeakNode(Arc::downgrade(&self.0))
    }

    pub(crate) fn access(&self) -> &Access {
        &self.0.access
    }

    pub(crate) fn shard(&self) -> &Shard {
        &self.0.shard
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(crate) fn components(&self) -> &Arc<Components> {
        &self.0.components
    }

    pub(crate) fn pipelines_in_use(&self) -> &Pipelines {
        &self.0.pipelines
    }

    pub(crate) fn lending(&self) -> &tokio::sync::Mutex<()> {
        &self.0.lending
    }

    pub(crate) fn memories(&self) -> &Arc<Memories> {
        &self.0.memories
    }

    pub(crate) fn taps(&self) -> &Taps {
        &self.0.taps
    }

    pub(crate) fn transfers(&self) -> &Transfers {
        &self.0.transfers
    }

    pub(crate) fn audit_log(&self) -> &Audit {
        &self.0.audit
    }

    pub(crate) fn tracing(&self) -> &Arc<Tracing> {
        &self.0.tracing
    }

    pub(crate) fn scheduler(&self) -> &Scheduler {
        &self.0.scheduler
    }

    pub(crate) fn alarms(&self) -> &Alarms {
        &self.0.alarms
    }

    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.0.counts
    }

    /// How long it runs: a time that no clock sets back.
    pub(crate) fn uptime(&self) -> Timestamp {
        Timestamp(0).after(self.0.started.elapsed())
    }

    pub(crate) fn started_at(&self) -> Timestamp {
        self.0.started_at
    }
}

fn shard_options(config: &Config) -> wharf_shard::Options {
    let log = wharf_log::Options { segment_bytes: config.segment_bytes, ..wharf_log::Options::default() };
    wharf_shard::Options { log, ..wharf_shard::Options::default() }
}

fn marks(config: &Config) -> Marks {
    let memory_bytes_max = match config.memory_bytes_max {
        None => memory::default_limit(),
        limit => limit,
    };
    Marks { disk_free_bytes_min: config.disk_free_bytes_min, memory_bytes_max }
}

fn engine_config(config: &Config) -> EngineConfig {
    let default = EngineConfig::default();
    EngineConfig {
        limits: Limits { component_bytes: config.plugin_bytes_max, ..config.plugin_limits.clone() },
        threads: if config.plugin_threads == 0 { default.threads } else { config.plugin_threads },
        cache: Some(config.data.join("cache")),
        compiler: config.compiler.clone().map_or(Compiler::InProcess, Compiler::Child),
        ..default
    }
}

/// Makes `folder`, for its owner alone.
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("data", &self.0.config.data).finish_non_exhaustive()
    }
}
