//! `wharf plugin inspect FILE.wasm`: what a component is, before any broker has it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args as ClapArgs;
use serde::Serialize;
use wharf_pipeline::{CONTRACT_VERSION, Engine, EngineConfig, Kind, Plugin, Reads};

use crate::output::{self, Output};
use crate::units::show_bytes;

/// How often it is loaded once it is compiled, of which the shortest counts: whatever else the machine does only adds.
const LOADS: usize = 8;

/// The imports that carry values and grant nothing.
const VALUES: [&str; 2] = ["types", "emit"];

/// Shows what a component is: its kinds, what it reads and needs, its configuration, how long it takes to load
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf plugin inspect strip_pii.wasm
  wharf plugin inspect strip_pii.wasm -o json | jq .config_schema")]
pub(super) struct Args {
    /// The component
    file: PathBuf,
    #[command(flatten)]
    output: Output,
}

/// What there is to say of a component.
#[derive(Debug, Serialize)]
struct Inspected {
    summary: String,
    kinds: Vec<Kind>,
    contract: String,
    digest: String,
    bytes: u64,
    reads: Reads,
    /// What a stage has to grant for what it calls; a name as in `lookup:prices` is the stage's to give.
    needs: Vec<String>,
    imports: Vec<String>,
    config_schema: Option<serde_json::Value>,
    compile_ms: u64,
    load_us: u64,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let inspected = inspect(&args.file)?;
    let schema = inspected.config_schema.as_ref().map(serde_json::to_string_pretty).transpose()?;
    let kinds: Vec<String> = inspected.kinds.iter().map(Kind::to_string).collect();
    let rows = vec![
        ("summary", inspected.summary.clone()),
        ("kinds", kinds.join(" ")),
        ("contract", format!("{} (this wharf serves up to {CONTRACT_VERSION})", inspected.contract)),
        ("reads", reads(&inspected.reads)),
        ("needs", inspected.needs.join(", ")),
        ("size", show_bytes(inspected.bytes)),
        ("digest", inspected.digest.clone()),
        ("compiling", format!("{} ms", inspected.compile_ms)),
        ("loading", format!("{} µs, once it is compiled", inspected.load_us)),
        ("imports", inspected.imports.join("\n")),
        ("configuration", schema.unwrap_or_default()),
    ];
    output::show(args.output, &inspected, rows)
}

fn inspect(file: &Path) -> anyhow::Result<Inspected> {
    let wasm = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let (wasm, bytes) = (Bytes::from(wasm.clone()), wasm.len() as u64);
    let cache = tempfile::tempdir().context("there is no place for compiled code")?;
    let config = EngineConfig {
        cache: Some(cache.path().to_path_buf()),
        threads: 1,
        instances: 4,
        ..EngineConfig::default()
    };
    let engine = Engine::new(config)?;
    let (plugin, compiling) = timed(|| engine.load(&wasm));
    let plugin = plugin?;
    let mut loading = Duration::MAX;
    for _ in 0..LOADS {
        let (again, took) = timed(|| engine.load(&wasm));
        again?;
        loading = loading.min(took);
    }
    let description = plugin.description();
    Ok(Inspected {
        summary: description.summary.clone(),
        kinds: plugin.kinds().to_vec(),
        contract: plugin.contract().to_owned(),
        digest: plugin.digest().to_owned(),
        bytes,
        reads: description.reads.clone(),
        needs: needs(&plugin),
        imports: plugin.imports().to_vec(),
        // One that is no JSON is shown as the text that it is.
        config_schema: description
            .config_schema
            .as_ref()
            .map(|text| serde_json::from_str(text).unwrap_or_else(|_| text.clone().into())),
        compile_ms: u64::try_from(compiling.as_millis()).unwrap_or(u64::MAX),
        load_us: u64::try_from(loading.as_micros()).unwrap_or(u64::MAX),
    })
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = run();
    (value, start.elapsed())
}

/// What a stage grants for these imports, by the names of the contract.
fn needs(plugin: &Plugin) -> Vec<String> {
    let ours = plugin.imports().iter().filter_map(|name| name.strip_prefix("wharf:plugin/"));
    let interfaces = ours.filter_map(|name| name.split('@').next());
    interfaces.filter(|name| !VALUES.contains(name)).map(str::to_owned).collect()
}

fn reads(reads: &Reads) -> String {
    let fields = [(reads.topic, "topic"), (reads.key, "key"), (reads.payload, "payload")];
    let fields = fields.into_iter().filter(|(read, _)| *read).map(|(_, name)| name.to_owned());
    fields.chain(reads.headers.iter().map(|name| format!("header {name}"))).collect::<Vec<_>>().join(", ")
}
