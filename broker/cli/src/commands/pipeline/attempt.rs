//! `wharf pipeline try`, and what a stage did, for people.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args as ClapArgs;
use wharf_admin::message::MessageJson;
use wharf_admin::pipeline::Try as TryRequest;
use wharf_admin::step::{Destination, Excerpt, OutputChange, Step, Trace};
use wharf_protocol::{HeadersBuilder, Message, Name, Topic};

use crate::admin::{Admin, path};
use crate::commands::publish;
use crate::output::{self, Format, Output};
use crate::units::{self, show_count};

/// Runs messages through a pipeline and shows what every stage did; delivers nothing
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf pipeline try orders --file message.json            {\"topic\": \"orders.eu\", \"payload\": \"<order/>\"}
  wharf pipeline try orders --file order.xml --topic orders.eu.created -H tenant=acme
  wharf pipeline try orders --version 4 --file message.json
  wharf pipeline try orders --spec orders.toml --file message.json
  wharf dlq show 4711-0 -o json | jq .message | wharf pipeline try orders --file -
  wharf queue peek orders -n 20 -o json | jq -c '.[].message' | wharf pipeline try orders --file - --lines

The file is a message as `wharf sub -o json` prints one, or, with --topic, a payload.")]
pub(super) struct Try {
    /// The pipeline's name
    pipeline: Name,
    /// The message, as JSON or as its payload; `-` is standard input
    #[arg(long, value_name = "MESSAGE")]
    file: PathBuf,
    /// Each line of the file is a message
    #[arg(long)]
    lines: bool,
    /// The version [default: the active one]
    #[arg(long, value_name = "N", conflicts_with = "spec")]
    version: Option<u32>,
    /// A pipeline file in place of a version
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// The message's topic: the file is its payload
    #[arg(long)]
    topic: Option<Topic>,
    /// A header of the message
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = units::header)]
    #[arg(requires = "topic")]
    headers: Vec<(String, String)>,
    /// The message's key
    #[arg(long, requires = "topic")]
    key: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub(super) fn try_messages(args: Try, admin: &Admin) -> anyhow::Result<()> {
    let bytes = publish::read(&args.file)?;
    let spec = args.spec.as_deref();
    let spec = spec
        .map(|file| std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display())))
        .transpose()?;
    let run = |bytes: &[u8]| -> anyhow::Result<Trace> {
        let candidate =
            TryRequest { message: message(&args, bytes)?, version: args.version, spec: spec.clone() };
        admin.post(&path(["v1", "pipelines", args.pipeline.as_str(), "try"]), &candidate)
    };
    if !args.lines {
        let trace = run(&bytes)?;
        return match args.output.output {
            Format::Json => output::json(&trace),
            Format::Table => print(&trace),
        };
    }
    let lines = bytes.split(|byte| *byte == b'\n').zip(1..).filter(|(line, _)| !line.trim_ascii().is_empty());
    let mut traces = Vec::new();
    for (line, number) in lines {
        let trace = run(line).with_context(|| format!("line {number}"))?;
        match args.output.output {
            Format::Json => traces.push(trace),
            Format::Table => {
                output::line(format_args!("message of line {number}"))?;
                print(&trace)?;
            }
        }
    }
    match args.output.output {
        Format::Json => output::json(&traces),
        Format::Table => Ok(()),
    }
}

fn message(args: &Try, bytes: &[u8]) -> anyhow::Result<MessageJson> {
    match &args.topic {
        Some(topic) => payload(topic.clone(), bytes.to_vec(), &args.headers, args.key.clone()),
        None => serde_json::from_slice(bytes).with_context(|| {
            let file = args.file.display();
            format!("{file} is not a message as JSON (with --topic, the file is a message's payload)")
        }),
    }
}

/// The message with `bytes` as its payload.
fn payload(
    topic: Topic,
    bytes: Vec<u8>,
    given: &[(String, String)],
    key: Option<String>,
) -> anyhow::Result<MessageJson> {
    let mut headers = HeadersBuilder::default();
    for (name, value) in given {
        headers.set(name, value);
    }
    let headers = headers.build()?;
    Ok(MessageJson::from(&Message { headers, key: key.map(Into::into), ..Message::new(topic, bytes) }))
}

