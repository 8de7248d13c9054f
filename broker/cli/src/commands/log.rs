//! `wharf log`: looks at a data folder while no broker uses it.

mod dump;
mod stats;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;
use wharf_log::{Finding, Inspected, Inspection, OpenError, Torn};

use crate::output::{self, Output};

/// Checks and shows what is on disk, while the broker is stopped
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf log verify
  wharf log stats --data /var/lib/wharf
  wharf log dump --from 4711 --to 4720 | jq .")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Verify(Verify),
    Stats(stats::Args),
    Dump(dump::Args),
}

/// Where to look.
#[derive(Debug, ClapArgs)]
struct Data {
    /// The broker's data folder, or the folder of one log in it
    #[arg(long, env = "WHARF_DATA", value_name = "DIR", default_value = "./wharf-data")]
    data: PathBuf,
}

/// Reads every byte that counts and tells what is wrong; nothing is changed
///
/// The exit code is 1 when something is damaged. A tail that a crash tore is no damage: it was never confirmed.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf log verify
  wharf log verify --data /var/lib/wharf -o json
  systemctl stop wharf; wharf log verify && systemctl start wharf")]
struct Verify {
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    output: Output,
}

/// What a log is like, for programs.
#[derive(Serialize)]
struct Verified {
    log: String,
    records: u64,
    first: u64,
    next: u64,
    snapshots: usize,
    torn: Option<String>,
    leftovers: usize,
    damage: Vec<Damage>,
}

#[derive(Serialize)]
struct Damage {
    file: String,
    byte: u64,
    record: u64,
    what: String,
    remedy: String,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Verify(args) => return verify(&args),
        Command::Stats(args) => stats::run(&args)?,
        Command::Dump(args) => dump::run(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(args: &Verify) -> anyhow::Result<ExitCode> {
    let mut all = Vec::new();
    for folder in args.data.logs()? {
        let found = open(&folder)?.verify(&mut |_, _| ())?;
        all.push(Verified::new(&folder, &found));
    }
    let rows = |log: &Verified| {
        let records = format!("{} in {}..{}", log.records, log.first, log.next);
        let state = if log.damage.is_empty() { "good" } else { "DAMAGED" };
        vec![log.log.clone(), records, log.snapshots.to_string(), state.to_owned()]
    };
    output::list(args.output, &all, &["LOG", "RECORDS", "SNAPSHOTS", "STATE"], rows)?;
    for log in &all {
        if let Some(torn) = &log.torn {
            output::note(format_args!("{torn}"));
        }
        for Damage { file, byte, record, what, remedy } in &log.damage {
            output::note(format_args!(
                "{file} is damaged at byte {byte} (record {record}): {what}; {remedy}"
            ));
        }
    }
    let good = all.iter().all(|log| log.damage.is_empty());
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Verified {
    fn new(folder: &Path, found: &Inspected) -> Self {
        let torn = |Torn { path, offset, index }: &Torn| {
            format!(
                "{}: a crash tore what follows byte {offset} (record {index}); it was never confirmed, and the \
                 next start cuts it",
                path.display()
            )
        };
        Self {
            log: folder.display().to_string(),
            records: found.segments.iter().map(|segment| segment.held).sum(),
            first: found.range().start,
            next: found.range().end,
            snapshots: found.snapshots.len(),
            torn: found.torn.as_ref().map(torn),
            leftovers: found.leftovers.len(),
            damage: found.findings.iter().map(Damage::from).collect(),
        }
    }
}

impl From<&Finding> for Damage {
    fn from(finding: &Finding) -> Self {
        let wharf_log::Damage { path, offset, index, what } = &finding.damage;
        Self {
            file: path.display().to_string(),
            byte: *offset,
            record: *index,
            what: what.clone(),
            remedy: finding.remedy.to_string(),
        }
    }
}

impl Data {
    /// The folders of the logs in it, in the order of their names.
    fn logs(&self) -> anyhow::Result<Vec<PathBuf>> {
        let is_log = |dir: &Path| dir.join("identity").is_file();
        if is_log(&self.data) {
            return Ok(vec![self.data.clone()]);
        }
        let shown = self.data.display();
        let entries = fs::read_dir(&self.data)
            .with_context(|| format!("cannot list {shown}; name the broker's data folder with --data"))?;
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| format!("cannot list {shown}"))?.path();
            let shard = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("shard-"));
            if shard && path.is_dir() {
                found.push(path);
            }
        }
        if found.is_empty() {
            bail!("{shown} holds no log; name the broker's data folder with --data");
        }
        found.sort();
        Ok(found)
    }
}

fn open(folder: &Path) -> anyhow::Result<Inspection> {
    match Inspection::open(folder) {
        Err(OpenError::InUse(_)) => {
            bail!("{} is in use by a broker; stop it first, or look at a copy", folder.display())
        }
        other => Ok(other?),
    }
}
