//! What a message costs in a queue where many wait already, beside what it costs in an empty one.
//!
//! The empty queue is another broker's, and measured between the rounds of the full one. What the machine asks for
//! memory that nobody used before, as the page cache of a log that only grows is, can be as much as all the broker
//! does for a message: measured first, the empty queue would not pay it.

use std::time::Instant;

use super::report::{Phase, micros};
use super::{Bench, Load, QUEUE, load, plain};
use crate::output;
use crate::own_broker::resident_bytes;

/// Messages that each measured step publishes and delivers.
const SAMPLE: u64 = 500_000;
/// How often each queue is measured, by turns.
const ROUNDS: usize = 5;

/// Fills a queue, publishes and delivers samples through it and through an empty one, by turns, and then kills the full
/// broker and starts it again.
pub(super) async fn run(load: &Load) -> anyhow::Result<()> {
    let mut deep = Bench::start(&load.broker)?;
    let empty = Bench::start(&load.broker)?;
    let idle = resident_bytes(deep.broker.pid())?;
    deep.publish("fill", &plain(load), None).await?;
    let full = resident_bytes(deep.broker.pid())?;

    let sample = Load { messages: SAMPLE.min(load.messages), ..load.clone() };
    let (mut in_empty, mut in_deep) = ([0.0; ROUNDS], [0.0; ROUNDS]);
    for round in 0..ROUNDS {
        in_empty[round] = step(&empty, &sample, ["empty in", "empty out"]).await?;
        in_deep[round] = step(&deep, &sample, ["deep in", "deep out"]).await?;
    }
    let (in_empty, in_deep) = (median(in_empty), median(in_deep));

    deep.broker.kill()?;
    let killed = Instant::now();
    deep.broker.start_again()?;
    let ready = killed.elapsed();
    let again = resident_bytes(deep.broker.pid())?;
    output::line(format_args!(
        "depth         {in_empty:.2} µs/msg in and out of the empty queue, {in_deep:.2} with {} waiting: {:.2} × (medians)",
        load.messages,
        in_deep / in_empty
    ))?;
    output::line(format_args!(
        "memory        {} MiB idle, {} MiB full, {} MiB after a restart of {:.2} s",
        idle >> 20,
        full >> 20,
        again >> 20,
        ready.as_secs_f64()
    ))
}

/// Publishes the sample and takes as many out: the broker's CPU in microseconds a message, both together.
async fn step(bench: &Bench, sample: &Load, [publish, deliver]: [&'static str; 2]) -> anyhow::Result<f64> {
    let published = bench.publish(publish, &plain(sample), None).await?;
    let before = bench.cpu()?;
    let took = load::take(bench.connection(), QUEUE, sample.messages, sample.window).await?;
    let cpu = bench.cpu()? - before;
    let messages = sample.messages;
    let phase = Phase { name: deliver, messages, took, broker_cpu: Some(cpu), latencies: None, floor: None };
    phase.print()?;
    Ok(published + micros(cpu, messages))
}

fn median(mut rounds: [f64; ROUNDS]) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}
