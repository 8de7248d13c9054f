//! What the broker offers to a plugin beside its message: lines for the operator, the time, counters.
//!
//! In a component these are calls to the host. Natively, as in a plugin's unit tests, they go to a stand-in that
//! belongs to the thread.

#[cfg(target_family = "wasm")]
#[path = "host/component.rs"]
mod backend;
#[cfg(not(target_family = "wasm"))]
#[path = "host/native.rs"]
#[cfg_attr(not(feature = "harness"), expect(dead_code, reason = "the harness drives it"))]
pub(crate) mod backend;

pub(crate) use backend::{Batch, Emitter, random};

/// How much a log line matters.
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
pub mod clock {
    use super::backend;

    /// Milliseconds since 1970: constant within a call, so that a run can be repeated.
    pub fn now() -> u64 {
        backend::now()
    }
}

/// Counters of the plugin's own, shown with its stage's metrics.
pub mod metrics {
    use super::backend;

    /// Adds `by` to the counter `name`.
    pub fn add(name: &str, by: u64) {
        backend::add(name, by);
    }
}
