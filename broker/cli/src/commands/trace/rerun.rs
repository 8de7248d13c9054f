//! `wharf trace rerun`.

use anyhow::bail;
use clap::Args as ClapArgs;
use wharf_admin::rerun::{Rerun, RerunPass, RerunResult};
use wharf_node::TraceKey;
use wharf_protocol::Name;

use crate::admin::{Admin, path};
use crate::commands::pipeline::print_step;
use crate::output::{self, Format, Output};
use crate::units::show_count;

/// Runs a traced message once more, with the time, random bits and memory of then, and compares it with the trace
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf trace rerun 4711-0
  wharf trace rerun 4711-0 --steps
  wharf trace rerun 4bf92f3577b34da6a3ce929d0e0e4736 --pipeline orders --version 4
  wharf trace rerun 4711-0 -o json | jq '.[].passes[].steps[] | {stage, fuel}'

Nothing is stored, delivered or counted. The exit code is 1 when anything differs, or cannot be run again.")]
pub(super) struct Args {
    /// A trace's id, or the id of a stored message
    id: TraceKey,
    /// Only this pipeline
    #[arg(long, value_name = "NAME")]
    pipeline: Option<Name>,
    /// Another version than the one that the message passed: shows in what its outcome differs
    #[arg(long, value_name = "N")]
    version: Option<u32>,
    /// Shows what each stage said now, and its fuel
    #[arg(long)]
    steps: bool,
    /// Takes differences for success
    #[arg(long)]
    allow_differences: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(args: Args, admin: &Admin) -> anyhow::Result<()> {
    let id = super::text(args.id);
    let asked = Rerun { pipeline: args.pipeline.map(|name| name.to_string()), version: args.version };
    let reruns: Vec<RerunResult> = admin.post(&path(["v1", "traces", &id, "rerun"]), &asked)?;
    match args.output.output {
        Format::Json => output::json(&reruns)?,
        Format::Table => reruns.iter().try_for_each(|rerun| print(rerun, args.steps))?,
    }
    let passes = || reruns.iter().flat_map(|rerun| &rerun.passes);
    let of = |outcome: &str| passes().filter(|pass| pass.outcome == outcome).count();
    match (of("impossible"), of("differs")) {
        (0, 0) => Ok(()),
        (0, _) if args.allow_differences => Ok(()),
        (0, differ) => bail!(
            "{differ} of {} runs came out otherwise (--allow-differences takes that for success)",
            passes().count()
        ),
        (impossible, _) => bail!("{impossible} of {} runs cannot be had again", passes().count()),
    }
}

fn print(rerun: &RerunResult, steps: bool) -> anyhow::Result<()> {
    output::line(format_args!("trace {}  {} at {}", rerun.id, rerun.topic, rerun.at))?;
    for pass in &rerun.passes {
        output::line(format_args!("{}: {}{}", place(pass), outcome(pass), fuel(pass)))?;
        for difference in &pass.differences {
            let stage = difference.stage.as_ref().map(|stage| format!("{stage}: ")).unwrap_or_default();
            output::line(format_args!("  {stage}{}", difference.what))?;
            output::line(format_args!("    - {}", difference.then))?;
            output::line(format_args!("    + {}", difference.now))?;
        }
        if pass.differences_more > 0 {
            output::line(format_args!("  and {}", show_count(pass.differences_more, "difference more")))?;
        }
        if steps {
            pass.steps.iter().try_for_each(print_step)?;
        }
    }
    Ok(())
}

fn place(pass: &RerunPass) -> String {
    let place = match (&pass.on_way_to, &pass.on_way_from) {
        (Some(queue), _) => format!("on the way to {queue}"),
        (None, Some(queue)) => format!("on the way out of {queue}"),
        (None, None) => "at ingress".to_owned(),
    };
    match pass.then == pass.now {
        true => format!("{}/{} {place}", pass.pipeline, pass.then),
        false => format!("{}/{} {place}, by version {}", pass.pipeline, pass.then, pass.now),
    }
}

fn outcome(pass: &RerunPass) -> String {
    let another = pass.then != pass.now;
    match pass.outcome.as_str() {
        "same" if another => "the same outcome".to_owned(),
        "same" => format!("the same bytes in its {}", show_count(pass.steps.len() as u64, "step")),
        "differs" if another => "another outcome".to_owned(),
        "differs" => "otherwise".to_owned(),
        _ => pass.reason.clone().unwrap_or_default(),
    }
}

/// What all its calls took of it; nothing where it was not counted.
fn fuel(pass: &RerunPass) -> String {
    let counted = pass.steps.iter().map(|step| step.fuel).sum::<Option<u64>>();
    counted.filter(|fuel| *fuel > 0).map(|fuel| format!(", {fuel} fuel")).unwrap_or_default()
}
