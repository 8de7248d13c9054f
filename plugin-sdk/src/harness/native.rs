//! The logic, called directly, with the host's part played here.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use serde_json::Value;

use crate::bindings::imports::wharf::plugin::types::{self, View};
use crate::bindings::{enrich, route, transform, validate};
use crate::harness::outcome::{Emitted, Outcome, Result, Usage};
use crate::harness::{Changes, Input, Setup, Subject, Trouble, memory};
use crate::host::native::{self, Batch, Breach, Emitter, NOW, Stored, kv, lend, take_lines};
use crate::host::schema::Document;
use crate::{Enricher, Fields, Plugin, Problem, Router, Stage, Transformer, Validator, run};

/// Implemented by [`export!`](crate::export) outside Wasm: which of the four kinds a plugin is.
#[doc(hidden)]
pub trait Tested: Plugin {
    fn answer(&mut self, batch: &Answer<'_>) -> Vec<Verdict>;
}

/// A batch to answer.
#[doc(hidden)]
pub struct Answer<'a> {
    view: View,
    reads: &'a Fields,
    all: &'a Batch,
    emitter: &'a Emitter,
}

/// The verdicts of all kinds, as one type.
#[doc(hidden)]
pub enum Verdict {
    Keep,
    Drop,
    Emitted,
    To(Vec<u16>),
    Set(Vec<(String, Vec<u8>)>),
    Fail(types::Failure),
}

impl Answer<'_> {
    pub fn validate<P: Validator>(&self, plugin: &P) -> Vec<Verdict> {
        use validate::exports::wharf::plugin::validate::Verdict as Said;
        let said = run::validate(plugin, self.reads, &self.view, self.all).into_iter();
        said.map(|said| match said {
            Said::Accept => Verdict::Keep,
            Said::Fail(failure) => Verdict::Fail(failure),
        })
        .collect()
    }

    pub fn route<P: Router>(&self, plugin: &P) -> Vec<Verdict> {
        use route::exports::wharf::plugin::route::Verdict as Said;
        let said = run::route(plugin, self.reads, &self.view, self.all).into_iter();
        said.map(|said| match said {
            Said::Pass => Verdict::Keep,
            Said::Drop => Verdict::Drop,
            Said::To(outputs) => Verdict::To(outputs),
            Said::Fail(failure) => Verdict::Fail(failure),
        })
        .collect()
    }

    pub fn transform<P: Transformer>(&self, plugin: &mut P) -> Vec<Verdict> {
        use transform::exports::wharf::plugin::transform::Verdict as Said;
        let said = run::transform(plugin, self.reads, &self.view, self.all, self.emitter).into_iter();
        said.map(|said| match said {
            Said::Keep => Verdict::Keep,
            Said::Emitted => Verdict::Emitted,
            Said::Drop => Verdict::Drop,
            Said::Fail(failure) => Verdict::Fail(failure),
        })
        .collect()
    }

    pub fn enrich<P: Enricher>(&self, plugin: &P) -> Vec<Verdict> {
        use enrich::exports::wharf::plugin::enrich::Verdict as Said;
        let said = run::enrich(plugin, self.reads, &self.view, self.all).into_iter();
        said.map(|said| match said {
            Said::Unchanged => Verdict::Keep,
            Said::Set(headers) => Verdict::Set(headers),
            Said::Fail(failure) => Verdict::Fail(failure),
        })
        .collect()
    }
}

/// A plugin's function, and the instance that is in use.
pub(crate) struct Native<P> {
    instance: Option<(Setup, P)>,
}

impl<P> Default for Native<P> {
    fn default() -> Self {
        Self { instance: None }
    }
}

impl<P: Tested> Subject for Native<P> {
    fn run(&mut self, setup: &Setup, inputs: &[Input]) -> std::result::Result<Vec<Outcome>, Trouble> {
        native::prepare(setup.now_ms.unwrap_or(NOW), setup.granted());
        lend_what(setup);
        kv::remember(setup.kv.clone());
        let stage = stage(setup);
        // As the engine does it: a batch that breaks the plugin is run again, message by message, each on a new
        // instance, so that only the one that breaks it is charged.
        match self.run_batch(setup, &stage, inputs)? {
            Ok(outcomes) => Ok(outcomes),
            Err(_) if inputs.len() > 1 => {
                let mut setup = setup.clone();
                let alone = inputs.iter().map(|input| {
                    let outcomes = self.run(&setup, std::slice::from_ref(input))?;
                    outcomes.iter().for_each(|outcome| memory::apply(&mut setup.kv, &outcome.changes));
                    Ok(outcomes)
                });
                Ok(alone.collect::<std::result::Result<Vec<_>, _>>()?.into_iter().flatten().collect())
            }
            Err(problem) => {
                let given_bytes = inputs.iter().map(|input| input.payload.len() as u64).sum();
                let result = Result::Fault(problem);
                let (changes, log, usage) = (Changes::new(), take_lines(), Usage::default());
                Ok(vec![Outcome { result, changes, log, usage, given_bytes }])
            }
        }
    }

    fn renew(&mut self) {
        self.instance = None;
    }
}

impl<P: Tested> Native<P> {
    fn run_batch(
        &mut self,
        setup: &Setup,
        stage: &Stage,
        inputs: &[Input],
    ) -> std::result::Result<std::result::Result<Vec<Outcome>, Problem>, Trouble> {
        let made = self.instance.take();
        // What an instance is told at its start does not hang on the time or the grants.
        let same = |made: &Setup| made.config == setup.config && made.outputs == setup.outputs;
        let mut plugin = match made {
            Some((made, plugin)) if same(&made) => plugin,
            _ => start::<P>(stage, setup)?,
        };
        if inputs.is_empty() {
            self.instance = Some((setup.clone(), plugin));
            return Ok(Ok(Vec::new()));
        }
        let outcomes = catch_unwind(AssertUnwindSafe(|| run(&mut plugin, stage, inputs)));
        Ok(match outcomes {
            Ok(outcomes) => {
                self.instance = Some((setup.clone(), plugin));
                Ok(outcomes)
            }
            Err(panic) => Err(broken(panic.as_ref())),
        })
    }
}

