//! `wharf-checker`: runs the checks for as long as asked, and prints what they found.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use wharf_checker::{Plan, Report, crash, kill};

/// Crashes, breaks, damages and kills Wharf, and tells whether it kept its promises.
///
/// Exits with 1 when one was broken, and prints what repeats the case.
#[derive(Debug, Parser)]
#[command(name = "wharf-checker", version)]
struct Arguments {
    /// Which check.
    #[arg(value_enum)]
    check: Check,
    /// How many cases; each check has a default that takes about a minute.
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
    /// The real binary under load, killed at random times (cases are kills).
    Kill,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let report = arguments.run()?;
    print!("{report}");
    Ok(if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Arguments {
    fn run(&self) -> Result<Report> {
        let Self { seed, .. } = *self;
        let plan = |cases| Plan { only: self.at, ..Plan::new(self.cases.unwrap_or(cases), seed) };
        match self.check {
            Check::Crash => crash::run(&plan(20_000)),
            Check::Kill => {
                kill::run(&kill::Options { binary: self.binary()?, cycles: self.cases.unwrap_or(50), seed })
            }
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
