//! Rules: as an operator writes them, and ready to be followed.

use std::sync::Arc;

use cel_lang::{Env, ParseErrors, Program};
use serde::Deserialize;
use wharf_plugin::{Failure, Output, Problem, Route, Stage};

use crate::{language, names};

/// How many rules there may be.
const RULES_MAX: usize = 64;

/// How long a condition may be.
const CONDITION_BYTES_MAX: usize = 16 * 1024;

/// What an operator writes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// In order: the first that holds decides.
    pub rules: Vec<Rule>,
    /// Where none holds.
    #[serde(default)]
    pub otherwise: Then,
    /// What becomes of messages for which a condition cannot be evaluated.
    #[serde(default)]
    pub errors: Errors,
}

/// A condition, and what follows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// An expression that is true or false.
    pub when: String,
    /// What becomes of messages for which it is true.
    pub then: Then,
    /// Why, for those that are rejected.
    pub message: Option<String>,
}

/// What becomes of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// It goes on.
    #[default]
    Pass,
    /// It is settled here.
    Drop,
    /// It is rejected, with the code `condition`.
    Reject,
    /// It goes to these declared outputs.
    To(Vec<String>),
}

/// What becomes of messages for which a condition cannot be evaluated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Errors {
    /// They are rejected, with the code `cel`.
    #[default]
    Reject,
    /// The condition does not hold.
    NoMatch,
}

/// A rule that is ready.
pub(crate) struct Compiled {
    pub(crate) when: Program,
    /// As it was written.
    pub(crate) text: String,
    pub(crate) then: Next,
}

/// What follows, with outputs that are there.
pub(crate) enum Next {
    Go(Route),
    /// For this reason.
    Reject(String),
}

pub(crate) fn compile(
    rules: Vec<Rule>,
    stage: &Stage,
    language: &Arc<Env>,
) -> Result<Vec<Compiled>, Problem> {
    if rules.len() > RULES_MAX {
        let message = format!("there are {} rules, at most {RULES_MAX} can be", rules.len());
        return Err(Problem::new("bad-config", message).at("/rules"));
    }
    let compiled = rules.into_iter().enumerate().map(|(index, rule)| {
        let when = condition(&rule.when, language)
            .map_err(|message| Problem::new("bad-config", message).at(format!("/rules/{index}/when")))?;
        let message = rule.message.unwrap_or_else(|| format!("the condition `{}` holds", rule.when));
        let then = Next::of(&rule.then, &message, stage)
            .map_err(|problem| problem.at(format!("/rules/{index}/then/to")))?;
        Ok(Compiled { when, text: rule.when, then })
    });
    compiled.collect()
}

fn condition(text: &str, language: &Arc<Env>) -> Result<Program, String> {
    if text.len() > CONDITION_BYTES_MAX {
        return Err(format!(
            "the condition has {} bytes, and at most {CONDITION_BYTES_MAX} are read",
            text.len()
        ));
    }
    let program = Program::compile(text).map_err(|errors| unreadable(text, &errors))?;
    if let Some(name) = names::unknown(program.expression()) {
        return Err(format!("there is no `{name}`: a condition sees {}", names::KNOWN.join(", ")));
    }
    if let Some(name) = names::unknown_function(&program, language) {
        return Err(format!("there is no function `{name}`"));
    }
    if let Some(wrong) = language::wrong_literal(program.expression()) {
        return Err(wrong);
    }
    Ok(program)
}

/// The first mistake, on one line.
fn unreadable(text: &str, errors: &ParseErrors) -> String {
    let Some(first) = errors.errors.first() else { return format!("`{text}` is no condition in CEL") };
    let (line, column) = first.pos;
    let said = first.msg.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("`{text}` is no condition in CEL: {said} (line {line}, column {column})")
}

impl Next {
    pub(crate) fn of(then: &Then, message: &str, stage: &Stage) -> Result<Self, Problem> {
        Ok(match then {
            Then::Pass => Self::Go(Route::Pass),
            Then::Drop => Self::Go(Route::Drop),
            Then::Reject => Self::Reject(message.to_owned()),
            Then::To(names) => {
                let outputs: Result<Vec<Output>, Problem> =
                    names.iter().map(|name| stage.output(name)).collect();
                Self::Go(Route::To(outputs?))
            }
        })
    }

    pub(crate) fn route(&self) -> Result<Route, Failure> {
        match self {
            Self::Go(route) => Ok(route.clone()),
            Self::Reject(message) => Err(Problem::new("condition", message.clone()).into()),
        }
    }
}