/// A trace for people: a paragraph for each message at each stage.
/// Where a message would go, and through which pipelines that may still refuse it.
fn ways(destination: &Destination) -> String {
    let direct = match destination.queues.as_slice() {
        [] => None,
        queues => Some(format!("to queue {}", queues.join(", "))),
    };
    let through = destination
        .through
        .iter()
        .map(|way| format!("through pipeline {} to queue {}", way.pipeline, way.queue));
    let ways: Vec<String> = direct.into_iter().chain(through).collect();
    match ways.is_empty() {
        true => "nowhere: nothing is bound to that topic".to_owned(),
        false => ways.join("; "),
    }
}

pub(in crate::commands) fn print(trace: &Trace) -> anyhow::Result<()> {
    for step in &trace.steps {
        print_step(step)?;
    }
    let name = &trace.pipeline;
    let version = match trace.version {
        0 => "as in the file".to_owned(),
        number => format!("version {number}"),
    };
    match (trace.result.as_str(), trace.destinations.is_empty()) {
        ("passed", false) => {
            output::line(format_args!("{name} {version} lets it pass; it would go"))?;
            for destination in &trace.destinations {
                output::line(format_args!("  {}  {}", destination.topic, ways(destination)))?;
            }
            Ok(())
        }
        ("failed", _) => output::line(format_args!("{name} {version} does not let it pass")),
        (result, _) => output::line(format_args!("{name} {version}: {result}")),
    }
}

pub(in crate::commands) fn print_step(step: &Step) -> anyhow::Result<()> {
    let (stage, verdict, plugin) = (&step.stage, &step.verdict, &step.plugin);
    let memory = units::show_bytes(step.memory_peak_bytes);
    let fuel = step.fuel.map(|fuel| format!(", {fuel} fuel")).unwrap_or_default();
    output::line(format_args!("{stage}: {verdict}  ({plugin}, {} µs, {memory}{fuel})", step.took_us))?;
    if let Some(problem) = &step.problem {
        // The path of the payload itself is empty.
        let at = problem.path.as_deref().filter(|path| !path.is_empty());
        let at = at.map(|path| format!(" (at {path})")).unwrap_or_default();
        output::line(format_args!("  {}: {}{at}", problem.code, problem.message))?;
    }
    for change in &step.outputs {
        print_change(change)?;
    }
    for line in &step.log {
        output::line(format_args!("  log {}: {}", line.level, line.text))?;
    }
    if step.log_lines_dropped > 0 {
        output::line(format_args!("  log: {} over the limit", show_count(step.log_lines_dropped, "line")))?;
    }
    Ok(())
}

fn print_change(change: &OutputChange) -> anyhow::Result<()> {
    if let Some(to) = &change.to {
        output::line(format_args!("  to {to}"))?;
    }
    for (name, value) in &change.headers_set {
        output::line(format_args!("  + {name}={}", excerpt(value)))?;
    }
    for name in &change.headers_removed {
        output::line(format_args!("  - {name}"))?;
    }
    if let Some(payload) = &change.payload {
        let bytes = show_count(payload.bytes, "byte");
        output::line(format_args!("  payload ({bytes}): {}", excerpt(payload)))?;
    }
    Ok(())
}

fn excerpt(excerpt: &Excerpt) -> String {
    match (&excerpt.text, &excerpt.hex) {
        (Some(text), _) if (text.len() as u64) < excerpt.bytes => format!("{text}…"),
        (Some(text), _) => text.clone(),
        (None, hex) => format!("hex {}", hex.as_deref().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use wharf_admin::step::Through;

    use super::*;

    #[test]
    fn a_pipeline_that_may_refuse_a_message_is_named_before_its_queue() {
        let through = Through { queue: "tq".to_owned(), pipeline: "guard".to_owned() };
        let mut destination = Destination {
            topic: "in".to_owned(),
            queues: vec!["a".to_owned(), "b".to_owned()],
            through: vec![through],
        };
        assert_eq!(ways(&destination), "to queue a, b; through pipeline guard to queue tq");
        destination.queues.clear();
        assert_eq!(ways(&destination), "through pipeline guard to queue tq");
        destination.through.clear();
        assert_eq!(ways(&destination), "nowhere: nothing is bound to that topic");
    }
}
