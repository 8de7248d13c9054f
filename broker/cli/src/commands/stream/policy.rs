//! A stream's policy, as it is typed.

use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use serde_json::{Map, Value};
use wharf_protocol::QueueName;

use crate::units;

/// How long messages are kept. What is not given is the broker's default, or stays as it is.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Policy")]
pub(super) struct Retention {
    /// What a confirm waits for: the disk, the operating system, or nothing [default: fsync]
    #[arg(long)]
    durability: Option<Durability>,
    /// Messages older than this go; `none`: age does not matter [default: none]
    #[arg(long, value_name = "DURATION", value_parser = milliseconds)]
    max_age: Option<u64>,
    /// Keep at least so many bytes of each partition, and up to a quarter more; `none`: all [default: none]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_bytes: Option<u64>,
    /// Keep at least so many messages of each partition, and up to a quarter more; `none`: all [default: none]
    #[arg(long, value_name = "N", value_parser = count)]
    max_messages: Option<u64>,
    /// How long a compacted stream keeps the empty message that took a key away [default: 1d]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    tombstones: Option<Duration>,
    /// The queue where messages go that a group gives up [default: dead-letters]
    #[arg(long, value_name = "QUEUE")]
    dead_letter: Option<QueueName>,
    /// After how many failed deliveries a group gives a message up; `none`: never [default: 20]
    #[arg(long, value_name = "N", value_parser = attempts)]
    max_attempts: Option<u32>,
    /// Where a message goes then [default: dead-letter]
    #[arg(long)]
    give_up: Option<GiveUp>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum GiveUp {
    /// To the dead-letter queue
    DeadLetter,
    /// Nowhere: its group passes over it
    Skip,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Durability {
    Fsync,
    Os,
    Memory,
}

impl Durability {
    pub(super) fn word(durability: wharf_admin::policy::Durability) -> &'static str {
        match durability {
            wharf_admin::policy::Durability::Fsync => "fsync",
            wharf_admin::policy::Durability::Os => "os",
            wharf_admin::policy::Durability::Memory => "memory",
        }
    }
}

impl Retention {
    /// What was typed, as the fields of a policy.
    pub(super) fn given(&self) -> Map<String, Value> {
        let durability = self.durability.map(|durability| match durability {
            Durability::Fsync => "fsync",
            Durability::Os => "os",
            Durability::Memory => "memory",
        });
        let tombstones = self.tombstones.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let give_up = self.give_up.map(|to| match to {
            GiveUp::DeadLetter => "dead-letter",
            GiveUp::Skip => "skip",
        });
        let fields = [
            ("durability", durability.map(Value::from)),
            ("max_age_ms", self.max_age.map(Value::from)),
            ("max_bytes", self.max_bytes.map(Value::from)),
            ("max_messages", self.max_messages.map(Value::from)),
            ("tombstone_ms", tombstones.map(Value::from)),
            ("dead_letter", self.dead_letter.as_ref().map(|queue| queue.as_str().into())),
            ("max_attempts", self.max_attempts.map(Value::from)),
            ("give_up", give_up.map(Value::from)),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

fn milliseconds(text: &str) -> Result<u64, String> {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if text == "none" { Ok(0) } else { units::duration(text).map(milliseconds) }
}

fn attempts(text: &str) -> Result<u32, String> {
    u32::try_from(count(text)?).map_err(|_| format!("at most {}, or none", u32::MAX))
}

fn size(text: &str) -> Result<u64, String> {
    if text == "none" { Ok(0) } else { units::bytes(text) }
}

fn count(text: &str) -> Result<u64, String> {
    if text == "none" { Ok(0) } else { text.parse().map_err(|_| "a whole number, or none".into()) }
}
