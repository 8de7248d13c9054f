//! Measures a quiet neighbour beside each beast: `cargo run --release -p wharf-zoo [PART OF A NAME]`.
//!
//! For each beast that is let in, the neighbour is timed alone, beside a plugin that harms nobody, and beside the beast,
//! in turns, so that whatever else the machine does meets all alike. Both plugins are fed the same messages at the same
//! pace. The columns are medians of the turns' 99th percentiles, so that one pause of the machine decides nothing; `ratio`
//! is the beast's to that of the harmless plugin, and `calm` that of two halves of the time alone, which shows what the
//! machine is worth.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::time::{MissedTickBehavior, interval};
use wharf_pipeline::{COMPILE_SUBCOMMAND, compile_plugin_main};
use wharf_zoo::beast::Fate;
use wharf_zoo::cage::BAIT;
use wharf_zoo::{Beast, Cage, herd};

/// How long each part of a turn takes.
const PART: Duration = Duration::from_millis(500);

/// How many turns each beast has.
const TURNS: usize = 10;

/// How many messages come at once, how often.
const FED_AT_ONCE: usize = 16;
const FED_EVERY: Duration = Duration::from_millis(20);

/// What harms nobody, and lets everything pass.
const TAME: Beast = Beast::guest("harmless", "calm", "works as it should", Fate::Passes(1));

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
        "{:<26} {:>10} {:>10} {:>10} {:>6} {:>6}  {:>6} {:>9}",
        "beast", "alone p99", "harmless", "beast's", "ratio", "calm", "fed", "memory"
    );
    cage.admit(&TAME)
        .await
        .map_err(|(_, error)| anyhow::anyhow!("the harmless plugin is refused: {error}"))?;
    let (mut measured, mut within) = (0, 0);
    for beast in herd::all().into_iter().filter(|beast| beast.name.contains(filter)) {
        if cage.admit(&beast).await.is_err() {
            continue;
        }
        let Turns { alone, tame, beside, fed } = take_turns(&cage, &beast).await?;
        let calm = ratio(median(&alone[..TURNS / 2]), median(&alone[TURNS / 2..]));
        let [alone, tame, beside] = [&alone, &tame, &beside].map(|parts| median(parts));
        let ratio = ratio(tame, beside);
        measured += 1;
        within += u32::from(ratio < RATIO_MAX);
        let memory = wharf_node::resident_bytes().unwrap_or_default() >> 20;
        println!(
            "{:<26} {alone:>10.2?} {tame:>10.2?} {beside:>10.2?} {ratio:>6.2} {calm:>6.2}  {fed:>6} {memory:>5} MiB",
            beast.name
        );
    }
    println!("{within} of {measured} below {RATIO_MAX}");
    cage.close().await;
    Ok(())
}

/// The neighbour's 99th percentile in each turn, and how many messages the beast answered.
struct Turns {
    alone: Vec<Duration>,
    tame: Vec<Duration>,
    beside: Vec<Duration>,
    fed: usize,
}

async fn take_turns(cage: &Cage, beast: &Beast) -> anyhow::Result<Turns> {
    let mut turns = Turns { alone: Vec::new(), tame: Vec::new(), beside: Vec::new(), fed: 0 };
    for _ in 0..TURNS {
        cage.neighbour_times();
        tokio::time::sleep(PART).await;
        turns.alone.push(p99(&cage.neighbour_times())?);
        feed(cage, &TAME).await;
        turns.tame.push(p99(&cage.neighbour_times())?);
        turns.fed += feed(cage, beast).await;
        turns.beside.push(p99(&cage.neighbour_times())?);
    }
    Ok(turns)
}

/// Bait at a steady pace, which waits for who does not keep up; how many messages were answered.
async fn feed(cage: &Cage, beast: &Beast) -> usize {
    let (start, mut fed, mut pace) = (Instant::now(), 0, interval(FED_EVERY));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while start.elapsed() < PART {
        pace.tick().await;
        fed += cage.feed(beast, &[BAIT; FED_AT_ONCE]).await.len();
    }
    fed
}

fn ratio(before: Duration, after: Duration) -> f64 {
    after.as_secs_f64() / before.as_secs_f64().max(f64::EPSILON)
}

fn median(parts: &[Duration]) -> Duration {
    let mut sorted = parts.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

fn p99(times: &[Duration]) -> anyhow::Result<Duration> {
    let mut histogram = Histogram::<u64>::new(3)?;
    for time in times {
        histogram.record(u64::try_from(time.as_micros())?)?;
    }
    Ok(Duration::from_micros(histogram.value_at_quantile(0.99)))
}
