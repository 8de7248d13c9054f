//! `wharf status`.

use clap::Args as ClapArgs;
use wharf_admin::status::{PrincipalUse, Status};

use crate::admin::path;
use crate::connection::Connection;
use crate::output::{self, Output};
use crate::units::{show_bytes, show_count};

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
            format!(
                "{} in {}, last index {}",
                show_bytes(log.bytes),
                show_count(log.segments, "segment"),
                log.last_index
            ),
        ),
        ("memory", status.memory_bytes.map(show_bytes).unwrap_or_default()),
        ("alarm", status.alarm.clone().unwrap_or_else(|| "none".into())),
    ];
    let uses: Vec<_> = status.principals.iter().filter_map(principal).collect();
    let mut rows = rows;
    if !uses.is_empty() {
        rows.push(("principals", uses.join(", ")));
    }
    output::show(args.output, &status, rows)
}

/// What a principal uses of its quota, if it uses anything.
fn principal(each: &PrincipalUse) -> Option<String> {
    if each.connections == 0 && each.waits == 0 && each.queues == 0 {
        return None;
    }
    let mut uses = vec![show_count(each.connections.into(), "connection")];
    if each.waits > 0 {
        uses.push(format!("waited {} for its rate", show_count(each.waits, "time")));
    }
    if each.queues > 0 {
        uses.push(format!("made {} queues and streams", each.queues));
    }
    uses.extend(each.stored_bytes.map(|bytes| format!("{} in them", show_bytes(bytes))));
    Some(format!("{} ({})", each.name, uses.join(", ")))
}
