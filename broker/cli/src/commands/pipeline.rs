//! `wharf pipeline`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args as ClapArgs, Subcommand};
use wharf_admin::message::MessageJson;
use wharf_admin::pipeline::{
    Activate, Breaker, Change, Cpu, Pipeline, Rollback, Stage, Staged, Try as TryRequest, Verdicts,
};
use wharf_admin::trace::{Excerpt, OutputChange, Step, Trace};
use wharf_protocol::{HeadersBuilder, Message, Name, Topic};

use crate::admin::{Admin, path};
use crate::connection::Connection;
use crate::output::{self, Format, Output};
use crate::units;

mod trial;

/// Applies, stages, shows, tries and rolls back pipelines
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf pipeline apply orders.toml
  wharf pipeline stage orders.toml
  wharf pipeline try orders --file order.xml
  wharf pipeline rollback orders")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Apply(Apply),
    Stage(StageArgs),
    Activate(ActivateArgs),
    Ls(List),
    Show(Show),
    History(History),
    Rollback(RollbackArgs),
    Try(Try),
    Replay(trial::ReplayArgs),
    Shadow(trial::ShadowArgs),
    Canary(trial::CanaryArgs),
    Rm(Remove),
}

/// Makes a pipeline file the next version of its pipeline, and activates it
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf pipeline apply orders.toml
  wharf pipeline apply orders.toml --note 'accept empty baskets'
  wharf pipeline apply new.toml --name orders

A pipeline file:
  name = \"orders\"
  ingress = \"orders.#\"           # or none, and `wharf bind … --pipeline orders`

  [[stage]]
  plugin = \"xml-to-json\"
  on-failure = \"dead-letter\"     # or \"reject\": the publisher is told
  config = { force-list = [\"line\"] }")]
