//! `wharf pipeline show`.

use clap::Args as ClapArgs;
use wharf_admin::pipeline::{Breaker, Cpu, Pipeline, Stage, Verdicts};
use wharf_protocol::Name;

use super::trial;
use crate::admin::{Admin, path};
use crate::output::{self, Format, Output};
use crate::units::{self, show_count};

/// Shows a pipeline's active version
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf pipeline show orders
  wharf pipeline show orders -o json | jq -r .spec > orders.toml")]
pub(super) struct Show {
    /// Its name
    pipeline: Name,
    #[command(flatten)]
    output: Output,
}

pub(super) fn show(args: Show, admin: &Admin) -> anyhow::Result<()> {
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
        (faults, if faults == 1 { "fault" } else { "faults" }),
    ];
    let verdicts = verdicts.iter().filter(|(count, _)| *count > 0);
    let verdicts: String = verdicts.map(|(count, verdict)| format!(", {count} {verdict}")).collect();
    let average = stage.busy_us.checked_div(stage.messages).unwrap_or(0);
    let name = &stage.name;
    let breaker = describe_breaker(&stage.breaker);
    format!(
        "{name}: {} as {}, {}{verdicts}, {average} µs a message{breaker}",
        stage.plugin,
        stage.kind,
        show_count(stage.messages, "message")
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
