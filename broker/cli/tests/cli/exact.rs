//! Exactly once, and requests, by the binary.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::runtime::Runtime;
use wharf_client::{Client, CommitError, ConsumeOptions, Context, Message, Part, PipelineVersion};

use crate::broker::Broker;

const ORDERS: usize = 300;
/// How often the broker is killed, each time after so many commits and in the midst of others.
const KILLS: [usize; 6] = [1, 20, 3, 40, 7, 11];
/// Commits under way at a time.
const AT_ONCE: usize = 8;

async fn connect(broker: &Broker) -> Client {
    let context = Context::read(&broker.context()).expect("a context");
    let options = context.connect_options().reconnect_pause_max(Duration::from_millis(100));
    Client::connect(options).await.expect("a connection")
}

/// Invoices orders until `enough` are, or none is left; some more may be on their way.
async fn invoice(client: &Client, enough: usize) -> usize {
    let options = ConsumeOptions { until_empty: true, ..ConsumeOptions::default() };
    let mut orders = client.consume("orders", options).await.expect("a consumer");
    let mut committed = 0;
    let mut commits = tokio::task::JoinSet::new();
    while committed < enough {
        if commits.len() < AT_ONCE
            && let Some(order) = orders.next().await
        {
            let mut transaction = client.transaction();
            transaction.ack(&order);
            let topic = "invoices.new".parse().expect("a topic");
            transaction.publish(Message::new(topic, order.message.payload.clone()));
            // The order stays with its commit: dropped, it would make room for another.
            commits.spawn(async move { (order.tag, transaction.commit().await) });
            continue;
        }
        match commits.join_next().await {
            Some(Ok((_, Ok(_)))) => committed += 1,
            None => break,
            Some(other) => panic!("{other:?}"),
        }
    }
    // Whatever is still under way when the broker dies is in doubt.
    commits.detach_all();
    committed
}

/// A pipeline that only lets XML through.
const CHECKED: &str = "name = \"checked\"\ningress = \"invoices.#\"\n[[stage]]\nplugin = \"xml-check\"\non-failure = \"reject\"\n";

#[test]
fn a_transaction_tells_the_versions_that_handled_its_messages_also_when_it_is_refused() {
    let runtime = Runtime::new().expect("a runtime");
    let broker = Broker::start();
    broker.file("checked.toml", CHECKED);
    let setup = [
        "queue add invoices",
        "bind # invoices",
        "pipeline apply checked.toml",
        "pipeline apply checked.toml",
    ];
    setup.iter().for_each(|line| drop(broker.ok(line)));

    let client = runtime.block_on(connect(&broker));
    let commit = |asks: bool, payloads: &[&'static str]| {
        let mut transaction = client.transaction();
        if asks {
            transaction.tell_versions();
        }
        transaction.publish(Message::new("other".parse().expect("a topic"), "no pipeline"));
        for payload in payloads {
            transaction.publish(Message::new("invoices.new".parse().expect("a topic"), *payload));
        }
        runtime.block_on(transaction.commit())
    };
    let told = |versions: &[PipelineVersion]| versions.iter().map(ToString::to_string).collect::<Vec<_>>();

    let receipt = commit(true, &["<invoice/>", "<invoice/>"]).expect("committed");
    assert_eq!(told(&receipt.versions), ["checked/2"]);
    assert_eq!(told(&commit(false, &["<invoice/>"]).expect("committed").versions), [""; 0], "nobody asked");
    let Err(CommitError::Rejected { part, versions, .. }) = commit(true, &["<invoice/>", "no XML"]) else {
        panic!("the second is not XML")
    };
    assert_eq!((part, told(&versions)), (Part::Message(2), vec!["checked/2".into()]));
    runtime.block_on(client.close());
}

/// I7, at the points where a kill meets transactions: inputs acked if and only if outputs are there, once.
#[test]
fn no_order_is_lost_or_invoiced_twice_however_often_the_broker_is_killed() {
    let runtime = Runtime::new().expect("a runtime");
    let mut broker = Broker::start();
    for queue in ["orders", "invoices"] {
        broker.ok(&format!("queue add {queue}"));
        broker.ok(&format!("bind {queue}.# {queue}"));
    }
    let all: String = (0..ORDERS).map(|n| format!("{n}\n")).collect();
    broker.ok_with("pub orders.new --lines", &all);

    let mut committed = 0;
    for enough in KILLS {
        let client = runtime.block_on(connect(&broker));
        committed += runtime.block_on(invoice(&client, enough));
        let folder = broker.kill();
        drop(client);
        broker = Broker::start_in(folder);
    }
    let client = runtime.block_on(connect(&broker));
    committed += runtime.block_on(invoice(&client, usize::MAX));
    runtime.block_on(client.close());

    assert_eq!(broker.json("queue show orders -o json")["ready"], 0, "every order is done");
    let mut invoices = BTreeMap::new();
    for line in broker.ok("sub invoices --exit-when-empty -o raw").lines() {
        *invoices.entry(line.to_owned()).or_insert(0) += 1;
    }
    assert!(invoices.values().all(|count| *count == 1), "each order is invoiced once: {invoices:?}");
    assert_eq!(invoices.len(), ORDERS, "every order is invoiced");
    assert!(committed <= ORDERS && committed >= KILLS.iter().sum(), "{committed} were told of");
}

#[test]
fn a_request_is_answered_or_told_that_nobody_listens() {
    let broker = Broker::start();
    broker.ok("queue add prices");
    broker.ok("bind prices prices");
    let said = broker.fails("request prices apple");
    assert!(said.contains("nobody is listening"), "{said}");

    let mut service = broker.command("reply prices -n 2 --exec");
    service.arg("tr a-z A-Z").stdout(std::process::Stdio::null());
    let mut service = service.spawn().expect("it starts");
    while broker.json("queue show prices -o json")["consumers"] != 1 {
        std::thread::yield_now();
    }
    assert_eq!(broker.ok("request prices apple"), "APPLE\n");
    assert_eq!(broker.ok_with("request prices -", "pear"), "PEAR\n");
    assert!(service.wait().expect("it ends").success());
    assert!(broker.fails("request nowhere apple").contains("nobody is listening"));
}

#[test]
fn the_window_of_message_ids_is_shown_and_set() {
    let broker = Broker::start();
    broker.ok("queue add orders");
    broker.ok("bind orders orders");
    broker.ok("pub orders a --id one");
    broker.ok("pub orders a --id one");
    let dedup = broker.json("dedup show -o json");
    assert_eq!(
        (&dedup["window_ms"], &dedup["max"], &dedup["remembered"]),
        (&600_000.into(), &1_000_000.into(), &1.into())
    );

    let dedup = broker.json("dedup set --window 1h -o json");
    assert_eq!((&dedup["window_ms"], &dedup["max"]), (&3_600_000.into(), &1_000_000.into()));
    assert!(broker.fails("dedup set --max 0").contains("every duplicate pass"));
    assert_eq!(broker.json("queue show orders -o json")["ready"], 1);
}
