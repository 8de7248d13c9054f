//! `wharf queue`.

pub(super) mod messages;
mod policy;

use clap::{Args as ClapArgs, Subcommand};
use policy::Flags;
use serde_json::Map;
use wharf_admin::queue::{Count, Queue};
use wharf_protocol::QueueName;

use crate::admin::path;
use crate::connection::Connection;
use crate::output::{self, Output};
use crate::units::{show_bytes, show_count};

/// Makes, shows and removes queues
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf queue add orders
  wharf queue ls")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Add(Add),
    Set(Set),
    Ls(List),
    Show(Show),
    Peek(messages::Peek),
    Browse(messages::Browse),
    Move(messages::MoveArgs),
    Purge(Purge),
    Rm(Remove),
}

/// Makes a queue; one that exists with the same policy is left as it is
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf queue add orders
  wharf queue add orders --lease 2m --max-attempts 5 --dead-letter orders-dead
  wharf queue add clicks --durability os --max-bytes 1GiB --overflow drop-oldest
  wharf queue add invoices --order key --retry linear:1s..1m
  wharf queue add tasks --fair-by tenant --ttl 1h
  wharf queue add replies-7 --exclusive --expires 10m

`wharf queue set` changes the policy of a queue that is there.")]
struct Add {
    /// Its name
    queue: QueueName,
    #[command(flatten)]
    policy: Flags,
}

/// Changes what is given of a queue's policy, for the messages that wait too
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf queue set orders --lease 5m --max-attempts 5
  wharf queue set orders --max-bytes 1GiB --overflow dead-letter
  wharf queue set orders --ttl none --single-active=false

What messages are sorted by (--order, --fair-by) can be changed while the queue is empty.")]
struct Set {
    /// Its name
    queue: QueueName,
    #[command(flatten)]
    policy: Flags,
}

/// Lists the queues
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf queue ls
  wharf queue ls -o json | jq '.[] | select(.ready > 0) | .name'")]
struct List {
    #[command(flatten)]
    output: Output,
}

/// Shows a queue
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf queue show orders
  wharf queue show orders -o json")]
struct Show {
    /// Its name
    queue: QueueName,
    #[command(flatten)]
    output: Output,
}

/// Drops every message of a queue that no consumer holds
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf queue purge orders")]
struct Purge {
    /// Its name
    queue: QueueName,
}

/// Removes a queue with its messages and bindings
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf queue rm orders")]
struct Remove {
    /// Its name
    queue: QueueName,
}

pub(crate) fn run(args: Args, connection: &Connection) -> anyhow::Result<()> {
    let admin = connection.admin()?;
    match args.command {
        Command::Add(add) => {
            let queue: Queue = admin.put(&path(["v1", "queues", add.queue.as_str()]), &add.policy.given())?;
            output::line(format_args!("queue {} is there", queue.name))
        }
        Command::Set(set) => {
            let given = set.policy.given();
            anyhow::ensure!(
                !given.is_empty(),
                "nothing to change; `wharf queue set --help` lists what can be"
            );
            let queue: Queue = admin.patch(&path(["v1", "queues", set.queue.as_str()]), &given)?;
            let shown = policy::rows(&queue.policy);
            let shown: Vec<String> =
                shown.into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
            let shown = if shown.is_empty() { "every default".into() } else { shown.join(", ") };
            output::line(format_args!("queue {} has {shown}", queue.name))
        }
        Command::Ls(list) => {
            let queues: Vec<Queue> = admin.get(&path(["v1", "queues"]))?;
            let titles = ["NAME", "READY", "LEASED", "DELAYED", "CONSUMERS", "DURABILITY"];
            output::list(list.output, &queues, &titles, |queue| {
                let counts = [queue.ready, queue.leased, queue.delayed, queue.consumers];
                let counts = counts.iter().map(ToString::to_string);
                let durability = word(&queue.policy.durability);
                std::iter::once(queue.name.clone()).chain(counts).chain([durability]).collect()
            })
        }
        Command::Show(show) => {
            let queue: Queue = admin.get(&path(["v1", "queues", show.queue.as_str()]))?;
            output::show(show.output, &queue, rows(&queue))
        }
        Command::Peek(peek) => messages::peek(&peek, &admin),
        Command::Browse(browse) => messages::browse(&browse, &admin),
        Command::Move(order) => messages::move_messages(order, &admin),
        Command::Purge(purge) => {
            let path = path(["v1", "queues", purge.queue.as_str(), "purge"]);
            let dropped: Count = admin.post(&path, &Map::new())?;
            let dropped = show_count(dropped.messages, "message");
            output::line(format_args!("{dropped} dropped from queue {}", purge.queue))
        }
        Command::Rm(remove) => {
            admin.delete(&path(["v1", "queues", remove.queue.as_str()]), &[])?;
            output::line(format_args!("queue {} is gone", remove.queue))
        }
    }
}

fn rows(queue: &Queue) -> Vec<(&'static str, String)> {
    // What never happened here is left out.
    let count = |count: u64| if count == 0 { String::new() } else { count.to_string() };
    let mut rows = vec![
        ("name", queue.name.clone()),
        ("ready", queue.ready.to_string()),
        ("leased", queue.leased.to_string()),
        ("delayed", queue.delayed.to_string()),
        ("bytes", show_bytes(queue.bytes)),
        ("consumers", queue.consumers.to_string()),
        ("enqueued", queue.enqueued.to_string()),
        ("delivered", queue.delivered.to_string()),
        ("acknowledged", queue.acked.to_string()),
        ("failed", count(queue.failed)),
        ("returned", count(queue.returned)),
        ("dead-lettered", count(queue.dead_lettered)),
        ("expired", count(queue.expired)),
        ("purged", count(queue.purged)),
        ("dropped", count(queue.dropped)),
        ("moved", count(queue.moved)),
        ("redriven", count(queue.redriven)),
        ("dead letters", count(queue.dead)),
        ("lanes in flight", count(queue.lanes_in_flight)),
        ("waiting for a lane", count(queue.lanes_waiting)),
        ("oldest stored", queue.oldest_stored_at.clone().unwrap_or_default()),
    ];
    rows.extend(policy::rows(&queue.policy));
    rows
}

/// The word by which a value travels.
fn word(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).ok();
    value.and_then(|value| value.as_str().map(ToOwned::to_owned)).unwrap_or_default()
}
