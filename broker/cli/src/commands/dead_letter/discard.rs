//! `wharf dlq discard`: dead letters that nobody wants any more.

use wharf_admin::dead_letter::{Discard, Discarded};
use wharf_protocol::{MessageId, QueueName};

use super::filter;
use crate::admin::{Admin, path};
use crate::output;
use crate::units::show_count;

/// Discards dead letters: they are gone for good
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("which").required(true),
    after_help = "\
Examples:
  wharf dlq discard 4711-0 4712-0
  wharf dlq discard --all --reason 'test order' --until 2026-11-22T00:00:00Z
  wharf dlq discard --all --queue orders-dead --yes

What is meant by --all, `wharf dlq search` with the same filter shows. Without a filter it is all that there are, and
needs --yes."
)]
pub(super) struct DiscardArgs {
    /// Their ids
    #[arg(group = "which", value_name = "ID")]
    ids: Vec<MessageId>,
    /// All there are that the filter leaves
    #[arg(long, group = "which")]
    all: bool,
    /// Only those in this dead-letter queue
    #[arg(long, value_name = "QUEUE", conflicts_with = "ids")]
    queue: Option<QueueName>,
    /// Really all, without a filter
    #[arg(long, conflicts_with = "ids")]
    yes: bool,
    #[command(flatten)]
    filter: filter::Args,
}

pub(super) fn run(admin: &Admin, args: &DiscardArgs) -> anyhow::Result<()> {
    anyhow::ensure!(args.all || !args.filter.is_given(), "give ids, or --all with what they are to be like");
    anyhow::ensure!(
        !args.all || args.yes || args.filter.is_given(),
        "--all without a filter discards every dead letter{}: add --yes if you mean that, or a filter (--reason, --stage, \
         --since…)",
        args.queue.as_ref().map(|queue| format!(" of {queue}")).unwrap_or_default()
    );
    let ids = args.ids.iter().map(ToString::to_string).collect();
    let body = Discard { ids, all: args.all, queue: args.queue.clone(), filter: args.filter.filter() };
    let Discarded { discarded, kept } = admin.post(&path(["v1", "dead-letters", "discard"]), &body)?;
    if kept > 0 {
        output::note(format_args!("{kept} stay: a consumer holds them"));
    }
    output::line(format_args!("{} discarded", show_count(discarded, "dead letter")))
}
