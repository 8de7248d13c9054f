//! What pipelines remember, between the log and the messages on their way there.
//!
//! ```text
//!  what this batch left  ▷  what batches on their way to the log left  ▷  the state, as of the last record
//! ```
//!
//! Batches whose messages may meet a pipeline that remembers take turns: a batch has its turn from before its first
//! pipeline until it has its place in the order of the log, and never waits for its turn inside a pipeline, which
//! whoever swaps that one would wait for. The next batch reads what it left before the log holds it. If it comes to
//! nothing there, the record of whoever read it is stale, and that one's pipelines run again (`kv.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use bytestring::ByteString;
use tokio::sync::{Notify, OwnedMutexGuard};
use wharf_pipeline::{Memory, PipelineSpec, Target};
use wharf_protocol::{Kept, Message, Name, Topic};
use wharf_queue::{Kv, Topology};

/// A key, and the pipeline that remembers something under it.
pub(crate) type Key = (Name, ByteString);

/// The memories of all pipelines of a node.
pub(crate) struct Memories {
    kv: Kv,
    /// Pipelines that remember, or did when they were made: too many cost a turn, too few a message.
    remembering: ArcSwap<BTreeSet<Name>>,
    /// Pipelines that messages may pass on their way to one that remembers, as of a revision of the topology.
    leading: Mutex<Leading>,
    turn: Arc<tokio::sync::Mutex<()>>,
    under_way: Mutex<UnderWay>,
    /// A batch is no longer under way.
    arrived: Notify,
}

#[derive(Default)]
struct Leading {
    revision: u64,
    remembering: usize,
    pipelines: Arc<BTreeSet<Name>>,
}

/// What batches that have their turn behind them left.
#[derive(Default)]
struct UnderWay {
    batches: u64,
    last_ticket: u64,
    /// The newest of each key, and whose it is.
    left: BTreeMap<Key, (u64, Option<Kept>)>,
}

/// A batch that is under way to the log; over when it is dropped.
pub(crate) struct Ticket {
    memories: Arc<Memories>,
    number: u64,
    keys: Vec<Key>,
}

/// A batch's turn.
pub(crate) struct Turn {
    pub(crate) left: Arc<Left>,
    /// Pipelines that owed no processor time before it began: in its turn nobody waits for them.
    paid: Arc<BTreeSet<Name>>,
    _guard: Arc<OwnedMutexGuard<()>>,
}

/// What a batch left so far.
pub(crate) struct Left {
    memories: Arc<Memories>,
    changes: Mutex<BTreeMap<Key, Option<Kept>>>,
}

/// One pipeline's memory, as a batch sees it.
struct Of {
    left: Arc<Left>,
    pipeline: Name,
}

/// One pipeline's memory, as the log has it.
struct Stored {
    kv: Kv,
    pipeline: Name,
}

impl Memories {
    pub(crate) fn new(kv: Kv) -> Arc<Self> {
        Arc::new(Self {
            kv,
            remembering: ArcSwap::default(),
            leading: Mutex::default(),
            turn: Arc::default(),
            under_way: Mutex::default(),
            arrived: Notify::new(),
        })
    }

    /// Whether a message of one of these topics may meet a pipeline that remembers.
    pub(crate) fn concern<'a>(
        &self,
        topology: &Topology,
        messages: impl IntoIterator<Item = &'a Message>,
    ) -> bool {
        if self.remembering.load().is_empty() {
            return false;
        }
        let leading = self.leading(topology);
        let mut last: Option<&Topic> = None;
        messages.into_iter().any(|message| {
            let same = last.replace(&message.topic) == Some(&message.topic);
            !same && passes(topology, &message.topic, &leading)
        })
    }

    /// Pipelines from which a message may come to one that remembers, those included.
    fn leading(&self, topology: &Topology) -> Arc<BTreeSet<Name>> {
        let remembering = self.remembering.load();
        let mut known = lock(&self.leading);
        if (known.revision, known.remembering) != (topology.revision(), remembering.len()) {
            let pipelines = Arc::new(leading(topology, &remembering));
            *known = Leading { revision: topology.revision(), remembering: remembering.len(), pipelines };
        }
        Arc::clone(&known.pipelines)
    }

    /// Waits for a turn, when the debts of these pipelines are paid. Hold no pipeline meanwhile.
    pub(crate) async fn turn(self: &Arc<Self>, paid: BTreeSet<Name>) -> Turn {
        let guard = Arc::new(Arc::clone(&self.turn).lock_owned().await);
        self.begin(Arc::new(paid), guard)
    }

    fn begin(self: &Arc<Self>, paid: Arc<BTreeSet<Name>>, guard: Arc<OwnedMutexGuard<()>>) -> Turn {
        let left = Arc::new(Left { memories: Arc::clone(self), changes: Mutex::default() });
        Turn { left, paid, _guard: guard }
    }

    /// Waits until nothing is under way; in one's turn, so that nothing new is.
    pub(crate) async fn all_arrived(&self) {
        loop {
            let mut arrived = std::pin::pin!(self.arrived.notified());
            arrived.as_mut().enable();
            if lock(&self.under_way).batches == 0 {
                return;
            }
            arrived.await;
        }
    }

    /// Shows what a batch leaves to the next ones, until the ticket is dropped.
    pub(crate) fn send_off<'a>(
        self: &Arc<Self>,
        changes: impl Iterator<Item = (&'a Key, &'a Option<Kept>)>,
    ) -> Ticket {
        let mut under_way = lock(&self.under_way);
        under_way.batches += 1;
        under_way.last_ticket += 1;
        let number = under_way.last_ticket;
        let mut keys = Vec::new();
        for (key, kept) in changes {
            keys.push(key.clone());
            under_way.left.insert(key.clone(), (number, kept.clone()));
        }
        Ticket { memories: Arc::clone(self), number, keys }
    }
}

