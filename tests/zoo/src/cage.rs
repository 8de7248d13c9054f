//! A broker that holds beasts, with two that they must not harm: a quiet neighbour, a queue with a pipeline of its own,
//! whose messages must keep flowing whatever the beasts do; and a vault, a pipeline that remembers something, with a
//! table, a schema and a secret of its name, which are not theirs to see or change.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::task::JoinHandle;
use wharf_node::{
    Binding, Config, Event, KV_LIST_MAX, KvEntryView, LentFormat, LentKind, Limits, Node, Principal,
    Publication, QueuePolicy, SubscribeOptions,
};
use wharf_protocol::{Delivery, KV_SPACE_BYTES_MAX, Message, Name, Receipt};

use crate::beast::{Beast, Fate, GRANTED};

/// How much resident memory the process may have with every beast inside: far below what one of them asks for.
pub const RESIDENT_BYTES_MAX: u64 = 1 << 30;

/// How long a text that people read may be, whatever a plugin puts into it.
const REASON_BYTES_MAX: usize = 6 * 1024;

/// How long anything may take on a machine that has other things to do. A bound, not a measure.
const PATIENCE: Duration = Duration::from_secs(60);

/// What provokes a beast: longer than a message that does not.
pub const BAIT: &str = "bait, and more of it than anybody should be given at once";

/// What the vault remembers, lends and keeps secret.
const TREASURE: &str = "bait that nobody is to take";

/// Between two messages of the neighbour.
const NEIGHBOUR_PERIOD: Duration = Duration::from_millis(5);

/// A broker with a neighbour in it.
pub struct Cage {
    node: Node,
    neighbour: Arc<Neighbour>,
    traffic: JoinHandle<()>,
    _folder: TempDir,
}

/// What the neighbour has got through.
#[derive(Default)]
struct Neighbour {
    delivered: AtomicU64,
    /// From the publish to the delivery, of every message since the last look.
    times: Mutex<Vec<Duration>>,
}

