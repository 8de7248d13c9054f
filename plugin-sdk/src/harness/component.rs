//! The compiled component in the broker's engine: in the `wharf` binary, or in this process.

mod build;
#[cfg(feature = "harness-engine")]
mod engine;
#[cfg(not(feature = "harness-engine"))]
mod process;

use serde_json::Value;

use crate::harness::outcome::{Emitted, Outcome, Result, Usage};
use crate::harness::{Input, wire};
use crate::{Level, Problem, Stage};

#[cfg(feature = "harness-engine")]
use engine::Engine;
#[cfg(not(feature = "harness-engine"))]
use process::Engine;

/// A component that is running.
pub(crate) struct Component(Engine);

impl Component {
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self(Engine::start(build::component()))
    }

    #[track_caller]
    pub(crate) fn run(&mut self, stage: &Stage, config: &Value, inputs: &[Input]) -> Vec<Outcome> {
        match self.0.ask(&request(stage, config, inputs)) {
            wire::Response::Ran(ran) => {
                assert_eq!(ran.results.len(), inputs.len(), "one result a message");
                outcomes(ran)
            }
            wire::Response::Refused(problem) => {
                panic!("the plugin refuses the configuration {config}: {}", Problem::from(problem))
            }
            wire::Response::Error(error) => panic!("the component cannot be run: {error}"),
        }
    }
}

/// Why the component refuses a configuration.
#[track_caller]
pub(crate) fn refusal(stage: &Stage, config: &Value) -> Option<Problem> {
    match Component::start().0.ask(&request(stage, config, &[])) {
        wire::Response::Ran(_) => None,
        wire::Response::Refused(problem) => Some(problem.into()),
        wire::Response::Error(error) => panic!("the component cannot be run: {error}"),
    }
}

fn request(stage: &Stage, config: &Value, inputs: &[Input]) -> wire::Request {
    let messages = inputs.iter().map(|input| wire::Message {
        topic: input.topic.clone(),
        key: input.key.as_deref().map(to_base64),
        message_id: input.message_id.clone(),
        reply_to: input.reply_to.clone(),
        headers: input.headers.iter().map(|(name, value)| (name.clone(), to_base64(value))).collect(),
        payload: to_base64(&input.payload),
        attempt: input.attempt,
    });
    wire::Request { config: config.clone(), outputs: stage.outputs.clone(), messages: messages.collect() }
}

fn outcomes(ran: wire::Ran) -> Vec<Outcome> {
    let usage = Usage {
        time: std::time::Duration::from_micros(ran.time_us),
        memory_bytes: Some(ran.memory_bytes),
        fuel: ran.fuel,
    };
    let log: Vec<_> = ran.log.into_iter().map(|(level, line)| (parse_level(&level), line)).collect();
    let results = ran.results.into_iter().map(|result| match result {
        wire::Result::Passed(outputs) => Result::Passed(outputs.into_iter().map(emitted).collect()),
        wire::Result::Dropped => Result::Dropped,
        wire::Result::Rejected(problem) => Result::Rejected(problem.into()),
        wire::Result::Retry(problem, after) => {
            Result::Retry(problem.into(), after.map(std::time::Duration::from_millis))
        }
        wire::Result::Fault(problem) => Result::Fault(problem.into()),
    });
    results.map(|result| Outcome { result, log: log.clone(), usage }).collect()
}

fn emitted(output: wire::Output) -> Emitted {
    let headers = output.headers.into_iter().map(|(name, value)| (name, from_base64(&value)));
    Emitted { to: output.to, headers: headers.collect(), payload: from_base64(&output.payload) }
}

fn parse_level(level: &str) -> Level {
    match level {
        "debug" => Level::Debug,
        "warn" => Level::Warn,
        "error" => Level::Error,
        _ => Level::Info,
    }
}

fn to_base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[track_caller]
fn from_base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).expect("the engine answers in base64")
}

impl From<wire::Problem> for Problem {
    fn from(problem: wire::Problem) -> Self {
        Self { code: problem.code.into(), message: problem.message, path: problem.path }
    }
}
