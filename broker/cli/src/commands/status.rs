//! `wharf status`.

use clap::Args as ClapArgs;
use wharf_admin::status::Status;

use crate::admin::path;
use crate::connection::Connection;
use crate::output::{self, Output};
use crate::units::show_bytes;

/// Shows how the broker is
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf status
  wharf status -o json | jq .messages")]
pub(crate) struct Args {
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(args: Args, connection: &Connection) -> anyhow::Result<()> {
    let status: Status = connection.admin()?.get(&path(["v1", "status"]))?;
    let log = &status.log;
    let rows = vec![
        ("version", status.version.clone()),
        ("started", status.started_at.clone()),
        ("data", status.data.clone()),
        ("queues", status.queues.to_string()),
        ("messages", status.messages.to_string()),
        (
            "log",
            format!("{} in {} segments, last index {}", show_bytes(log.bytes), log.segments, log.last_index),
        ),
        ("memory", status.memory_bytes.map(show_bytes).unwrap_or_default()),
        ("alarm", status.alarm.clone().unwrap_or_else(|| "none".into())),
    ];
    let principals = status.principals.iter().filter(|each| each.connections > 0 || each.waits > 0);
    let uses: Vec<_> = principals
        .map(|each| match each.waits {
            0 => format!("{} ({} connections)", each.name, each.connections),
            waits => {
                format!("{} ({} connections, waited {waits} times for its rate)", each.name, each.connections)
            }
        })
        .collect();
    let mut rows = rows;
    if !uses.is_empty() {
        rows.push(("principals", uses.join(", ")));
    }
    output::show(args.output, &status, rows)
}
