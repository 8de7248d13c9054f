//! `wharf pipeline replay|shadow|canary`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args as ClapArgs;
use wharf_admin::pipeline::Pipeline;
use wharf_admin::trial::{BeginTrial, Comparison, Replay, ReplayResult, Time, Totals, Trial};
use wharf_protocol::{Name, Start};

use crate::admin::{Admin, path};
use crate::output::{self, Format, Output};
use crate::units;

/// Runs stored messages through a version and the active one, and shows what would differ
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf pipeline replay orders --version 4 --stream orders-in
  wharf pipeline replay orders --version 4 --stream orders-in --from 2026-01-31T09:00:00Z -n 10000
  wharf pipeline replay orders --spec orders.toml --dead-letters dead-letters
  wharf pipeline replay orders --version 4 --stream orders-in --allow-differences -o json | jq .comparison

Nothing is stored, delivered or settled. The exit code is 1 when anything differs.")]
pub(super) struct ReplayArgs {
    /// The pipeline's name
    pipeline: Name,
    /// The version to compare with the active one
    #[arg(long, value_name = "N", required_unless_present = "spec", conflicts_with = "spec")]
    version: Option<u32>,
    /// A pipeline file in place of a version
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// The stream where the messages lie
    #[arg(
        long,
        value_name = "NAME",
        required_unless_present = "dead_letters",
        conflicts_with = "dead_letters"
    )]
    stream: Option<Name>,
    /// Where in the stream to begin: `first`, an offset, or a time
    #[arg(long, value_name = "PLACE", requires = "stream")]
    from: Option<Start>,
    /// Before which offset or time to end [default: what is there now]
    #[arg(long, value_name = "PLACE", requires = "stream")]
    until: Option<Start>,
    /// The queue with dead letters; those that the pipeline gave up are the messages
    #[arg(long, value_name = "QUEUE")]
    dead_letters: Option<Name>,
    /// At most this many messages
    #[arg(short, value_name = "N", default_value_t = 1000)]
    n: u64,
    /// At most this many messages a second, as `500/s`
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    rate: Option<u32>,
    /// Examples of each class of differences
    #[arg(long, value_name = "K", default_value_t = 3)]
    examples: usize,
    /// Exit with 0 whatever differs
    #[arg(long)]
    allow_differences: bool,
    #[command(flatten)]
    output: Output,
}

/// Shows a version copies of live messages and compares; nothing of it is delivered
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf pipeline shadow orders --version 4
  wharf pipeline shadow orders --version 4 --share 10%
  wharf pipeline show orders                               what differed so far
  wharf pipeline shadow orders --stop

