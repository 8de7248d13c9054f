//! `wharf bench`: how fast, at what cost, against what floor.

mod depth;
mod fair;
mod floor;
mod load;
mod queues;
mod report;
mod stages;
mod streams;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use serde_json::{Value, json};
use tempfile::TempDir;
use wharf_client::Topic;

use crate::admin::path;
use crate::connection::Connection;
use crate::orders::Order;
use crate::output;
use crate::own_broker::{OwnBroker, cpu_time, resident_bytes};
use load::Publishing;
use report::Phase;

pub(crate) use floor::sink;

const QUEUE: &str = "bench";
const TOPIC: &str = "bench";

/// Measures a broker: rates, latencies, and CPU time a message
///
/// It starts a broker in another process, with its data in a temporary folder. Rates drift with the load of the
/// machine; compare CPU time a message, and the ratio to the floors: a bare QUIC stream of the same bytes and a bare
/// log of the same records, measured in the same run.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf bench publish
  wharf bench drain --messages 1000000
  wharf bench flow --rate 5000
  wharf bench pipeline --messages 100000
  wharf bench restart --messages 1000000
  wharf bench publish --durability os --size 128 --connections 4 --data /mnt/disk")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Publish and wait for every confirm
    #[command(after_help = "Examples:\n  wharf bench publish --window 1024")]
    Publish(Load),
    /// Fill a queue, then consume and ack all of it
    #[command(after_help = "Examples:\n  wharf bench drain --messages 1000000")]
    Drain(Load),
    /// Publish at a steady rate and consume: latency end to end
    #[command(after_help = "Examples:\n  wharf bench flow --rate 5000 --seconds 10")]
    Flow(Flow),
    /// Publish XML orders through `xml-to-json`, and run the same code natively; then as `stages`
    #[command(after_help = "Examples:\n  wharf bench pipeline --messages 100000")]
    Pipeline(Load),
    /// Run stages without a broker: batches, fresh instances, three in a row, native code; loading; idle memory
    #[command(after_help = "Examples:\n  wharf bench stages")]
    Stages,
    /// Fill a queue, kill the broker, start it again: memory and time
    #[command(after_help = "Examples:\n  wharf bench restart --messages 1000000")]
    Restart(Load),
    /// Publish to one queue, and to ten
    #[command(after_help = "Examples:\n  wharf bench fanout --messages 100000")]
    Fanout(Load),
    /// Publish and consume with 32 priorities
    #[command(after_help = "Examples:\n  wharf bench priority --messages 500000")]
    Priority(Load),
    /// Publish and consume in order by a thousand keys
    #[command(after_help = "Examples:\n  wharf bench keys --messages 500000")]
    Keys(Load),
    /// Produce to a stream, read all of it, and again as a group
    #[command(after_help = "Examples:\n  wharf bench streams --messages 1000000")]
    Streams(Load),
    /// Publish with message ids, and the same again
    #[command(after_help = "Examples:\n  wharf bench dedup --messages 500000")]
    Dedup(Load),
    /// Nine quiet tenants and one that floods: how long each waits, in a fair queue and in one that is not
    #[command(after_help = "Examples:\n  wharf bench fair --seconds 10")]
    Fair(fair::Fair),
    /// Fill a queue and compare what a message costs then with what it costs in an empty one
    #[command(after_help = "Examples:\n  wharf bench depth --messages 10000000 --data /mnt/disk")]
    Depth(Load),
}

#[derive(Clone, Debug, ClapArgs)]
struct Load {
    /// Bytes of payload
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// How many messages
    #[arg(long, default_value_t = 500_000)]
    messages: u64,
    /// Unconfirmed messages a connection, or unacked ones
    #[arg(long, default_value_t = 4096)]
    window: u32,
    /// Connections
    #[arg(long, default_value_t = 1)]
    connections: u64,
    #[command(flatten)]
    broker: Broker,
}

#[derive(Clone, Debug, ClapArgs)]
struct Flow {
    /// Messages a second
    #[arg(long, default_value_t = 5000)]
    rate: u64,
    /// For how long
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Bytes of payload
    #[arg(long, default_value_t = 1024)]
    size: usize,
    #[command(flatten)]
    broker: Broker,
}

