//! `wharf-checker`: runs the checks for as long as asked, and prints what they found.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use wharf_checker::{Plan, Report, crash, damage, faults, fuzz, golden, kill, model};

/// Crashes, breaks, damages and kills Wharf, and tells whether it kept its promises.
///
/// Exits with 1 when one was broken, and prints what repeats the case.
#[derive(Debug, Parser)]
#[command(name = "wharf-checker", version)]
struct Arguments {
    /// Which check.
    #[arg(value_enum)]
    check: Check,
    /// How many cases; each check has a default that takes a few minutes, and that of `damage` is all of one seed.
    #[arg(long)]
    cases: Option<u64>,
    /// What chances are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this operation, byte or place of the seed's run.
    #[arg(long)]
    at: Option<u64>,
    /// The `wharf` binary, for the checks that run it [default: beside this one].
    #[arg(long, env = "WHARF_BINARY")]
    wharf: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Check {
    /// A crash at every operation of the disk, and again in recovery (cases are points).
    Crash,
    /// Every operation of the disk fails, once or for good (cases are operations).
    Faults,
    /// Every byte of a data folder flipped, every file cut off at every byte (cases are damages, those of the next seeds'
    /// folders too; without --cases, each damage to the one folder of the seed).
    Damage,
    /// Frames, records and snapshots changed at random (cases are executions, shared by the three).
    Fuzz,
    /// Random commands against a naive model (cases are histories).
    Model,
    /// Folders of released versions still open and are what they were.
    Replay,
    /// Writes a golden folder of this version, where there is none.
    GoldenWrite,
    /// Faults of our own, planted one at a time, are caught (needs `--features seeded`).
    Seeded,
    /// Threads that share a lock, in many orders of their turns (needs `--features interleave`; cases are orders of each
    /// of two schedulers, for each of two subjects).
    Interleave,
    /// All but those that need the binary or a build of their own, each for its default of cases.
    All,
    /// The real binary under load, killed at random times (cases are kills).
    Kill,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let kept = arguments.run()?;
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Arguments {
    /// Runs what was asked for; false when a promise was broken.
    fn run(&self) -> Result<bool> {
        let Self { seed, .. } = *self;
        let plan = |cases| Plan { only: self.at, ..Plan::new(self.cases.unwrap_or(cases), seed) };
        if cfg!(feature = "interleave") && self.check != Check::Interleave {
            anyhow::bail!("the locks of this build are a scheduler's: it runs `interleave` alone");
        }
        match self.check {
            Check::Crash => told(crash::run(&plan(20_000))?),
            Check::Faults => told(faults::run(&plan(20_000))?),
            Check::Damage => {
                let whole = Plan { only: self.at, ..Plan::whole(seed) };
                told(damage::run(&self.cases.map_or(whole, plan))?)
            }
            Check::Fuzz => told(fuzz::run(&plan(3_000_000))?),
            Check::Model => told(model::run(&plan(20_000))?),
            Check::Kill => {
                let binary = self.binary()?;
                told(kill::run(&kill::Options { binary, cycles: self.cases.unwrap_or(50), seed })?)
            }
            Check::All => {
                let mut kept = told(model::run(&plan(20_000))?)?;
                kept &= told(crash::run(&plan(20_000))?)?;
                kept &= told(faults::run(&plan(20_000))?)?;
                kept &= told(damage::run(&plan(20_000))?)?;
                Ok(replay()? && kept)
            }
            Check::Replay => replay(),
            Check::GoldenWrite => {
                let version = env!("CARGO_PKG_VERSION");
                let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(version);
                golden::write(&folder, seed)?;
                println!("{}", folder.display());
                Ok(true)
            }
            Check::Seeded => seeded(seed),
            Check::Interleave => interleave(&plan(50_000)),
        }
    }

    fn binary(&self) -> Result<PathBuf> {
        if let Some(binary) = &self.wharf {
            return Ok(binary.clone());
        }
        let beside = std::env::current_exe()?.with_file_name("wharf");
        beside
            .canonicalize()
            .context("there is no wharf beside this program; build it, or name it with --wharf")
    }
}

fn told(report: Report) -> Result<bool> {
    print!("{report}");
    Ok(report.violations.is_empty())
}

fn replay() -> Result<bool> {
    for folder in golden::folders()? {
        golden::check(&folder)?;
        println!("replay       {} is what it was", folder.display());
    }
    Ok(true)
}

#[cfg(feature = "seeded")]
fn seeded(seed: u64) -> Result<bool> {
    let table = wharf_checker::seeded::run(seed)?;
    print!("{table}");
    Ok(table.caught() == table.0.len())
}

#[cfg(not(feature = "seeded"))]
fn seeded(_: u64) -> Result<bool> {
    anyhow::bail!(
        "this build has no faults to plant: cargo run --release -p wharf-checker --features seeded -- seeded"
    )
}

#[cfg(feature = "interleave")]
fn interleave(plan: &Plan) -> Result<bool> {
    told(wharf_checker::interleave::run(plan)?)
}

#[cfg(not(feature = "interleave"))]
fn interleave(_: &Plan) -> Result<bool> {
    anyhow::bail!(
        "this build's locks are the system's: cargo run --release -p wharf-checker --features interleave -- interleave"
    )
}
