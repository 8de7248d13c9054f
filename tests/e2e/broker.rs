//! A broker for a test, with its data in a temporary folder.

use std::collections::BTreeMap;
use std::fs;

use tempfile::TempDir;
use wharf_node::{
    Binding, Candidate, Config, Event, Node, Principal, Publication, QueuePolicy, Shown, SubscribeOptions,
};
use wharf_protocol::{Delivery, HeadersBuilder, Message, Name, Receipt};

/// The plugin that does what the header `behave` of a message says.
pub(crate) const GUEST: &str = "guest";

pub(crate) struct TestBroker {
    pub(crate) node: Node,
    folder: TempDir,
}

/// Whoever may do everything.
pub(crate) fn me() -> Principal {
    Principal::system()
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(crate) fn message(topic: &str, payload: &str, headers: &[(&str, &str)]) -> Message {
    let headers: HeadersBuilder = headers.iter().map(|(n, v)| (*n, v.as_bytes())).collect();
    let headers = headers.build().expect("small");
    Message { headers, ..Message::new(topic.parse().expect("a topic"), payload.to_owned()) }
}

impl TestBroker {
    /// With the misbehaving plugin and `xml-to-json`.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With another configuration.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::new(folder.path());
        change(&mut config);
        let node = Node::start(config).await.expect("it starts");
        let guest = fs::read(wharf_test_artifacts::GUEST).expect("it was compiled");
        let converter = wharf_bundle::find("xml-to-json").expect("it comes with Wharf").wasm;
        for (plugin, wasm) in [(GUEST, guest.into()), ("xml-to-json", converter.into())] {
            node.put_plugin(&me(), name(plugin), name("1"), wasm).await.expect("a plugin");
        }
        Self { node, folder }
    }

    /// Stops it, and starts it again with its data.
    pub(crate) async fn restart(self) -> Self {
        let Self { node, folder } = self;
        node.shutdown().await;
        drop(node);
        let node = Node::start(Config::new(folder.path())).await.expect("it starts again");
        Self { node, folder }
    }

    /// Of each version of a pipeline that begins with `xml-to-json`: whether it writes numbers.
    pub(crate) async fn numbers_of(&self, pipeline: &str) -> BTreeMap<u32, bool> {
        let mut numbers = BTreeMap::new();
        for version in self.node.pipeline(&me(), &name(pipeline)).await.expect("it is there").versions {
            let candidate = Candidate::Version(version.number);
            let tried = message("in", "<n>1</n>", &[]);
            let report =
                self.node.try_candidate(&me(), &name(pipeline), &candidate, tried).await.expect("it runs");
            let payload = report.steps[0].outputs[0].payload.clone().expect("it was changed");
            let Shown::Text(text) = payload.shown else { panic!("it is text") };
            numbers.insert(version.number, !text.ends_with("\"}"));
        }
        numbers
    }

    pub(crate) async fn queue(&self, queue: &str, pattern: &str, pipeline: Option<&str>) {
        let (queue, pipeline) = (name(queue), pipeline.map(name));
        self.node.create_queue(&me(), queue.clone(), QueuePolicy::default()).await.expect("created");
        let pattern = pattern.parse().expect("a pattern");
        self.node.bind(&me(), Binding { pattern, queue, pipeline }).await.expect("bound");
    }

    pub(crate) async fn apply(&self, pipeline: &str, spec: &str) {
        let spec = format!("name = \"{pipeline}\"\n{spec}");
        self.node.apply_pipeline(&me(), name(pipeline), &spec, None).await.expect("applied");
    }

    pub(crate) async fn publish(&self, message: Message) -> Receipt {
        self.node.publish(&me(), vec![Publication::from(message)]).await.await.remove(0)
    }

    /// Everything that is in a queue, settled as it is delivered.
    pub(crate) async fn take(&self, queue: &str) -> Vec<Delivery> {
        let options = SubscribeOptions {
            credit: 65_536,
            auto_settle: true,
            notify_empty: true,
            ..SubscribeOptions::default()
        };
        let mut consumer = self.node.subscribe(&me(), &name(queue), options).await.expect("subscribed");
        let mut deliveries = Vec::new();
        while consumer.next(&mut deliveries).await.expect("open") != Event::Empty {}
        deliveries
    }
}