fn lend_what(setup: &Setup) {
    let bytes = |text: &String| text.clone().into_bytes();
    let entries = |table: &BTreeMap<String, String>| {
        table.iter().map(|(key, value)| (key.clone(), bytes(value))).collect()
    };
    let document = |text: &String| Document { version: 1, bytes: bytes(text) };
    lend(|lent| {
        lent.tables = setup.tables.iter().map(|(name, table)| (name.clone(), (1, entries(table)))).collect();
        lent.schemas = setup.schemas.iter().map(|(name, text)| (name.clone(), document(text))).collect();
        lent.secrets = setup.secrets.iter().map(|(name, text)| (name.clone(), bytes(text))).collect();
        lent.unavailable.clone_from(&setup.unavailable);
    });
}

fn stage(setup: &Setup) -> Stage {
    Stage { pipeline: "test".into(), name: "stage".into(), outputs: setup.outputs.clone() }
}

fn start<P: Plugin>(stage: &Stage, setup: &Setup) -> std::result::Result<P, Trouble> {
    let config = Value::from(setup.config.clone()).to_string();
    lend(|lent| (lent.stage, lent.config) = (stage.clone(), config.clone()));
    match catch_unwind(AssertUnwindSafe(|| run::init(stage, &config))) {
        Ok(started) => started.map_err(Trouble::Refused),
        Err(panic) => Err(Trouble::Refused(broken(panic.as_ref()))),
    }
}

/// What the engine would say of a panic.
fn broken(panic: &(dyn Any + Send)) -> Problem {
    if let Some(Breach(problem)) = panic.downcast_ref() {
        return problem.clone();
    }
    let words = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    let words = words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    Problem::new("plugin-trap", format!("it panicked; its last words: {words}"))
}

fn run<P: Tested>(plugin: &mut P, stage: &Stage, inputs: &[Input]) -> Vec<Outcome> {
    let batch = Batch(inputs.iter().map(stored).collect());
    let payloads = inputs.iter().map(|input| input.payload.clone()).collect();
    let emitter = Emitter { payloads, ..Emitter::default() };
    let reads = plugin.reads();
    let call = Answer { view: batch.view(&reads), reads: &reads, all: &batch, emitter: &emitter };
    drop(take_lines());
    let begin = Instant::now();
    let verdicts = plugin.answer(&call);
    let usage = Usage { time: begin.elapsed(), ..Usage::default() };
    let (log, changes) = (take_lines(), kv::take_changes());
    assert_eq!(verdicts.len(), inputs.len(), "one verdict a message");

    let emitted = emitter.emitted.into_inner();
    let results = (0..).zip(inputs).zip(verdicts).map(|((index, input), verdict)| match verdict {
        Verdict::Keep => Result::Passed(vec![unchanged(input, None)]),
        Verdict::Drop => Result::Dropped,
        Verdict::To(outputs) => {
            let name = |output: u16| stage.outputs.get(usize::from(output)).cloned();
            Result::Passed(outputs.into_iter().map(|output| unchanged(input, name(output))).collect())
        }
        Verdict::Set(headers) => {
            let mut output = unchanged(input, None);
            set_headers(&mut output.headers, &headers);
            Result::Passed(vec![output])
        }
        Verdict::Emitted => {
            let own = emitted.iter().filter(|emitted| emitted.parent == index);
            Result::Passed(
                own.map(|emitted| {
                    let to = emitted.to.and_then(|to| stage.outputs.get(usize::from(to)).cloned());
                    let mut headers = input.headers.clone();
                    headers.retain(|(name, _)| !emitted.remove_headers.contains(name));
                    set_headers(&mut headers, &emitted.set_headers);
                    Emitted { to, headers, payload: emitted.payload.clone() }
                })
                .collect(),
            )
        }
        Verdict::Fail(types::Failure::Reject(problem)) => Result::Rejected(problem.into()),
        Verdict::Fail(types::Failure::Retry((problem, after))) => {
            let after = after.map(|after| std::time::Duration::from_millis(after.into()));
            Result::Retry(problem.into(), after)
        }
    });
    let given = inputs.iter().map(|input| input.payload.len() as u64);
    results
        .zip(given)
        .zip(changes)
        .map(|((result, given_bytes), changes)| Outcome {
            result,
            changes,
            log: log.clone(),
            usage,
            given_bytes,
        })
        .collect()
}

fn stored(input: &Input) -> Stored {
    Stored {
        topic: input.topic.clone(),
        key: input.key.clone(),
        message_id: input.message_id.clone(),
        reply_to: input.reply_to.clone(),
        headers: input.headers.clone(),
        payload: input.payload.clone(),
        attempt: input.attempt,
        priority: 0,
        ttl: None,
    }
}

fn unchanged(input: &Input, to: Option<String>) -> Emitted {
    Emitted { to, headers: input.headers.clone(), payload: input.payload.clone() }
}

fn set_headers(headers: &mut Vec<(String, Vec<u8>)>, set: &[(String, Vec<u8>)]) {
    for (name, value) in set {
        headers.retain(|(other, _)| other != name);
        headers.push((name.clone(), value.clone()));
    }
}

impl From<types::Problem> for Problem {
    fn from(problem: types::Problem) -> Self {
        Self { code: problem.code.into(), message: problem.message, path: problem.path }
    }
}
