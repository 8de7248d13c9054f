//! What a message costs in a queue where many wait already, beside what it costs in an empty one.

use std::time::Instant;

use super::report::{Phase, micros};
use super::{Bench, Load, QUEUE, load, plain};
use crate::output;
use crate::own_broker::resident_bytes;

/// Messages that each measured step publishes and delivers.
const SAMPLE: u64 = 500_000;

/// Publishes and delivers a sample through an empty queue, fills the queue, does it again, and then kills the
/// broker and starts it again.
pub(super) async fn run(load: &Load) -> anyhow::Result<()> {
    let mut bench = Bench::start(&load.broker)?;
    let idle = resident_bytes(bench.broker.pid())?;
    let sample = Load { messages: SAMPLE.min(load.messages), ..load.clone() };
    let empty = step(&bench, &sample, ["empty in", "empty out"]).await?;
    bench.publish("fill", &plain(load), None).await?;
    let full = resident_bytes(bench.broker.pid())?;
    let deep = step(&bench, &sample, ["deep in", "deep out"]).await?;
    bench.broker.kill()?;
    let killed = Instant::now();
    bench.broker.start_again()?;
    let ready = killed.elapsed();
    let again = resident_bytes(bench.broker.pid())?;
    output::line(format_args!(
        "depth         {:.2} µs/msg in and out of the empty queue, {:.2} with {} waiting: {:.2} ×",
        empty,
        deep,
        load.messages,
        deep / empty
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
