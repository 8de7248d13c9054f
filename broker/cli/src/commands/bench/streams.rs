//! Streams: produced to, and read by one that catches up.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use wharf_client::{ConsumeOptions, ReadOptions, Start};

use super::load::Publishing;
use super::report::Phase;
use super::{Bench, Load, plain};
use crate::admin::path;

const STREAM: &str = "bench-stream";

/// Produces to a stream, reads all of it without a group, then as the member of one.
pub(super) async fn run(load: &Load) -> anyhow::Result<()> {
    let bench = Bench::start(&load.broker)?;
    let admin = bench.connection().admin()?;
    let policy = json!({ "durability": load.broker.durability.word() });
    let _: Value = admin.put(&path(["v1", "streams", STREAM]), &policy)?;
    let _: Value = admin.post(&path(["v1", "bindings"]), &json!({ "pattern": "events", "queue": STREAM }))?;
    let floor = bench.floors(load).await?;
    let publishing = Publishing { topic: "events".parse()?, ..plain(load) };
    bench.publish("produce", &publishing, Some(floor)).await?;

    let before = bench.cpu()?;
    let (messages, took) = read(&bench, load).await?;
    let broker_cpu = Some(bench.cpu()? - before);
    Phase { name: "catch up", messages, took, broker_cpu, latencies: None, floor: None }.print()?;

    let before = bench.cpu()?;
    let (messages, took) = join(&bench, load).await?;
    let broker_cpu = Some(bench.cpu()? - before);
    Phase { name: "group", messages, took, broker_cpu, latencies: None, floor: None }.print()
}

/// Reads from the first message to the last, over every connection at once.
async fn read(bench: &Bench, load: &Load) -> anyhow::Result<(u64, Duration)> {
    let mut readers = JoinSet::new();
    let mut clients = Vec::new();
    for _ in 0..load.connections.max(1) {
        clients.push(bench.connection().client().await?);
    }
    let started = Instant::now();
    for client in clients {
        let prefetch = load.window;
        readers.spawn(async move {
            let options = ReadOptions { until_end: true, prefetch, ..ReadOptions::default() };
            let mut reader = client.stream(STREAM)?.read(options).await?;
            let mut count = 0;
            while reader.next().await.is_some() {
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut count = 0;
    while let Some(read) = readers.join_next().await {
        count += read??;
    }
    Ok((count, started.elapsed()))
}

/// Reads and acks everything as the only member of a group, until the last ack is durable.
async fn join(bench: &Bench, load: &Load) -> anyhow::Result<(u64, Duration)> {
    let client = bench.connection().client().await?;
    let options =
        ConsumeOptions { prefetch: load.window, limit: Some(load.messages), ..ConsumeOptions::default() };
    let started = Instant::now();
    let mut member = client.stream(STREAM)?.group("bench", Start::First, options).await?;
    let mut count = 0;
    while let Some(message) = member.next().await {
        drop(message.ack());
        count += 1;
    }
    member.flush().await;
    Ok((count, started.elapsed()))
}
