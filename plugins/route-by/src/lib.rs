//! `route-by`: a router that chooses outputs by a header, or by a member of a JSON payload.
//!
//! ```toml
//! [stage.config]
//! by = { header = "region" }           # or { json = "/order/region" }, a JSON pointer (RFC 6901)
//! otherwise = "pass"                   # or "drop", "reject", or { to = ["rest"] }
//!
//! [stage.config.routes]                # value = outputs, which the stage declares
//! eu = ["europe"]
//! us = ["america", "audit"]
//! ```
//!
//! A message with the header `region: us` goes to `america` and to `audit`; one with `region: asia`, or without the
//! header, does what `otherwise` says. Numbers and booleans of JSON match as they are written: `7`, `true`.

use std::collections::BTreeMap;

use json_value::{Pointer, Value};
use serde::Deserialize;
use wharf_plugin::{Failure, Fields, Message, Output, Plugin, Problem, Reads, Route, Router, Stage};

/// What an operator writes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What is looked at.
    pub by: By,
    /// Which outputs a value goes to.
    pub routes: BTreeMap<String, Vec<String>>,
    /// What becomes of all other messages.
    #[serde(default)]
    pub otherwise: Otherwise,
}

/// What is looked at.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// The value of a header.
    Header(String),
    /// The member of a JSON payload at this pointer.
    Json(String),
}

/// What becomes of messages that no route is for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Otherwise {
    /// They go on to where they were going.
    #[default]
    Pass,
    /// They are settled here.
    Drop,
    /// They are rejected, with the code `no-route`.
    Reject,
    /// They go to these outputs.
    To(Vec<String>),
}

/// The plugin.
#[derive(Debug)]
pub struct RouteBy {
    by: By,
    /// Where it looks, in a payload.
    at: Pointer,
    routes: BTreeMap<String, Vec<Output>>,
    otherwise: Fallback,
}

#[derive(Debug)]
enum Fallback {
    Route(Route),
    Reject,
}

impl Plugin for RouteBy {
    type Config = Config;
    const SUMMARY: &'static str = "chooses outputs by a header or a member of a JSON payload";
    const CONFIG_SCHEMA: Option<&'static str> = Some(include_str!("config.schema.json"));

    fn init(config: Config, stage: &Stage) -> Result<Self, Problem> {
        let at = match &config.by {
            By::Header(_) => Pointer::default(),
            By::Json(pointer) => pointer.parse().map_err(|problem: Problem| problem.at("/by/json"))?,
        };
        let outputs = |names: &[String], path: &str| -> Result<Vec<Output>, Problem> {
            if names.is_empty() {
                return Err(Problem::new("bad-config", "there is no output in the list").at(path));
            }
            names.iter().map(|name| stage.output(name).map_err(|problem| problem.at(path))).collect()
        };
        let routes = config.routes.iter().map(|(value, names)| {
            let path = format!("/routes/{}", value.replace('~', "~0").replace('/', "~1"));
            Ok((value.clone(), outputs(names, &path)?))
        });
        let routes = routes.collect::<Result<_, Problem>>()?;
        let otherwise = match &config.otherwise {
            Otherwise::Pass => Fallback::Route(Route::Pass),
            Otherwise::Drop => Fallback::Route(Route::Drop),
            Otherwise::Reject => Fallback::Reject,
            Otherwise::To(names) => Fallback::Route(Route::To(outputs(names, "/otherwise/to")?)),
        };
        Ok(Self { by: config.by, at, routes, otherwise })
    }

    fn reads(&self) -> Fields {
        match &self.by {
            By::Header(name) => Fields::from(Reads::NOTHING).with_header(name.clone()),
            By::Json(_) => Reads::PAYLOAD.into(),
        }
    }
}

impl Router for RouteBy {
    fn route(&self, message: &Message<'_>) -> Result<Route, Failure> {
        let route = match &self.by {
            By::Header(name) => message.header_text(name)?.and_then(|value| self.routes.get(value)),
            By::Json(_) => {
                let payload = json_value::read(message.payload())?;
                self.at.find(&payload).and_then(Value::plain).and_then(|value| self.routes.get(value))
            }
        };
        match (route, &self.otherwise) {
            (Some(outputs), _) => Ok(Route::To(outputs.clone())),
            (None, Fallback::Route(route)) => Ok(route.clone()),
            (None, Fallback::Reject) => Err(self.no_route(message).into()),
        }
    }
}

impl RouteBy {
    fn no_route(&self, message: &Message<'_>) -> Problem {
        let known = self.routes.keys().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
        match &self.by {
            By::Header(name) => match message.header(name) {
                Some(value) => {
                    let value = String::from_utf8_lossy(value);
                    Problem::new("no-route", format!("no route is for `{name}: {value}`; there are: {known}"))
                }
                None => Problem::new(
                    "no-route",
                    format!("header `{name}`, which the route depends on, is missing"),
                ),
            },
            By::Json(pointer) => {
                let message = format!("no route is for the value at `{pointer}`; there are: {known}");
                Problem::new("no-route", message).at(pointer.clone())
            }
        }
    }
}

wharf_plugin::export!(RouteBy as router);
