//! `wharf pipeline`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args as ClapArgs, Subcommand};
use wharf_admin::pipeline::{Activate, Change, Pipeline, Rollback, Staged};
use wharf_protocol::Name;

use crate::admin::{Admin, path};
use crate::connection::Connection;
use crate::output::{self, Output};

mod attempt;
mod file;
mod show;
mod trial;

pub(super) use self::attempt::{print, print_step};

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
    Show(show::Show),
    History(History),
    Rollback(RollbackArgs),
    Try(attempt::Try),
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
  config = { arrays = [\"line\"] }")]
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
                    if pipeline.broken.is_some() { "does not run".into() } else { stages.join(" → ") },
                ]
            })
        }
        Command::Show(args) => show::show(args, &admin),
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
        Command::Try(args) => attempt::try_messages(args, &admin),
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
    let (name, spec, content_type) = file::read(&args.file, args.name)?;
    let query: Vec<_> = args.note.as_deref().map(|note| ("note", note)).into_iter().collect();
    let pipeline: Pipeline = admin
        .put_bytes(&path(["v1", "pipelines", name.as_str()]), &query, content_type, spec.as_bytes())
        .with_context(|| format!("{} was not applied", args.file.display()))?;
    activated(&pipeline)
}

fn stage(args: StageArgs, admin: &Admin) -> anyhow::Result<()> {
    let (name, spec, content_type) = file::read(&args.file, args.name)?;
    let query: Vec<_> = args.note.as_deref().map(|note| ("note", note)).into_iter().collect();
    let path = path(["v1", "pipelines", name.as_str(), "versions"]);
    let staged: Staged = admin
        .post_bytes(&path, &query, content_type, spec.as_bytes())
        .with_context(|| format!("{} was not staged", args.file.display()))?;
    let version = staged.version;
    output::line(format_args!("pipeline {name} has a version {version}, which is not active"))
}

fn activated(pipeline: &Pipeline) -> anyhow::Result<()> {
    let stages = pipeline.stages.iter().map(|stage| format!("{} ({})", stage.name, stage.plugin));
    let stages = stages.collect::<Vec<_>>().join(" → ");
    output::line(format_args!("pipeline {} is at version {}: {stages}", pipeline.name, pipeline.version))
}
