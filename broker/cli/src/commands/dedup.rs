//! `wharf dedup`.

use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};
use wharf_admin::dedup::{Dedup, SetDedup};

use crate::admin::path;
use crate::connection::Connection;
use crate::output::{self, Output};
use crate::units;

/// Shows and sets how long message ids are remembered
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(Show),
    Set(Set),
}

/// Shows the window, and how many message ids are remembered
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf dedup show")]
struct Show {
    #[command(flatten)]
    output: Output,
}

/// Sets the window; what is beyond it is forgotten at once
#[derive(Debug, ClapArgs)]
#[command(
    group = clap::ArgGroup::new("what").required(true).multiple(true),
    after_help = "\
Examples:
  wharf dedup set --window 1h --max 5000000
  wharf dedup set --window 10m

A second message with the same topic and id, within the window, is stored once. A remembered id takes about 60 bytes of
memory."
)]
struct Set {
    /// How long a message id is remembered
    #[arg(long, value_name = "DURATION", value_parser = units::duration, group = "what")]
    window: Option<Duration>,
    /// How many are remembered at most
    #[arg(long, value_name = "N", group = "what")]
    max: Option<u64>,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(args: Args, connection: &Connection) -> anyhow::Result<()> {
    let admin = connection.admin()?;
    let at = path(["v1", "dedup"]);
    let (dedup, how): (Dedup, Output) = match args.command {
        Command::Show(show) => (admin.get(&at)?, show.output),
        Command::Set(set) => {
            let window_ms = set.window.map(|window| u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
            (admin.put(&at, &SetDedup { window_ms, max: set.max })?, set.output)
        }
    };
    let rows = vec![
        ("window", units::show_duration(dedup.window_ms)),
        ("at most", dedup.max.to_string()),
        ("remembered", dedup.remembered.to_string()),
    ];
    output::show(how, &dedup, rows)
}
