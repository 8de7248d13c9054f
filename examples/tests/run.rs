//! Runs each example as its own process against a broker in this one.

use std::path::PathBuf;
use std::process::Stdio;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use wharf_client::Context;
use wharf_node::{Backoff, Binding, Config, Identity, Node, Principal, QueuePolicy};
use wharf_quic::{Certificate, Door};

const TOKEN: &str = "sesame";

/// A broker, and the context file by which the examples find it.
struct Broker {
    node: Node,
    context: PathBuf,
    _door: Door,
    _folder: TempDir,
}

impl Broker {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::new(folder.path().join("data"));
        config.principals = vec![Identity::administrator("test", hex::encode(Sha256::digest(TOKEN)))];
        config.disk_free_bytes_min = 0;
        let node = Node::start(config).await.expect("a node");
        let certificate = Certificate::self_signed(&[]).expect("a certificate");
        let address = ([127, 0, 0, 1], 0).into();
        let settings = wharf_quic::Config::new(address, certificate.clone());
        let door = Door::bind(settings, node.clone()).await.expect("a door");
        let context = folder.path().join("context.toml");
        let file = Context {
            address: door.address().to_string(),
            admin: None,
            token: Some(TOKEN.into()),
            certificate: Some(certificate.chain_pem),
        };
        file.write(&context).expect("written");
        Self { node, context, _door: door, _folder: folder }
    }

    /// What `wharf queue add NAME` and `wharf bind PATTERN NAME` do.
    async fn queue(&self, name: &str, pattern: &str) {
        let me = Principal::system();
        let queue = || name.parse().expect("a name");
        self.node.create_queue(&me, queue(), Default::default()).await.expect("created");
        let pattern = pattern.parse().expect("a pattern");
        self.node.bind(&me, Binding { pattern, queue: queue(), pipeline: None }).await.expect("bound");
    }

    /// The lines that the program prints.
    async fn run(&self, program: &str) -> Vec<String> {
        let mut command = tokio::process::Command::new(program);
        command.env("WHARF_CONTEXT", &self.context).stderr(Stdio::inherit()).kill_on_drop(true);
        let output = command.output().await.expect("it starts");
        assert!(output.status.success(), "{}", output.status);
        String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn orders_are_published_once_and_consumed() {
    let broker = Broker::start().await;
    broker.queue("orders", "orders.#").await;

    let first = broker.run(env!("CARGO_BIN_EXE_publish")).await;
    let again = broker.run(env!("CARGO_BIN_EXE_publish")).await;
    let consumed = broker.run(env!("CARGO_BIN_EXE_consume")).await;

    assert!(first.len() == 10 && first.iter().all(|line| line.starts_with("Stored")), "{first:?}");
    assert!(again.len() == 10 && again.iter().all(|line| line.starts_with("Duplicate")), "{again:?}");
    let expected: Vec<_> = (1..=10).map(|n| format!("orders.eu <order number=\"{n}\"/>")).collect();
    assert_eq!(consumed, expected);
}

#[tokio::test]
async fn workers_share_the_tasks() {
    let broker = Broker::start().await;
    broker.queue("tasks", "tasks").await;
    let lines = broker.run(env!("CARGO_BIN_EXE_work_queue")).await;
    assert_eq!(lines.last().map(String::as_str), Some("12 tasks done"));
}

#[tokio::test]
async fn each_bound_queue_has_its_copy() {
    let broker = Broker::start().await;
    broker.queue("billing", "sales.#").await;
    broker.queue("shipping", "sales.*.paid").await;
    let lines = broker.run(env!("CARGO_BIN_EXE_fan_out")).await;
    let expected = [
        "billing: sales.eu.opened",
        "billing: sales.eu.paid",
        "shipping: sales.eu.paid",
        "live: sales.eu.opened",
        "live: sales.eu.paid",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn requests_are_answered() {
    let broker = Broker::start().await;
    broker.queue("prices", "prices").await;
    let lines = broker.run(env!("CARGO_BIN_EXE_request_reply")).await;
    assert_eq!(lines, ["apple: 50 cents", "pear: 40 cents"]);
}

#[tokio::test]
async fn each_order_becomes_one_invoice() {
    let broker = Broker::start().await;
    broker.queue("orders", "orders.#").await;
    broker.queue("invoices", "invoices.#").await;
    broker.run(env!("CARGO_BIN_EXE_publish")).await;
    assert_eq!(broker.run(env!("CARGO_BIN_EXE_transform")).await, ["10 orders invoiced"]);
    assert_eq!(broker.run(env!("CARGO_BIN_EXE_transform")).await, ["0 orders invoiced"]);

    let waiting = |queue: &str| {
        let (node, queue) = (broker.node.clone(), queue.parse().expect("a name"));
        async move { node.queue(&Principal::system(), &queue).await.expect("there").ready }
    };
    assert_eq!((waiting("orders").await, waiting("invoices").await), (0, 10));
}

#[tokio::test]
async fn workers_try_again_and_give_up_what_cannot_be_done() {
    let broker = Broker::start().await;
    broker.queue("images", "images").await;
    let policy =
        QueuePolicy { max_attempts: 3, retry_min_ms: 50, retry: Backoff::Fixed, ..Default::default() };
    let images = "images".parse().expect("a name");
    broker.node.set_policy(&Principal::system(), &images, policy).await.expect("set");

    let mut lines = broker.run(env!("CARGO_BIN_EXE_competing")).await;

    lines.sort_unstable();
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert!(lines[0].starts_with("given up after 1 attempts: notes.txt: not an image"), "{lines:?}");
    assert!(lines[1].starts_with("given up after 3 attempts: torn.png: "), "{lines:?}");
    assert_eq!(lines[2..], ["shrunk cat.png", "shrunk dog.png", "shrunk fox.png", "shrunk owl.png"]);
}

#[tokio::test]
async fn what_fails_is_tried_again_and_then_dead() {
    let broker = Broker::start().await;
    broker.queue("mails", "mails").await;
    let lines = broker.run(env!("CARGO_BIN_EXE_dead_letter")).await;
    let attempts = lines.iter().filter(|line| line.ends_with(": nowhere")).count();
    assert_eq!(attempts, 3, "{lines:?}");
    assert_eq!(
        lines.last().map(String::as_str),
        Some("dead after 3 attempts in mails: \"nowhere\" is no address")
    );
}
