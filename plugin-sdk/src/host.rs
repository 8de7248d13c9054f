//! What the broker offers to a plugin beside its message: lines for the operator, the time, counters; tables,
//! memory, schemas and secrets where its stage grants them.
//!
//! In a component these are calls to the host. Natively, as in a plugin's unit tests, they go to a stand-in that
//! belongs to the thread.

#[cfg(target_family = "wasm")]
mod component;
pub mod kv;
pub mod lookup;
#[cfg(not(target_family = "wasm"))]
#[cfg_attr(not(feature = "harness"), expect(dead_code, reason = "the harness drives it"))]
pub(crate) mod native;
pub mod schema;
pub mod secrets;

use crate::bindings::imports::wharf::plugin::types::Absence;
use crate::{Failure, Problem};

#[cfg(target_family = "wasm")]
use component as backend;
#[cfg(not(target_family = "wasm"))]
use native as backend;

#[cfg(any(target_family = "wasm", feature = "harness"))]
pub(crate) use backend::kv::end_message;
pub(crate) use backend::{Batch, Emitter, config as backend_config, random, stage as backend_stage};

/// How much a log line matters.
///
/// ```
/// use wharf_plugin::{Level, log};
///
/// let level = if cfg!(debug_assertions) { Level::Debug } else { Level::Info };
/// log::write(level, "a table of 4,096 rates is in use");
/// assert!(Level::Debug < Level::Error);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever writes the plugin.
    Debug,
    /// For whoever runs it.
    Info,
    /// Somebody should look at it one day.
    Warn,
    /// Somebody should look at it now.
    Error,
}

/// Lines for the operator: bounded by the host in length and number, control characters escaped.
///
/// ```
/// use wharf_plugin::log;
///
/// log::debug("for whoever writes the plugin");
/// log::info("for whoever runs it");
/// log::warn("somebody should look at it one day");
/// log::error("somebody should look at it now");
/// ```
pub mod log {
    use super::{Level, backend};

    /// Writes a line at `level`.
    pub fn write(level: Level, line: &str) {
        backend::log(level, line);
    }

    /// For whoever writes the plugin.
    pub fn debug(line: &str) {
        write(Level::Debug, line);
    }

    /// For whoever runs the plugin.
    pub fn info(line: &str) {
        write(Level::Info, line);
    }

    /// Somebody should look at it one day.
    pub fn warn(line: &str) {
        write(Level::Warn, line);
    }

    /// Somebody should look at it now.
    pub fn error(line: &str) {
        write(Level::Error, line);
    }
}

/// The logged time.
///
/// ```
/// use wharf_plugin::clock;
///
/// let begun = clock::now();
/// assert_eq!(begun, clock::now(), "it stands still in a call");
/// ```
pub mod clock {
    use super::backend;

    /// Milliseconds since 1970: constant within a call, so that a run can be repeated.
    pub fn now() -> u64 {
        backend::now()
    }
}

/// Counters of the plugin's own, shown with its stage's metrics.
///
/// ```
/// use wharf_plugin::metrics;
///
/// metrics::add("orders", 1);
/// metrics::add("order-lines", 12);
/// ```
pub mod metrics {
    use super::backend;

    /// Adds `by` to the counter `name`.
    pub fn add(name: &str, by: u64) {
        backend::add(name, by);
    }
}

/// What is not there now may be there later: an operator puts it there.
fn absent(kind: &'static str, name: &str, absence: Absence) -> Failure {
    let problem = match absence {
        Absence::NoSuchName => {
            Problem::new(format!("no-{kind}"), format!("the broker has no {kind} `{name}`"))
        }
        Absence::Unavailable(reason) => {
            Problem::new(format!("{kind}-unavailable"), format!("{kind} `{name}` cannot be read: {reason}"))
        }
    };
    Failure::Retry { problem, after: None }
}
