//! `wharf stream`.

mod policy;
mod read;

use clap::{Args as ClapArgs, Subcommand};
use policy::{Durability, Retention};
use serde_json::{Map, Value};
use wharf_admin::stream::{GiveUp, Placed, Stream, StreamPolicy};
use wharf_protocol::Name;

use crate::admin::path;
use crate::connection::Connection;
use crate::output::{self, Output};
use crate::units::{show_bytes, show_count, show_duration};

/// Makes, reads and removes streams
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf stream add events --partitions 4 --max-age 7d
  wharf stream read events --until-end")]
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
    Read(read::Read),
    Last(Last),
    Rm(Remove),
}

/// Makes a stream; one that exists with the same policy is left as it is
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf stream add events
  wharf stream add events --partitions 8 --max-age 7d --max-bytes 10GiB
  wharf stream add accounts --index-keys
  wharf stream add prices --compact --tombstones 1h

`wharf bind 'events.#' events` sends messages to it, as to a queue.")]
struct Add {
    /// Its name
    stream: Name,
    /// Into how many runs it is split; messages of one key stay in one [default: 1]
    #[arg(long, value_name = "N")]
    partitions: Option<u16>,
    /// Keep only the last message of each key; one with an empty payload takes the key away
    #[arg(long)]
    compact: bool,
    /// Know the last message of each key, for `wharf stream last` and expectations
    #[arg(long)]
    index_keys: bool,
    #[command(flatten)]
    retention: Retention,
}

/// Changes what is given of a stream's policy, for the messages that are there too
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf stream set events --max-age 1d
  wharf stream set events --max-bytes none --durability os
  wharf stream set events --max-attempts 5 --give-up skip")]
struct Set {
    /// Its name
    stream: Name,
    #[command(flatten)]
    retention: Retention,
}

/// Lists the streams
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf stream ls
  wharf stream ls -o json | jq '.[] | {name, messages, bytes}'")]
struct List {
    #[command(flatten)]
    output: Output,
}

/// Shows a stream
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf stream show events
  wharf stream show events -o json | jq .partitions")]
struct Show {
    /// Its name
    stream: Name,
    #[command(flatten)]
    output: Output,
}

/// Prints the last message of a key: of a stream that is compacted or indexes its keys
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf stream last prices EUR/USD
  wharf stream last prices EUR/USD -o json | jq -r .message.payload")]
struct Last {
    /// The stream's name
    stream: Name,
    /// The key
    key: String,
    #[command(flatten)]
    output: Output,
}

/// Removes a stream with its messages, groups and bindings
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf stream rm events")]
struct Remove {
    /// Its name
    stream: Name,
}

pub(crate) fn run(args: Args, connection: &Connection) -> anyhow::Result<()> {
    if let Command::Read(read) = args.command {
        return read::run(read, connection);
    }
    let admin = connection.admin()?;
    match args.command {
        Command::Add(add) => {
            let stream: Stream = admin.put(&path(["v1", "streams", add.stream.as_str()]), &add.given())?;
            output::line(format_args!("stream {} is there", stream.name))
        }
        Command::Set(set) => {
            let given = set.retention.given();
            anyhow::ensure!(
                !given.is_empty(),
                "nothing to change; `wharf stream set --help` lists what can be"
            );
            let stream: Stream = admin.patch(&path(["v1", "streams", set.stream.as_str()]), &given)?;
            output::line(format_args!("stream {} keeps {}", stream.name, kept(&stream.policy)))
        }
        Command::Ls(list) => {
            let streams: Vec<Stream> = admin.get(&path(["v1", "streams"]))?;
            let titles = ["NAME", "PARTITIONS", "MESSAGES", "BYTES", "GROUPS", "KEEPS"];
            output::list(list.output, &streams, &titles, |stream| {
                let partitions = stream.partitions.len().to_string();
                let (messages, bytes) = (stream.messages.to_string(), show_bytes(stream.bytes));
                let groups = stream.groups.to_string();
                vec![stream.name.clone(), partitions, messages, bytes, groups, kept(&stream.policy)]
            })
        }
        Command::Show(show) => {
            let stream: Stream = admin.get(&path(["v1", "streams", show.stream.as_str()]))?;
            output::show(show.output, &stream, rows(&stream))
        }
        Command::Last(last) => {
            let to = path(["v1", "streams", last.stream.as_str(), "last"]);
            let found: Placed = admin.get_with(&to, &[("key", &last.key)])?;
            let payload = found.message.payload.to_string();
            let rows = vec![
                ("partition", found.partition.to_string()),
                ("offset", found.offset.to_string()),
                ("id", found.id.clone()),
                ("stored", found.stored_at.clone()),
                ("topic", found.message.topic.clone()),
                ("payload", payload),
            ];
            output::show(last.output, &found, rows)
        }
        Command::Rm(remove) => {
            admin.delete(&path(["v1", "streams", remove.stream.as_str()]), &[])?;
            output::line(format_args!("stream {} is gone", remove.stream))
        }
        Command::Read(_) => unreachable!("taken above"),
    }
}

impl Add {
    fn given(&self) -> Map<String, Value> {
        let mut given = self.retention.given();
        if let Some(partitions) = self.partitions {
            given.insert("partitions".into(), partitions.into());
        }
        for (name, set) in [("compact", self.compact), ("index_keys", self.index_keys)] {
            if set {
                given.insert(name.into(), true.into());
            }
        }
        given
    }
}

/// What a policy keeps, in a few words.
fn kept(policy: &StreamPolicy) -> String {
    let mut kept = Vec::new();
    if policy.compact {
        kept.push("the last of each key".to_owned());
    }
    if policy.max_age_ms > 0 {
        kept.push(show_duration(policy.max_age_ms));
    }
    if policy.max_bytes > 0 {
        kept.push(format!("{} a partition", show_bytes(policy.max_bytes)));
    }
    if policy.max_messages > 0 {
        kept.push(format!("{} a partition", show_count(policy.max_messages, "message")));
    }
    if kept.is_empty() { "everything".into() } else { kept.join(", ") }
}

/// When its groups give up a message.
fn gives_up(policy: &StreamPolicy) -> String {
    match (policy.max_attempts, policy.give_up) {
        (0, _) => "never".into(),
        (failures, GiveUp::DeadLetter) => format!("after {failures} failures, to its dead letters"),
        (failures, GiveUp::Skip) => format!("after {failures} failures, and skips"),
    }
}

fn rows(stream: &Stream) -> Vec<(&'static str, String)> {
    let policy = &stream.policy;
    let partitions = stream.partitions.iter().enumerate();
    let partitions: Vec<String> =
        partitions.map(|(n, each)| format!("{n}: offsets {} to {}", each.first, each.next)).collect();
    let keys: Option<u64> = stream.partitions.iter().map(|each| each.keys).sum();
    vec![
        ("name", stream.name.clone()),
        ("messages", stream.messages.to_string()),
        ("bytes", show_bytes(stream.bytes)),
        ("keys", keys.map(|keys| keys.to_string()).unwrap_or_default()),
        ("groups", stream.groups.to_string()),
        ("oldest stored", stream.oldest_stored_at.clone().unwrap_or_default()),
        ("keeps", kept(policy)),
        ("durability", Durability::word(policy.durability).into()),
        ("dead letters", policy.dead_letter.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("gives up", gives_up(policy)),
        ("partitions", partitions.join(", ")),
    ]
}
