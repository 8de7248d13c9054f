//! `wharf dlq`: the workbench for what was given up.

mod filter;
mod workbench;

use anyhow::Context as _;
use clap::{Args as ClapArgs, Subcommand};
use wharf_admin::dead_letter::{DeadLetter, Page, REDRIVEN_MAX, Redrive, Redriven};
use wharf_admin::messages::{RedriveQueue, Transfer};
use wharf_admin::plugin::Plugin;
use wharf_admin::queue::Queue;
use wharf_protocol::{Message, MessageId, QueueName};

use crate::admin::{Admin, path};
use crate::commands::queue::messages::follow;
use crate::connection::Connection;
use crate::output::{self, Format, Output};
use crate::units;

/// Looks for dead letters, shows, edits and tries them, and sends them back
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf dlq ls
  wharf dlq search --stage orders/check --since 1h
  wharf dlq show 4711-0
  wharf dlq edit 4711-0 --payload-file order.json
  wharf dlq try 4712-0 --pipeline orders
  wharf dlq redrive --all --stage orders/check --rate 100/s")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Ls(List),
    Search(workbench::Search),
    Show(Show),
    Edit(workbench::Edit),
    Try(workbench::Try),
    Redrive(RedriveArgs),
}

/// Lists dead letters: queue by queue, in each the oldest first
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf dlq ls
  wharf dlq ls --queue orders-dead -n 10
  wharf dlq ls -o json | jq -r '.[] | .death.reason' | sort | uniq -c")]
struct List {
    /// Only those in this dead-letter queue
    #[arg(long)]
    queue: Option<QueueName>,
    /// At most this many
    #[arg(short, value_name = "N", default_value_t = 100)]
    n: usize,
    /// Only those after an earlier listing, as that told
    #[arg(long, value_name = "PLACE")]
    after: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// Shows a dead letter: its deaths, its message, and the trace of the stage that refused it
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf dlq show 4711-0
  wharf dlq show 4711-0 -o json | jq -r .message.payload")]
struct Show {
    /// Its id, as `wharf dlq ls` shows it
    id: MessageId,
    #[command(flatten)]
    output: Output,
}

/// Sends dead letters back to the queues where they died, or to another
#[derive(Debug, ClapArgs)]
#[command(
    group = clap::ArgGroup::new("which").required(true),
    after_help = "\
Examples:
  wharf dlq redrive 4711-0 4712-0
  wharf dlq redrive --all
  wharf dlq redrive --all --to orders-repaired
  wharf dlq redrive --all --queue orders-dead --rate 100/s     tells how far it is; Ctrl-C stops it
  wharf dlq redrive --all --plugin check@1.2.0 --since 1h --rate 10/s

A message that was redriven three times before stays where it is: it would die again. Mend it (`wharf dlq edit`), or
send it all the same with --force."
)]
struct RedriveArgs {
    /// Their ids
    #[arg(group = "which", value_name = "ID")]
    ids: Vec<MessageId>,
    /// All there are
    #[arg(long, group = "which")]
    all: bool,
    /// The queue they go to [default: where each died]
    #[arg(long, value_name = "QUEUE")]
    to: Option<QueueName>,
    /// Only those in this dead-letter queue
    #[arg(long, value_name = "QUEUE", conflicts_with = "ids")]
    queue: Option<QueueName>,
    /// At most so many in a time: `100/s`, `6000/m`
    #[arg(long, value_name = "RATE", value_parser = units::rate, conflicts_with = "ids")]
    rate: Option<u32>,
    /// Those too that were redriven three times before
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    filter: filter::Args,
}

pub(crate) fn run(args: Args, connection: &Connection) -> anyhow::Result<()> {
    let admin = connection.admin()?;
    match args.command {
        Command::Ls(list) => {
            let titles = ["ID", "DIED IN", "CAUSE", "AT", "REASON"];
            let letters = pages(&admin, &list)?;
            output::list(list.output, &letters, &titles, |letter| {
                let death = &letter.death;
                let stage = death.stage.as_ref().map(|stage| format!("{stage}: ")).unwrap_or_default();
                let reason = format!("{stage}{}", death.reason);
                vec![letter.id.clone(), died_in(letter), death.cause.clone(), death.last_at.clone(), reason]
            })
        }
        Command::Show(show) => {
            let letter = letter(&admin, show.id)?;
            print(&admin, show.output, &letter)?;
            workbench::print_trace(&admin, show.output, &letter)
        }
        Command::Search(search) => workbench::search(&admin, &search),
        Command::Edit(edit) => workbench::edit(&admin, &edit),
        Command::Try(tried) => workbench::try_letter(&admin, &tried),
        Command::Redrive(args) if args.rate.is_some() || args.queue.is_some() || args.filter.is_given() => {
            anyhow::ensure!(args.ids.is_empty(), "give ids, or --all with what they are to be like");
            redrive_queues(&admin, &args)
        }
        Command::Redrive(args) => {
            let ids = args.ids.iter().map(ToString::to_string).collect();
            let to = args.to.as_ref().map(ToString::to_string);
            let body = Redrive { ids, all: args.all, to, force: args.force };
            let redriven: Redriven = admin.post(&path(["v1", "dead-letters", "redrive"]), &body)?;
            if redriven.kept > 0 {
                tell_kept(&admin, &args, redriven.kept)?;
            }
            output::line(format_args!("{} dead letters sent back", redriven.moved))
        }
    }
}

fn letter(admin: &Admin, id: MessageId) -> anyhow::Result<DeadLetter> {
    admin.get(&path(["v1", "dead-letters", &id.to_string()]))
}

