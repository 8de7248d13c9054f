//! `wharf demo`: the main job, shown end to end on a broker of its own.

mod screen;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args as ClapArgs;
use serde_json::{Value, json};
use wharf_admin::dead_letter::Page;
use wharf_admin::pipeline::Change;
use wharf_admin::step::Trace;
use wharf_client::{Client, Confirmed, ConsumeOptions, Delivery, Message, MessageId, PublishError};

use crate::admin::{Admin, path};
use crate::orders::Order;
use crate::own_broker::OwnBroker;
use screen::Screen;

/// What orders go through on their way in, and what is checked before a queue takes them.
const INTAKE: &str = include_str!("demo/intake.toml");
const CHECK: &str = include_str!("demo/check.toml");

/// Where orders are published, and the queues where they belong.
const TOPIC: &str = "orders.in";
const QUEUES: [&str; 3] = ["orders-eu", "orders-us", "orders-world"];

/// Orders published in the first part, while a pipeline is swapped, and before the broker is killed.
const FIRST: std::ops::Range<u64> = 1..25;
const FLOWING: std::ops::Range<u64> = 1000..1400;
const SURVIVING: std::ops::Range<u64> = 2000..2100;
/// One of those that flow, a time apart.
const FLOW_PAUSE: Duration = Duration::from_millis(3);

/// Shows the main job: XML orders in, validated, enriched and routed as JSON, on a broker of its own
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf demo

It starts a broker in another process with its data in a temporary folder, and leaves nothing behind.")]
pub(crate) struct Args {}

pub(crate) fn run(_: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(demo())
}

async fn demo() -> anyhow::Result<()> {
    let screen = Screen::new();
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let mut broker = start(&screen, folder.path())?;
    apply_topology(&screen, &broker.connection().admin()?)?;
    let client = broker.connection().client().await?;
    orders_come_in(&screen, &client, &broker.connection().admin()?).await?;
    swap_while_orders_flow(&screen, &client, &broker.connection().admin()?).await?;
    client.close().await;
    kill_and_restart(&screen, &mut broker).await?;
    screen.next_steps()
}

fn start(screen: &Screen, folder: &std::path::Path) -> anyhow::Result<OwnBroker> {
    screen.part("A broker, with the plugins that come with it")?;
    let started = Instant::now();
    screen.doing("starting it…");
    let broker = OwnBroker::start(folder)?;
    let plugins: Vec<Value> = broker.connection().admin()?.get(&path(["v1", "plugins"]))?;
    for plugin in &plugins {
        let text = |key| plugin[key].as_str().unwrap_or_default();
        screen.line(format_args!("{:<16} {:<6} {}", text("name"), text("version"), text("summary")))?;
    }
    screen.done(format_args!(
        "ready in {:.1} s, process {}",
        started.elapsed().as_secs_f64(),
        broker.pid()
    ))?;
    Ok(broker)
}

fn apply_topology(screen: &Screen, admin: &Admin) -> anyhow::Result<()> {
    screen.part("Queues, bindings, and two pipelines")?;
    screen.doing("compiling the plugins that they use…");
    for (name, spec) in [("intake", INTAKE), ("check", CHECK)] {
        apply(admin, name, spec)?;
    }
    for queue in QUEUES {
        let _: Value = admin.put(&path(["v1", "queues", queue]), &json!({}))?;
        let pattern = queue.replace('-', ".");
        let binding = json!({ "pattern": pattern, "queue": queue, "pipeline": "check" });
        let _: Value = admin.post(&path(["v1", "bindings"]), &binding)?;
        screen.line(format_args!("{pattern} → check (json-schema) → queue {queue}"))?;
    }
    screen.line("orders.in → intake (xml-to-json, enrich, route-by) → orders.eu, orders.us or orders.world")
}