#[derive(Clone, Debug, ClapArgs)]
struct Broker {
    /// What a confirm promises
    #[arg(long, value_enum, default_value_t = Durability::Fsync)]
    durability: Durability,
    /// In which folder to make the temporary one: choose the disk to measure
    #[arg(long, value_name = "DIR")]
    data: Option<std::path::PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Durability {
    /// The disk has it
    Fsync,
    /// The operating system has it
    Os,
    /// The broker has it
    Memory,
}

/// A broker to measure, and the folder that goes with it.
struct Bench {
    broker: OwnBroker,
    folder: TempDir,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        match args.what {
            What::Publish(load) => publish(&load).await,
            What::Drain(load) => drain(&load).await,
            What::Flow(flow) => steady_flow(&flow).await,
            What::Pipeline(load) => pipeline(&load).await,
            What::Stages => measure_stages().await,
            What::Restart(load) => restart(&load).await,
            What::Fanout(load) => queues::fan_out(&load).await,
            What::Priority(load) => queues::priority(&load).await,
            What::Keys(load) => queues::keys(&load).await,
            What::Streams(load) => streams::run(&load).await,
            What::Dedup(load) => queues::dedup(&load).await,
            What::Fair(fair) => fair::run(&fair).await,
            What::Depth(load) => depth::run(&load).await,
        }
    })
}

async fn publish(load: &Load) -> anyhow::Result<()> {
    let bench = Bench::start(&load.broker)?;
    let floor = bench.floors(load).await?;
    bench.publish("publish", &plain(load), Some(floor)).await?;
    Ok(())
}

async fn drain(load: &Load) -> anyhow::Result<()> {
    let bench = Bench::start(&load.broker)?;
    let floor = bench.floors(load).await?;
    bench.publish("publish", &plain(load), Some(floor)).await?;
    let before = bench.cpu()?;
    let (messages, took) = load::drain(bench.connection(), QUEUE, load.connections, load.window).await?;
    let cpu = bench.cpu()? - before;
    let phase =
        Phase { name: "drain", messages, took, broker_cpu: Some(cpu), latencies: None, floor: Some(floor) };
    phase.print()
}

async fn steady_flow(flow: &Flow) -> anyhow::Result<()> {
    let bench = Bench::start(&flow.broker)?;
    let messages = flow.rate * flow.seconds;
    let before = bench.cpu()?;
    let topic: Topic = TOPIC.parse()?;
    let took = load::flow(bench.connection(), &topic, QUEUE, flow.rate, messages, flow.size).await?;
    let cpu = Some(bench.cpu()? - before);
    let latencies = Some(&took.latencies);
    Phase { name: "flow", messages, took: took.time, broker_cpu: cpu, latencies, floor: None }.print()
}

async fn pipeline(load: &Load) -> anyhow::Result<()> {
    let bench = Bench::start(&load.broker)?;
    let orders: Vec<String> = (0..256).map(|number| Order { number, bytes_min: load.size }.xml()).collect();
    let publishing =
        Publishing { payloads: orders.iter().map(|xml| Bytes::from(xml.clone())).collect(), ..plain(load) };
    let plain = bench.publish("plain", &publishing, None).await?;
    let spec = "name = \"bench\"\ningress = \"bench\"\n[[stage]]\nplugin = \"xml-to-json\"\n";
    let to = path(["v1", "pipelines", "bench"]);
    let _: Value = bench.connection().admin()?.put_bytes(&to, &[], "application/toml", spec.as_bytes())?;
    let piped = bench.publish("pipeline", &publishing, None).await?;

    let config = xml_to_json::Config::default();
    let native = floor::native(load.messages.min(100_000), |n| {
        let xml = &orders[usize::try_from(n)? % orders.len()];
        let json = xml_to_json::convert(xml, &config).map_err(|problem| anyhow::anyhow!("{problem:?}"))?;
        std::hint::black_box(json);
        Ok(())
    })?;
    let stage = piped - plain;
    let native = native.as_secs_f64() * 1e6;
    output::line(format_args!(
        "xml-to-json   in the broker {stage:.2} µs/msg, native {native:.2} µs/msg: {:.2} × native",
        stage / native
    ))?;
    drop(bench);
    measure_stages().await
}

