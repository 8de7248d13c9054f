//! Measures a quiet neighbour beside each beast: `cargo run --release -p wharf-zoo [PART OF A NAME]`.
//!
//! For each beast that is let in, the neighbour is timed alone and while the beast is fed without pause, in turns, so
//! that whatever else the machine does meets both alike. The columns are the 99th percentiles over all turns, and how
//! often one is the other; `calm` is the ratio of two halves of the time alone, which shows what the machine is worth.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use wharf_pipeline::{COMPILE_SUBCOMMAND, compile_plugin_main};
use wharf_zoo::cage::BAIT;
use wharf_zoo::{Beast, Cage, herd};

/// How long each half of a turn takes.
const HALF: Duration = Duration::from_millis(500);

/// How many turns each beast has.
const TURNS: usize = 4;

/// A neighbour's 99th percentile is to stay below so many times what it was.
const RATIO_MAX: f64 = 2.0;

fn main() -> anyhow::Result<ExitCode> {
    let argument = std::env::args().nth(1).unwrap_or_default();
    if argument == COMPILE_SUBCOMMAND {
        return Ok(compile_plugin_main());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(measure(&argument))?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(filter: &str) -> anyhow::Result<()> {
    let exe = std::env::current_exe()?;
    let cage = Cage::open(&exe.to_string_lossy()).await;
    println!(
        "{:<26} {:>10} {:>10} {:>6} {:>6}  {:>7} {:>9}",
        "beast", "alone p99", "beside p99", "ratio", "calm", "fed", "memory"
    );
    let (mut measured, mut within) = (0, 0);
    for beast in herd::all().into_iter().filter(|beast| beast.name.contains(filter)) {
        if cage.admit(&beast).await.is_err() {
            continue;
        }
        let Turns { alone, beside, fed } = take_turns(&cage, &beast).await;
        let calm = ratio(p99(&alone[..TURNS / 2].concat())?, p99(&alone[TURNS / 2..].concat())?);
        let (alone, beside) = (p99(&alone.concat())?, p99(&beside.concat())?);
        let ratio = ratio(alone, beside);
        measured += 1;
        within += u32::from(ratio < RATIO_MAX);
        let memory = wharf_node::resident_bytes().unwrap_or_default() >> 20;
        println!(
            "{:<26} {alone:>10.2?} {beside:>10.2?} {ratio:>6.2} {calm:>6.2}  {fed:>7} {memory:>5} MiB",
            beast.name
        );
    }
    println!("{within} of {measured} below {RATIO_MAX}");
    cage.close().await;
    Ok(())
}

/// The neighbour's times in each turn, and how many messages the beast answered.
struct Turns {
    alone: Vec<Vec<Duration>>,
    beside: Vec<Vec<Duration>>,
    fed: usize,
}

async fn take_turns(cage: &Cage, beast: &Beast) -> Turns {
    let mut turns = Turns { alone: Vec::new(), beside: Vec::new(), fed: 0 };
    for _ in 0..TURNS {
        cage.neighbour_times();
        tokio::time::sleep(HALF).await;
        turns.alone.push(cage.neighbour_times());
        turns.fed += feed(cage, beast).await;
        turns.beside.push(cage.neighbour_times());
    }
    turns
}

/// Bait without pause; how many messages were answered.
async fn feed(cage: &Cage, beast: &Beast) -> usize {
    let (start, mut fed) = (Instant::now(), 0);
    while start.elapsed() < HALF {
        fed += cage.feed(beast, &[BAIT; 16]).await.len();
    }
    fed
}

fn ratio(before: Duration, after: Duration) -> f64 {
    after.as_secs_f64() / before.as_secs_f64().max(f64::EPSILON)
}

fn p99(times: &[Duration]) -> anyhow::Result<Duration> {
    let mut histogram = Histogram::<u64>::new(3)?;
    for time in times {
        histogram.record(u64::try_from(time.as_micros())?)?;
    }
    Ok(Duration::from_micros(histogram.value_at_quantile(0.99)))
}
