//! A plugin under test: one component in this engine with the broker's limits, asked line by line.
//!
//! The plugin SDK's tests speak to `wharf plugin harness FILE.wasm`, a JSON object a line: a [`Request`] on
//! its standard input, the [`Response`] to it on its standard output. Bytes are base64.
//!
//! ```json
//! {"config":{},"outputs":["eu"],"messages":[{"topic":"orders","headers":[["region","ZXU="]],"payload":"e30="}]}
//! {"ran":{"results":[{"passed":[{"to":"eu","headers":[["region","ZXU="]],"payload":"e30="}]}],
//!         "log":[],"time_us":41,"memory_bytes":1114112,"fuel":2171}}
//! ```

mod measure;

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use wharf_protocol::{HeadersBuilder, Kept, Name, Timestamp, Topic};

use crate::{
    Engine, EngineConfig, EngineError, FailureKind, Grant, Item, Kind, Level, LoadError, Memory, Pipeline,
    PipelineSpec, Plugin, PluginRef, PrepareError, Problem, Processed, Recall, Schema, Secret, StageSpec,
    Table, Target,
};

pub(crate) use measure::Round;
pub use measure::{Measured, Spread};

/// The longest request line that is read.
const REQUEST_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The time that plugins see, unless a request says otherwise: 2026-01-01T00:00:00Z.
const NOW: Timestamp = Timestamp(1_767_225_600_000);

/// A batch to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The stage's configuration, an object.
    #[serde(default)]
    pub config: serde_json::Map<String, serde_json::Value>,
    /// The names of the declared outputs.
    #[serde(default)]
    pub outputs: Vec<String>,
    /// The batch; empty to try the configuration alone.
    #[serde(default)]
    pub messages: Vec<Message>,
    /// As what to use a plugin that is several; the first of its kinds where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// What to grant; everything where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<Grant>>,
    /// What is lent, in place of what the request before lent.
    #[serde(default)]
    pub lent: Lent,
    /// The time that the plugin sees, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now_ms: Option<u64>,
    /// How long a call may take, in place of the broker's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// What the pipeline remembers before the batch.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kv: BTreeMap<String, Remembered>,
    /// Whether every instance is forgotten first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub renew: bool,
}

/// What is lent to the plugin by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lent {
    /// Tables: keys and values.
    pub tables: BTreeMap<String, BTreeMap<String, String>>,
    /// Schemas.
    pub schemas: BTreeMap<String, String>,
    /// Secrets.
    pub secrets: BTreeMap<String, String>,
    /// What is there and cannot be read, as it is granted: `lookup:prices`, `schema:order`.
    pub unavailable: Vec<String>,
}

/// A value that the pipeline remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    /// The value, in base64.
    pub base64: String,
    /// When it is there no more, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
}

/// A message to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Where it was published.
    pub topic: String,
    /// The key, in base64.
    #[serde(default)]
    pub key: Option<String>,
    /// The publisher's id.
    #[serde(default)]
    pub message_id: Option<String>,
    /// Where an answer goes.
    #[serde(default)]
    pub reply_to: Option<String>,
    /// Names, and values in base64.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The body, in base64.
    #[serde(default)]
    pub payload: String,
    /// How often it was delivered before.
    #[serde(default)]
    pub attempt: u32,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// The plugin refuses the configuration.
    Refused(Problem),
    /// The request is no request, or does not fit the plugin.
    Error(String),
    /// It ran.
    Ran(Ran),
}

/// A batch that ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// One a message, in order.
    pub results: Vec<Outcome>,
    /// What each message left in what the pipeline remembers, in order; `None` under a key: it removed it. Empty where
    /// none changed anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kv: Vec<BTreeMap<String, Option<Remembered>>>,
    /// The lines that the plugin wrote.
    pub log: Vec<(Level, String)>,
    /// How long the calls took.
    pub time_us: u64,
    /// The most linear memory that an instance had.
    pub memory_bytes: u64,
    /// Instructions, about; exact and the same in each run.
    pub fuel: Option<u64>,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// These go on.
    Passed(Vec<Output>),
    /// Nothing does.
    Dropped,
    /// The plugin rejects it.
    Rejected(Problem),
    /// The plugin asks for it again, not before so many milliseconds.
    Retry(Problem, Option<u64>),
    /// The plugin broke.
    Fault(Problem),
}

