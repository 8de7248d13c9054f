//! `wharf plugin`: from an empty folder to a stage in the broker.

mod bench;
mod check;
mod componentize;
mod harness;
mod inspect;
mod project;
mod signing;

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use wharf_admin::plugin::{Collection, Plugin, SIGNATURE_HEADER};
use wharf_protocol::Name;

use crate::admin::{Admin, path};
use crate::connection::Connection;
use crate::output::{self, Format, Output};
use crate::units::{show_bytes, show_count};

/// Writes, tests, uploads and shows plugins
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf plugin new strip-pii --kind transformer
  cd strip-pii && wharf plugin test && wharf plugin build
  wharf plugin push target/wasm32-wasip2/release/strip_pii.wasm")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(New),
    Build(Project),
    Test(Test),
    Bench(bench::Args),
    Inspect(inspect::Args),
    Componentize(componentize::Args),
    Push(Push),
    Ls(List),
    Show(Show),
    Rm(Remove),
    Gc(Collect),
    Keygen(signing::Keygen),
    Sign(signing::Sign),
    Verify(signing::Verify),
    /// Runs messages from standard input through a component, for the tests of plugins
    #[command(hide = true)]
    Harness {
        /// The component
        file: PathBuf,
    },
}

/// Makes a plugin's project, whose tests pass at once
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf plugin new strip-pii
  wharf plugin new only-eu --kind router
  wharf plugin new add-total --lang js
  wharf plugin new check-total --kind validator --folder plugins/check-total")]
struct New {
    /// The plugin's name, and its folder's
    name: Name,
    /// What it will be
    #[arg(long, default_value = "transformer")]
    kind: Kind,
    /// What it is written in
    #[arg(long, default_value = "rust")]
    lang: Lang,
    /// Where to make it [default: the name]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Lang {
    /// Small and fast: 0.1 MB, tests in the broker's engine
    Rust,
    /// As small and as fast; needs Debian's clang to build
    C,
    /// JavaScript by QuickJS, checked by TypeScript's types: 1.6 MB; needs Node.js to build
    #[value(alias = "javascript", alias = "ts", alias = "typescript")]
    Js,
    /// Python by CPython: 18 MB; needs Python to build
    Python,
}

impl Lang {
    /// The language, where it is not Rust.
    fn other(self) -> Option<wharf_scaffold::Language> {
        match self {
            Self::Rust => None,
            Self::C => Some(wharf_scaffold::Language::C),
            Self::Js => Some(wharf_scaffold::Language::JavaScript),
            Self::Python => Some(wharf_scaffold::Language::Python),
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Accepts messages, or rejects them with a reason
    Validator,
    /// Lets messages pass, drops them, or sends them elsewhere
    Router,
    /// Makes zero, one or many messages of one
    Transformer,
    /// Sets headers, and leaves the payload as it is
    Enricher,
}

impl From<Kind> for wharf_scaffold::Kind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Validator => Self::Validator,
            Kind::Router => Self::Router,
            Kind::Transformer => Self::Transformer,
            Kind::Enricher => Self::Enricher,
        }
    }
}

/// Compiles the plugin in a folder to a component
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf plugin build
  wharf plugin build plugins/strip-pii")]
struct Project {
    /// The plugin's folder
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,
}

/// Tests a plugin in the engine and with the limits of the broker: a folder's own tests, or any component by cases
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf plugin test
  wharf plugin test plugins/strip-pii
  wharf plugin test -- --nocapture golden          to the tests themselves
  wharf plugin test strip_pii.wasm --cases cases   a component of any language
  wharf plugin test strip_pii.wasm --cases cases --update
  wharf plugin test strip_pii.wasm --recording orders.rec

A case is a folder with a payload.* or a message.json or both, and the expected.json that --update writes. A stage.json
in it, or beside the cases, says how the stage is configured.")]
struct Test {
    /// The plugin's folder, or its component
    #[arg(default_value = ".", value_name = "DIR|FILE.wasm")]
    plugin: PathBuf,
    #[command(flatten)]
    check: check::Args,
    /// Arguments for the tests themselves
    #[arg(last = true, value_name = "ARG")]
    arguments: Vec<String>,
}

/// Uploads a component: checked and compiled by the broker, and ready for pipelines
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf plugin push target/wasm32-wasip2/release/strip_pii.wasm
  wharf plugin push strip_pii.wasm --name strip-pii --version 1.2.0")]
