//! What a pipeline remembers is exact: it changes with the message or not at all, through a real log and plugin.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use wharf_node::{
    Again, Binding, Config, Event, LentFormat, LentKind, LetterEdit, Node, Principal, Publication,
    QueuePolicy, RerunOptions, SubscribeOptions, TRACE, TraceKey, Transact,
};
use wharf_protocol::{
    Delivery, ErrorCode, HeadersBuilder, Message, Name, ProducerId, Receipt, Session, TransactionReceipt,
};

/// Longer than any test takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Broker {
    node: Node,
    folder: TempDir,
}

fn me() -> Principal {
    Principal::system()
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

async fn start(folder: &Path) -> Node {
    let config = Config { segment_bytes: 1 << 20, ..Config::new(folder) };
    Node::start(config).await.expect("it starts")
}

/// The file of secrets, as it has to be: for its owner alone.
fn write_secrets(folder: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let file = folder.join("secrets.toml");
    std::fs::write(&file, text).expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("set");
}

impl Broker {
    /// A node with one queue, and a pipeline `p` before it whose stage is the guest that remembers.
    async fn with_stage(stage: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        write_secrets(folder.path(), "x = \"hidden\"\n");
        let node = start(folder.path()).await;
        let table = Bytes::from("apple,10\npear,12\n");
        node.put_lent(&me(), LentKind::Table, name("t"), LentFormat::Csv, table).await.expect("put");
        node.put_lent(&me(), LentKind::Schema, name("s"), LentFormat::Json, "{}".into()).await.expect("put");
        let wasm = std::fs::read(wharf_test_artifacts::GUEST_WITH_MEMORY).expect("it was built");
        node.put_plugin(&me(), name("guest"), name("1"), Bytes::from(wasm)).await.expect("put");
        let policy = QueuePolicy { max_messages: 1_000, ..QueuePolicy::default() };
        node.create_queue(&me(), name("q"), policy).await.expect("created");
        let (pattern, queue) = ("a.#".parse().expect("a pattern"), name("q"));
        node.bind(&me(), Binding { pattern, queue, pipeline: None }).await.expect("bound");
        let broker = Self { node, folder };
        broker.apply("p", stage).await.expect("it fits");
        broker
    }

    async fn apply(&self, pipeline: &str, stage: &str) -> Result<(), String> {
        let spec = format!(
            "name = \"{pipeline}\"\ningress = \"a.#\"\n[[stage]]\nplugin = \"guest\"\n{stage}\n\
             grants = [\"kv\", \"lookup:t\", \"schema:s\", \"secrets:x\"]"
        );
        let applied = self.node.apply_pipeline(&me(), name(pipeline), &spec, None).await;
        applied.map(drop).map_err(|error| error.to_string())
    }

    async fn restart(self) -> Self {
        let Self { node, folder } = self;
        node.shutdown().await;
        drop(node);
        let node = start(folder.path()).await;
        Self { node, folder }
    }

    async fn publish(&self, batch: Vec<Publication>) -> Vec<Receipt> {
        self.node.publish(&me(), batch).await.await
    }

    fn kept(&self, key: &str) -> Option<String> {
        let kept = self.node.kv_get(&me(), &name("p"), key).ok()?;
        Some(String::from_utf8(kept.value.to_vec()).expect("text"))
    }

    /// What the queue holds, in order.
    async fn stored(&self) -> Vec<Message> {
        let options = SubscribeOptions { credit: 10_000, notify_empty: true, ..SubscribeOptions::default() };
        let mut subscription = self.node.subscribe(&me(), &name("q"), options).await.expect("subscribed");
        let mut deliveries: Vec<Delivery> = Vec::new();
        while subscription.next(&mut deliveries).await.expect("open") != Event::Empty {}
        deliveries.into_iter().map(|delivery| delivery.message).collect()
    }
}

fn asking(behaviour: &str) -> Publication {
    let mut message = Message::new("a.b".parse().expect("a topic"), "body");
    message.headers = HeadersBuilder::default().set("behave", behaviour).build().expect("small");
    Publication::from(message)
}

fn in_session(behaviour: &str, producer: u128, sequence: u64) -> Publication {
    let session = Some(Session { producer: ProducerId(producer), epoch: 1, sequence });
    Publication { session, ..asking(behaviour) }
}

fn said(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.headers.text("said").expect("it was asked")).collect()
}

