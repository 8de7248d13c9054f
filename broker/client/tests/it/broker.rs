//! A broker for one test: its own folder, its own port.

use std::net::SocketAddr;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use wharf_client::{Client, ConnectOptions, Trust};
use wharf_node::{Binding, Config, Identity, Node, Principal, Quota};
use wharf_quic::{Certificate, Door};

pub(crate) const TOKEN: &str = "sesame";

/// A node with a door, and a queue `orders` bound to `orders.#`.
pub(crate) struct TestBroker {
    pub(crate) node: Node,
    certificate: Certificate,
    door: Option<Door>,
    address: SocketAddr,
    _folder: TempDir,
}

impl TestBroker {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::new(folder.path());
        config.principals = vec![
            Identity::administrator("test", hex::encode(Sha256::digest(TOKEN))),
            Identity {
                name: "reader".into(),
                token_sha256: Some(hex::encode(Sha256::digest("reader"))),
                consume: vec!["orders".parse().expect("a pattern"), "audit".parse().expect("a pattern")],
                subscribe: vec!["prices.eu.*".parse().expect("a pattern")],
                quota: Quota { connections: Some(1), ..Quota::default() },
                ..Identity::default()
            },
        ];
        config.disk_free_bytes_min = 0;
        let node = Node::start(config).await.expect("a node");
        let certificate = Certificate::self_signed(&[]).expect("a certificate");
        let address = ([127, 0, 0, 1], 0).into();
        let mut broker = Self { node, certificate, door: None, address, _folder: folder };
        broker.open_door().await;
        broker.queue("orders", "orders.#").await;
        broker
    }

    /// Creates a queue with the defaults and binds `pattern` to it.
    pub(crate) async fn queue(&self, name: &str, pattern: &str) {
        let (me, queue) = (Principal::system(), name.parse().expect("a name"));
        self.node.create_queue(&me, queue, Default::default()).await.expect("created");
        let (pattern, queue) = (pattern.parse().expect("a pattern"), name.parse().expect("a name"));
        self.node.bind(&me, Binding { pattern, queue, pipeline: None }).await.expect("bound");
    }

    /// Opens the door, on the port it had before.
    pub(crate) async fn open_door(&mut self) {
        let config = wharf_quic::Config::new(self.address, self.certificate.clone());
        let door = Door::bind(config, self.node.clone()).await.expect("a door");
        self.address = door.address();
        self.door = Some(door);
    }

    /// Closes the door; the node stays.
    pub(crate) async fn close_door(&mut self) {
        self.door.take().expect("an open door").close().await;
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        self.options_by(self.address)
    }

    /// For a client that reaches the broker by another address.
    pub(crate) fn options_by(&self, address: SocketAddr) -> ConnectOptions {
        ConnectOptions::new(address.to_string())
            .trust(Trust::Authority(self.certificate.chain_pem.clone()))
            .token(TOKEN)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn fingerprint(&self) -> String {
        self.certificate.fingerprint().expect("a certificate")
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.options()).await.expect("a connection")
    }

    /// Leases the messages of `queue` for so long.
    pub(crate) async fn lease(&self, queue: &str, lease: std::time::Duration) {
        let lease_ms = u64::try_from(lease.as_millis()).expect("short");
        let policy =
            wharf_node::QueuePolicy { lease_ms, retry_min_ms: 0, retry_max_ms: 0, ..Default::default() };
        self.policy(queue, policy).await;
    }

    /// Changes the policy of `queue`.
    pub(crate) async fn policy(&self, queue: &str, policy: wharf_node::QueuePolicy) {
        let name = queue.parse().expect("a name");
        self.node.set_policy(&Principal::system(), &name, policy).await.expect("set");
    }

    /// Messages of `queue` that consumers hold.
    pub(crate) async fn leased(&self, queue: &str) -> u64 {
        let name = queue.parse().expect("a name");
        self.node.queue(&Principal::system(), &name).await.expect("there").leased
    }

    /// Messages in `queue`, ready or leased.
    pub(crate) async fn depth(&self, queue: &str) -> u64 {
        let name = queue.parse().expect("a name");
        let view = self.node.queue(&Principal::system(), &name).await.expect("there");
        view.ready + view.leased
    }
}
