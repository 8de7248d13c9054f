//! A plugin under test: one component in this engine with the broker's limits, asked line by line.

mod measure;
mod wire;

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use wharf_protocol::{Kept, Name, Timestamp};

use crate::{
    Engine, EngineConfig, EngineError, Grant, Item, Kind, LoadError, Memory, Pipeline, PipelineSpec, Plugin,
    PluginRef, PrepareError, Schema, Secret, StageSpec, Table, Target,
};

pub(crate) use measure::Round;
pub use measure::{Measured, Spread};
pub use wire::{Lent, Message, Outcome, Output, Ran, Remembered, Request, Response};

/// The longest request line that is read.
const REQUEST_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The time that plugins see, unless a request says otherwise: 2026-01-01T00:00:00Z.
const NOW: Timestamp = Timestamp(1_767_225_600_000);

/// One component under test.
pub struct Harness {
    engine: Engine,
    plugin: Arc<Plugin>,
    lent: Lent,
    /// Kept from request to request while the stage stays the same.
    stage: Option<(StageSpec, Arc<Pipeline>)>,
}

/// Why a component cannot be tested.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// The engine does not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The component is no plugin.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl Harness {
    /// The component `wasm` in an engine of its own, with the broker's limits, counting fuel.
    ///
    /// # Errors
    /// The engine does not start, or the component is no plugin.
    pub fn open(wasm: &Bytes) -> Result<Self, HarnessError> {
        // A test runs one call after the other: few instances, and little address space, will do.
        let config = EngineConfig { fuel: true, threads: 1, instances: 4, ..EngineConfig::default() };
        let engine = Engine::new(config)?;
        let plugin = engine.load(wasm)?;
        Ok(Self { engine, plugin, lent: Lent::default(), stage: None })
    }

    /// The plugin.
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// Runs one request.
    pub fn answer(&mut self, request: &Request) -> Response {
        if request.renew {
            self.stage = None;
        }
        let items: Result<Vec<Item>, String> = request.messages.iter().map(Message::item).collect();
        let given = items.and_then(|items| Ok((items, Given::of(&request.kv)?)));
        let (items, memory) = match given.and_then(|given| self.lend(&request.lent).map(|()| given)) {
            Ok(given) => given,
            Err(error) => return Response::Error(error),
        };
        let pipeline = match self.pipeline(request) {
            Ok(pipeline) => pipeline,
            Err(error) => return Response::unprepared(error, items.len()),
        };
        let now = request.now_ms.map_or(NOW, Timestamp);
        let (processed, usage) = pipeline.run_metered(items, now, Arc::new(memory));
        let (processed, recalls): (Vec<_>, Vec<_>) = processed.into_iter().unzip();
        let results: Vec<_> =
            processed.into_iter().map(|processed| Outcome::of(processed, &request.outputs)).collect();
        let mut kv: Vec<_> = recalls.iter().map(wire::left).collect();
        if kv.iter().all(BTreeMap::is_empty) {
            kv.clear();
        }
        if results.iter().any(|result| matches!(result, Outcome::Fault(_))) {
            // The next request begins afresh: no breaker remembers this one.
            self.stage = None;
        }
        Response::Ran(Ran {
            results,
            kv,
            log: usage.log.into_iter().map(|line| (line.level, line.text)).collect(),
            time_us: u64::try_from(usage.took.as_micros()).unwrap_or(u64::MAX),
            memory_bytes: usage.memory_peak_bytes as u64,
            fuel: usage.fuel,
        })
    }

    /// Answers each line of `requests` with a line on `responses`, to the end.
    ///
    /// # Errors
    /// One of the two ends cannot be read or written.
    pub fn serve(&mut self, mut requests: impl BufRead, mut responses: impl Write) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = io::Read::take(&mut requests, REQUEST_BYTES_MAX).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(());
            }
            let response = match serde_json::from_slice(&line) {
                Ok(request) => self.answer(&request),
                Err(error) => Response::Error(format!("this line is no request: {error}")),
            };
            serde_json::to_writer(&mut responses, &response)?;
            responses.write_all(b"\n")?;
            responses.flush()?;
        }
    }

    /// Lends what `lent` says, and nothing else.
    fn lend(&mut self, lent: &Lent) -> Result<(), String> {
        if *lent == self.lent {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.lent, lent.clone());
        let library = self.engine.library();
        let named = |text: &str| text.parse::<Name>().map_err(|error| format!("{text:?}: {error}"));
        for name in before.tables.keys() {
            library.remove_table(&named(name)?);
        }
        for name in before.schemas.keys() {
            library.remove_schema(&named(name)?);
        }
        for name in before.secrets.keys() {
            library.remove_secret(&named(name)?);
        }
        for grant in before.unavailable.iter().filter_map(|grant| grant.parse().ok()) {
            match grant {
                Grant::Lookup(name) => library.remove_table(&name),
                Grant::Schema(name) => library.remove_schema(&name),
                _ => {}
            }
        }
        for (name, table) in &lent.tables {
            let entries = table.iter().map(|(key, value)| (key.clone(), Bytes::from(value.clone())));
            library.put_table(named(name)?, Table::new(1, entries));
        }
        for (name, document) in &lent.schemas {
            library.put_schema(named(name)?, Schema { version: 1, bytes: Bytes::from(document.clone()) });
        }
        for (name, secret) in &lent.secrets {
            library.put_secret(named(name)?, Secret::new(Bytes::from(secret.clone())));
        }
        for grant in &lent.unavailable {
            match grant.parse() {
                Ok(Grant::Lookup(name)) => library.spoil_table(name, "the test says so"),
                Ok(Grant::Schema(name)) => library.spoil_schema(name, "the test says so"),
                _ => return Err(format!("{grant:?} is neither lookup:TABLE nor schema:NAME")),
            }
        }
        Ok(())
    }

    fn pipeline(&mut self, request: &Request) -> Result<Arc<Pipeline>, PrepareError> {
        let stage = self.stage_spec(request);
        if let Some((same, pipeline)) = &self.stage
            && *same == stage
        {
            return Ok(Arc::clone(pipeline));
        }
        let spec = PipelineSpec {
            name: name("test"),
            description: String::new(),
            trace_sample: None,
            ingress: None,
            cpu: None,
            delivery: Vec::new(),
            stages: vec![stage.clone()],
        };
        let pipeline = self.engine.prepare(spec, vec![Arc::clone(&self.plugin)])?;
        self.stage = Some((stage, Arc::clone(&pipeline)));
        Ok(pipeline)
    }

    fn stage_spec(&self, request: &Request) -> StageSpec {
        let kind = request.kind.unwrap_or(self.plugin.kinds()[0]);
        let sends = matches!(kind, Kind::Router | Kind::Transformer);
        let outputs = request.outputs.iter().enumerate().filter(|_| sends);
        StageSpec {
            kind: Some(kind),
            own_name: Some(name("stage")),
            config: request.config.clone(),
            grants: request.grants.clone().unwrap_or_else(|| Grant::ALL.to_vec()),
            outputs: outputs.map(|(i, output)| (output.clone(), place(i))).collect::<BTreeMap<_, _>>(),
            deadline_ms: request.deadline_ms,
            ..StageSpec::new(PluginRef { name: name("plugin"), version: None })
        }
    }
}

/// What a request says that the pipeline remembers.
struct Given(BTreeMap<String, Kept>);

impl Given {
    fn of(kv: &BTreeMap<String, Remembered>) -> Result<Self, String> {
        let kept = kv.iter().map(|(key, remembered)| {
            let value = STANDARD.decode(&remembered.base64);
            let value = value.map_err(|error| format!("kv {key:?} is not base64: {error}"))?;
            Ok((key.clone(), Kept { value: value.into(), expires: remembered.expires_ms.map(Timestamp) }))
        });
        kept.collect::<Result<_, String>>().map(Self)
    }
}

impl Memory for Given {
    fn get(&self, key: &str) -> Option<Kept> {
        self.0.get(key).cloned()
    }

    fn bytes(&self) -> u64 {
        self.0.iter().map(|(key, kept)| kept.cost(key.len())).sum()
    }
}

/// The target that stands for the declared output `i`.
fn place(i: usize) -> Target {
    Target::Queue(name(&i.to_string()))
}

fn name(text: &str) -> Name {
    text.parse().expect("words and numbers are names")
}
