//! The logic, called directly, with the host's part played here.

use std::time::Instant;

use serde_json::Value;

use crate::bindings::imports::wharf::plugin::types::{self, View};
use crate::bindings::{enrich, route, transform, validate};
use crate::harness::Input;
use crate::harness::outcome::{Emitted, Outcome, Result, Usage};
use crate::host::Emitter;
use crate::host::backend::{Batch, Stored, lend, take_lines};
use crate::{Enricher, Plugin, Problem, Router, Stage, Transformer, Validator, run};

/// Implemented by [`export!`](crate::export) outside Wasm: which of the four kinds a plugin is.
#[doc(hidden)]
pub trait Tested: Plugin {
    fn answer(&mut self, batch: &Answer<'_>) -> Vec<Verdict>;
}

/// A batch to answer.
#[doc(hidden)]
pub struct Answer<'a> {
    view: View,
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
        let said = run::validate(plugin, &self.view, self.all).into_iter();
        said.map(|said| match said {
            Said::Accept => Verdict::Keep,
            Said::Fail(failure) => Verdict::Fail(failure),
        })
        .collect()
    }

    pub fn route<P: Router>(&self, plugin: &P) -> Vec<Verdict> {
        use route::exports::wharf::plugin::route::Verdict as Said;
        let said = run::route(plugin, &self.view, self.all).into_iter();
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
        let said = run::transform(plugin, &self.view, self.all, self.emitter).into_iter();
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
        let said = run::enrich(plugin, &self.view, self.all).into_iter();
        said.map(|said| match said {
            Said::Unchanged => Verdict::Keep,
            Said::Set(headers) => Verdict::Set(headers),
            Said::Fail(failure) => Verdict::Fail(failure),
        })
        .collect()
    }
}

pub(crate) fn start<P: Plugin>(stage: &Stage, config: &Value) -> std::result::Result<P, Problem> {
    let config = config.to_string();
    lend(|lent| (lent.stage, lent.config) = (stage.clone(), config.clone()));
    run::init(stage, &config)
}

pub(crate) fn run<P: Tested>(plugin: &mut P, stage: &Stage, inputs: &[Input]) -> Vec<Outcome> {
    let batch = Batch(inputs.iter().map(stored).collect());
    let payloads = inputs.iter().map(|input| input.payload.clone()).collect();
    let emitter = Emitter { payloads, ..Emitter::default() };
    let call = Answer { view: batch.view(&P::READS), all: &batch, emitter: &emitter };
    drop(take_lines());
    let begin = Instant::now();
    let verdicts = plugin.answer(&call);
    let usage = Usage { time: begin.elapsed(), ..Usage::default() };
    let log = take_lines();
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
    results.map(|result| Outcome { result, log: log.clone(), usage }).collect()
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