A message never waits for the shadow: copies for which there is no room are counted as skipped.")]
pub(super) struct ShadowArgs {
    /// The pipeline's name
    pipeline: Name,
    /// The version
    #[arg(long, value_name = "N", required_unless_present = "stop")]
    version: Option<u32>,
    /// Its share of the messages, by key
    #[arg(long, value_name = "PERCENT", value_parser = units::percent, default_value = "100%")]
    share: f64,
    /// Ends the trial that is under way, and shows what differed
    #[arg(long, conflicts_with = "version")]
    stop: bool,
    /// Why; kept in the history
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// Lets a version process a share of the keys, and rolls it back by itself when it passes a bound
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf pipeline canary orders --version 4 --share 5%
  wharf pipeline canary orders --version 4 --share 5% --errors-max 1% --divergence-max 2% --p99-max 20ms
  wharf pipeline canary orders --version 4 --share 5% --after 500 --promote-after 10000
  wharf pipeline show orders                               how it does
  wharf pipeline canary orders --stop

Each bound holds for any --after messages in a row of the canary's. A failed message is one that the canary rejects,
wants to be tried again, or breaks on, also where its stage lets it pass; or one of which it makes what cannot be stored
or delivered. All messages of a key, or else of a message id, go through one version.")]
pub(super) struct CanaryArgs {
    /// The pipeline's name
    pipeline: Name,
    /// The version
    #[arg(long, value_name = "N", required_unless_present = "stop")]
    version: Option<u32>,
    /// Its share of the messages, by key
    #[arg(long, value_name = "PERCENT", value_parser = units::percent, default_value = "5%")]
    share: f64,
    /// How many of its messages may fail
    #[arg(long, value_name = "PERCENT", value_parser = units::percent, default_value = "1%")]
    errors_max: f64,
    /// How many may come out otherwise than from the active version
    #[arg(long, value_name = "PERCENT", value_parser = units::percent, default_value = "100%")]
    divergence_max: f64,
    /// How long 99 of 100 may wait for it, each for its whole batch
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    p99_max: Option<Duration>,
    /// The bounds hold for each run of this many messages
    #[arg(long, value_name = "N", default_value_t = 500)]
    after: u32,
    /// Activates the version when this many messages kept the bounds
    #[arg(long, value_name = "N")]
    promote_after: Option<u64>,
    /// Ends the trial that is under way, and shows how it did
    #[arg(long, conflicts_with = "version")]
    stop: bool,
    /// Why; kept in the history
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub(super) fn replay(args: ReplayArgs, admin: &Admin) -> anyhow::Result<()> {
    let spec = args
        .spec
        .as_deref()
        .map(|file| std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display())));
    let replay = Replay {
        version: args.version,
        spec: spec.transpose()?,
        stream: args.stream.map(String::from),
        from: args.from.map(|from| from.to_string()),
        until: args.until.map(|until| until.to_string()),
        dead_letters: args.dead_letters.map(String::from),
        limit: Some(args.n),
        examples: Some(args.examples),
        per_second: args.rate,
    };
    let path = path(["v1", "pipelines", args.pipeline.as_str(), "replay"]);
    let result: ReplayResult = admin.post(&path, &replay)?;
    let Comparison { compared, different, .. } = result.comparison;
    match args.output.output {
        Format::Json => output::json(&result)?,
        Format::Table => {
            let candidate = match result.candidate {
                0 => "the file".to_owned(),
                number => format!("version {number}"),
            };
            output::line(format_args!("{}: {candidate} against version {}", result.pipeline, result.live))?;
            print(&result.comparison)?;
            if result.left_out > 0 {
                let letters = units::show_count(result.left_out, "dead letter");
                output::note(format_args!("{letters} left out, which {} did not give up", result.pipeline));
            }
            if let Some(stopped) = &result.stopped {
                output::note(format_args!("not all messages: {stopped}"));
            }
        }
    }
    if different > 0 && !args.allow_differences {
        bail!(
            "{different} of {compared} messages come out otherwise (--allow-differences takes that for success)"
        );
    }
    Ok(())
}

pub(super) fn shadow(args: ShadowArgs, admin: &Admin) -> anyhow::Result<()> {
    let Some(version) = args.version else { return stop(&args.pipeline, args.note, args.output, admin) };
    let trial = BeginTrial {
        version,
        kind: "shadow".into(),
        share_percent: Some(args.share),
        errors_max_percent: None,
        divergence_max_percent: None,
        p99_max_us: None,
        after: None,
        promote_after: None,
        note: args.note,
    };
    let pipeline: Pipeline = admin.post(&path_of(&args.pipeline), &trial)?;
    match args.output.output {
        Format::Json => output::json(&pipeline),
        Format::Table => output::line(format_args!(
            "version {version} of {} is shown {}% of the messages; `wharf pipeline show {}` says what differs",
            args.pipeline, args.share, args.pipeline
        )),
    }
}

pub(super) fn canary(args: CanaryArgs, admin: &Admin) -> anyhow::Result<()> {
    let Some(version) = args.version else { return stop(&args.pipeline, args.note, args.output, admin) };
    let trial = BeginTrial {
        version,
        kind: "canary".into(),
        share_percent: Some(args.share),
        errors_max_percent: Some(args.errors_max),
        divergence_max_percent: Some(args.divergence_max),
        p99_max_us: args.p99_max.map(|max| u64::try_from(max.as_micros()).unwrap_or(u64::MAX)),
        after: Some(args.after),
        promote_after: args.promote_after,
        note: args.note,
    };
    let pipeline: Pipeline = admin.post(&path_of(&args.pipeline), &trial)?;
    match args.output.output {
        Format::Json => output::json(&pipeline),
        Format::Table => output::line(format_args!(
            "version {version} of {} processes {}% of the keys; `wharf pipeline show {}` says how it does",
            args.pipeline, args.share, args.pipeline
        )),
    }
}

