//! What a plugin says of the messages of a call, checked against what the contract allows.

use std::time::Duration;

use crate::bindings::exports::wharf::plugin::{enrich, route, transform, validate};
use crate::bindings::wharf::plugin::emit::EmitError;
use crate::bindings::wharf::plugin::types;
use crate::host::{Call, Emitted, Tally, with_headers};
use crate::instance::Broken;
use crate::limits::outputs_text;
use crate::{Fault, Item, Limits, Problem};

/// What a plugin said of one message, checked.
#[derive(Debug)]
pub(crate) enum Answer {
    Keep,
    Drop,
    /// To these declared outputs; never to none.
    To(Vec<u16>),
    Headers(wharf_protocol::Headers),
    Emitted(Vec<Emitted>),
    Reject(Problem),
    Retry(Problem, Option<Duration>),
    Fault(Fault, String),
}

/// What came back, of whatever kind.
pub(super) enum Said {
    Validate(Vec<validate::Verdict>),
    Route(Vec<route::Verdict>),
    Transform(Vec<transform::Verdict>),
    Enrich(Vec<enrich::Verdict>),
}

impl Said {
    pub(super) fn checked(self, call: Call, count: usize, limits: &Limits) -> Result<Vec<Answer>, Broken> {
        let said = match &self {
            Self::Validate(verdicts) => verdicts.len(),
            Self::Route(verdicts) => verdicts.len(),
            Self::Transform(verdicts) => verdicts.len(),
            Self::Enrich(verdicts) => verdicts.len(),
        };
        if said != count {
            let message = format!("it gave {said} verdicts for {count} messages");
            return Err(Broken { fault: Fault::Answer, message });
        }
        let declared = call.declared;
        Ok(match self {
            Self::Validate(verdicts) => verdicts.into_iter().map(Answer::from).collect(),
            Self::Route(verdicts) => {
                verdicts.into_iter().map(|verdict| Answer::routed(verdict, declared, limits)).collect()
            }
            Self::Enrich(verdicts) => verdicts
                .into_iter()
                .zip(call.items())
                .map(|(verdict, item)| Answer::enriched(verdict, item))
                .collect(),
            Self::Transform(verdicts) => transformed(verdicts, call, limits),
        })
    }
}

impl From<validate::Verdict> for Answer {
    fn from(verdict: validate::Verdict) -> Self {
        match verdict {
            validate::Verdict::Accept => Self::Keep,
            validate::Verdict::Fail(failure) => failure.into(),
        }
    }
}

impl From<types::Failure> for Answer {
    fn from(failure: types::Failure) -> Self {
        match failure {
            types::Failure::Reject(problem) => Self::Reject(problem.into()),
            types::Failure::Retry((problem, after_ms)) => {
                Self::Retry(problem.into(), after_ms.map(|ms| Duration::from_millis(ms.into())))
            }
        }
    }
}

impl Answer {
    pub(crate) fn is_fault(&self) -> bool {
        matches!(self, Self::Fault(..))
    }

    fn routed(verdict: route::Verdict, declared: usize, limits: &Limits) -> Self {
        let ids = match verdict {
            route::Verdict::Pass => return Self::Keep,
            route::Verdict::Drop => return Self::Drop,
            route::Verdict::Fail(failure) => return failure.into(),
            route::Verdict::To(ids) => ids,
        };
        if ids.is_empty() {
            return Self::Fault(
                Fault::Answer,
                "it routed a message to no output; to drop it, say drop".to_owned(),
            );
        }
        if ids.len() > limits.outputs {
            let message =
                format!("it routed a message to {} outputs; {}", ids.len(), outputs_text(limits.outputs));
            return Self::Fault(Fault::Answer, message);
        }
        if let Some(unknown) = ids.iter().find(|id| usize::from(**id) >= declared) {
            let message = format!("it routed a message to output {unknown} of {declared} declared ones");
            return Self::Fault(Fault::Answer, message);
        }
        Self::To(ids)
    }

    fn enriched(verdict: enrich::Verdict, item: &Item) -> Self {
        match verdict {
            enrich::Verdict::Unchanged => Self::Keep,
            enrich::Verdict::Fail(failure) => failure.into(),
            enrich::Verdict::Set(set) => match with_headers(&item.message.headers, &set, &[]) {
                Ok(headers) => Self::Headers(headers),
                Err(message) => Self::Fault(Fault::Answer, message),
            },
        }
    }
}

fn transformed(verdicts: Vec<transform::Verdict>, call: Call, limits: &Limits) -> Vec<Answer> {
    let mut emitted: Vec<Vec<Emitted>> =
        call.tallies.iter().map(|tally| Vec::with_capacity(tally.outputs)).collect();
    let stray = call.stray;
    for output in call.emitted {
        emitted[output.parent].push(output);
    }
    let of = |((verdict, emitted), tally): ((transform::Verdict, Vec<Emitted>), Tally)| match verdict {
        transform::Verdict::Fail(failure) => match (failure.into(), tally.refused) {
            // A plugin does not know the limit that it came to.
            (Answer::Reject(mut problem), Some(refusal)) if is_of(&problem, refusal) => {
                problem.message = with_limit(problem.message, refusal, limits);
                Answer::Reject(problem)
            }
            (answer, _) => answer,
        },
        transform::Verdict::Emitted => match tally.refused {
            Some(refusal) => {
                let message = format!("an output was refused, {}", refusal.name());
                Answer::Fault(Fault::Answer, with_limit(message, refusal, limits))
            }
            None if emitted.is_empty() && stray => {
                Answer::Fault(Fault::Answer, "it emitted outputs of no message of its batch".to_owned())
            }
            None if emitted.is_empty() => Answer::Drop,
            None => Answer::Emitted(emitted),
        },
        transform::Verdict::Keep | transform::Verdict::Drop if !emitted.is_empty() => Answer::Fault(
            Fault::Answer,
            "it emitted outputs for a message that it kept or dropped".to_owned(),
        ),
        transform::Verdict::Keep => Answer::Keep,
        transform::Verdict::Drop => Answer::Drop,
    };
    verdicts.into_iter().zip(emitted).zip(call.tallies).map(of).collect()
}

/// Whether a plugin refuses its message for what was refused it.
fn is_of(problem: &Problem, refusal: EmitError) -> bool {
    match refusal {
        EmitError::TooMany => problem.code == "too-many-outputs",
        EmitError::TooLarge => problem.code == "output-too-large",
        _ => false,
    }
}

/// What is said of a refusal, with the limit where it is one's.
fn with_limit(said: String, refusal: EmitError, limits: &Limits) -> String {
    match refusal {
        EmitError::TooMany => format!("{said}: {}", outputs_text(limits.outputs)),
        EmitError::TooLarge => format!("{said}: at most {} bytes in all", limits.output_bytes),
        _ => said,
    }
}

impl From<types::Problem> for Problem {
    fn from(problem: types::Problem) -> Self {
        Self::of_plugin(&problem.code, &problem.message, problem.path.as_deref())
    }
}
