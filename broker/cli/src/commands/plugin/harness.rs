//! `wharf plugin harness FILE`: the broker's engine for the tests of a plugin.
//!
//! A [`Request`] a line comes in, its [`Response`] a line goes out, until the input ends. The component runs under the
//! broker's limits, with everything granted, and with fuel counted, which is exact and the same in each run.

use std::io::{self, BufRead as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::Value;
use wharf_pipeline::{
    Engine, EngineConfig, FailureKind, Grant, Item, Pipeline, PipelineSpec, Plugin, PrepareError, Processed,
    StageSpec, Target,
};
use wharf_plugin::harness::wire::{self, Ran, Request, Response};
use wharf_protocol::{HeadersBuilder, Message, Name, Timestamp};

/// Answers the requests on standard input with the component in `file`.
pub(super) fn run(file: &Path) -> anyhow::Result<()> {
    let wasm = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let engine = Engine::new(EngineConfig { fuel: true, ..EngineConfig::default() })?;
    let plugin = engine.load(&Bytes::from(wasm)).map_err(|error| format!("{:#}", anyhow::Error::from(error)));
    let mut bench = Bench { engine, plugin, prepared: None };
    for line in io::stdin().lock().lines() {
        let response = match serde_json::from_str(&line?) {
            Ok(request) => bench.answer(request),
            Err(error) => Response::Error(format!("the request is none: {error}")),
        };
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &response)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

/// The plugin, and the stage that it was last made into.
struct Bench {
    engine: Engine,
    plugin: Result<Arc<Plugin>, String>,
    prepared: Option<Prepared>,
}

struct Prepared {
    config: Value,
    outputs: Vec<String>,
    pipeline: Arc<Pipeline>,
}

impl Bench {
    fn answer(&mut self, request: Request) -> Response {
        let pipeline = match self.pipeline(&request) {
            Ok(pipeline) => pipeline,
            Err(response) => return response,
        };
        match ran(&pipeline, request) {
            Ok(ran) => Response::Ran(ran),
            Err(error) => Response::Error(format!("{error:#}")),
        }
    }

    /// The stage for `request`: the last one, when it is the same.
    fn pipeline(&mut self, request: &Request) -> Result<Arc<Pipeline>, Response> {
        let last = self.prepared.take();
        let same = |last: &Prepared| last.config == request.config && last.outputs == request.outputs;
        if let Some(last) = last.filter(same) {
            return Ok(Arc::clone(&self.prepared.insert(last).pipeline));
        }
        let plugin = self.plugin.clone().map_err(Response::Error)?;
        let spec = spec(request).map_err(|error| Response::Error(format!("{error:#}")))?;
        let pipeline = self.engine.prepare(spec, vec![plugin]).map_err(|error| match error {
            PrepareError::Config { problem, .. } => Response::Refused(told(problem)),
            error => Response::Error(format!("{:#}", anyhow::Error::from(error))),
        })?;
        let prepared =
            Prepared { config: request.config.clone(), outputs: request.outputs.clone(), pipeline };
        Ok(Arc::clone(&self.prepared.insert(prepared).pipeline))
    }
}

/// A pipeline of one stage. An output's name may be anything; where it leads is named after its number.
fn spec(request: &Request) -> anyhow::Result<PipelineSpec> {
    let mut stage = StageSpec::new("plugin".parse()?);
    stage.grants = vec![Grant::Log, Grant::Config, Grant::Metrics, Grant::Clock, Grant::Random];
    stage.config = match &request.config {
        Value::Object(config) => config.clone(),
        Value::Null => serde_json::Map::new(),
        _ => return Err(anyhow!("a stage's configuration is a JSON object")),
    };
    for (number, output) in request.outputs.iter().enumerate() {
        stage.outputs.insert(output.clone(), Target::Queue(number.to_string().parse()?));
    }
    let name: Name = "harness".parse()?;
    Ok(PipelineSpec {
        name,
        description: String::new(),
        ingress: None,
        delivery: Vec::new(),
        stages: vec![stage],
    })
}

/// Runs each message by itself: so each has its own account of log, time and memory.
fn ran(pipeline: &Pipeline, request: Request) -> anyhow::Result<Ran> {
    let mut ran = Ran { results: Vec::new(), log: Vec::new(), time_us: 0, memory_bytes: 0, fuel: None };
    for message in &request.messages {
        let item = Item { attempt: message.attempt, ..Item::new(parsed(message)?) };
        let traced = pipeline.run_traced(item, Timestamp::wall_clock());
        ran.results.push(result(traced.processed, &request.outputs));
        for step in traced.steps {
            ran.time_us += step.took_us;
            ran.memory_bytes = ran.memory_bytes.max(step.memory_peak_bytes as u64);
            ran.fuel = step.fuel.map(|fuel| fuel + ran.fuel.unwrap_or(0)).or(ran.fuel);
            ran.log.extend(step.log.into_iter().map(|line| (level(line.level), line.text)));
        }
    }
    Ok(ran)
}

fn parsed(message: &wire::Message) -> anyhow::Result<Message> {
    let mut headers = HeadersBuilder::default();
    for (name, value) in &message.headers {
        headers.set(name, BASE64.decode(value).with_context(|| format!("header {name}"))?);
    }
    let payload = BASE64.decode(&message.payload).context("payload")?;
    let key = message.key.as_ref().map(|key| BASE64.decode(key)).transpose().context("key")?;
    let reply_to = message.reply_to.as_ref().map(|topic| topic.parse()).transpose().context("reply-to")?;
    Ok(Message {
        headers: headers.build()?,
        key: key.map(Bytes::from),
        message_id: message.message_id.clone().map(Into::into),
        reply_to,
        ..Message::new(message.topic.parse().context("topic")?, payload)
    })
}

fn result(processed: Processed, outputs: &[String]) -> wire::Result {
    match processed {
        Processed::Passed(passed) => {
            let passed = passed.into_iter().map(|output| wire::Output {
                to: output.to.map(|target| declared(&target, outputs)),
                headers: encoded(&output.message),
                payload: BASE64.encode(&output.message.payload),
            });
            wire::Result::Passed(passed.collect())
        }
        Processed::Dropped { .. } => wire::Result::Dropped,
        Processed::Failed(failure) => {
            let problem = told(failure.problem);
            match failure.kind {
                FailureKind::Rejected => wire::Result::Rejected(problem),
                FailureKind::Retry { after } => {
                    let ms = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
                    wire::Result::Retry(problem, ms)
                }
                FailureKind::Fault(_) => wire::Result::Fault(problem),
            }
        }
    }
}

/// The name of the output that leads to `target`, as [`spec`] numbered it.
fn declared(target: &Target, outputs: &[String]) -> String {
    let number = match target {
        Target::Queue(number) => number.as_str().parse().ok(),
        Target::Topic(_) => None,
    };
    number.and_then(|number: usize| outputs.get(number)).cloned().unwrap_or_else(|| target.to_string())
}

fn encoded(message: &Message) -> Vec<(String, String)> {
    message.headers.iter().map(|(name, value)| (name.to_owned(), BASE64.encode(value))).collect()
}

fn told(problem: wharf_pipeline::Problem) -> wire::Problem {
    wire::Problem { code: problem.code, message: problem.message, path: problem.path }
}

fn level(level: wharf_pipeline::Level) -> String {
    match level {
        wharf_pipeline::Level::Debug => "debug",
        wharf_pipeline::Level::Info => "info",
        wharf_pipeline::Level::Warn => "warn",
        wharf_pipeline::Level::Error => "error",
    }
    .to_owned()
}
