//! `wharf plugin bench FILE.wasm`: what a message costs, by batch size, and beside the same function native.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use clap::Args as ClapArgs;
use serde::Serialize;
use wharf_pipeline::harness::{Harness, Measured, Outcome, Request, Response};
use wharf_plugin::harness::baseline::{ANSWER, ORDER, Order};
use wharf_plugin::harness::{Input, Recording, Setup, case_inputs, wire};

use crate::output::{self, Output};
use crate::units::{self, show_bytes};

/// The largest batch that is measured.
const BATCH_MAX: usize = 4096;

/// Measures what a message costs a component: by batch size, in fuel and memory, and beside the native function
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf plugin bench strip_pii.wasm --message order.json
  wharf plugin bench strip_pii.wasm --recording orders.rec --batch 1,64
  wharf plugin bench strip_pii.wasm --cases cases --native .

All given messages are measured, in batches of each size, and repeated where they do not fill one. A call of the plugin
takes at most 64 messages, and one where it remembers (kv). --native DIR runs the ignored tests named `baseline` of the plugin's project, as `wharf plugin new` makes one.")]
pub(super) struct Args {
    /// The component
    file: PathBuf,
    /// A file that is the payload of a message
    #[arg(long, value_name = "FILE", group = "what")]
    message: Option<PathBuf>,
    /// A recording, with its stage
    #[arg(long, value_name = "FILE", group = "what")]
    recording: Option<PathBuf>,
    /// A folder of cases, with the stage of the first
    #[arg(long, value_name = "DIR", group = "what")]
    cases: Option<PathBuf>,
    /// How the stage is configured, as JSON
    #[arg(long, value_name = "FILE")]
    stage: Option<PathBuf>,
    /// A header of the message
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = units::header)]
    headers: Vec<(String, String)>,
    /// The sizes of batches
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,16,64,256")]
    batch: Vec<usize>,
    /// How long to measure each size
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "1s")]
    time: Duration,
    /// The plugin's project, whose native function is measured too
    #[arg(long, value_name = "DIR")]
    native: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// One batch size.
#[derive(Debug, Serialize)]
struct Row {
    batch: usize,
    /// Messages that a call of the plugin took.
    messages_per_call: f64,
    /// Nanoseconds a message, the median of the rounds, everything in the engine counted. A round is all messages.
    ns: u64,
    /// The same of the round that one in a hundred was slower than.
    ns_p99: u64,
    /// Nanoseconds a message within calls of the plugin.
    call_ns: u64,
    messages_per_s: u64,
    /// Of a message in this batch, where the plugin counts the same each time.
    fuel: u64,
    memory_bytes: u64,
    /// Nanoseconds a message, of the function natively.
    native_ns: Option<u64>,
    /// What became of the messages: a refusal costs less than a conversion.
    outcomes: BTreeMap<&'static str, usize>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let wasm = std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let wasm = Bytes::from(wasm);
    let (setup, inputs) = what(args)?;
    let mut for_times = Harness::open_for_times(&wasm)?;
    let mut for_fuel = Harness::open(&wasm)?;
    let mut rows = Vec::new();
    for &batch in &args.batch {
        if !(1..=BATCH_MAX).contains(&batch) {
            bail!("a batch has 1 to {BATCH_MAX} messages, not {batch}");
        }
        let count = inputs.len().next_multiple_of(batch);
        let messages: Vec<wire::Message> =
            inputs.iter().cycle().take(count).map(wire::Message::from).collect();
        let all = request(&setup, &messages)?;
        let measured = for_times.measure(&all, batch, args.time).map_err(|said| refused(&said))?;
        let counted = Counted::of(&mut for_fuel, &all, batch)?;
        let native = args.native.as_deref();
        let native_ns =
            native.map(|project| native_baseline(project, &setup, messages, args.time)).transpose()?;
        rows.push(Row::new(batch, &measured, counted, native_ns));
    }
    let titles = [
        "BATCH",
        "PER CALL",
        "NS/MESSAGE",
        "P99",
        "IN CALLS",
        "MESSAGES/S",
        "FUEL/MESSAGE",
        "MEMORY",
        "NATIVE",
        "OUTCOMES",
    ];
    output::list(args.output, &rows, &titles, |row| {
        let native = row.native_ns.map_or_else(
            || "-".to_owned(),
            |native| {
                let tenths = (row.ns * 10).checked_div(native).unwrap_or(0);
                format!("{native} ns, {}.{}× less", tenths / 10, tenths % 10)
            },
        );
        vec![
            row.batch.to_string(),
            row.messages_per_call.to_string(),
            row.ns.to_string(),
            row.ns_p99.to_string(),
            row.call_ns.to_string(),
            row.messages_per_s.to_string(),
            row.fuel.to_string(),
            show_bytes(row.memory_bytes),
            native,
            row.outcomes.iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", "),
        ]
    })
}

