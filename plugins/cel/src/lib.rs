//! `cel`: a router that decides by conditions in the Common Expression Language: what passes, is dropped, is rejected,
//! and what goes where.
//!
//! ```toml
//! [[stage.config.rules]]
//! when = "payload.total > 1000 && headers.region == 'eu'"
//! then = { to = ["large"] }            # declared outputs; or "pass", "drop", "reject"
//!
//! [[stage.config.rules]]
//! when = "size(payload.lines) == 0"
//! then = "reject"
//! message = "an order has lines"       # what the publisher reads
//!
//! [stage.config]
//! otherwise = "pass"                   # where no condition holds
//! errors = "reject"                    # or "no-match": a condition that cannot be evaluated does not hold
//! ```
//!
//! `{"total":1200.5,"lines":[1]}` with the header `region: eu` goes to `large`; `{"total":1,"lines":[]}` is rejected with
//! the code `condition`; all else passes. The first condition that holds decides.
//!
//! A condition sees `payload` (from JSON; only where it is named need the payload be JSON), `topic`, `key` (or `null`),
//! `headers` (those that are text) and `attempt`. Another name, or a function that there is not, refuses the pipeline, as
//! does a text that is no condition, with the line and column. Integers are CEL's `int`, above its range `uint`, above that
//! they reject the message (`number-too-large`); numbers with a fraction or exponent are `double`. All three can be compared
//! with one another, and arithmetic does not mix them. The members of an object have no order.
//!
//! Of CEL's standard there is all but named time zones and types of protobuf: operators, macros (`has`, `all`, `exists`,
//! `exists_one`, `map`, `filter`), `size`, `contains`, `startsWith`, `endsWith`, conversions, and
//!
//! - `text.matches('^A-[0-9]+$')`: a regular expression that finds something; without classes of Unicode (`\\p{L}`).
//! - `timestamp('2026-11-23T12:00:00Z')` or of seconds after 1970, `duration('1h30m')`; they are compared, added and
//!   subtracted, and have `getFullYear()`, `getMonth()` (from 0), `getDate()`, `getDayOfMonth()` (from 0),
//!   `getDayOfYear()`, `getDayOfWeek()` (0 is Sunday), `getHours()`, `getMinutes()`, `getSeconds()` and
//!   `getMilliseconds()`, of times also in a zone such as `'+01:00'`. What time it is no condition knows.
//!
//! A pattern, time or duration that stands in a condition and cannot be read refuses the pipeline; one that comes with a
//! message is an error of that message.

mod language;
mod names;
mod pattern;
mod rule;
mod time;
mod value;

use std::sync::Arc;

use cel_lang::{Context, Env, Value};
use wharf_plugin::{Failure, Message, Plugin, Problem, Reads, Route, Router, Stage};

use rule::{Compiled, Next};
pub use rule::{Config, Errors, Rule, Then};

/// The plugin.
pub struct Cel {
    rules: Vec<Compiled>,
    otherwise: Next,
    errors: Errors,
    /// The functions of the language: they are many, and the same for each message.
    language: Arc<Env>,
    /// Whether a condition names the payload or the headers: they are read only then.
    payload: bool,
    headers: bool,
}

impl Plugin for Cel {
    type Config = Config;
    const SUMMARY: &'static str = "passes, drops, rejects and routes by conditions";
    const READS: Reads = Reads::PAYLOAD.with_topic().with_key();
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, stage: &Stage) -> Result<Self, Problem> {
        let otherwise = Next::of(&config.otherwise, "no condition holds", stage)
            .map_err(|problem| problem.at("/otherwise/to"))?;
        let language = Arc::new(language::language());
        let rules = rule::compile(config.rules, stage, &language)?;
        let names = |name: &str| rules.iter().any(|rule| rule.when.references().has_variable(name));
        Ok(Self {
            payload: names("payload"),
            headers: names("headers"),
            language,
            errors: config.errors,
            otherwise,
            rules,
        })
    }
}

impl Router for Cel {
    fn route(&self, message: &Message<'_>) -> Result<Route, Failure> {
        let context = self.context(message)?;
        for rule in &self.rules {
            if self.holds(rule, &context)? {
                return rule.then.route();
            }
        }
        self.otherwise.route()
    }
}

impl Cel {
    fn context(&self, message: &Message<'_>) -> Result<Context<'static, 'static>, Failure> {
        let mut context = Context::with_env(Arc::clone(&self.language));
        if self.payload {
            let payload = json_value::read(message.payload())?;
            context.add_variable_from_value("payload", value::of_json(&payload)?);
        }
        if self.headers {
            context.add_variable_from_value("headers", value::headers(message.headers()));
        }
        let key = message.key().and_then(|key| std::str::from_utf8(key).ok());
        context.add_variable_from_value("topic", value::text(message.topic()));
        context.add_variable_from_value("key", key.map_or(Value::Null, value::text));
        context.add_variable_from_value("attempt", Value::Int(message.attempt().into()));
        Ok(context)
    }

    fn holds(&self, rule: &Compiled, context: &Context<'_, '_>) -> Result<bool, Problem> {
        /// How much of an error is told: it names values, which may be whole payloads.
        const ERROR_CHARACTERS_MAX: usize = 200;

        let why = match rule.when.execute(context) {
            Ok(Value::Bool(holds)) => return Ok(holds),
            Ok(_) => "it is neither true nor false".to_owned(),
            Err(error) => error.to_string().chars().take(ERROR_CHARACTERS_MAX).collect(),
        };
        match self.errors {
            Errors::NoMatch => Ok(false),
            Errors::Reject => {
                let message = format!("the condition `{}` cannot be evaluated: {why}", rule.text);
                Err(Problem::new("cel", message))
            }
        }
    }
}

wharf_plugin::export!(Cel as router);