/// Why dead letters stay: of those that were named, of each.
fn tell_kept(admin: &Admin, args: &RedriveArgs, kept: u64) -> anyhow::Result<()> {
    /// How many are told of one by one.
    const TOLD_MAX: usize = 16;

    if args.all || args.ids.len() > TOLD_MAX {
        output::note(format_args!(
            "{kept} stay: a consumer holds them; or they have no queue to go back to (name one with --to QUEUE); \
             or they were redriven three times before (--force sends them all the same)"
        ));
        return Ok(());
    }
    for id in &args.ids {
        // Those that went are dead letters no more.
        let Ok(letter) = letter(admin, *id) else { continue };
        let why = match &letter {
            _ if !args.force && letter.redriven >= REDRIVEN_MAX => {
                format!(
                    "was redriven {REDRIVEN_MAX} times before: mend it (`wharf dlq edit {id}`), or --force"
                )
            }
            _ if args.to.is_none() && died_on_its_way_in(&letter) => {
                "died before any queue had it: name one with --to QUEUE, which takes it as it is".to_owned()
            }
            _ => format!("is held by a consumer, or queue {} is gone or full", letter.death.queue),
        };
        output::note(format_args!("{id} stays: it {why}"));
    }
    Ok(())
}

/// Where a letter died, in a column.
fn died_in(letter: &DeadLetter) -> String {
    if died_on_its_way_in(letter) { "-".into() } else { letter.death.queue.clone() }
}

/// Whether an ingress pipeline gave it up: it is a dead letter of the very queue that it lies in.
fn died_on_its_way_in(letter: &DeadLetter) -> bool {
    letter.death.queue == letter.queue && letter.death.stage.is_some()
}

/// Sends the dead letters of one queue, or of each queue that has any, back at a rate.
fn redrive_queues(admin: &Admin, args: &RedriveArgs) -> anyhow::Result<()> {
    let queues = match &args.queue {
        Some(queue) => vec![queue.to_string()],
        None => {
            let queues: Vec<Queue> = admin.get(&path(["v1", "queues"]))?;
            queues.into_iter().filter(|queue| queue.dead > 0).map(|queue| queue.name).collect()
        }
    };
    let order = RedriveQueue {
        to: args.to.clone(),
        limit: None,
        per_second: args.rate,
        filter: args.filter.filter(),
        force: args.force,
    };
    for queue in queues {
        let begun: Transfer = admin.post(&path(["v1", "queues", &queue, "redrive"]), &order)?;
        follow(admin, begun, &format!("sent back from {queue}"))?;
    }
    Ok(())
}

fn pages(admin: &Admin, list: &List) -> anyhow::Result<Vec<DeadLetter>> {
    let mut letters = Vec::new();
    let mut after = list.after.clone();
    while letters.len() < list.n {
        let limit = (list.n - letters.len()).min(wharf_admin::page::PAGE_MAX).to_string();
        let mut query = vec![("limit", limit.as_str())];
        query.extend(list.queue.as_ref().map(|queue| ("queue", queue.as_str())));
        query.extend(after.as_deref().map(|after| ("after", after)));
        let page: Page = admin.get_with(&path(["v1", "dead-letters"]), &query)?;
        letters.extend(page.items);
        after = page.next;
        if after.is_none() {
            return Ok(letters);
        }
    }
    if let Some(after) = after {
        output::note(format_args!("there are more: --after {after}"));
    }
    Ok(letters)
}

fn print(admin: &Admin, how: Output, letter: &DeadLetter) -> anyhow::Result<()> {
    if how.output == Format::Json {
        return output::json(letter);
    }
    let message = letter.message.clone().context("the broker left the message out")?;
    let message = Message::try_from(message)?;
    let death = &letter.death;
    let mut rows = vec![
        ("id", letter.id.clone()),
        ("lies in", letter.queue.clone()),
        (
            "died in",
            if died_on_its_way_in(letter) { "no queue: on its way in".into() } else { death.queue.clone() },
        ),
        ("cause", death.cause.clone()),
        ("reason", death.reason.clone()),
        ("stage", death.stage.clone().unwrap_or_default()),
        (
            "plugin",
            death.plugin.as_deref().map(|digest| plugin(admin, digest)).transpose()?.unwrap_or_default(),
        ),
        ("attempts", death.attempts.to_string()),
        ("first stored", death.first_at.clone()),
        ("died at", death.last_at.clone()),
        ("original id", death.original.clone()),
        ("topic", message.topic.to_string()),
        ("redriven", times(letter.redriven)),
        ("edited", times(letter.edited)),
    ];
    for past in &letter.past {
        let stage = past.stage.as_ref().map(|stage| format!("{stage}: ")).unwrap_or_default();
        rows.push(("died before", format!("{} in {}: {stage}{}", past.last_at, past.queue, past.reason)));
    }
    for (name, value) in message.headers.iter() {
        rows.push(("header", format!("{name}={}", String::from_utf8_lossy(value))));
    }
    rows.push(("payload", String::from_utf8_lossy(&message.payload).into_owned()));
    output::show(how, letter, rows)
}

/// The plugin of a digest, as a search takes it; the digest, where it is not there any more.
fn plugin(admin: &Admin, digest: &str) -> anyhow::Result<String> {
    let plugins: Vec<Plugin> = admin.get(&path(["v1", "plugins"]))?;
    let found = plugins.into_iter().find(|plugin| plugin.digest == digest);
    Ok(found.map_or_else(|| digest.to_owned(), |plugin| format!("{}@{}", plugin.name, plugin.version)))
}

fn times(count: u32) -> String {
    match count {
        0 => String::new(),
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}
