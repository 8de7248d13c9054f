//! What pipelines remember, through the binary: exact however often it is killed, shown and removed by hand.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::runtime::Runtime;
use wharf_client::{Client, Context, Message};

use crate::broker::Broker;

const ORDERS: usize = 400;
/// How often the broker is killed, each time after so many receipts and in the midst of others.
const KILLS: [usize; 5] = [1, 60, 5, 90, 30];

/// A broker whose pipeline `count` gives each order its number, from what it remembers.
fn counting() -> Broker {
    let broker = Broker::start();
    let wasm = std::fs::read(wharf_test_artifacts::GUEST_WITH_MEMORY).expect("it was built");
    broker.file("guest.wasm", wasm);
    broker.file("prices.csv", "apple,10\n");
    broker.file("order.json", "{}");
    broker.file(
        "count.toml",
        "name = \"count\"\ningress = \"orders.#\"\n[[stage]]\nplugin = \"guest\"\nkind = \"enricher\"\n\
         grants = [\"kv\", \"lookup:prices\", \"schema:order\", \"secrets:key\"]\n",
    );
    let secrets = broker.folder.path().join("data/secrets.toml");
    std::fs::write(&secrets, "key = \"hidden\"\n").expect("written");
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o600)).expect("set");
    broker.ok("queue add orders");
    broker.ok("bind orders.# orders");
    assert!(broker.ok("lookup put prices prices.csv").contains("version 1, 1 key"));
    assert!(broker.ok("schema put order order.json").contains("version 1"));
    broker.ok("plugin push guest.wasm --name guest --version 1");
    broker.ok("pipeline apply count.toml");
    broker
}

async fn connect(broker: &Broker) -> Client {
    let context = Context::read(&broker.context()).expect("a context");
    let options = context.connect_options().reconnect_pause_max(Duration::from_millis(100));
    Client::connect(options).await.expect("a connection")
}

/// Publishes every order until `enough` receipts came; more may be on their way.
async fn publish(client: &Client, enough: usize) {
    let mut receipts = tokio::task::JoinSet::new();
    for n in 0..ORDERS {
        let mut message = Message::new("orders.new".parse().expect("a topic"), n.to_string());
        message.headers =
            wharf_client::HeadersBuilder::default().set("behave", "kv-add n").build().expect("small");
        message.message_id = Some(n.to_string().into());
        // It may be on its way when the broker dies.
        let Ok(confirm) = client.publish(message).await else { return };
        receipts.spawn(confirm);
    }
    for _ in 0..enough.min(ORDERS) {
        receipts.join_next().await;
    }
    // Whatever is still under way when the broker dies is in doubt.
    receipts.detach_all();
}

#[test]
fn a_count_is_exact_however_often_the_broker_is_killed() {
    let runtime = Runtime::new().expect("a runtime");
    let mut broker = counting();
    for enough in KILLS {
        let client = runtime.block_on(connect(&broker));
        runtime.block_on(publish(&client, enough));
        let folder = broker.kill();
        drop(client);
        broker = Broker::start_in(folder);
    }
    let client = runtime.block_on(connect(&broker));
    runtime.block_on(publish(&client, ORDERS));
    runtime.block_on(client.close());

    let all = ORDERS.to_string();
    assert_eq!(broker.json("kv get count n -o json")["value"], all.as_str());
    let mut numbers = BTreeSet::new();
    for line in broker.ok("sub orders --exit-when-empty -o json").lines() {
        let order: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let said = order["headers"]["said"].as_str().expect("it was counted").to_owned();
        assert!(numbers.insert(said.parse::<usize>().expect("a number")), "{said} was given twice");
    }
    assert_eq!(numbers, (1..=ORDERS).collect());
}

#[test]
fn what_is_remembered_and_lent_is_shown_and_removed() {
    let broker = counting();
    assert!(broker.ok("plugin show guest").contains("kv, lookup, schema, secrets"));
    assert!(broker.ok("lookup ls").contains("count"), "who uses it");
    assert!(broker.ok("schema show order").contains("count"));
    assert!(broker.fails("lookup rm prices").contains("pipeline count"));
    assert!(broker.fails("lookup show nothing").contains("wharf lookup ls"));
    assert!(broker.fails("kv get count nothing").contains("wharf kv ls"));
    broker.file("wrong.csv", "a,1\nb\n");
    assert!(broker.fails("lookup put prices wrong.csv").contains("line 2"));
}