/// Whoever may do everything.
fn me() -> Principal {
    Principal::system()
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn message(topic: &str, payload: &str) -> Message {
    Message::new(topic.parse().expect("a topic"), payload.to_owned())
}

fn publication(message: Message) -> Publication {
    Publication::from(message)
}

impl Cage {
    /// Starts the broker, which compiles with `compiler`, and the neighbour's traffic.
    pub async fn open(compiler: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        write_secrets(folder.path());
        let config = Config {
            compiler: Some(compiler.into()),
            plugin_limits: Limits { compile_ms: 40_000, compile_memory_bytes: 2 << 30, ..Limits::default() },
            ..Config::new(folder.path())
        };
        let node = Node::start(config).await.expect("it starts");
        let guest = std::fs::read(wharf_test_artifacts::ZOO).expect("it was compiled");
        node.put_plugin(&me(), name("tame"), name("1"), guest.into()).await.expect("a plugin");
        let spec =
            "name = \"quiet\"\n[[stage]]\nplugin = \"tame\"\nkind = \"validator\"\ndeadline-ms = 10000\n";
        node.apply_pipeline(&me(), name("quiet"), spec, None).await.expect("applied");
        lead_to(&node, "quiet", "quiet").await;
        build_vault(&node).await;
        let neighbour = Arc::<Neighbour>::default();
        let traffic = tokio::spawn(flow(node.clone(), Arc::clone(&neighbour)));
        Self { node, neighbour, traffic, _folder: folder }
    }

    /// The broker.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Takes `beast` in, provokes it amid messages that do not, and asserts its fate.
    ///
    /// # Panics
    /// When it breaks out.
    pub async fn hold(&self, beast: &Beast) {
        let before = self.neighbour.delivered.load(SeqCst);
        self.assert_fate(beast).await;
        self.assert_remembered(beast);
        self.assert_neighbour_flows(before).await;
        assert_resident();
    }

    /// Uploads `beast` and applies its pipeline, bound to a queue of its name.
    ///
    /// # Errors
    /// What it was refused with, and whether at upload.
    pub async fn admit(&self, beast: &Beast) -> Result<(), (bool, String)> {
        let beast_name = name(beast.name);
        let (me, spec) = (me(), beast.spec());
        let put = self.node.put_plugin(&me, beast_name.clone(), name("1"), beast.component().into());
        bounded(put).await.map_err(|error| (true, error.to_string()))?;
        let apply = self.node.apply_pipeline(&me, beast_name, &spec, None);
        bounded(apply).await.map_err(|error| (false, error.to_string()))?;
        lead_to(&self.node, beast.name, beast.name).await;
        // One by one: together they would be more than a batch may be.
        for n in 0..beast.fodder {
            self.feed(beast, &[&format!("fodder {n}")]).await;
        }
        self.take(beast.name).await;
        Ok(())
    }

    /// Publishes these payloads to `beast` in one batch.
    pub async fn feed(&self, beast: &Beast, payloads: &[&str]) -> Vec<Receipt> {
        let batch = payloads.iter().map(|payload| publication(message(beast.name, payload))).collect();
        bounded(async { self.node.publish(&me(), batch).await.await }).await
    }

    async fn assert_fate(&self, beast: &Beast) {
        let texts = match (self.admit(beast).await, beast.fate) {
            (Err((true, said)), Fate::NotUploaded(texts)) => return assert_said(beast, &said, texts),
            (Err((false, said)), Fate::NotApplied(texts)) => return assert_said(beast, &said, texts),
            (Err((_, said)), Fate::Decided) => return assert_said(beast, &said, &[]),
            (Err((upload, said)), fate) => {
                let step = if upload { "upload" } else { "apply" };
                panic!("{}: refused at {step}, which is not {fate:?}: {said}", beast.name)
            }
            (Ok(()), Fate::NotUploaded(_) | Fate::NotApplied(_)) => {
                panic!("{}: it was taken in, which is not {:?}", beast.name, beast.fate)
            }
            (Ok(()), Fate::DeadLetters(texts) | Fate::Rejected(texts)) => texts,
            (Ok(()), _) => &[],
        };
        let receipts = self.feed(beast, &["calm", BAIT, "calm", BAIT]).await;
        assert_eq!(receipts.len(), 4, "{}: one receipt each", beast.name);
        for (i, receipt) in receipts.into_iter().enumerate() {
            match (receipt, beast.fate) {
                (Receipt::Rejected(rejection), Fate::Rejected(_)) if i % 2 == 1 => {
                    assert_said(beast, &rejection.reason, texts);
                }
                (Receipt::Stored(_), Fate::Rejected(_)) if i % 2 == 0 => {}
                (Receipt::Stored(_), Fate::Rejected(_)) => panic!("{}: bait {i} was stored", beast.name),
                (Receipt::Stored(_), _) => {}
                (other, _) => panic!("{}: message {i}: {other:?}", beast.name),
            }
        }
        let through = self.take(beast.name).await;
        let baits = through.iter().filter(|each| each.message.payload.starts_with(b"bait")).count();
        let others = through.iter().filter(|each| !each.message.payload.starts_with(b"calm")).count();
        assert_eq!(through.len() - others, 2, "{}: its neighbours in the batch pass", beast.name);
        let letters = self.node.dead_letters(&me(), None, 0, 10_000).await.expect("allowed");
        let letters: Vec<_> = letters.into_iter().filter(|letter| letter.death.queue == beast.name).collect();
        match beast.fate {
            Fate::DeadLetters(_) => {
                assert_eq!(letters.len(), 2, "{}: each bait is a dead letter", beast.name);
                for letter in letters {
                    assert_said(beast, &letter.death.reason, texts);
                    let stage = format!("{0}/{0}", beast.name);
                    assert_eq!(letter.death.stage.as_deref(), Some(stage.as_str()));
                }
            }
            Fate::Passes(each) => assert_eq!(others, 2 * each, "{}: each bait passes", beast.name),
            Fate::Decided => assert!(baits + letters.len() >= 2, "{}: each bait is somewhere", beast.name),
            _ => assert_eq!((others, letters.len()), (0, 0), "{}: no bait passes", beast.name),
        }
        if let Some(check) = beast.check {
            through.iter().filter(|each| !each.message.payload.starts_with(b"calm")).for_each(check);
        }
    }

    /// What the vault has is as it was, and what the beast's pipeline remembers is what it may.
    fn assert_remembered(&self, beast: &Beast) {
        let treasure = remembered(&self.node, "vault");
        let treasure: Vec<_> = treasure.iter().map(|entry| (entry.key.as_str(), &entry.value[..])).collect();
        let name = beast.name;
        assert_eq!(treasure, [("password", TREASURE.as_bytes())], "{name}: the vault was opened");
        for space in self.node.kv(&me()).expect("allowed") {
            assert!(
                space.bytes <= KV_SPACE_BYTES_MAX,
                "{name}: {} has {} bytes",
                space.pipeline,
                space.bytes
            );
        }
        if let Some(remembers) = beast.remembers {
            remembers(&remembered(&self.node, name));
        }
    }

    /// Everything that is in a queue, settled as it is delivered.
    async fn take(&self, queue: &str) -> Vec<Delivery> {
        let options = SubscribeOptions {
            credit: 65_536,
            auto_settle: true,
            notify_empty: true,
            ..SubscribeOptions::default()
        };
        let mut consumer = self.node.subscribe(&me(), &name(queue), options).await.expect("subscribed");
        let mut deliveries = Vec::new();
        while bounded(consumer.next(&mut deliveries)).await.expect("open") != Event::Empty {}
        deliveries
    }

    /// More of the neighbour's messages than are under way at once have come through since.
    async fn assert_neighbour_flows(&self, before: u64) {
        let flows = async {
            while self.neighbour.delivered.load(SeqCst) < before + 3 {
                tokio::time::sleep(NEIGHBOUR_PERIOD).await;
            }
        };
        bounded(flows).await;
    }

    /// How long the neighbour's messages took since the last time this was asked.
    pub fn neighbour_times(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.neighbour.times.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Stops the broker.
    pub async fn close(self) {
        self.traffic.abort();
        self.node.shutdown().await;
    }
}

/// The neighbour: publishes, consumes, and takes the time.
async fn flow(node: Node, neighbour: Arc<Neighbour>) {
    let options = SubscribeOptions { credit: 65_536, auto_settle: true, ..SubscribeOptions::default() };
    let mut consumer = node.subscribe(&me(), &name("quiet"), options).await.expect("subscribed");
    let mut period = tokio::time::interval(NEIGHBOUR_PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut deliveries = Vec::new();
    loop {
        period.tick().await;
        let start = Instant::now();
        let batch = vec![publication(message("quiet", "calm"))];
        let receipts = node.publish(&me(), batch).await.await;
        assert!(
            matches!(receipts[..], [Receipt::Stored(_)]),
            "the neighbour's message is stored: {receipts:?}"
        );
        while deliveries.is_empty() {
            consumer.next(&mut deliveries).await.expect("open");
        }
        deliveries.clear();
        neighbour.times.lock().unwrap_or_else(PoisonError::into_inner).push(start.elapsed());
        neighbour.delivered.fetch_add(1, SeqCst);
    }
}

/// A pipeline that remembers something, and a table, a schema and a secret, all named `vault`; beside them a table, a
/// schema and a secret named `lent`, which beasts may be granted.
async fn build_vault(node: &Node) {
    let table = format!("{{\"apple\": \"{TREASURE}\", \"big\": \"{}\"}}", "x".repeat(4096));
    for lent in ["vault", "lent"] {
        for kind in [LentKind::Table, LentKind::Schema] {
            let content = table.clone().into();
            node.put_lent(&me(), kind, name(lent), LentFormat::Json, content).await.expect("lent");
        }
    }
    let guest = std::fs::read(wharf_test_artifacts::ZOO_WITH_MEMORY).expect("it was compiled");
    node.put_plugin(&me(), name("keeper"), name("1"), guest.into()).await.expect("a plugin");
    let spec = format!(
        "name = \"vault\"\n[[stage]]\nplugin = \"keeper\"\nkind = \"validator\"\nconfig = {{ mode = \"keep\" }}\n\
         {GRANTED}\n"
    );
    node.apply_pipeline(&me(), name("vault"), &spec, None).await.expect("applied");
    lead_to(node, "vault", "vault").await;
    let receipts = node.publish(&me(), vec![publication(message("vault", TREASURE))]).await.await;
    assert!(matches!(receipts[..], [Receipt::Stored(_)]), "the vault is filled: {receipts:?}");
}

/// The file of secrets, as it has to be: for its owner alone.
fn write_secrets(folder: &Path) {
    let file = folder.join("secrets.toml");
    std::fs::write(&file, format!("vault = \"{TREASURE}\"\nlent = \"nothing much\"\n")).expect("written");
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("set");
}

/// What a pipeline remembers, up to what one listing shows; nothing, where there is no such pipeline.
fn remembered(node: &Node, pipeline: &str) -> Vec<KvEntryView> {
    node.kv_keys(&me(), &name(pipeline), "", "", KV_LIST_MAX).unwrap_or_default()
}

/// A queue of this name, with a binding through the pipeline.
async fn lead_to(node: &Node, queue: &str, pipeline: &str) {
    node.create_queue(&me(), name(queue), QueuePolicy::default()).await.expect("created");
    let binding = Binding {
        pattern: queue.parse().expect("a pattern"),
        queue: name(queue),
        pipeline: Some(name(pipeline)),
    };
    node.bind(&me(), binding).await.expect("bound");
}

async fn bounded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes no longer than anybody's patience")
}

/// What is said of a beast names what it did, in a text that is safe to print.
fn assert_said(beast: &Beast, said: &str, texts: &[&str]) {
    let name = beast.name;
    for text in texts {
        assert!(said.contains(text), "{name}: {text:?} is not in what is said: {said}");
    }
    assert!(said.len() <= REASON_BYTES_MAX, "{name}: {} bytes are said of it", said.len());
    let unsafe_to_print = said.chars().find(|c| is_unsafe_to_print(*c));
    assert_eq!(unsafe_to_print, None, "{name}: what is said of it can harm a terminal: {said:?}");
}

fn is_unsafe_to_print(c: char) -> bool {
    (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn assert_resident() {
    if let Some(bytes) = wharf_node::resident_bytes() {
        assert!(bytes < RESIDENT_BYTES_MAX, "the process has {} MiB", bytes >> 20);
    }
}
