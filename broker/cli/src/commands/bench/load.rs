//! Load: publishing, draining, and a steady flow.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use wharf_client::{Client, Confirm, ConsumeOptions, Message, Topic};

use super::report::Latencies;
use crate::connection::Connection;

/// One confirm in so many is timed; timing each would measure the clock.
const TIMED_EVERY: u64 = 16;

/// Makes one message unlike the others, by its number.
pub(super) type Dress = fn(u64, &mut Message);

/// How to publish.
#[derive(Clone)]
pub(super) struct Publishing {
    pub(super) topic: Topic,
    pub(super) payloads: Vec<Bytes>,
    pub(super) messages: u64,
    pub(super) connections: u64,
    /// Unconfirmed messages a connection.
    pub(super) window: usize,
    /// What is done to each message.
    pub(super) dress: Option<Dress>,
}

/// What a phase took.
pub(super) struct Took {
    pub(super) time: Duration,
    pub(super) latencies: Latencies,
}

/// Publishes from every connection at once, until all is confirmed.
pub(super) async fn publish(connection: &Connection, load: &Publishing) -> anyhow::Result<Took> {
    let mut clients = Vec::new();
    for _ in 0..load.connections {
        clients.push(connection.client().await?);
    }
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for (n, client) in (0..).zip(clients) {
        let mut load = load.clone();
        load.messages = load.messages / load.connections + u64::from(n < load.messages % load.connections);
        tasks.spawn(publish_from(client, n, load));
    }
    let mut latencies = Latencies::new();
    while let Some(done) = tasks.join_next().await {
        latencies.add(&done??);
    }
    Ok(Took { time: started.elapsed(), latencies })
}

/// The number of message `n` of a connection: no other has it.
pub(super) fn number(connection: u64, n: u64) -> u64 {
    connection << 40 | n
}

async fn publish_from(client: Client, connection: u64, load: Publishing) -> anyhow::Result<Latencies> {
    let publisher = client.publisher().await?;
    // Confirms are looked at as they come, by a task of its own: this one may wait for room meanwhile.
    let (unconfirmed, confirms) = mpsc::channel(load.window.max(1));
    let confirmed = tokio::spawn(confirm_all(confirms));
    let mut payloads = load.payloads.iter().cycle();
    for n in 0..load.messages {
        let Ok(room) = unconfirmed.reserve().await else { break };
        let payload = payloads.next().context("there is a payload")?.clone();
        let mut message = Message::new(load.topic.clone(), payload);
        if let Some(dress) = load.dress {
            dress(number(connection, n), &mut message);
        }
        let sent = (n % TIMED_EVERY == 0).then(Instant::now);
        room.send((sent, publisher.publish(message).await?));
    }
    drop(unconfirmed);
    confirmed.await?
}

/// Waits for each confirm in turn; until there will be none, or one fails.
async fn confirm_all(mut confirms: mpsc::Receiver<(Option<Instant>, Confirm)>) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::new();
    while let Some((sent, confirm)) = confirms.recv().await {
        confirm.await?;
        if let Some(sent) = sent {
            latencies.record(sent.elapsed());
        }
    }
    Ok(latencies)
}

/// Consumes and acks everything in `queue`, until the last ack is durable. Returns how many messages there were.
pub(super) async fn drain(
    connection: &Connection,
    queue: &str,
    connections: u64,
    prefetch: u32,
) -> anyhow::Result<(u64, Duration)> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(connection.client().await?);
    }
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for client in clients {
        let queue = queue.to_owned();
        tasks.spawn(async move {
            let options = ConsumeOptions { prefetch, until_empty: true, ..ConsumeOptions::default() };
            let mut consumer = client.consume(&queue, options).await?;
            let mut count = 0;
            while let Some(delivery) = consumer.next().await {
                drop(delivery.ack());
                count += 1;
            }
            consumer.flush().await;
            anyhow::Ok(count)
        });
    }
    let mut count = 0;
    while let Some(done) = tasks.join_next().await {
        count += done??;
    }
    Ok((count, started.elapsed()))
}

/// Consumes and acks `count` messages of `queue`, until the last ack is durable.
pub(super) async fn take(
    connection: &Connection,
    queue: &str,
    count: u64,
    prefetch: u32,
) -> anyhow::Result<Duration> {
    let client = connection.client().await?;
    let started = Instant::now();
    let options = ConsumeOptions { prefetch, limit: Some(count), ..ConsumeOptions::default() };
    let mut consumer = client.consume(queue, options).await?;
    for _ in 0..count {
        let delivery = consumer.next().await.context("the queue ended early")?;
        drop(delivery.ack());
    }
    consumer.flush().await;
    Ok(started.elapsed())
}

/// Publishes `rate` messages a second, each at its own moment whatever became of those before (so a stall of
/// the broker counts for every message that it delays), and consumes them: latency from that moment until the
/// consumer has it.
pub(super) async fn flow(
    connection: &Connection,
    topic: &Topic,
    queue: &str,
    rate: u64,
    messages: u64,
    size: usize,
) -> anyhow::Result<Took> {
    ensure!(size >= 8, "a message of a flow carries its time and has at least 8 bytes");
    let (producer, receiver) = (connection.client().await?, connection.client().await?);
    let mut consumer = receiver.consume(queue, ConsumeOptions::default()).await?;
    let started = Instant::now();
    let receiving = tokio::spawn(async move {
        let mut latencies = Latencies::new();
        for _ in 0..messages {
            let delivery = consumer.next().await.context("the flow ended early")?;
            let due = delivery.message.payload.get(..8).context("a message carries its time")?;
            let due = Duration::from_micros(u64::from_le_bytes(due.try_into()?));
            latencies.record(started.elapsed().saturating_sub(due));
            drop(delivery.ack());
        }
        consumer.flush().await;
        anyhow::Ok(latencies)
    });
    let publisher = producer.publisher().await?;
    let pause = Duration::from_secs(1) / u32::try_from(rate).unwrap_or(u32::MAX).max(1);
    for n in 0..messages {
        let due = pause * u32::try_from(n)?;
        if let Some(early) = due.checked_sub(started.elapsed()) {
            tokio::time::sleep(early).await;
        }
        let mut payload = BytesMut::with_capacity(size);
        payload.put_u64_le(u64::try_from(due.as_micros())?);
        payload.put_bytes(b'x', size - 8);
        drop(publisher.publish(Message::new(topic.clone(), payload.freeze())).await?);
    }
    publisher.flush().await?;
    let latencies = receiving.await??;
    Ok(Took { time: started.elapsed(), latencies })
}
