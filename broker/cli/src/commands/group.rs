//! `wharf group`.

use clap::{Args as ClapArgs, Subcommand};
use wharf_admin::stream::{Group, Reset};
use wharf_protocol::{Name, Start};

use crate::admin::path;
use crate::connection::Connection;
use crate::output::{self, Output};
use crate::units::show_count;

/// Shows, resets and removes the groups that read a stream
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf group ls events
  wharf group reset events billing first")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Ls(List),
    Show(Show),
    Reset(ResetArgs),
    Rm(Remove),
}

/// Lists the groups of a stream, and how far each is behind
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf group ls events
  wharf group ls events -o json | jq '.[] | select(.lag > 1000) | .name'")]
struct List {
    /// The stream
    stream: Name,
    #[command(flatten)]
    output: Output,
}

/// Shows how far a group is in each partition
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf group show events billing")]
struct Show {
    /// The stream
    stream: Name,
    /// The group
    group: Name,
    #[command(flatten)]
    output: Output,
}

/// Sets a group to another place; its members begin there at once
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf group reset events billing first
  wharf group reset events billing 2026-01-31T09:00:00Z
  wharf group reset events billing 4711 --partition 2")]
struct ResetArgs {
    /// The stream
    stream: Name,
    /// The group
    group: Name,
    /// `first`, `last`, `new`, an offset, or a time like 2026-01-31T09:00:00Z
    to: Start,
    /// In this partition alone
    #[arg(long, value_name = "N")]
    partition: Option<u16>,
}

/// Forgets a group; its members are told
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf group rm events billing")]
struct Remove {
    /// The stream
    stream: Name,
    /// The group
    group: Name,
}

pub(crate) fn run(args: Args, connection: &Connection) -> anyhow::Result<()> {
    let admin = connection.admin()?;
    match args.command {
        Command::Ls(list) => {
            let groups: Vec<Group> = admin.get(&path(["v1", "streams", list.stream.as_str(), "groups"]))?;
            output::list(list.output, &groups, &["NAME", "MEMBERS", "LAG"], |group| {
                vec![group.name.clone(), group.members.to_string(), group.lag.to_string()]
            })
        }
        Command::Show(show) => {
            let group: Group = admin.get(&group_path(&show.stream, &show.group))?;
            output::show(show.output, &group, rows(&group))
        }
        Command::Reset(reset) => {
            let to = path(["v1", "streams", reset.stream.as_str(), "groups", reset.group.as_str(), "reset"]);
            let body = Reset { to: reset.to.to_string(), partition: reset.partition };
            let group: Group = admin.post(&to, &body)?;
            let lag = show_count(group.lag, "message");
            output::line(format_args!("group {} has {lag} before it", group.name))
        }
        Command::Rm(remove) => {
            admin.delete(&group_path(&remove.stream, &remove.group), &[])?;
            output::line(format_args!("group {} of stream {} is gone", remove.group, remove.stream))
        }
    }
}

fn group_path(stream: &Name, group: &Name) -> String {
    path(["v1", "streams", stream.as_str(), "groups", group.as_str()])
}

fn rows(group: &Group) -> Vec<(&'static str, String)> {
    let cursor = |each: &wharf_admin::stream::Cursor| {
        let member = each.member.map_or("no member".into(), |member| format!("member {member}"));
        let failing = if each.failing > 0 { format!(", {} failing", each.failing) } else { String::new() };
        format!("{}: at {}, {} behind{failing}, {member}", each.partition, each.floor, each.lag)
    };
    let cursors: Vec<String> = group.cursors.iter().map(cursor).collect();
    vec![
        ("name", group.name.clone()),
        ("members", group.members.to_string()),
        ("lag", group.lag.to_string()),
        ("partitions", cursors.join("; ")),
    ]
}