/// Orders are published as XML and arrive as JSON; one that is no XML is refused, one that is no order is dead-lettered.
async fn orders_come_in(screen: &Screen, client: &Client, admin: &Admin) -> anyhow::Result<()> {
    screen.part("What each stage does with an order")?;
    let first = order(FIRST.start);
    screen.payload("in ", &first.xml())?;
    let message = json!({ "topic": TOPIC, "payload": first.xml() });
    let trace: Trace = admin.post(&path(["v1", "pipelines", "intake", "try"]), &message)?;
    for step in &trace.steps {
        screen.step(step)?;
    }

    screen.part("Orders, published over QUIC")?;
    let publisher = client.publisher().await?;
    let mut confirms = Vec::new();
    for number in FIRST {
        let xml = order(number).xml();
        confirms.push((number, xml.len(), publisher.publish(message_of(&xml)?).await?));
    }
    let mut stored = 0;
    for (number, bytes, confirm) in confirms {
        let confirmed = confirm.await?;
        stored += 1;
        screen.line(format_args!(
            "order {number:<2} {bytes:>4} bytes of XML, to {}  {}",
            order(number).country(),
            id_of(confirmed)
        ))?;
    }
    let cut: String = order(90).xml().chars().take(200).collect();
    match publisher.publish(message_of(&cut)?).await?.await {
        Err(PublishError::Rejected(told)) => screen.refused(format_args!(
            "order 90, cut short: rejected by {}: {}",
            told.stage.as_deref().unwrap_or("the broker"),
            told.reason
        ))?,
        other => anyhow::bail!("a malformed order was not rejected: {other:?}"),
    }
    let nothing_ordered = order(91).xml().replace("<quantity>", "<quantity>-");
    let confirmed = publisher.publish(message_of(&nothing_ordered)?).await?.await?;
    screen.line(format_args!("order 91, with quantities below zero  {}", id_of(confirmed)))?;

    screen.part("What arrived where it belongs")?;
    let mut arrived = BTreeSet::new();
    for queue in QUEUES {
        for delivery in drain(client, queue).await? {
            arrived.insert(order_number(&delivery)?);
            screen.payload(&format!("{queue:<13}"), &String::from_utf8_lossy(&delivery.message.payload))?;
        }
    }
    ensure!(arrived == FIRST.collect(), "the orders that arrived are not those that were confirmed");
    let letters: Page = admin.get(&path(["v1", "dead-letters"]))?;
    ensure!(letters.items.len() == 1, "one order belongs into the dead letters, not {}", letters.items.len());
    for letter in &letters.items {
        let stage = letter.death.stage.as_deref().unwrap_or("?");
        screen.refused(format_args!("dead letter {}: {stage}: {}", letter.id, letter.death.reason))?;
    }
    screen.done(format_args!("{stored} confirmed, {} delivered, 1 rejected, 1 dead letter", arrived.len()))
}

/// The transform is replaced by a new version while orders flow: each passes the old one or the new one, once.
async fn swap_while_orders_flow(screen: &Screen, client: &Client, admin: &Admin) -> anyhow::Result<()> {
    screen.part("A new version of the transform, while orders flow")?;
    let publisher = client.publisher().await?;
    let flowing = tokio::spawn(async move {
        let mut stored = BTreeMap::new();
        let mut confirms = Vec::new();
        for number in FLOWING {
            confirms.push((number, publisher.publish(message_of(&order(number).xml())?).await?));
            tokio::time::sleep(FLOW_PAUSE).await;
        }
        for (number, confirm) in confirms {
            stored.insert(number, stored_at(confirm.await?)?);
        }
        anyhow::Ok(stored)
    });
    let middle = FLOW_PAUSE * u32::try_from((FLOWING.end - FLOWING.start) / 2)?;
    tokio::time::sleep(middle).await;
    let numbers_too = INTAKE.replace("arrays = [\"item\"]", "arrays = [\"item\"], numbers = true");
    screen.doing("applying intake with numbers = true…");
    apply(admin, "intake", &numbers_too)?;
    let stored = flowing.await??;

    let history: Vec<Change> = admin.get(&path(["v1", "pipelines", "intake", "history"]))?;
    let swapped = history.last().context("the pipeline has a history")?.index;
    let mut seen: BTreeMap<u64, String> = BTreeMap::new();
    for queue in QUEUES {
        for delivery in drain(client, queue).await? {
            let number = order_number(&delivery)?;
            let version = delivery.message.headers.text("wharf-pipeline").unwrap_or_default().to_owned();
            let expected = if delivery.id.index < swapped { "intake/1" } else { "intake/2" };
            ensure!(version.starts_with(expected), "order {number} passed {version}, not {expected}");
            let text = String::from_utf8_lossy(&delivery.message.payload).into_owned();
            ensure!(text.contains("\"quantity\":\"") == (expected == "intake/1"), "order {number}: {text}");
            ensure!(seen.insert(number, text).is_none(), "order {number} was delivered twice");
        }
    }
    ensure!(seen.keys().copied().eq(FLOWING), "orders are missing: {} of {}", seen.len(), stored.len());
    let old = stored.iter().filter(|(_, id)| id.index < swapped).map(|(number, _)| *number).max();
    let new = stored.iter().filter(|(_, id)| id.index > swapped).map(|(number, _)| *number).min();
    for (version, number) in [(1, old), (2, new)] {
        let number = number.with_context(|| format!("no order passed version {version}"))?;
        screen.line(format_args!("version {version}, order {number}, {}", stored[&number]))?;
        screen.payload("   ", quantities(&seen[&number]))?;
    }
    screen.done(format_args!(
        "switched at record {swapped} of the log: {} orders, none lost, none twice, none half and half",
        seen.len()
    ))
}

