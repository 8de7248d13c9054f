//! The host, called through the component's imports.

use crate::bindings::imports::wharf::plugin::{clock, log as lines, metrics, random as bits};
use crate::host::Level;

pub(crate) use crate::bindings::imports::wharf::plugin::types::Batch;
pub(crate) use crate::bindings::outputs::wharf::plugin::emit::Emitter;

pub(crate) fn log(level: Level, line: &str) {
    let level = match level {
        Level::Debug => lines::Level::Debug,
        Level::Info => lines::Level::Info,
        Level::Warn => lines::Level::Warn,
        Level::Error => lines::Level::Error,
    };
    lines::log(level, line);
}

pub(crate) fn now() -> u64 {
    clock::now()
}

pub(crate) fn random(index: u32) -> u64 {
    bits::next(index)
}

pub(crate) fn add(name: &str, by: u64) {
    metrics::add(name, by);
}
