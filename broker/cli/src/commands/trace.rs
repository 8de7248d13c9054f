//! `wharf trace`.

mod rerun;

use clap::{Args as ClapArgs, Subcommand};
use wharf_admin::trace::{Page, Sequel, StoredTrace, TraceLine};
use wharf_node::TraceKey;
use wharf_protocol::{Name, Timestamp};

use crate::admin::{Admin, path};
use crate::commands::pipeline::print_step;
use crate::connection::Connection;
use crate::output::{self, Format, Output};
use crate::units;

/// How long a trace that was asked for is waited for.
const PATIENCE_MS: u64 = 5_000;

/// Shows what became of messages on their way in, stage by stage
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf pub orders.eu.created --file order.xml --trace
  wharf trace ls --verdict rejected --since 10m
  wharf trace show 4711-0
  wharf trace rerun 4711-0

A message is traced when it is published with `--trace` (the header wharf-trace), when it falls in a sample
(`trace.sample` in the broker's configuration, `trace-sample` in a pipeline's file), or, as far as the failing stage,
when a pipeline makes it a dead letter.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Ls(List),
    Show(Show),
    Rerun(rerun::Args),
}

/// Lists the traces that are kept, newest first
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf trace ls
  wharf trace ls --pipeline orders --verdict dead-lettered
  wharf trace ls --since 10m -n 20 -o json")]
struct List {
    /// Only those that passed this pipeline
    #[arg(long)]
    pipeline: Option<Name>,
    /// Only those that ended so: stored, duplicate, dropped, unrouted, dead-lettered, rejected
    #[arg(long)]
    verdict: Option<String>,
    /// Only those since a moment, or as long ago: 2026-11-22T18:30:00Z, 10m
    #[arg(long, value_name = "TIME", value_parser = units::moment)]
    since: Option<Timestamp>,
    /// Only those before a moment
    #[arg(long, value_name = "TIME", value_parser = units::moment)]
    until: Option<Timestamp>,
    /// At most this many
    #[arg(short, value_name = "N", default_value_t = 50)]
    n: usize,
    #[command(flatten)]
    output: Output,
}

/// Shows a trace: a line for each stage, and below it what it changed
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf trace show 4bf92f3577b34da6a3ce929d0e0e4736
  wharf trace show 4711-0
  wharf trace show 4711-0 -o json | jq '.[].passes[].steps[] | {stage, verdict, took_us}'")]
struct Show {
    /// A trace's id, or the id of a stored message
    id: TraceKey,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(args: Args, connection: &Connection) -> anyhow::Result<()> {
    let admin = connection.admin()?;
    match args.command {
        Command::Ls(list) => {
            let titles = ["TRACE", "AT", "TOPIC", "PIPELINES", "VERDICT", "MESSAGE", "REASON"];
            output::list(list.output, &pages(&admin, &list)?, &titles, |trace| {
                let stage = trace.stage.as_ref().map(|stage| format!("{stage}: ")).unwrap_or_default();
                let messages = match trace.messages.as_slice() {
                    [] => "-".to_owned(),
                    [one] => one.clone(),
                    [first, others @ ..] => format!("{first} and {}", others.len()),
                };
                vec![
                    trace.id.clone(),
                    trace.at.clone(),
                    trace.topic.clone(),
                    trace.pipelines.join(" "),
                    trace.verdict.clone(),
                    messages,
                    format!("{stage}{}", trace.reason.clone().unwrap_or_default()),
                ]
            })
        }
        Command::Show(show) => {
            let id = text(show.id);
            self::show(&admin.get::<Vec<StoredTrace>>(&path(["v1", "traces", &id]))?, show.output)
        }
        Command::Rerun(rerun) => rerun::run(rerun, &admin),
    }
}

/// An id as it is written.
fn text(id: TraceKey) -> String {
    match id {
        TraceKey::Trace(id) => id.to_string(),
        TraceKey::Message(id) => id.to_string(),
    }
}

/// Waits for the trace of a message that was just published, and prints it.
pub(super) fn follow(admin: &Admin, id: &str) -> anyhow::Result<()> {
    let wait = PATIENCE_MS.to_string();
    let traces: Vec<StoredTrace> = admin.get_with(&path(["v1", "traces", id]), &[("wait_ms", &wait)])?;
    show(&traces, Output::default())
}

fn pages(admin: &Admin, list: &List) -> anyhow::Result<Vec<TraceLine>> {
    let (since, until) = (list.since.map(|at| at.0.to_string()), list.until.map(|at| at.0.to_string()));
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    while found.len() < list.n {
        let limit = (list.n - found.len()).min(wharf_admin::page::PAGE_MAX).to_string();
        let mut query = vec![("limit", limit.as_str())];
        query.extend(list.pipeline.as_ref().map(|name| ("pipeline", name.as_str())));
        query.extend(list.verdict.as_deref().map(|verdict| ("verdict", verdict)));
        query.extend(since.as_deref().map(|since| ("since", since)));
        query.extend(until.as_deref().map(|until| ("until", until)));
        query.extend(after.as_deref().map(|after| ("after", after)));
        let page: Page = admin.get_with(&path(["v1", "traces"]), &query)?;
        found.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(found)
}

fn show(traces: &[StoredTrace], how: Output) -> anyhow::Result<()> {
    match how.output {
        Format::Json => output::json(traces),
        Format::Table => traces.iter().try_for_each(print),
    }
}

/// A trace for people.
pub(super) fn print(trace: &StoredTrace) -> anyhow::Result<()> {
    let StoredTrace { id, at, by, why, verdict, took_us, .. } = trace;
    let bytes = units::show_bytes(trace.given.payload.bytes);
    output::line(format_args!("trace {id} ({why})"))?;
    output::line(format_args!("{} from {by}, {bytes}, at {at}", trace.given.topic))?;
    for pass in &trace.passes {
        let place = match (&pass.on_way_to, &pass.on_way_from) {
            (Some(queue), _) => format!("on the way to {queue}"),
            (None, Some(queue)) => format!("on the way out of {queue}"),
            (None, None) if why == "dead-letter" => {
                "the stage that failed; the message was not traced".to_owned()
            }
            (None, None) => "at ingress".to_owned(),
        };
        output::line(format_args!(
            "pipeline {}/{}  {place}, after {} µs",
            pass.pipeline, pass.version, pass.begun_us
        ))?;
        pass.steps.iter().try_for_each(print_step)?;
    }
    let stage = trace.stage.as_ref().map(|stage| format!(" by {stage}")).unwrap_or_default();
    let reason = trace.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    output::line(format_args!("{verdict}{stage}{reason}  ({took_us} µs in all)"))?;
    for landing in &trace.landings {
        let id = trace.messages.get(usize::from(landing.entry)).map_or("-", String::as_str);
        let dead = if landing.dead { "  as a dead letter" } else { "" };
        output::line(format_args!("  {id}  {}{dead}", landing.queue))?;
    }
    for sequel in &trace.sequels {
        let note = sequel.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
        let Sequel { message, queue, at, attempt, kind, .. } = sequel;
        output::line(format_args!("  {message}  {queue}  {kind}, attempt {attempt}, at {at}{note}"))?;
    }
    if trace.sequels_left_out > 0 {
        output::note(format_args!("{} things more became of it", trace.sequels_left_out));
    }
    if trace.cut {
        output::note("the trace was too large to be kept whole");
    }
    Ok(())
}
