//! `wharf kv`.

use clap::{Args as ClapArgs, Subcommand};
use wharf_admin::kv::{KvEntry, KvSpace};
use wharf_admin::message::TextOrBytes;
use wharf_protocol::Name;

use crate::admin::path;
use crate::connection::Connection;
use crate::output::{self, Output};

/// What pipelines remember from message to message
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf kv ls
  wharf kv ls orders --prefix seen/")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Ls(List),
    Get(Get),
    Rm(Remove),
}

/// Lists the pipelines that remember something, or the keys of one
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf kv ls
  wharf kv ls orders --prefix seen/ -n 20")]
struct List {
    /// The pipeline whose keys to list
    pipeline: Option<Name>,
    /// Only keys that begin with this
    #[arg(long, default_value = "", requires = "pipeline")]
    prefix: String,
    /// From this key on
    #[arg(long, default_value = "", requires = "pipeline")]
    from: String,
    /// At most so many keys, up to 1000
    #[arg(short = 'n', long, default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    output: Output,
}

/// Prints what a pipeline remembers under a key
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf kv get orders total/acme")]
struct Get {
    /// The pipeline
    pipeline: Name,
    /// The key
    key: String,
    #[command(flatten)]
    output: Output,
}

/// Lets a pipeline forget a key
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf kv rm orders total/acme")]
struct Remove {
    /// The pipeline
    pipeline: Name,
    /// The key
    key: String,
}

pub(crate) fn run(args: Args, connection: &Connection) -> anyhow::Result<()> {
    let admin = connection.admin()?;
    match args.command {
        Command::Ls(List { pipeline: None, output, .. }) => {
            let spaces: Vec<KvSpace> = admin.get(&path(["v1", "kv"]))?;
            output::list(output, &spaces, &["PIPELINE", "KEYS", "BYTES"], |space| {
                vec![space.pipeline.clone(), space.keys.to_string(), space.bytes.to_string()]
            })
        }
        Command::Ls(List { pipeline: Some(pipeline), prefix, from, limit, output }) => {
            let limit = limit.to_string();
            let query = [("prefix", prefix.as_str()), ("from", from.as_str()), ("limit", limit.as_str())];
            let keys: Vec<KvEntry> = admin.get_with(&path(["v1", "kv", pipeline.as_str()]), &query)?;
            output::list(output, &keys, &["KEY", "VALUE", "EXPIRES"], |entry| {
                let expires = entry.expires_at.clone().unwrap_or_else(|| "-".into());
                vec![entry.key.clone(), shown(&entry.value), expires]
            })
        }
        Command::Get(Get { pipeline, key, output }) => {
            let entry: KvEntry = admin.get(&path(["v1", "kv", pipeline.as_str(), &key]))?;
            let rows = vec![
                ("key", entry.key.clone()),
                ("value", shown(&entry.value)),
                ("expires", entry.expires_at.clone().unwrap_or_default()),
            ];
            output::show(output, &entry, rows)
        }
        Command::Rm(Remove { pipeline, key }) => {
            admin.delete(&path(["v1", "kv", pipeline.as_str(), &key]), &[])?;
            output::line(format_args!("pipeline {pipeline} has forgotten {key}"))
        }
    }
}

fn shown(value: &TextOrBytes) -> String {
    match value {
        TextOrBytes::Text(text) => text.clone(),
        TextOrBytes::Bytes { base64 } => format!("base64:{base64}"),
    }
}