impl Row {
    fn new(batch: usize, measured: &Measured, counted: Counted, native_ns: Option<u64>) -> Self {
        let ns = measured.whole.median;
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let per_call = measured.messages as f64 / measured.calls.max(1) as f64;
        Self {
            batch,
            messages_per_call: (per_call * 10.0).round() / 10.0,
            ns,
            ns_p99: measured.whole.p99,
            call_ns: measured.call.median,
            messages_per_s: 1_000_000_000_u64.checked_div(ns).unwrap_or(0),
            fuel: counted.fuel,
            memory_bytes: counted.memory_bytes,
            native_ns,
            outcomes: counted.outcomes,
        }
    }
}

/// The stage and the messages that are given.
fn what(args: &Args) -> anyhow::Result<(Setup, Vec<Input>)> {
    let stage = args.stage.as_deref().map(super::check::read_stage).transpose()?;
    let (setup, inputs) = if let Some(file) = &args.recording {
        let recording = Recording::read(file).map_err(|error| anyhow!(error))?;
        let inputs = recording.inputs().map_err(|error| anyhow!(error))?;
        (stage.unwrap_or_else(|| recording.setup()), inputs)
    } else if let Some(folder) = &args.cases {
        let cases = case_inputs(folder, &stage.unwrap_or_default()).map_err(|error| anyhow!(error))?;
        let setup = cases.first().map(|(setup, _)| setup.clone()).unwrap_or_default();
        let of_it = cases.into_iter().filter(|(each, _)| *each == setup).map(|(_, input)| input);
        let inputs = of_it.collect();
        (setup, inputs)
    } else {
        let payload = match &args.message {
            Some(file) => std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?,
            None => Vec::new(),
        };
        let input = Input::new(payload);
        let headers = args.headers.iter();
        let input = headers.fold(input, |input, (name, value)| input.header(name, value.as_str()));
        (stage.unwrap_or_default(), vec![input])
    };
    if inputs.is_empty() {
        bail!("there is no message to measure with");
    }
    Ok((setup, inputs))
}

/// In the words of the engine's crate, by way of JSON: both ends agree on it.
fn request(setup: &Setup, messages: &[wire::Message]) -> anyhow::Result<Request> {
    let mut request = serde_json::to_value(wire::Request::at(setup))?;
    request["messages"] = serde_json::to_value(messages)?;
    Ok(serde_json::from_value(request)?)
}

/// What is the same each time, once the instance is warm.
struct Counted {
    /// Of a message.
    fuel: u64,
    memory_bytes: u64,
    outcomes: BTreeMap<&'static str, usize>,
}

impl Counted {
    /// A message that breaks the plugin measures nothing.
    fn of(harness: &mut Harness, all: &Request, batch: usize) -> anyhow::Result<Self> {
        let mut counted = Self { fuel: 0, memory_bytes: 0, outcomes: BTreeMap::new() };
        for messages in all.messages.chunks(batch) {
            let request = Request { messages: messages.to_vec(), ..all.clone() };
            harness.answer(&request);
            let ran = match harness.answer(&request) {
                Response::Ran(ran) => ran,
                said => return Err(refused(&said)),
            };
            for result in &ran.results {
                let what = match result {
                    Outcome::Passed(_) => "passed",
                    Outcome::Dropped => "dropped",
                    Outcome::Rejected(_) => "rejected",
                    Outcome::Retry(..) => "to be retried",
                    Outcome::Fault(problem) => bail!("the plugin breaks on such a message: {problem}"),
                };
                *counted.outcomes.entry(what).or_default() += 1;
            }
            counted.fuel += ran.fuel.unwrap_or_default();
            counted.memory_bytes = counted.memory_bytes.max(ran.memory_bytes);
        }
        counted.fuel /= all.messages.len().max(1) as u64;
        Ok(counted)
    }
}

fn refused(said: &Response) -> anyhow::Error {
    match said {
        Response::Refused(problem) => anyhow!("the configuration is refused: {problem} (give --stage FILE)"),
        Response::Error(error) => anyhow!("{error}"),
        Response::Ran(_) => anyhow!("it ran"),
    }
}

/// Runs the `baseline` tests of the plugin's project, optimised, and takes what they measured.
fn native_baseline(
    project: &Path,
    setup: &Setup,
    messages: Vec<wire::Message>,
    time: Duration,
) -> anyhow::Result<u64> {
    let order = tempfile::NamedTempFile::new()?;
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    serde_json::to_writer(order.as_file(), &Order { setup: setup.clone(), messages, milliseconds })?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let ran = Command::new(cargo)
        .current_dir(project)
        .args(["test", "--release", "--quiet", "--", "baseline", "--ignored", "--nocapture"])
        .env(ORDER, order.path())
        .output()
        .context("cannot run cargo")?;
    let said = String::from_utf8_lossy(&ran.stdout);
    let answer = said.lines().find_map(|line| line.strip_prefix(ANSWER)?.trim().parse().ok());
    answer.ok_or_else(|| {
        let why = String::from_utf8_lossy(&ran.stderr);
        let project = project.display();
        anyhow!(
            "{project} has no test named `baseline` that calls Harness::baseline, or it fails\n{}",
            why.trim()
        )
    })
}
