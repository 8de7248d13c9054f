//! The thread that sends spans to a collector.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ureq::Agent;
use ureq::http::StatusCode;
use wharf_node::{Node, NodeError, Trace, TraceFeed};

use crate::span;

/// Traces in one request at most.
const BATCH_MAX: usize = 256;
/// Traces that wait for the exporter at most; more are lost.
const WAITING_MAX: usize = 2048;
/// How often a batch is sent before it is given up.
const ATTEMPTS_MAX: u32 = 5;
/// How long one attempt may take.
const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(10);
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Where spans go.
#[derive(Clone, Debug)]
pub struct Config {
    /// The collector: `http://127.0.0.1:4318`, to which `/v1/traces` is added where it has no path.
    pub endpoint: String,
    /// By which name the collector knows this broker.
    pub service: String,
    /// The pause before a second attempt; each further one is twice as long.
    pub pause: Duration,
}

impl Config {
    /// To `endpoint`, with every default.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), service: "wharf".to_owned(), pause: Duration::from_secs(1) }
    }
}

/// Why no exporter starts.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Not a plain HTTP address.
    #[error(
        "{0:?} is no collector: spans are sent over http://, as http://127.0.0.1:4318; TLS is a collector's beside the broker"
    )]
    Endpoint(String),
    /// The node does not show its traces.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// There is no thread for it.
    #[error("the exporter's thread does not start")]
    Thread(#[from] std::io::Error),
}

/// Traces that were exported, and those that were not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The collector took them.
    pub exported: u64,
    /// Given up: the collector refused them, or was away for too long.
    pub lost: u64,
}

/// Sends every trace of a node to a collector, until the node stops.
#[derive(Debug)]
pub struct Exporter {
    thread: JoinHandle<()>,
    counters: Arc<Counters>,
    /// Dropped when nothing is to be tried again.
    hurry: Sender<()>,
}

#[derive(Debug, Default)]
struct Counters {
    exported: AtomicU64,
    lost: AtomicU64,
}

impl Exporter {
    /// Starts to send the traces of `node`.
    ///
    /// # Errors
    /// The address is not one; too many follow the node's traces.
    pub fn start(node: &Node, config: Config) -> Result<Self, StartError> {
        let Some(rest) = config.endpoint.strip_prefix("http://").filter(|rest| !rest.is_empty()) else {
            return Err(StartError::Endpoint(config.endpoint));
        };
        let url = match rest.trim_end_matches('/').contains('/') {
            true => config.endpoint.clone(),
            false => format!("{}/v1/traces", config.endpoint.trim_end_matches('/')),
        };
        let feed = node.follow_traces(WAITING_MAX)?;
        let counters = Arc::new(Counters::default());
        let (hurry, hurried) = channel();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(ATTEMPT_TIME_MAX))
            .proxy(None)
            .build()
            .into();
        let sender = Exports { agent, url, config, counters: Arc::clone(&counters), hurried };
        let thread = std::thread::Builder::new().name("wharf-otlp".to_owned());
        let thread = thread.spawn(move || sender.run(feed))?;
        Ok(Self { thread, counters, hurry })
    }

    /// What became of the traces so far.
    pub fn counts(&self) -> Counts {
        Counts { exported: self.counters.exported.load(Relaxed), lost: self.counters.lost.load(Relaxed) }
    }

    /// Ends after the node has stopped: what is left is sent once, and nothing is tried again.
    pub async fn stop(self) -> Counts {
        let Self { thread, counters, hurry } = self;
        drop(hurry);
        // One that panicked has said so.
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        Counts { exported: counters.exported.load(Relaxed), lost: counters.lost.load(Relaxed) }
    }
}

/// What the thread has.
struct Exports {
    agent: Agent,
    url: String,
    config: Config,
    counters: Arc<Counters>,
    hurried: Receiver<()>,
}

/// What an attempt came to.
enum Attempt {
    Taken,
    /// Try again, not before so long.
    Again(Option<Duration>, String),
    Refused(String),
}

impl Exports {
    fn run(self, mut feed: TraceFeed) {
        while let Some(first) = feed.blocking_next() {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Some(next) = feed.try_next()
            {
                batch.push(next);
            }
            let counter = match self.send(&batch) {
                Ok(()) => &self.counters.exported,
                Err(reason) => {
                    tracing::warn!(url = self.url, traces = batch.len(), reason, "traces were not exported");
                    &self.counters.lost
                }
            };
            counter.fetch_add(batch.len() as u64, Relaxed);
        }
    }

    /// Sends a batch, a few times where that can help.
    fn send(&self, batch: &[Arc<Trace>]) -> Result<(), String> {
        let request = span::request(&self.config.service, batch.iter().map(|trace| &**trace)).to_string();
        let mut pause = self.config.pause;
        for attempt in 1.. {
            let (after, reason) = match self.attempt(&request) {
                Attempt::Taken => return Ok(()),
                Attempt::Refused(reason) => return Err(reason),
                Attempt::Again(after, reason) => (after, reason),
            };
            let rest = after.unwrap_or(pause).min(PAUSE_MAX);
            if attempt == ATTEMPTS_MAX || self.is_hurried(rest) {
                return Err(reason);
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Err("it was given up".to_owned())
    }

    /// Rests for so long; whether it is to end instead.
    fn is_hurried(&self, rest: Duration) -> bool {
        matches!(self.hurried.recv_timeout(rest), Err(RecvTimeoutError::Disconnected))
    }

    /// By the OTLP specification, 429, 502, 503 and 504 are tried again, after what `Retry-After` says.
    fn attempt(&self, request: &str) -> Attempt {
        let sent = self.agent.post(&self.url).header("content-type", "application/json").send(request);
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => return Attempt::Again(None, error.to_string()),
        };
        let status = answer.status();
        let said = format!("the collector answered {status}");
        match status {
            _ if status.is_success() => Attempt::Taken,
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                let after = answer.headers().get("retry-after").and_then(|after| after.to_str().ok());
                Attempt::Again(after.and_then(|after| after.parse().ok()).map(Duration::from_secs), said)
            }
            _ => Attempt::Refused(said),
        }
    }
}
