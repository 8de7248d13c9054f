//! Nine quiet tenants and one that floods: how long each waits, in a queue that is fair and in one that is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::{BufMut as _, BytesMut};
use clap::Args as ClapArgs;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use wharf_client::{Client, ConsumeOptions, HeadersBuilder, Message};

use super::report::Latencies;
use super::{Bench, Broker};
use crate::admin::path;
use crate::output;

const QUIET: u8 = 9;
/// The header that names a message's tenant.
const TENANT: &str = "tenant";

#[derive(Clone, Debug, ClapArgs)]
pub(super) struct Fair {
    /// Messages a second of each of the nine quiet tenants
    #[arg(long, default_value_t = 10)]
    rate: u32,
    /// For how long
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Consumers, each with one message at a time
    #[arg(long, default_value_t = 8)]
    workers: u32,
    /// How long a worker takes for a message, in milliseconds
    #[arg(long, default_value_t = 5)]
    work_ms: u32,
    #[command(flatten)]
    broker: Broker,
}

/// Runs the same load through a queue that is not fair, and one that is.
pub(super) async fn run(fair: &Fair) -> anyhow::Result<()> {
    let bench = Bench::start(&fair.broker)?;
    for (name, policy) in [("not-fair", json!({})), ("fair", json!({ "fair_by": TENANT }))] {
        let mut policy = policy;
        policy["durability"] = fair.broker.durability.word().into();
        let admin = bench.connection().admin()?;
        let _: Value = admin.put(&path(["v1", "queues", name]), &policy)?;
        let _: Value = admin.post(&path(["v1", "bindings"]), &json!({ "pattern": name, "queue": name }))?;
        let before = bench.cpu()?;
        let waited = tenants(&bench.connection().client().await?, name, fair).await?;
        let cpu = bench.cpu()? - before;
        output::line(format_args!("{name}: {}", summary(&waited, cpu)))?;
        for (tenant, latencies) in (0..).zip(&waited) {
            let who = if tenant == QUIET { "the flood".into() } else { format!("tenant {}", tenant + 1) };
            output::line(format_args!("  {who:<10} waits {latencies}"))?;
        }
    }
    Ok(())
}

fn summary(waited: &[Latencies], cpu: Duration) -> String {
    let messages = waited.iter().map(Latencies::count).sum();
    format!("{messages} messages worked off, broker CPU {:.2} µs/msg", super::report::micros(cpu, messages))
}

/// How long the messages of each tenant waited; the last one floods.
async fn tenants(client: &Client, queue: &str, fair: &Fair) -> anyhow::Result<Vec<Latencies>> {
    let started = Instant::now();
    let quiet = u64::from(QUIET) * u64::from(fair.rate) * u64::from(fair.seconds);
    let left = Arc::new(Left { quiet: AtomicU64::new(quiet), none: Notify::new() });
    let mut workers = JoinSet::new();
    for _ in 0..fair.workers {
        let consumer = client.consume(queue, ConsumeOptions { prefetch: 1, ..ConsumeOptions::default() });
        let (consumer, left) = (consumer.await?, Arc::clone(&left));
        let work = Duration::from_millis(fair.work_ms.into());
        workers.spawn(work_off(consumer, started, work, left));
    }
    let publisher = client.publisher().await?;
    // All that the workers can do in the time: there is a backlog of it from the first moment to the last.
    let capacity = 1000 * u64::from(fair.workers) / u64::from(fair.work_ms.max(1));
    for _ in 0..capacity * u64::from(fair.seconds) {
        drop(publisher.publish(message(queue, QUIET, started.elapsed())?).await?);
    }
    let pause = Duration::from_secs(1) / fair.rate.max(1);
    let begun = started.elapsed();
    for n in 0..fair.rate * fair.seconds {
        let due = begun + pause * n;
        if let Some(early) = due.checked_sub(started.elapsed()) {
            tokio::time::sleep(early).await;
        }
        for tenant in 0..QUIET {
            drop(publisher.publish(message(queue, tenant, due)?).await?);
        }
    }
    publisher.flush().await?;
    let mut waited: Vec<Latencies> = (0..=QUIET).map(|_| Latencies::new()).collect();
    while let Some(done) = workers.join_next().await {
        for (all, mine) in waited.iter_mut().zip(done??) {
            all.add(&mine);
        }
    }
    Ok(waited)
}

fn message(topic: &str, tenant: u8, due: Duration) -> anyhow::Result<Message> {
    let mut payload = BytesMut::with_capacity(64);
    payload.put_u64_le(u64::try_from(due.as_micros())?);
    payload.put_u8(tenant);
    payload.put_bytes(b'x', 55);
    let mut message = Message::new(topic.parse()?, payload.freeze());
    message.headers = HeadersBuilder::default().set(TENANT, format!("t{tenant}")).build()?;
    Ok(message)
}

/// Messages of quiet tenants that have not been delivered.
struct Left {
    quiet: AtomicU64,
    none: Notify,
}

/// Works until every quiet tenant has got its turn; how long what came had waited, by tenant.
async fn work_off(
    mut consumer: wharf_client::Consumer,
    started: Instant,
    work: Duration,
    left: Arc<Left>,
) -> anyhow::Result<Vec<Latencies>> {
    let mut waited: Vec<Latencies> = (0..=QUIET).map(|_| Latencies::new()).collect();
    let over = left.none.notified();
    tokio::pin!(over);
    loop {
        let delivery = tokio::select! {
            () = &mut over => return Ok(waited),
            delivery = consumer.next() => delivery.context("the queue ended")?,
        };
        let payload = &delivery.message.payload;
        let due = payload.get(..8).context("a message carries its time")?;
        let due = Duration::from_micros(u64::from_le_bytes(due.try_into()?));
        let tenant = usize::from(*payload.get(8).context("a message carries its tenant")?);
        waited[tenant].record(started.elapsed().saturating_sub(due));
        if tenant < usize::from(QUIET) && left.quiet.fetch_sub(1, Ordering::AcqRel) == 1 {
            left.none.notify_waiters();
        }
        tokio::time::sleep(work).await;
        drop(delivery.ack());
    }
}