/// A message that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The declared output; absent: on to where it was going.
    pub to: Option<String>,
    /// Names, and values in base64.
    pub headers: Vec<(String, String)>,
    /// The body, in base64.
    pub payload: String,
}

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
            Err(error) => return error.into(),
        };
        let now = request.now_ms.map_or(NOW, Timestamp);
        let (processed, usage) = pipeline.run_metered(items, now, Arc::new(memory));
        let (processed, recalls): (Vec<_>, Vec<_>) = processed.into_iter().unzip();
        let results: Vec<_> =
            processed.into_iter().map(|processed| Outcome::of(processed, &request.outputs)).collect();
        let mut kv: Vec<_> = recalls.iter().map(left).collect();
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

fn left(recall: &Recall) -> BTreeMap<String, Option<Remembered>> {
    let remembered = |kept: &Kept| Remembered {
        base64: STANDARD.encode(&kept.value),
        expires_ms: kept.expires.map(|expires| expires.0),
    };
    recall.changes.iter().map(|(key, kept)| (key.to_string(), kept.as_ref().map(remembered))).collect()
}

/// The target that stands for the declared output `i`.
fn place(i: usize) -> Target {
    Target::Queue(name(&i.to_string()))
}

fn name(text: &str) -> Name {
    text.parse().expect("words and numbers are names")
}

impl From<PrepareError> for Response {
    fn from(error: PrepareError) -> Self {
        match error {
            PrepareError::Config { problem, .. } | PrepareError::Init { problem, .. } => {
                Self::Refused(problem)
            }
            error => Self::Error(error.to_string()),
        }
    }
}

impl Message {
    fn item(&self) -> Result<Item, String> {
        let bytes = |field: &str, text: &str| {
            STANDARD.decode(text).map(Bytes::from).map_err(|error| format!("{field} is not base64: {error}"))
        };
        let topic = |text: &str| text.parse::<Topic>().map_err(|error| error.to_string());
        let mut headers = HeadersBuilder::default();
        for (name, value) in &self.headers {
            headers.set(name, bytes(name, value)?);
        }
        let mut message = wharf_protocol::Message::new(topic(&self.topic)?, bytes("payload", &self.payload)?);
        message.headers = headers.build().map_err(|error| error.to_string())?;
        message.key = self.key.as_deref().map(|key| bytes("key", key)).transpose()?;
        message.message_id = self.message_id.as_deref().map(ByteString::from);
        message.reply_to = self.reply_to.as_deref().map(topic).transpose()?;
        Ok(Item { attempt: self.attempt, ..Item::new(message) })
    }
}

impl Outcome {
    fn of(processed: Processed, outputs: &[String]) -> Self {
        let failure = match processed {
            Processed::Passed(made) => {
                return Self::Passed(made.into_iter().map(|output| Output::of(&output, outputs)).collect());
            }
            Processed::Dropped { .. } => return Self::Dropped,
            Processed::Failed(failure) => failure,
        };
        match failure.kind {
            FailureKind::Rejected => Self::Rejected(failure.problem),
            FailureKind::Retry { after } => {
                let after_ms = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
                Self::Retry(failure.problem, after_ms)
            }
            FailureKind::Fault(_) => Self::Fault(failure.problem),
        }
    }
}

impl Output {
    fn of(output: &crate::Output, outputs: &[String]) -> Self {
        let to = output
            .to
            .as_ref()
            .and_then(|target| (0..outputs.len()).find(|i| place(*i) == *target).map(|i| outputs[i].clone()));
        Self::written(to, &output.message)
    }

    /// `message`, which goes to the declared output `to`.
    pub(crate) fn written(to: Option<String>, message: &wharf_protocol::Message) -> Self {
        Self { to, headers: written(&message.headers), payload: STANDARD.encode(&message.payload) }
    }
}

impl From<&Item> for Message {
    fn from(Item { message, attempt, .. }: &Item) -> Self {
        Self {
            topic: message.topic.to_string(),
            key: message.key.as_ref().map(|key| STANDARD.encode(key)),
            message_id: message.message_id.as_ref().map(ToString::to_string),
            reply_to: message.reply_to.as_ref().map(ToString::to_string),
            headers: written(&message.headers),
            payload: STANDARD.encode(&message.payload),
            attempt: *attempt,
        }
    }
}

fn written(headers: &wharf_protocol::Headers) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.to_owned(), STANDARD.encode(value))).collect()
}
