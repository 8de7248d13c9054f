//! Measures a quiet neighbour beside each beast: `cargo run --release -p wharf-zoo [PART OF A NAME]`.
//!
//! For each beast that is let in, the neighbour is timed alone, then while the beast is fed without pause. The
//! columns are the 99th percentiles of both, in the same run, and how often one is the other.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use wharf_pipeline::{COMPILE_SUBCOMMAND, compile_plugin_main};
use wharf_zoo::cage::BAIT;
use wharf_zoo::{Beast, Cage, herd};

/// How long each half of a measurement takes.
const HALF: Duration = Duration::from_secs(2);

/// The issue asks that the neighbour's 99th percentile stays below so many times what it was.
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
        "{:<22} {:>12} {:>12} {:>7}  {:>9} {:>9}",
        "beast", "alone p99", "beside p99", "ratio", "fed", "memory"
    );
    let (mut measured, mut within) = (0, 0);
    for beast in herd::all().into_iter().filter(|beast| beast.name.contains(filter)) {
        if cage.admit(&beast).await.is_err() {
            continue;
        }
        cage.neighbour_times();
        tokio::time::sleep(HALF).await;
        let alone = p99(&cage.neighbour_times())?;
        let fed = feed(&cage, &beast).await;
        let beside = p99(&cage.neighbour_times())?;
        let ratio = beside.as_secs_f64() / alone.as_secs_f64().max(f64::EPSILON);
        measured += 1;
        within += u32::from(ratio < RATIO_MAX);
        let memory = wharf_node::resident_bytes().unwrap_or_default() >> 20;
        println!("{:<22} {alone:>12.2?} {beside:>12.2?} {ratio:>7.2}  {fed:>9} {memory:>5} MiB", beast.name);
    }
    println!("{within} of {measured} below {RATIO_MAX}");
    cage.close().await;
    Ok(())
}

/// Bait without pause; how many messages were answered.
async fn feed(cage: &Cage, beast: &Beast) -> usize {
    let (start, mut fed) = (Instant::now(), 0);
    while start.elapsed() < HALF {
        fed += cage.feed(beast, &[BAIT; 16]).await.len();
    }
    fed
}

fn p99(times: &[Duration]) -> anyhow::Result<Duration> {
    let mut histogram = Histogram::<u64>::new(3)?;
    for time in times {
        histogram.record(u64::try_from(time.as_micros())?)?;
    }
    Ok(Duration::from_micros(histogram.value_at_quantile(0.99)))
}
