//! What a stage costs a message in CPU time, everything counted: making the batch, the hop to the guest's thread where
//! there is one, packing, the call, and the answers. `cargo run --release -p wharf-pipeline --example cost [BATCH]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use wharf_pipeline::{Engine, EngineConfig, Item, Pipeline, PipelineSpec, Processed};
use wharf_protocol::{HeadersBuilder, Message, Timestamp};

const PAYLOAD_BYTES: usize = 1024;
const ROUND: Duration = Duration::from_millis(300);
const ROUNDS: usize = 7;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::new(EngineConfig::default())?;
    let only = std::env::args().nth(1).map(|batch| batch.parse()).transpose()?;
    let cases = [
        ("header predicate", wharf_test_artifacts::GUEST_HEADERS_ONLY, "validator", "ok", ""),
        (
            "header predicate, fresh instance a batch",
            wharf_test_artifacts::GUEST_HEADERS_ONLY,
            "validator",
            "ok",
            "fresh = true",
        ),
        ("header predicate, payload read too", wharf_test_artifacts::GUEST, "validator", "ok", ""),
        ("identity transform, bytes emitted", wharf_test_artifacts::GUEST, "transformer", "identity", ""),
        ("identity transform, same body emitted", wharf_test_artifacts::GUEST, "transformer", "same", ""),
    ];
    println!("{PAYLOAD_BYTES} B payload, 6 headers; minimum of {ROUNDS} rounds, µs of CPU a message");
    for (what, component, kind, behaviour, more) in cases {
        let plugin = engine.load(&std::fs::read(component)?.into())?;
        let toml = format!("name = \"cost\"\n[[stage]]\nplugin = \"guest\"\nkind = \"{kind}\"\n{more}");
        let pipeline = engine.prepare(PipelineSpec::from_toml(&toml)?, vec![plugin])?;
        for messages in only.map_or(vec![1, 64, 4096], |batch: usize| vec![batch]) {
            println!("{what:<42} × {messages:>4}  {:.3}", cost_us(&pipeline, behaviour, messages));
        }
    }
    Ok(())
}

/// Through `Pipeline::run`, as the node does. A batch that is expected to take long, as 64 × 64 messages are, hops to a
/// guest's thread and back.
fn cost_us(pipeline: &Arc<Pipeline>, behaviour: &str, messages: usize) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let items: Vec<Item> = (0..messages).map(|_| item(behaviour)).collect();
    let round = || {
        let (start, cpu, mut done) = (Instant::now(), cpu_ns(), 0);
        while start.elapsed() < ROUND {
            let processed = runtime.block_on(pipeline.run(items.clone(), Timestamp(1)));
            assert!(processed.iter().all(|each| matches!(each, Processed::Passed(_))), "{processed:?}");
            done += processed.len();
        }
        (cpu_ns() - cpu) as f64 / 1e3 / done as f64
    };
    (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
}

/// What all threads of this process have used, from the scheduler's own count: a shared machine cannot blur it.
fn cpu_ns() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("this is Linux").flatten();
    let ns = tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    ns.sum()
}

fn item(behaviour: &str) -> Item {
    let mut message = Message::new("orders.eu.created".parse().expect("a topic"), vec![b'x'; PAYLOAD_BYTES]);
    let mut headers = HeadersBuilder::default();
    for name in ["content-type", "region", "tenant", "trace"] {
        headers.set(name, "some value");
    }
    message.headers = headers.set("behave", behaviour).set("last", "1").build().expect("small");
    Item::new(message)
}