async fn measure_stages() -> anyhow::Result<()> {
    tokio::task::spawn_blocking(stages::run).await?
}

async fn restart(load: &Load) -> anyhow::Result<()> {
    let mut bench = Bench::start(&load.broker)?;
    let idle = resident_bytes(bench.broker.pid())?;
    bench.publish("publish", &plain(load), None).await?;
    let full = resident_bytes(bench.broker.pid())?;
    bench.broker.kill()?;
    let killed = Instant::now();
    bench.broker.start_again()?;
    let ready = killed.elapsed();
    let queue: Value = bench.connection().admin()?.get(&path(["v1", "queues", QUEUE]))?;
    let again = resident_bytes(bench.broker.pid())?;
    output::line(format_args!(
        "restart    {} messages there again {:.2} s after SIGKILL  memory: {} MiB idle, {} MiB full, {} MiB after",
        queue["ready"],
        ready.as_secs_f64(),
        idle >> 20,
        full >> 20,
        again >> 20
    ))
}

impl Bench {
    fn start(options: &Broker) -> anyhow::Result<Self> {
        let folder = match &options.data {
            Some(parent) => TempDir::new_in(parent),
            None => TempDir::new(),
        };
        let folder = folder.context("making a temporary folder")?;
        output::note("starting a broker…");
        let broker = OwnBroker::start(folder.path())?;
        let admin = broker.connection().admin()?;
        let policy = json!({ "durability": options.durability.word() });
        let _: Value = admin.put(&path(["v1", "queues", QUEUE]), &policy)?;
        let _: Value = admin.post(&path(["v1", "bindings"]), &json!({ "pattern": TOPIC, "queue": QUEUE }))?;
        Ok(Self { broker, folder })
    }

    fn connection(&self) -> &Connection {
        self.broker.connection()
    }

    fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_time(self.broker.pid())
    }

    /// The two floors together, a message.
    async fn floors(&self, load: &Load) -> anyhow::Result<Duration> {
        output::note("measuring the floors…");
        let quic = floor::quic(load.size, load.messages).await?;
        let (folder, load) = (self.folder.path().join("floor"), load.clone());
        let log = tokio::task::spawn_blocking(move || log_floor(&folder, &load)).await??;
        output::line(format_args!(
            "floors        a bare QUIC stream {:.2} µs/msg, a bare log {:.2} µs/msg",
            quic.as_secs_f64() * 1e6,
            log.as_secs_f64() * 1e6
        ))?;
        Ok(quic + log)
    }

    /// Publishes, prints the line, and returns the broker's CPU in microseconds a message.
    async fn publish(&self, name: &str, load: &Publishing, floor: Option<Duration>) -> anyhow::Result<f64> {
        let before = self.cpu()?;
        let took = load::publish(self.connection(), load).await?;
        let cpu = self.cpu()? - before;
        let phase = Phase {
            name,
            messages: load.messages,
            took: took.time,
            broker_cpu: Some(cpu),
            latencies: Some(&took.latencies),
            floor,
        };
        phase.print()?;
        Ok(report::micros(cpu, load.messages))
    }
}

fn plain(load: &Load) -> Publishing {
    Publishing {
        topic: TOPIC.parse().expect("the constant is a topic"),
        payloads: vec![Bytes::from(vec![b'x'; load.size])],
        messages: load.messages,
        connections: load.connections.max(1),
        window: load.window.max(1) as usize,
        dress: None,
    }
}

fn log_floor(folder: &Path, load: &Load) -> anyhow::Result<Duration> {
    floor::log(folder, load.size, load.messages, load.broker.durability.of_the_log())
}

impl Durability {
    fn word(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Os => "os",
            Self::Memory => "memory",
        }
    }

    fn of_the_log(self) -> wharf_log::Durability {
        match self {
            Self::Fsync => wharf_log::Durability::Fsync,
            Self::Os => wharf_log::Durability::Os,
            Self::Memory => wharf_log::Durability::Memory,
        }
    }
}