struct Apply {
    /// The pipeline file: TOML, or JSON when it ends in .json
    file: PathBuf,
    /// The pipeline's name [default: the `name` in the file, or the file's own]
    #[arg(long)]
    name: Option<Name>,
    /// Why; kept in the history
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// Adds a pipeline file as a version of its pipeline that is not active: to try, replay, shadow or canary
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf pipeline stage orders.toml --note 'totals with discounts'
  wharf pipeline activate orders 4")]
struct StageArgs {
    /// The pipeline file: TOML, or JSON when it ends in .json
    file: PathBuf,
    /// The pipeline's name [default: the `name` in the file, or the file's own]
    #[arg(long)]
    name: Option<Name>,
    /// Why; kept in the history
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// Lists the pipelines
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf pipeline ls
  wharf pipeline ls -o json | jq '.[] | {name, version}'")]
struct List {
    #[command(flatten)]
    output: Output,
}

/// Shows a pipeline's active version
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf pipeline show orders
  wharf pipeline show orders -o json | jq -r .spec > orders.toml")]
struct Show {
    /// Its name
    pipeline: Name,
    #[command(flatten)]
    output: Output,
}

/// Shows which version was active when, and why
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf pipeline history orders")]
struct History {
    /// Its name
    pipeline: Name,
    #[command(flatten)]
    output: Output,
}

/// Activates a version that is there, at one place in the log
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf pipeline activate orders 4 --note 'totals with discounts'")]
struct ActivateArgs {
    /// Its name
    pipeline: Name,
    /// The version
    version: u32,
    /// Why; kept in the history
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// Activates an earlier version again
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf pipeline rollback orders                      to the version that was active before
  wharf pipeline rollback orders --to 3 --note 'totals are wrong'")]
struct RollbackArgs {
    /// Its name
    pipeline: Name,
    /// The version to go back to [default: the one that was active before]
    #[arg(long, value_name = "VERSION")]
    to: Option<u32>,
    /// Why; kept in the history
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// Runs a message through a pipeline and shows what every stage did; delivers nothing
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf pipeline try orders --file message.json            {\"topic\": \"orders.eu\", \"payload\": \"<order/>\"}
  wharf pipeline try orders --file order.xml --topic orders.eu.created -H tenant=acme
  wharf pipeline try orders --version 4 --file message.json
  wharf pipeline try orders --spec orders.toml --file message.json
  wharf dlq show 4711-0 -o json | jq .message | wharf pipeline try orders --file -

The file is a message as `wharf sub -o json` prints one, or, with --topic, a payload.")]
struct Try {
    /// The pipeline's name
    pipeline: Name,
    /// The message, as JSON or as its payload; `-` is standard input
    #[arg(long, value_name = "MESSAGE")]
    file: PathBuf,
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

/// Removes a pipeline that no binding goes through
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf pipeline rm orders")]
struct Remove {
    /// Its name
    pipeline: Name,
}

pub(crate) fn run(args: Args, connection: &Connection) -> anyhow::Result<()> {
    let admin = connection.admin()?;
    match args.command {
        Command::Apply(args) => apply(args, &admin),
        Command::Stage(args) => stage(args, &admin),
        Command::Activate(args) => {
            let path = path(["v1", "pipelines", args.pipeline.as_str(), "activate"]);
            let pipeline: Pipeline =
                admin.post(&path, &Activate { version: args.version, note: args.note })?;
            activated(&pipeline)
        }
        Command::Ls(args) => {
            let pipelines: Vec<Pipeline> = admin.get(&path(["v1", "pipelines"]))?;
            let titles = ["NAME", "VERSION", "INGRESS", "BOUND TO", "STAGES"];
            output::list(args.output, &pipelines, &titles, |pipeline| {
                let stages = pipeline.stages.iter().map(|stage| stage.name.clone()).collect::<Vec<_>>();
                vec![
                    pipeline.name.clone(),
                    pipeline.version.to_string(),
                    pipeline.ingress.clone().unwrap_or_else(|| "-".into()),
                    if pipeline.bound_to.is_empty() { "-".into() } else { pipeline.bound_to.join(" ") },
                    stages.join(" → "),
                ]
            })
        }
        Command::Show(args) => show(args, &admin),
        Command::History(args) => {
            let path = path(["v1", "pipelines", args.pipeline.as_str(), "history"]);
            let changes: Vec<Change> = admin.get(&path)?;
            output::list(
                args.output,
                &changes,
                &["VERSION", "CHANGE", "AT", "RECORD", "BY", "NOTE"],
                |change| {
                    let active = if change.active { "  (active)" } else { "" };
                    vec![
                        format!("{}{active}", change.version),
                        change.change.replace('-', " "),
                        change.at.clone(),
                        change.index.to_string(),
                        change.by.clone(),
                        change.note.clone(),
                    ]
                },
            )
        }
        Command::Rollback(args) => {
            let path = path(["v1", "pipelines", args.pipeline.as_str(), "rollback"]);
            let pipeline: Pipeline = admin.post(&path, &Rollback { to: args.to, note: args.note })?;
            activated(&pipeline)
        }
        Command::Try(args) => try_message(args, &admin),
        Command::Replay(args) => trial::replay(args, &admin),
        Command::Shadow(args) => trial::shadow(args, &admin),
        Command::Canary(args) => trial::canary(args, &admin),
        Command::Rm(args) => {
            admin.delete(&path(["v1", "pipelines", args.pipeline.as_str()]), &[])?;
            output::line(format_args!("pipeline {} is gone", args.pipeline))
        }
    }
}

fn apply(args: Apply, admin: &Admin) -> anyhow::Result<()> {
    let (name, spec, content_type) = read_spec(&args.file, args.name)?;
    let query: Vec<_> = args.note.as_deref().map(|note| ("note", note)).into_iter().collect();
    let pipeline: Pipeline = admin
        .put_bytes(&path(["v1", "pipelines", name.as_str()]), &query, content_type, spec.as_bytes())
        .with_context(|| format!("{} was not applied", args.file.display()))?;
    activated(&pipeline)
}

fn stage(args: StageArgs, admin: &Admin) -> anyhow::Result<()> {
    let (name, spec, content_type) = read_spec(&args.file, args.name)?;
    let query: Vec<_> = args.note.as_deref().map(|note| ("note", note)).into_iter().collect();
    let path = path(["v1", "pipelines", name.as_str(), "versions"]);
    let staged: Staged = admin
        .post_bytes(&path, &query, content_type, spec.as_bytes())
        .with_context(|| format!("{} was not staged", args.file.display()))?;
    let version = staged.version;
    output::line(format_args!("pipeline {name} has a version {version}, which is not active"))
}

/// A pipeline file: whose it is, its text, and what kind of text.
fn read_spec(file: &Path, name: Option<Name>) -> anyhow::Result<(Name, String, &'static str)> {
    let spec = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let json = file.extension().is_some_and(|extension| extension == "json");
    let name = match name {
        Some(name) => name,
        None => name_in(&spec, json).map_or_else(|| stem(file), Ok)?,
    };
    Ok((name, spec, if json { "application/json" } else { "application/toml" }))
}

fn show(args: Show, admin: &Admin) -> anyhow::Result<()> {
    let pipeline: Pipeline = admin.get(&path(["v1", "pipelines", args.pipeline.as_str()]))?;
    let mut rows = vec![
        ("name", pipeline.name.clone()),
        ("version", pipeline.version.to_string()),
        ("ingress", pipeline.ingress.clone().unwrap_or_default()),
        ("bound to", pipeline.bound_to.join(" ")),
        ("delivery", pipeline.delivery.join(" ")),
        ("versions", versions(&pipeline)),
    ];
    rows.push(("broken", pipeline.broken.clone().unwrap_or_default()));
    rows.push(("cpu", describe_cpu(&pipeline.cpu)));
    for stage in &pipeline.stages {
        rows.push(("stage", describe(stage)));
    }
    rows.push(("trial", pipeline.trial.as_ref().map(trial::describe).unwrap_or_default()));
    rows.push(("file", pipeline.spec.trim_end().to_owned()));
    output::show(args.output, &pipeline, rows)?;
    match (&pipeline.trial, args.output.output) {
        (Some(trial), Format::Table) if trial.comparison.different > 0 => {
            output::line("")?;
            trial::print(&trial.comparison)
        }
        _ => Ok(()),
    }
}

/// The numbers of the versions that are kept, as runs: `1-3 5`.
fn versions(pipeline: &Pipeline) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for version in &pipeline.versions {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == version.version => *last = version.version,
            _ => runs.push((version.version, version.version)),
        }
    }
    let shown = |(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.iter().map(shown).collect::<Vec<_>>().join(" ")
}

/// A stage and what it did, on a line.
fn describe(stage: &Stage) -> String {
    let Verdicts { passed, changed, routed, dropped, rejected, retried, faults } = stage.verdicts;
    let verdicts = [
        (passed, "passed"),
        (changed, "changed"),
        (routed, "routed"),
        (dropped, "dropped"),
        (rejected, "rejected"),
        (retried, "to be tried again"),
        (faults, "faults"),
    ];
    let verdicts = verdicts.iter().filter(|(count, _)| *count > 0);
    let verdicts: String = verdicts.map(|(count, verdict)| format!(", {count} {verdict}")).collect();
    let average = stage.busy_us.checked_div(stage.messages).unwrap_or(0);
    let name = &stage.name;
    let breaker = describe_breaker(&stage.breaker);
    format!(
        "{name}: {} as {}, {} messages{verdicts}, {average} µs a message{breaker}",
        stage.plugin, stage.kind, stage.messages
    )
}

/// What is to be known of a breaker: nothing, as long as it never opened.
fn describe_breaker(breaker: &Breaker) -> String {
    let last = breaker.last_fault.as_ref();
    let last =
        last.map(|last| format!("; {} ago: {}: {}", units::show_time(last.ago_ms), last.code, last.message));
    let last = last.unwrap_or_default();
    let since = units::show_time(breaker.since_ms);
    match (breaker.state.as_str(), breaker.next_try_in_ms) {
        ("closed", _) if breaker.faults_in_a_row == 0 => String::new(),
        ("closed", _) => format!("\n  {} faults in a row{last}", breaker.faults_in_a_row),
        ("open", next) => {
            let next = units::show_time(next.unwrap_or_default());
            format!("\n  suspended for {since}, tried again in {next}{last}")
        }
        (_, _) => format!("\n  suspended for {since}, tried again with the next message{last}"),
    }
}

/// What a pipeline takes of processor time, on a line.
fn describe_cpu(cpu: &Cpu) -> String {
    let us = |us: u64| units::show_time(us / 1000);
    let mut text = match &cpu.share {
        Some(share) => format!("at most {share}, {} so far", us(cpu.busy_us)),
        None => format!("{} so far", us(cpu.busy_us)),
    };
    if cpu.waits > 0 {
        text.push_str(&format!(", {} batches waited {}", cpu.waits, us(cpu.waited_us)));
    }
    if cpu.owed_us > 0 {
        text.push_str(&format!(", the next waits {}", us(cpu.owed_us)));
    }
    text
}

fn activated(pipeline: &Pipeline) -> anyhow::Result<()> {
    let stages = pipeline.stages.iter().map(|stage| format!("{} ({})", stage.name, stage.plugin));
    let stages = stages.collect::<Vec<_>>().join(" → ");
    output::line(format_args!("pipeline {} is at version {}: {stages}", pipeline.name, pipeline.version))
}

/// The `name` that a pipeline file gives itself. A file that cannot be read as one is the broker's to explain.
fn name_in(spec: &str, json: bool) -> Option<Name> {
    let name = match json {
        true => serde_json::from_str::<serde_json::Value>(spec).ok()?.get("name")?.as_str()?.to_owned(),
        false => spec.parse::<toml::Table>().ok()?.get("name")?.as_str()?.to_owned(),
    };
    name.parse().ok()
}

fn stem(file: &Path) -> anyhow::Result<Name> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    stem.parse().with_context(|| format!("{} does not name a pipeline (give --name)", file.display()))
}

fn try_message(args: Try, admin: &Admin) -> anyhow::Result<()> {
    let bytes = super::publish::read(&args.file)?;
    let message = match args.topic {
        Some(topic) => payload(topic, bytes, &args.headers, args.key)?,
        None => serde_json::from_slice(&bytes).with_context(|| {
            let file = args.file.display();
            format!("{file} is not a message as JSON (with --topic, the file is a message's payload)")
        })?,
    };
    let spec = args
        .spec
        .as_deref()
        .map(|file| std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display())));
    let candidate = TryRequest { message, version: args.version, spec: spec.transpose()? };
    let trace: Trace = admin.post(&path(["v1", "pipelines", args.pipeline.as_str(), "try"]), &candidate)?;
    match args.output.output {
        Format::Json => output::json(&trace),
        Format::Table => print(&trace),
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
pub(super) fn print(trace: &Trace) -> anyhow::Result<()> {
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
                let queues = match destination.queues.as_slice() {
                    [] => "nowhere: nothing is bound to that topic".to_owned(),
                    queues => format!("to queue {}", queues.join(", ")),
                };
                output::line(format_args!("  {}  {queues}", destination.topic))?;
            }
            Ok(())
        }
        ("failed", _) => output::line(format_args!("{name} {version} does not let it pass")),
        (result, _) => output::line(format_args!("{name} {version}: {result}")),
    }
}

pub(super) fn print_step(step: &Step) -> anyhow::Result<()> {
    let (stage, verdict, plugin) = (&step.stage, &step.verdict, &step.plugin);
    let memory = units::show_bytes(step.memory_peak_bytes);
    output::line(format_args!("{stage}: {verdict}  ({plugin}, {} µs, {memory})", step.took_us))?;
    if let Some(problem) = &step.problem {
        let at = problem.path.as_ref().map(|path| format!(" (at {path})")).unwrap_or_default();
        output::line(format_args!("  {}: {}{at}", problem.code, problem.message))?;
    }
    for change in &step.outputs {
        print_change(change)?;
    }
    for line in &step.log {
        output::line(format_args!("  log {}: {}", line.level, line.text))?;
    }
    if step.log_lines_dropped > 0 {
        output::line(format_args!("  log: {} lines over the limit", step.log_lines_dropped))?;
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
        output::line(format_args!("  payload ({} bytes): {}", payload.bytes, excerpt(payload)))?;
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
    use super::*;

    #[test]
    fn a_pipeline_is_named_by_its_file_or_in_it() {
        let in_it = |spec, json| name_in(spec, json).map(String::from);
        assert_eq!(in_it("name = \"orders\"\n[[stage]]\nplugin = \"a\"", false), Some("orders".into()));
        assert_eq!(in_it(r#"{"name": "orders"}"#, true), Some("orders".into()));
        assert_eq!(in_it("[[stage]]", false), None);
        assert_eq!(in_it("not toml", false), None);
        assert_eq!(stem(Path::new("pipelines/orders.toml")).expect("a name").as_str(), "orders");
        assert!(stem(Path::new("a b.toml")).is_err());
    }
}