fn stop(pipeline: &Name, note: Option<String>, how: Output, admin: &Admin) -> anyhow::Result<()> {
    let query: Vec<_> = note.as_deref().map(|note| ("note", note)).into_iter().collect();
    let trial: Trial = admin.delete_with(&path_of(pipeline), &query)?;
    match how.output {
        Format::Json => output::json(&trial),
        Format::Table => {
            output::line(format_args!("the trial of version {} of {pipeline} is over", trial.version))?;
            output::line(describe(&trial))?;
            print(&trial.comparison)
        }
    }
}

fn path_of(pipeline: &Name) -> String {
    path(["v1", "pipelines", pipeline.as_str(), "trial"])
}

/// A trial on a line, or on a few for a canary.
pub(super) fn describe(trial: &Trial) -> String {
    let Comparison { compared, different, .. } = trial.comparison;
    let skipped = match trial.skipped {
        0 => String::new(),
        skipped => format!(", {skipped} skipped for want of room"),
    };
    let compared = format!("{different} of {compared} compared messages came out otherwise{skipped}");
    let (kind, version, share) = (&trial.kind, trial.version, trial.share_percent);
    let Some(bounds) = &trial.bounds else {
        return format!("{kind} of version {version}, {share}%: {compared}");
    };
    let (processed, failed, p99) = (trial.processed, trial.failed, trial.time.p99_us);
    let p99_max = bounds.p99_max_us.map(|max| format!(", p99 {max} µs")).unwrap_or_default();
    format!(
        "{kind} of version {version}, {share}%: {processed} processed, {failed} failed, p99 {p99} µs; {compared}\n\
         bounds for any {} in a row: {}% failed, {}% otherwise{p99_max}",
        bounds.after, bounds.errors_max_percent, bounds.divergence_max_percent
    )
}

/// What became of messages, without what became of none.
fn totals(totals: &Totals) -> String {
    let Totals { passed, dropped, rejected, retried, faults } = *totals;
    let faults_word = if faults == 1 { "fault" } else { "faults" };
    let each = [(dropped, "dropped"), (rejected, "rejected"), (retried, "retried"), (faults, faults_word)];
    let others = each.into_iter().filter(|(count, _)| *count > 0);
    others.fold(format!("{passed} passed"), |told, (count, what)| format!("{told}, {count} {what}"))
}

/// A comparison for people: the counts, the verdicts, the times, and a paragraph for each class.
pub(super) fn print(comparison: &Comparison) -> anyhow::Result<()> {
    let Comparison { compared, same, different, live_time, candidate_time, .. } = comparison;
    let messages = units::show_count(*compared, "message");
    output::line(format_args!("{messages}: {same} the same, {different} otherwise"))?;
    if *compared > 0 {
        let (active, candidate) = (totals(&comparison.live), totals(&comparison.candidate));
        output::line(format_args!("active: {active}; candidate: {candidate}"))?;
        let time = |time: &Time| {
            let share = time.total_us / compared;
            format!("p50 {} µs, p99 {} µs, share {share} µs", time.p50_us, time.p99_us)
        };
        output::line(format_args!("time: active {}; candidate {}", time(live_time), time(candidate_time)))?;
    }
    for class in &comparison.classes {
        let messages = units::show_count(class.messages, "message");
        output::line(format_args!("\n{} {}: {messages}", class.aspect, class.of))?;
        for example in &class.examples {
            let at = if example.at.is_empty() { String::new() } else { format!(" at {}", example.at) };
            output::line(format_args!("  {}{at}", example.message))?;
            output::line(format_args!("    - {}", example.live))?;
            output::line(format_args!("    + {}", example.candidate))?;
        }
    }
    if comparison.beyond > 0 {
        output::line(format_args!("\n{} differences more, in other classes", comparison.beyond))?;
    }
    Ok(())
}
