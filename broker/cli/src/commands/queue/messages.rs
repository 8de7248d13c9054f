//! `wharf queue peek`, `browse`, `move`; and what a transfer prints while it runs.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args as ClapArgs;
use tokio::signal::unix::{SignalKind, signal};
use wharf_admin::messages::{Move, Page, Place, Transfer, TransferState, Waiting};
use wharf_admin::page::PAGE_MAX;
use wharf_protocol::{Message, MessageId, QueueName};

use crate::admin::{Admin, path};
use crate::output::{self, Format, Output};
use crate::units::{self, show_bytes, show_count};

/// How long a request for the state of a transfer waits for its end.
const PATIENCE_MS: &str = "1000";

/// Shows the messages that consumers would get next, and leaves them where they are
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf queue peek orders
  wharf queue peek orders -n 10 -o json | jq -r '.[].message.payload'")]
pub(super) struct Peek {
    /// The queue
    queue: QueueName,
    /// At most this many
    #[arg(short, value_name = "N", default_value_t = 1)]
    n: usize,
    #[command(flatten)]
    output: Output,
}

/// Lists the messages of a queue, whatever becomes of them, oldest first; takes none
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf queue browse orders
  wharf queue browse orders --from 5000 -n 20
  wharf queue browse orders -o json | jq -r '.[] | select(.state == \"leased\") | .id'")]
pub(super) struct Browse {
    /// The queue
    queue: QueueName,
    /// The first offset
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: u64,
    /// At most this many
    #[arg(short, value_name = "N", default_value_t = 100)]
    n: usize,
    #[command(flatten)]
    output: Output,
}

/// Moves what waits in a queue to another, and tells how far it is; Ctrl-C stops it
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf queue move orders orders-repaired
  wharf queue move orders orders-eu --rate 100/s
  wharf queue move orders parked --limit 1000
  wharf queue move orders parked --id 4711-0 --id 4712-0")]
pub(super) struct MoveArgs {
    /// From where
    queue: QueueName,
    /// To where
    to: QueueName,
    /// Only these messages; may be given several times
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<MessageId>,
    /// At most this many, the oldest
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// At most so many in a time: `100/s`, `6000/m`
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    rate: Option<u32>,
}

pub(super) fn peek(args: &Peek, admin: &Admin) -> anyhow::Result<()> {
    let limit = args.n.to_string();
    let next: Vec<Waiting> =
        admin.get_with(&path(["v1", "queues", args.queue.as_str(), "next"]), &[("limit", &limit)])?;
    if args.output.output == Format::Json {
        return output::json(&next);
    }
    if next.is_empty() {
        output::note("none");
    }
    for waiting in &next {
        print(waiting)?;
    }
    Ok(())
}

pub(super) fn browse(args: &Browse, admin: &Admin) -> anyhow::Result<()> {
    let to = path(["v1", "queues", args.queue.as_str(), "messages"]);
    let (mut found, mut from) = (Vec::new(), Some(args.from));
    while let Some(first) = from.filter(|_| found.len() < args.n) {
        let limit = (args.n - found.len()).min(PAGE_MAX).to_string();
        let page: Page = admin.get_with(&to, &[("from", &first.to_string()), ("limit", &limit)])?;
        found.extend(page.items);
        from = page.next;
    }
    if let Some(from) = from {
        output::note(format_args!("there are more: --from {from}"));
    }
    let titles = ["OFFSET", "ID", "STATE", "STORED", "SIZE", "PRIORITY", "ATTEMPTS"];
    output::list(args.output, &found, &titles, |each| {
        let state = match (each.state, &each.until) {
            (Place::Ready, _) => "ready".to_owned(),
            (Place::Leased, _) => "leased".to_owned(),
            (Place::Delayed, until) => format!("until {}", until.as_deref().unwrap_or("?")),
        };
        let (size, priority) = (show_bytes(each.bytes.into()), each.priority.to_string());
        let (offset, attempts) = (each.offset.to_string(), each.attempts.to_string());
        vec![offset, each.id.clone(), state, each.stored_at.clone(), size, priority, attempts]
    })
}

pub(super) fn move_messages(args: MoveArgs, admin: &Admin) -> anyhow::Result<()> {
    let ids = args.ids.iter().map(ToString::to_string).collect();
    let order = Move { to: args.to, ids, limit: args.limit, per_second: args.rate };
    let begun: Transfer = admin.post(&path(["v1", "queues", args.queue.as_str(), "move"]), &order)?;
    follow(admin, begun, "moved")
}

/// Tells of a transfer until its end; an interrupt stops it.
pub(crate) fn follow(admin: &Admin, begun: Transfer, done: &str) -> anyhow::Result<()> {
    let interrupted = interrupts()?;
    let at = path(["v1", "queues", &begun.queue, "transfer"]);
    let mut transfer = begun;
    while transfer.state == TransferState::Running {
        transfer = match interrupted.recv_timeout(Duration::ZERO) {
            Ok(()) => admin.delete_for(&at)?,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                admin.get_with(&at, &[("wait_ms", PATIENCE_MS)])?
            }
        };
        if transfer.state == TransferState::Running {
            output::note(format_args!("{} {done}…", transfer.moved));
        }
    }
    if transfer.died_again > 0 {
        let died = transfer.died_again;
        output::note(format_args!("{died} died again: a pipeline gave them up once more (`wharf dlq ls`)"));
    }
    if transfer.kept > 0 {
        let kept = transfer.kept;
        let refused = transfer.why.map(|why| format!("; or they were refused on their way, the last: {why}"));
        output::note(format_args!(
            "{kept} stay: a consumer holds them, or there is no queue or no room where they were to go{}",
            refused.unwrap_or_default()
        ));
    }
    if transfer.looping > 0 {
        let looping = transfer.looping;
        output::note(format_args!("{looping} stay: redriven often enough; --force sends them all the same"));
    }
    let stopped = if transfer.state == TransferState::Stopped { ", then stopped" } else { "" };
    output::line(format_args!("{} {done}{stopped}", show_count(transfer.moved, "message")))?;
    match transfer.problem {
        Some(problem) => bail!("it could not go on: {problem}"),
        None => Ok(()),
    }
}

/// A word for each SIGINT, from a thread of its own.
fn interrupts() -> anyhow::Result<Receiver<()>> {
    let (tell, told) = channel();
    let runtime = crate::commands::runtime()?;
    let mut interrupt = runtime.block_on(async { signal(SignalKind::interrupt()) }).context("signals")?;
    std::thread::spawn(move || {
        // Nobody listens any more: the command has ended.
        while runtime.block_on(interrupt.recv()).is_some() && tell.send(()).is_ok() {}
    });
    Ok(told)
}

/// A line about the message, its headers, its payload.
fn print(waiting: &Waiting) -> anyhow::Result<()> {
    let Some(message) = waiting.message.clone() else {
        return output::line(format_args!(
            "{} ({}, too large to show)",
            waiting.id,
            show_bytes(waiting.bytes.into())
        ));
    };
    let message = Message::try_from(message)?;
    let attempts =
        if waiting.attempts == 0 { String::new() } else { format!("  after {} attempts", waiting.attempts) };
    output::line(format_args!("{} {}  offset {}{attempts}", waiting.id, message.topic, waiting.offset))?;
    for (name, value) in message.headers.iter() {
        output::line(format_args!("  {name}: {}", String::from_utf8_lossy(value)))?;
    }
    output::line(String::from_utf8_lossy(&message.payload))
}
