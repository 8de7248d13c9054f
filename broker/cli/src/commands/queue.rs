//! `wharf queue`.

use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use serde_json::{Map, Value};
use wharf_admin::queue::{Count, Queue};
use wharf_protocol::QueueName;

use crate::admin::path;
use crate::connection::Connection;
use crate::output::{self, Output};
use crate::units::{self, show_duration};

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
    Ls(List),
    Show(Show),
    Purge(Purge),
    Rm(Remove),
}

/// Makes a queue; one that exists with the same policy is left as it is
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf queue add orders
  wharf queue add orders --lease 2m --max-attempts 5 --dead-letter orders-dead
  wharf queue add clicks --durability os")]
struct Add {
    /// Its name
    queue: QueueName,
    /// What a confirm waits for: the disk, the operating system, or nothing [default: fsync]
    #[arg(long)]
    durability: Option<Durability>,
    /// How long a consumer may hold a message before it is delivered again [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    lease: Option<Duration>,
    /// After how many failed deliveries a message becomes a dead letter [default: 20]
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// The first pause before a retry; each further one is twice as long [default: 200ms]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    retry_min: Option<Duration>,
    /// The longest pause before a retry [default: 1m]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    retry_max: Option<Duration>,
    /// The queue where dead letters go [default: dead-letters]
    #[arg(long, value_name = "QUEUE")]
    dead_letter: Option<QueueName>,
    /// Dead-letter messages whose time to live runs out, instead of dropping them
    #[arg(long)]
    dead_letter_expired: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Durability {
    Fsync,
    Os,
    Memory,
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
            let queue: Queue = admin.put(&path(["v1", "queues", add.queue.as_str()]), &add.policy())?;
            output::line(format_args!("queue {} is there", queue.name))
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
        Command::Purge(purge) => {
            let path = path(["v1", "queues", purge.queue.as_str(), "purge"]);
            let dropped: Count = admin.post(&path, &Map::new())?;
            output::line(format_args!("{} messages dropped from queue {}", dropped.messages, purge.queue))
        }
        Command::Rm(remove) => {
            admin.delete(&path(["v1", "queues", remove.queue.as_str()]), &[])?;
            output::line(format_args!("queue {} is gone", remove.queue))
        }
    }
}

impl Add {
    /// Only what was typed: the defaults are the broker's.
    fn policy(&self) -> Map<String, Value> {
        let durability = self.durability.map(|durability| match durability {
            Durability::Fsync => "fsync",
            Durability::Os => "os",
            Durability::Memory => "memory",
        });
        let given = [
            ("durability", durability.map(Value::from)),
            ("lease_ms", self.lease.map(milliseconds)),
            ("max_attempts", self.max_attempts.map(Value::from)),
            ("retry_min_ms", self.retry_min.map(milliseconds)),
            ("retry_max_ms", self.retry_max.map(milliseconds)),
            ("dead_letter", self.dead_letter.as_ref().map(|name| Value::from(name.as_str()))),
            ("dead_letter_expired", self.dead_letter_expired.then_some(Value::Bool(true))),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

fn rows(queue: &Queue) -> Vec<(&'static str, String)> {
    let policy = &queue.policy;
    let retry = format!("{} to {}", show_duration(policy.retry_min_ms), show_duration(policy.retry_max_ms));
    let dead_letter = policy.dead_letter.as_ref().map_or("dead-letters", QueueName::as_str);
    vec![
        ("name", queue.name.clone()),
        ("ready", queue.ready.to_string()),
        ("leased", queue.leased.to_string()),
        ("delayed", queue.delayed.to_string()),
        ("consumers", queue.consumers.to_string()),
        ("enqueued", queue.enqueued.to_string()),
        ("delivered", queue.delivered.to_string()),
        ("acknowledged", queue.acked.to_string()),
        ("failed", queue.failed.to_string()),
        ("dead-lettered", queue.dead_lettered.to_string()),
        ("expired", queue.expired.to_string()),
        ("oldest stored", queue.oldest_stored_at.clone().unwrap_or_default()),
        ("durability", word(&policy.durability)),
        ("lease", show_duration(policy.lease_ms)),
        ("max attempts", policy.max_attempts.to_string()),
        ("retry pause", retry),
        ("dead letters to", dead_letter.to_owned()),
    ]
}

/// The word by which a value travels.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(ToOwned::to_owned))
        .unwrap_or_default()
}

fn milliseconds(duration: Duration) -> Value {
    Value::from(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