struct Push {
    /// The component
    file: PathBuf,
    /// Its name [default: the package's that it was built from, or the file's]
    #[arg(long)]
    name: Option<Name>,
    /// Its version [default: the package's that it was built from]
    #[arg(long)]
    version: Option<String>,
    /// Its signature, as `wharf plugin sign` writes it [default: FILE.sig, where there is one]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
}

/// Lists the plugins that the broker has
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf plugin ls
  wharf plugin ls -o json | jq -r '.[] | .name + \" \" + .digest'")]
struct List {
    #[command(flatten)]
    output: Output,
}

/// Shows a plugin: what it can be, what it reads, how it is configured, who uses it
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf plugin show xml-to-json
  wharf plugin show strip-pii 1.2.0 -o json | jq .config_schema")]
struct Show {
    /// Its name
    name: Name,
    /// Its version [default: the newest]
    version: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// Removes a version that no pipeline uses
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf plugin rm strip-pii 1.1.0")]
struct Remove {
    /// Its name
    name: Name,
    /// Its version
    version: String,
}

/// Removes versions that no kept version of a pipeline uses, and files that nothing names
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf plugin gc --dry-run
  wharf plugin gc

What a pipeline has in any version that is kept (active, staged, in its history) stays, and so does what comes with
wharf.")]
struct Collect {
    /// Only tell what would be removed
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(args: Args, connection: &Connection) -> anyhow::Result<()> {
    match args.command {
        Command::New(new) => project::make(&new.name, new.kind.into(), new.lang.other(), new.folder),
        Command::Build(project) => {
            let component = project::build(&project.folder)?;
            output::line(format_args!("{}  {}", component.path.display(), show_bytes(component.bytes)))
        }
        Command::Test(test) if test.plugin.is_dir() => test_project(&test),
        Command::Test(test) => check::run(&test.plugin, &test.check),
        Command::Bench(args) => bench::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Componentize(args) => componentize::run(&args),
        Command::Push(args) => push(args, &connection.admin()?),
        Command::Gc(args) => collect(args, &connection.admin()?),
        Command::Keygen(args) => signing::keygen(&args),
        Command::Sign(args) => signing::sign(&args),
        Command::Verify(args) => signing::verify(&args),
        Command::Ls(args) => list(args, &connection.admin()?),
        Command::Show(args) => show(args, &connection.admin()?),
        Command::Rm(args) => {
            let path = path(["v1", "plugins", args.name.as_str(), &args.version]);
            connection.admin()?.delete(&path, &[])?;
            output::line(format_args!("plugin {} {} is gone", args.name, args.version))
        }
        Command::Harness { file } => harness::run(&file),
    }
}

fn test_project(test: &Test) -> anyhow::Result<()> {
    match project::cases(&test.plugin)? {
        // In Rust, tests are Rust.
        None => {
            project::test(&test.plugin, &test.arguments)?;
            match test.check.is_asked() {
                true => check::run(&project::build(&test.plugin)?.path, &test.check),
                false => Ok(()),
            }
        }
        Some(cases) => {
            ensure!(
                test.arguments.is_empty(),
                "arguments behind `--` are for tests in Rust, and this project has none"
            );
            let component = project::build(&test.plugin)?;
            output::note(format_args!(
                "testing {} ({})",
                component.path.display(),
                show_bytes(component.bytes)
            ));
            check::run(&component.path, &test.check.or_cases(cases))
        }
    }
}

fn push(args: Push, admin: &Admin) -> anyhow::Result<()> {
    let component =
        std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let package = project::package_of(&args.file);
    let name = match (args.name, &package) {
        (Some(name), _) => name,
        (None, Some(package)) => package.name.parse().context("the package's name (give --name)")?,
        (None, None) => project::name_of(&args.file).parse().context("the file's name (give --name)")?,
    };
    let version = args.version.or(package.map(|package| package.version)).context(
        "no package with a version was found above the file: say which version it is (--version 1.0.0)",
    )?;
    let signature =
        signing::of(&args.file, args.signature.as_deref())?.map(|signature| signature.to_string());
    let header = signature.as_deref().map(|signature| (SIGNATURE_HEADER, signature));
    let path = path(["v1", "plugins", name.as_str(), &version]);
    let plugin: Plugin = admin.put_bytes_with(&path, header, "application/wasm", &component)?;
    output::line(format_args!(
        "plugin {} {} is there: {}, {}, {}",
        plugin.name,
        plugin.version,
        plugin.kinds.join(" and "),
        show_bytes(plugin.bytes),
        plugin.digest,
    ))?;
    if plugin.signed_by != "nobody" {
        output::line(format_args!("signed by {}", plugin.signed_by))?;
    }
    match plugin.uses.as_deref() {
        Some([_, ..]) => output::line(format_args!("it uses {}", uses(&plugin))),
        _ => Ok(()),
    }
}

/// What a plugin uses of the host, and what a stage has to grant for it.
///
/// `clock` and `random` are in the contract's worlds, so a component may import them and never call them: a pipeline that
/// does not grant them is taken, and a call is a fault. The others are imported by who uses them, and asked for when a
/// pipeline is applied.
fn uses(plugin: &Plugin) -> String {
    let uses = plugin.uses.as_deref().unwrap_or_default();
    let those = |are: fn(&str) -> bool| -> Vec<&str> {
        uses.iter().map(String::as_str).filter(|name| are(name)).collect()
    };
    let called = those(|name| ["clock", "random"].contains(&name)).join(", ");
    let needed = those(|name| ["kv", "lookup", "schema", "secrets"].contains(&name)).join(", ");
    let uses = uses.join(", ");
    match (needed.is_empty(), called.is_empty()) {
        (true, true) => uses,
        (false, true) => format!("{uses} (its stages have to grant {needed})"),
        (true, false) => format!("{uses} (its stages have to grant {called} if it calls them)"),
        (false, false) => {
            format!("{uses} (its stages have to grant {needed}, and {called} if it calls them)")
        }
    }
}

fn collect(args: Collect, admin: &Admin) -> anyhow::Result<()> {
    let query = if args.dry_run { "?dry_run=true" } else { "" };
    let collection: Collection = admin.post(&format!("/v1/garbage/plugins{query}"), &())?;
    if matches!(args.output.output, Format::Json) {
        return output::json(&collection);
    }
    let done = if collection.dry_run { "would go" } else { "is gone" };
    for plugin in &collection.plugins {
        let size = show_bytes(plugin.bytes);
        output::line(format_args!(
            "plugin {} {} {done}: {size}, {}",
            plugin.name, plugin.version, plugin.digest
        ))?;
    }
    if collection.stray_files > 0 {
        let files = show_count(collection.stray_files as u64, "file");
        let size = show_bytes(collection.stray_bytes);
        output::line(format_args!("{files} that nothing names: {size}"))?;
    }
    if collection.plugins.is_empty() && collection.stray_files == 0 {
        output::note("nothing to collect");
    }
    if collection.more {
        output::note("there is more: collect again");
    }
    Ok(())
}

fn list(args: List, admin: &Admin) -> anyhow::Result<()> {
    let plugins: Vec<Plugin> = admin.get(&path(["v1", "plugins"]))?;
    let titles = ["NAME", "VERSION", "KINDS", "SIZE", "USED BY", "SUMMARY"];
    output::list(args.output, &plugins, &titles, |plugin| {
        let used_by = if plugin.used_by.is_empty() { "-".into() } else { plugin.used_by.join(" ") };
        vec![
            plugin.name.clone(),
            plugin.version.clone(),
            plugin.kinds.join(" "),
            show_bytes(plugin.bytes),
            used_by,
            plugin.summary.clone(),
        ]
    })
}

fn show(args: Show, admin: &Admin) -> anyhow::Result<()> {
    let segments = ["v1", "plugins", args.name.as_str()].into_iter().chain(args.version.as_deref());
    let plugin: Plugin = admin.get(&path(segments))?;
    let schema = plugin.config_schema.as_ref().map(serde_json::to_string_pretty).transpose()?;
    let rows = vec![
        ("name", plugin.name.clone()),
        ("version", plugin.version.clone()),
        ("summary", plugin.summary.clone()),
        ("kinds", plugin.kinds.join(" ")),
        ("reads", reads(&plugin)),
        ("size", show_bytes(plugin.bytes)),
        ("digest", plugin.digest.clone()),
        ("signed by", plugin.signed_by.clone()),
        ("uses", uses(&plugin)),
        ("uploaded", format!("{} by {}", plugin.uploaded_at, plugin.uploaded_by)),
        ("used by", plugin.used_by.join(" ")),
        ("configuration", schema.unwrap_or_default()),
    ];
    output::show(args.output, &plugin, rows)
}

fn reads(plugin: &Plugin) -> String {
    let Some(reads) = &plugin.reads else { return String::new() };
    let fields = [(reads.topic, "topic"), (reads.key, "key"), (reads.payload, "payload")];
    let fields = fields.into_iter().filter(|(read, _)| *read).map(|(_, name)| name.to_owned());
    fields.chain(reads.headers.iter().map(|name| format!("header {name}"))).collect::<Vec<_>>().join(", ")
}
