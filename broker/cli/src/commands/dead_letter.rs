//! `wharf dlq`: the workbench for what was given up.

mod discard;
mod filter;
mod redrive;
mod workbench;

use anyhow::Context as _;
use clap::{Args as ClapArgs, Subcommand};
use wharf_admin::dead_letter::{DeadLetter, Page};
use wharf_admin::plugin::Plugin;
use wharf_protocol::{Message, MessageId, QueueName};

use crate::admin::{Admin, path};
use crate::connection::Connection;
use crate::output::{self, Format, Output};

/// Looks for dead letters, shows, edits and tries them, sends them on their way again, and discards them
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf dlq ls
  wharf dlq search --stage orders/check --since 1h
  wharf dlq show 4711-0
  wharf dlq edit 4711-0 --payload-file order.json
  wharf dlq try 4712-0
  wharf dlq redrive --all --stage orders/check --rate 100/s
  wharf dlq discard --all --reason 'test order'")]
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
    Redrive(redrive::RedriveArgs),
    Discard(discard::DiscardArgs),
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
        Command::Redrive(args) => redrive::run(&admin, &args),
        Command::Discard(args) => discard::run(&admin, &args),
    }
}

fn letter(admin: &Admin, id: MessageId) -> anyhow::Result<DeadLetter> {
    admin.get(&path(["v1", "dead-letters", &id.to_string()]))
}

/// Where a letter died, in a column.
fn died_in(letter: &DeadLetter) -> String {
    if died_on_its_way_in(letter) { "-".into() } else { letter.death.queue.clone() }
}

/// Whether an ingress pipeline gave it up: it is a dead letter of the very queue that it lies in.
fn died_on_its_way_in(letter: &DeadLetter) -> bool {
    letter.death.queue == letter.queue && letter.death.stage.is_some()
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
        let place = match past.stage.is_some() && past.queue == letter.queue {
            true => "on its way in".to_owned(),
            false => format!("in {}", past.queue),
        };
        rows.push(("died before", format!("{} {place}: {stage}{}", past.last_at, past.reason)));
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