impl wharf_pipeline::Memories for Memories {
    fn of(&self, pipeline: &Name) -> Arc<dyn Memory> {
        let mut remembering = BTreeSet::clone(&self.remembering.load());
        if remembering.insert(pipeline.clone()) {
            self.remembering.store(Arc::new(remembering));
        }
        Arc::new(Stored { kv: self.kv.clone(), pipeline: pipeline.clone() })
    }
}

impl Turn {
    /// The same turn, for another batch.
    pub(crate) fn again(&self) -> Self {
        self.left.memories.begin(Arc::clone(&self.paid), Arc::clone(&self._guard))
    }

    /// Whether the pipeline's debt was paid before the turn began.
    pub(crate) fn was_paid(&self, pipeline: &Name) -> bool {
        self.paid.contains(pipeline)
    }

    /// The memory of `pipeline`, as this batch sees it.
    pub(crate) fn memory(&self, pipeline: &Name) -> Arc<dyn Memory> {
        Arc::new(Of { left: Arc::clone(&self.left), pipeline: pipeline.clone() })
    }

    /// Notes what a message of the batch left.
    pub(crate) fn leave(&self, pipeline: &Name, key: &ByteString, kept: &Option<Kept>) {
        lock(&self.left.changes).insert((pipeline.clone(), key.clone()), kept.clone());
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut under_way = lock(&self.memories.under_way);
        under_way.batches -= 1;
        for key in &self.keys {
            // A later batch left something else since.
            if under_way.left.get(key).is_some_and(|(number, _)| *number == self.number) {
                under_way.left.remove(key);
            }
        }
        drop(under_way);
        self.memories.arrived.notify_waiters();
    }
}

impl Memory for Of {
    fn get(&self, key: &str) -> Option<Kept> {
        let at = (self.pipeline.clone(), ByteString::from(key));
        if let Some(left) = lock(&self.left.changes).get(&at) {
            return left.clone();
        }
        // Asked for in this order, nothing is missed that arrives between the two.
        if let Some((_, left)) = lock(&self.left.memories.under_way).left.get(&at) {
            return left.clone();
        }
        self.left.memories.kv.get(&self.pipeline, key)
    }

    fn bytes(&self) -> u64 {
        let mine = |(pipeline, key): &Key, kept: &Option<Kept>| match kept {
            Some(kept) if *pipeline == self.pipeline => kept.cost(key.len()),
            _ => 0,
        };
        let own: u64 = lock(&self.left.changes).iter().map(|(key, kept)| mine(key, kept)).sum();
        let under_way = lock(&self.left.memories.under_way);
        let theirs: u64 = under_way.left.iter().map(|(key, (_, kept))| mine(key, kept)).sum();
        own + theirs + self.left.memories.kv.bytes(&self.pipeline)
    }
}

impl Memory for Stored {
    fn get(&self, key: &str) -> Option<Kept> {
        self.kv.get(&self.pipeline, key)
    }

    fn bytes(&self) -> u64 {
        self.kv.bytes(&self.pipeline)
    }
}

/// The closure of `remembering` under "sends messages to a topic whose messages pass".
fn leading(topology: &Topology, remembering: &BTreeSet<Name>) -> BTreeSet<Name> {
    let sends = |(name, pipeline): (&Name, &wharf_queue::Pipeline)| {
        let texts = pipeline.versions.values().map(|version| &version.spec);
        let specs = texts.filter_map(|text| PipelineSpec::from_toml(text).ok());
        let targets = specs.flat_map(|spec| spec.stages).flat_map(|stage| stage.outputs.into_values());
        let topics = targets.filter_map(|target| match target {
            Target::Topic(topic) => Some(topic),
            Target::Queue(_) => None,
        });
        (name.clone(), topics.collect::<Vec<Topic>>())
    };
    let sends: Vec<(Name, Vec<Topic>)> = topology.pipelines().map(sends).collect();
    let mut leading = remembering.clone();
    loop {
        let next = |(name, topics): &&(Name, Vec<Topic>)| {
            !leading.contains(name) && topics.iter().any(|topic| passes(topology, topic, &leading))
        };
        let more: Vec<Name> = sends.iter().filter(next).map(|(name, _)| name.clone()).collect();
        if more.is_empty() {
            return leading;
        }
        leading.extend(more);
    }
}

/// Whether messages of `topic` pass one of these.
fn passes(topology: &Topology, topic: &Topic, pipelines: &BTreeSet<Name>) -> bool {
    topology.ingress(topic).any(|(name, _)| pipelines.contains(name))
        || topology
            .resolve(topic)
            .iter()
            .any(|binding| binding.pipeline.as_ref().is_some_and(|name| pipelines.contains(name)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