#[tokio::test]
async fn a_count_is_the_number_of_stored_messages_also_after_a_restart() {
    let broker = Broker::with_stage("kind = \"enricher\"").await;
    let producer = |producer: u128| {
        let node = broker.node.clone();
        async move {
            for batch in 0..10_u64 {
                let publications = (1..=5).map(|n| in_session("kv-add n", producer, batch * 5 + n)).collect();
                let receipts = node.publish(&me(), publications).await.await;
                assert!(receipts.iter().all(|receipt| matches!(receipt, Receipt::Stored(_))), "{receipts:?}");
            }
        }
    };
    let mut tasks = tokio::task::JoinSet::new();
    (1..=4).for_each(|id| drop(tasks.spawn(producer(id))));
    while let Some(done) = tasks.join_next().await {
        done.expect("it publishes");
    }

    let messages = broker.stored().await;
    let counts: BTreeSet<u64> =
        said(&messages).into_iter().map(|count| count.parse().expect("a number")).collect();
    assert_eq!(counts, (1..=200).collect(), "each message was another count");
    let broker = broker.restart().await;
    assert_eq!(broker.kept("n").as_deref(), Some("200"));
    broker.publish(vec![asking("kv-add n")]).await;
    assert_eq!(broker.kept("n").as_deref(), Some("201"));
}

#[tokio::test]
async fn a_message_passes_once_whatever_batch_or_life_it_comes_in() {
    let broker = Broker::with_stage("kind = \"router\"").await;
    let batch = || vec![asking("once x"), asking("once y"), asking("once x")];
    broker.publish(batch()).await;
    let broker = broker.restart().await;
    broker.publish(batch()).await;
    assert_eq!(broker.stored().await.len(), 2);
}

#[tokio::test]
async fn what_is_refused_or_breaks_changes_nothing() {
    let broker = Broker::with_stage("kind = \"enricher\"").await;
    for behaviour in ["kv-add n and reject", "kv-add n and panic"] {
        let receipts = broker.publish(vec![asking(behaviour)]).await;
        assert!(matches!(&receipts[..], [Receipt::Rejected(_)]), "{receipts:?}");
        assert_eq!(broker.kept("n"), None);
    }
    broker.apply("p", "kind = \"enricher\"\non-failure = \"dead-letter\"").await.expect("it fits");
    broker.publish(vec![asking("kv-add n and reject")]).await;
    assert_eq!(broker.kept("n"), None, "dead-lettered");
    broker.apply("p", "kind = \"enricher\"\non-failure = \"bypass\"").await.expect("it fits");
    broker.publish(vec![asking("kv-add n and panic")]).await;
    assert_eq!((broker.kept("n"), broker.stored().await.len()), (None, 1), "bypassed");
}

/// Each is stored before the next is run: what it reads is what the log holds.
#[tokio::test]
async fn letters_that_go_through_a_pipeline_that_remembers_count_once_each_also_after_a_restart() {
    let broker = Broker::with_stage("kind = \"enricher\"\non-failure = \"dead-letter\"").await;
    broker.publish(vec![asking("kv-add n")]).await;
    broker.publish((0..3).map(|_| asking("kv-add n and reject")).collect()).await;
    let mut letters = Vec::new();
    for letter in broker.node.dead_letters(&me(), None, 0, 9).await.expect("allowed") {
        let edit = LetterEdit { set: vec![("behave".into(), b"kv-add n".to_vec())], ..LetterEdit::default() };
        letters.push(broker.node.edit_dead_letter(&me(), letter.id, &edit).await.expect("edited").id);
    }
    assert_eq!((letters.len(), broker.kept("n").as_deref()), (3, Some("1")));

    let redriven = broker.node.redrive(&me(), Some(letters.clone()), None, None).await.expect("allowed");
    assert_eq!((redriven.moved, redriven.kept, redriven.died_again), (3, 0, 0), "{redriven:?}");
    let again = broker.node.redrive(&me(), Some(letters), None, None).await;
    assert!(again.is_err(), "once: {again:?}");

    let broker = broker.restart().await;
    assert_eq!(broker.kept("n").as_deref(), Some("4"));
    assert_eq!(said(&broker.stored().await), ["1", "2", "3", "4"]);
}