/// What was confirmed is there after the broker was killed.
async fn kill_and_restart(screen: &Screen, broker: &mut OwnBroker) -> anyhow::Result<()> {
    screen.part("Kill it, and look again")?;
    let client = broker.connection().client().await?;
    let publisher = client.publisher().await?;
    let mut confirms = Vec::new();
    for number in SURVIVING {
        confirms.push(publisher.publish(message_of(&order(number).xml())?).await?);
    }
    for confirm in confirms {
        confirm.await?;
    }
    let count = SURVIVING.end - SURVIVING.start;
    screen.line(format_args!("{count} orders confirmed; SIGKILL to process {}", broker.pid()))?;
    client.close().await;
    broker.kill()?;
    let killed = Instant::now();
    broker.start_again()?;
    screen.line(format_args!(
        "process {} is ready {:.2} s later",
        broker.pid(),
        killed.elapsed().as_secs_f64()
    ))?;
    let client = broker.connection().client().await?;
    let mut arrived = BTreeSet::new();
    for queue in QUEUES {
        for delivery in drain(&client, queue).await? {
            ensure!(arrived.insert(order_number(&delivery)?), "an order was delivered twice");
        }
    }
    ensure!(arrived.iter().copied().eq(SURVIVING), "{} of {count} orders are there", arrived.len());
    client.close().await;
    screen.done(format_args!("all {count} are there, and none twice"))
}

fn apply(admin: &Admin, name: &str, spec: &str) -> anyhow::Result<()> {
    let _: Value =
        admin.put_bytes(&path(["v1", "pipelines", name]), &[], "application/toml", spec.as_bytes())?;
    Ok(())
}

/// Everything in `queue`, acked.
async fn drain(client: &Client, queue: &str) -> anyhow::Result<Vec<Delivery>> {
    let options = ConsumeOptions { auto_settle: true, until_empty: true, ..ConsumeOptions::default() };
    let mut consumer = client.consume(queue, options).await?;
    let mut deliveries = Vec::new();
    while let Some(delivery) = consumer.next().await {
        deliveries.push(delivery);
    }
    match consumer.end() {
        Some(error) => Err(error.into()),
        None => Ok(deliveries),
    }
}

fn order(number: u64) -> Order {
    Order { number, bytes_min: 0 }
}

fn message_of(xml: &str) -> anyhow::Result<Message> {
    Ok(Message::new(TOPIC.parse()?, xml.to_owned()))
}

fn order_number(delivery: &Delivery) -> anyhow::Result<u64> {
    let order: Value =
        serde_json::from_slice(&delivery.message.payload).context("an order arrives as JSON")?;
    let id = &order["order"]["@id"];
    let number = id.as_u64().or_else(|| id.as_str()?.parse().ok());
    number.with_context(|| format!("an order has its number: {order}"))
}

fn stored_at(confirmed: Confirmed) -> anyhow::Result<MessageId> {
    let id = confirmed.stored().and_then(|stored| stored.ids().next());
    id.context("a confirmed order is stored somewhere")
}

fn id_of(confirmed: Confirmed) -> String {
    match stored_at(confirmed) {
        Ok(id) => format!("stored as {id}"),
        Err(_) => "stored".to_owned(),
    }
}

/// The part of an order's JSON that the new version writes otherwise.
fn quantities(json: &str) -> &str {
    let start = json.find("\"items\"").unwrap_or_default();
    &json[start..]
}
