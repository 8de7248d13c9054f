//! `wharf dlq redrive`: dead letters on their way again.

use wharf_admin::dead_letter::{DeadLetter, LetterTold, Objection, REDRIVEN_MAX, Redrive, Redriven};
use wharf_admin::messages::{RedriveQueue, Transfer};
use wharf_admin::queue::Queue;
use wharf_protocol::{MessageId, QueueName};

use super::{filter, letter};
use crate::admin::{Admin, path};
use crate::commands::queue::messages::follow;
use crate::output;
use crate::units::{self, show_count};

/// Of so many letters that stay it is told why, one by one.
const TOLD_MAX: usize = 16;

/// Sends dead letters on their way again: from where each died, through what is in force now
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("which").required(true),
    after_help = "\
Examples:
  wharf dlq redrive 4711-0 4712-0
  wharf dlq redrive --all
  wharf dlq redrive --all --to orders-repaired
  wharf dlq redrive --all --queue orders-dead --rate 100/s     tells how far it is; Ctrl-C stops it
  wharf dlq redrive --all --plugin check@1.2.0 --since 1h --rate 10/s

What a pipeline gave up on its way to a queue goes through the pipelines again that are active now: mend the pipeline,
then redrive. What a consumer gave up goes back to its queue. With --to, each goes to that queue as it is.

A message that was redriven three times before stays where it is: it would die again. Mend it (`wharf dlq edit`), or
send it all the same with --force."
)]
pub(super) struct RedriveArgs {
    /// Their ids
    #[arg(group = "which", value_name = "ID")]
    ids: Vec<MessageId>,
    /// All there are
    #[arg(long, group = "which")]
    all: bool,
    /// The queue they go to, as they are [default: from where each died, through its pipelines]
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

pub(super) fn run(admin: &Admin, args: &RedriveArgs) -> anyhow::Result<()> {
    if args.all {
        return redrive_queues(admin, args);
    }
    anyhow::ensure!(!args.filter.is_given(), "give ids, or --all with what they are to be like");
    let ids = args.ids.iter().map(ToString::to_string).collect();
    let to = args.to.as_ref().map(ToString::to_string);
    let body = Redrive { ids, all: false, to, force: args.force };
    let redriven: Redriven = admin.post(&path(["v1", "dead-letters", "redrive"]), &body)?;
    redriven.letters.iter().try_for_each(tell)?;
    tell_kept(admin, args, &redriven);
    output::line(format_args!("{} sent back", show_count(redriven.moved, "dead letter")))
}

/// What became of a letter that went through pipelines.
fn tell(letter: &LetterTold) -> anyhow::Result<()> {
    let LetterTold { id, became, pipelines, died_again, stays } = letter;
    if let Some(objection) = stays {
        output::note(format_args!("{id} stays: {}", said(objection)));
        return Ok(());
    }
    let (became, through) = (
        became.join(" "),
        match pipelines.as_slice() {
            [] => String::new(),
            passed => format!(" through {}", passed.join(", ")),
        },
    );
    match died_again {
        Some(objection) => output::line(format_args!("{id} died again as {became}: {}", said(objection))),
        None if became.is_empty() => output::line(format_args!("{id} was dropped on its way{through}")),
        None => output::line(format_args!("{id} went on as {became}{through}")),
    }
}

fn said(Objection { stage, reason }: &Objection) -> String {
    stage.as_ref().map_or_else(|| reason.clone(), |stage| format!("{stage}: {reason}"))
}

/// Why those stay of which nothing was told.
fn tell_kept(admin: &Admin, args: &RedriveArgs, redriven: &Redriven) {
    let is_told = |id: &&MessageId| redriven.letters.iter().any(|told| told.id == id.to_string());
    let told = redriven.letters.iter().filter(|letter| letter.stays.is_some()).count() as u64;
    let kept = redriven.kept.saturating_sub(told);
    if kept == 0 {
        return;
    }
    if args.ids.len() > TOLD_MAX {
        output::note(format_args!(
            "{kept} stay: a consumer holds them; or their queue is gone or full (name one with --to QUEUE); or they were \
             redriven three times before (--force sends them all the same)"
        ));
        return;
    }
    for id in args.ids.iter().filter(|id| !is_told(id)) {
        // Those that went are dead letters no more.
        let Ok(DeadLetter { redriven, death, .. }) = letter(admin, *id) else { continue };
        if !args.force && redriven >= REDRIVEN_MAX {
            output::note(format_args!(
                "{id} stays: it was redriven {REDRIVEN_MAX} times before: mend it (`wharf dlq edit {id}`), or --force"
            ));
        } else {
            let queue = args.to.as_ref().map_or(death.queue, ToString::to_string);
            output::note(format_args!(
                "{id} stays: it is held by a consumer, or queue {queue} is gone or full"
            ));
        }
    }
}

/// Sends the dead letters of one queue, or of each queue that has any, on their way, at a rate if one is given.
fn redrive_queues(admin: &Admin, args: &RedriveArgs) -> anyhow::Result<()> {
    let queues = match &args.queue {
        Some(queue) => vec![queue.to_string()],
        None => {
            let queues: Vec<Queue> = admin.get(&path(["v1", "queues"]))?;
            queues.into_iter().filter(|queue| queue.dead > 0).map(|queue| queue.name).collect()
        }
    };
    if queues.is_empty() {
        return output::line("there are no dead letters");
    }
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