/// The second message is run on what the first one left. The first one turns out a duplicate, so the second and
/// the third go again, and in order: a sequence that comes late is refused.
#[tokio::test]
async fn what_was_run_on_a_duplicate_is_run_again() {
    let broker = Broker::with_stage("kind = \"enricher\"").await;
    broker.publish(vec![in_session("kv-add n", 7, 1)]).await;
    let batch = (1..=4).map(|sequence| in_session("kv-add n", 7, sequence)).collect();

    let receipts = broker.publish(batch).await;
    assert!(matches!(receipts[0], Receipt::Duplicate(_)), "{receipts:?}");
    assert!(receipts[1..].iter().all(|receipt| matches!(receipt, Receipt::Stored(_))), "{receipts:?}");
    assert_eq!(said(&broker.stored().await), ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn the_messages_of_a_transaction_count_together() {
    let broker = Broker::with_stage("kind = \"enricher\"").await;
    let transact = |behaviours: &[&str]| Transact {
        messages: behaviours.iter().map(|behaviour| asking(behaviour).message).collect(),
        ..Transact::default()
    };
    let done = broker.node.transact(&me(), transact(&["kv-add n", "kv-add n"])).await.await;
    assert!(matches!(done, TransactionReceipt::Committed(_)), "{done:?}");
    let refused = broker.node.transact(&me(), transact(&["kv-add n", "kv-add n and reject"])).await.await;
    assert!(matches!(refused, TransactionReceipt::Refused { .. }), "{refused:?}");
    assert_eq!(broker.kept("n").as_deref(), Some("2"));
    assert_eq!(said(&broker.stored().await), ["1", "2"]);
}

/// Duplicates in between, a full queue, and changes by hand: whatever is refused, the count is what is stored.
#[tokio::test]
async fn a_count_stays_exact_while_messages_are_refused_and_keys_removed() {
    let broker = Broker::with_stage("kind = \"enricher\"").await;
    broker
        .node
        .set_policy(&me(), &name("q"), QueuePolicy { max_messages: 30, ..QueuePolicy::default() })
        .await
        .expect("set");
    let mut stored = 0_usize;
    for round in 0..12_u64 {
        // Every batch begins with the end of the one before.
        let first = (round * 4).max(1);
        let batch = (first..first + 5).map(|sequence| in_session("kv-add n", 7, sequence)).collect();
        let receipts = broker.publish(batch).await;
        stored += receipts.iter().filter(|receipt| matches!(receipt, Receipt::Stored(_))).count();
        let full = |receipt: &&Receipt| matches!(receipt, Receipt::Rejected(rejection) if rejection.code != ErrorCode::Unavailable);
        assert!(stored < 30 || !receipts.iter().any(|receipt| full(&receipt)), "{receipts:?}");
    }
    assert_eq!(stored, 30);
    assert_eq!(broker.kept("n").as_deref(), Some("30"));
    broker.node.kv_remove(&me(), &name("p"), "n").await.expect("removed");
    assert_eq!(broker.kept("n"), None);
}

#[tokio::test]
async fn a_plugin_that_needs_what_is_not_granted_is_refused_when_it_is_applied() {
    let broker = Broker::with_stage("kind = \"enricher\"").await;
    let spec = "name = \"bare\"\n[[stage]]\nplugin = \"guest\"\nkind = \"enricher\"";
    let refused = broker.node.apply_pipeline(&me(), name("bare"), spec, None).await.expect_err("refused");
    assert!(refused.to_string().contains("add \"kv\" to the stage's grants"), "{refused}");

    let spec = format!("{spec}\ngrants = [\"kv\"]").replace("[[stage]]", "delivery = [\"q\"]\n[[stage]]");
    let refused = broker.node.apply_pipeline(&me(), name("bare"), &spec, None).await.expect_err("refused");
    assert!(refused.to_string().contains("on delivery has no kv"), "{refused}");
}

/// A trial reads what is remembered, and leaves it as it is.
#[tokio::test]
async fn a_trial_leaves_no_mark() {
    let broker = Broker::with_stage("kind = \"enricher\"").await;
    broker.publish(vec![asking("kv-add n")]).await;
    for _ in 0..2 {
        let tried =
            broker.node.try_pipeline(&me(), &name("p"), asking("kv-add n").message).await.expect("it runs");
        let shown = format!("{:?}", tried.steps);
        assert!(shown.contains("\"said\": Excerpt { bytes: 1, shown: Text(\"2\") }"), "{shown}");
    }
    assert_eq!(broker.kept("n").as_deref(), Some("1"));
}

/// What the trace keeps of the memory is what the run reads when it is had again, whatever was counted since.
#[tokio::test]
async fn a_traced_run_is_had_again_with_what_was_remembered_then() {
    let broker = Broker::with_stage("kind = \"enricher\"").await;
    broker.publish(vec![asking("kv-add n"), asking("kv-add n")]).await;
    let mut traced = asking("kv-add n");
    traced.message.headers = traced.message.headers.edit().set(TRACE, "1").build().expect("small");
    let Receipt::Stored(stored) = broker.publish(vec![traced]).await.remove(0) else { panic!("stored") };
    broker.publish(vec![asking("kv-add n")]).await;
    assert_eq!(broker.kept("n").as_deref(), Some("4"));

    let key = TraceKey::Message(stored.ids().next().expect("one"));
    broker.node.trace(&me(), key, PATIENCE).await.expect("it is kept");
    let mut reruns = broker.node.rerun(&me(), key, RerunOptions::default()).await.expect("it runs");
    let pass = reruns.remove(0).passes.remove(0);
    assert_eq!(pass.outcome, Again::Same);
    let said = format!("{:?}", pass.steps[0].outputs[0].headers_set["said"]);
    assert!(said.contains("Text(\"3\")"), "{said}");
    assert_eq!(broker.kept("n").as_deref(), Some("4"), "it changes nothing");
}

/// Messages that go again are told the version of the run that was stored.
#[tokio::test]
async fn a_receipt_says_the_version_also_where_pipelines_remember() {
    let broker = Broker::with_stage("kind = \"enricher\"").await;
    broker.apply("p", "kind = \"enricher\"").await.expect("version 2");
    let asks = |behaviour| Publication { tell_versions: true, ..asking(behaviour) };
    let batch = vec![asks("kv-add n"), asks("kv-add n"), asks("kv-add n and reject")];
    let mut receipts = broker.node.publish(&me(), batch).await;
    let versions: Vec<String> = receipts
        .take_versions()
        .iter()
        .map(|passed| passed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(versions, ["p/2", "p/2", "p/2"]);
    assert!(matches!(receipts.await[..], [Receipt::Stored(_), Receipt::Stored(_), Receipt::Rejected(_)]));

    let messages = vec![asking("kv-add n").message, asking("kv-add n").message];
    let transact = Transact { messages, tell_versions: true, ..Transact::default() };
    let mut transacted = broker.node.transact(&me(), transact).await;
    let versions: Vec<_> = transacted.take_versions().iter().map(ToString::to_string).collect();
    assert_eq!(versions, ["p/2"], "of all its messages, each once");
    assert!(matches!(transacted.await, TransactionReceipt::Committed(_)));
    let mut untold = broker.node.publish(&me(), vec![asking("kv-add n")]).await;
    assert!(untold.take_versions().is_empty(), "nobody asked");
}

/// A stage sees a new version of a table at its next call, and one that restarts sees the last one.
#[tokio::test]
async fn what_is_lent_reaches_a_running_stage_and_survives_a_restart() {
    let broker = Broker::with_stage("kind = \"enricher\"").await;
    let ask = |behaviours: &[&str]| behaviours.iter().map(|behaviour| asking(behaviour)).collect();
    broker
        .publish(ask(&[
            "lookup t apple",
            "lookup-many t pear none",
            "lookup-version t",
            "schema s",
            "secret x",
        ]))
        .await;

    let table = Bytes::from(r#"{"apple": "11"}"#);
    let put = broker.node.put_lent(&me(), LentKind::Table, name("t"), LentFormat::Json, table.clone()).await;
    assert_eq!(put.expect("put").version, 2);
    let again = broker.node.put_lent(&me(), LentKind::Table, name("t"), LentFormat::Json, table).await;
    assert_eq!(again.expect("the same again").version, 2);
    broker.publish(ask(&["lookup t apple", "lookup-version t"])).await;
    let broker = broker.restart().await;
    broker.publish(ask(&["lookup t apple"])).await;

    let said: Vec<String> = said(&broker.stored().await).into_iter().map(str::to_owned).collect();
    assert_eq!(said, ["10", "12,-", "1", "1 {}", "hidden", "11", "2", "11"]);
    let files = std::fs::read_dir(broker.folder.path().join("lent")).expect("a folder").count();
    assert_eq!(files, 2, "the first version of the table is gone");
}

#[tokio::test]
async fn what_is_granted_is_there_and_what_is_used_stays() {
    let broker = Broker::with_stage("kind = \"enricher\"").await;
    let used = broker.node.remove_lent(&me(), LentKind::Table, &name("t")).await.expect_err("it is used");
    assert!(used.to_string().contains("pipeline p"), "{used}");

    let apply = |grant: &str| {
        let spec = format!(
            "name = \"other\"\n[[stage]]\nplugin = \"guest\"\nkind = \"enricher\"\n\
             grants = [\"kv\", \"lookup:t\", \"schema:s\", \"secrets:x\", \"{grant}\"]"
        );
        let node = broker.node.clone();
        async move {
            node.apply_pipeline(&me(), name("other"), &spec, None).await.expect_err("refused").to_string()
        }
    };
    assert!(apply("lookup:gone").await.contains("wharf lookup put gone"));
    assert!(apply("schema:gone").await.contains("wharf schema put gone"));
    assert!(apply("secrets:gone").await.contains("secrets.toml"));

    let wrong =
        broker.node.put_lent(&me(), LentKind::Table, name("t"), LentFormat::Csv, "a,1\nb\n".into()).await;
    assert!(wrong.expect_err("no comma").to_string().contains("line 2"));
}

#[tokio::test]
async fn secrets_that_others_may_read_are_not_lent_and_no_error_shows_one() {
    use std::os::unix::fs::PermissionsExt as _;
    let broker = Broker::with_stage("kind = \"enricher\"").await;
    let file = broker.folder.path().join("secrets.toml");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("set");
    let refused = broker.apply("p", "kind = \"enricher\"").await.expect_err("refused");
    assert!(refused.contains("chmod 600"), "{refused}");

    write_secrets(broker.folder.path(), "x = \"hunter2\" and more");
    let refused = broker.apply("p", "kind = \"enricher\"").await.expect_err("refused");
    assert!(!refused.contains("hunter2"), "{refused}");
}

#[tokio::test]
async fn a_secret_that_is_taken_out_of_its_file_is_lent_no_more_from_the_next_apply_on() {
    let broker = Broker::with_stage("kind = \"enricher\"").await;
    write_secrets(broker.folder.path(), "other = \"1\"\n");
    let refused = broker.apply("p", "kind = \"enricher\"").await.expect_err("refused");
    assert!(refused.contains("no secret x"), "{refused}");
    std::fs::remove_file(broker.folder.path().join("secrets.toml")).expect("removed");
    assert!(broker.apply("p", "kind = \"enricher\"").await.is_err(), "nor without the file");
}

#[tokio::test]
async fn who_waits_for_a_share_keeps_nobody_elses_memory_waiting() {
    let broker = Broker::with_stage("kind = \"enricher\"").await;
    let slow = "name = \"slow\"\ningress = \"slow.#\"\ncpu = \"1ms\"\n[[stage]]\nplugin = \"guest\"\n\
                kind = \"enricher\"\ndeadline-ms = 200\n\
                grants = [\"kv\", \"lookup:t\", \"schema:s\", \"secrets:x\"]";
    broker.node.apply_pipeline(&me(), name("slow"), slow, None).await.expect("it fits");
    let to_slow = |behaviour: &str| {
        let mut publication = asking(behaviour);
        publication.message.topic = "slow.x".parse().expect("a topic");
        publication
    };
    // It may owe: its first message takes more than its share of minutes.
    broker.publish(vec![to_slow("loop")]).await;
    let (node, next) = (broker.node.clone(), to_slow("kv-add n"));
    let waiting = tokio::spawn(async move { node.publish(&me(), vec![next]).await.await });
    // One thread: it comes to its wait before this one goes on.
    tokio::task::yield_now().await;

    let soon = async {
        for n in 1..=10 {
            assert!(matches!(broker.publish(vec![asking("kv-add n")]).await[0], Receipt::Stored(_)));
            assert_eq!(broker.kept("n"), Some(n.to_string()));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), soon).await.expect("far less than is owed");
    assert!(!waiting.is_finished(), "it is over its share");
    waiting.abort();
}
