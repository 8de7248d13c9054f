//! The host, called through the component's imports.

pub(crate) mod kv;

use crate::bindings::capabilities::wharf::plugin::{lookup as tables, schema as schemas, secrets};
use crate::bindings::imports::wharf::plugin::types::Absence;
use crate::bindings::imports::wharf::plugin::{clock, config, log as lines, metrics, random as bits};
use crate::host::Level;
use crate::host::schema::Document;

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

pub(crate) fn stage() -> crate::Stage {
    crate::Stage { pipeline: config::pipeline(), name: config::stage(), outputs: config::outputs() }
}

pub(crate) fn config() -> String {
    config::get()
}

pub(crate) fn lookup(table: &str, key: &str) -> Result<Option<Vec<u8>>, Absence> {
    tables::get(table, key)
}

pub(crate) fn lookup_many(table: &str, keys: &[&str]) -> Result<Vec<Option<Vec<u8>>>, Absence> {
    tables::get_many(table, keys)
}

pub(crate) fn table_version(table: &str) -> Result<u64, Absence> {
    tables::version(table)
}

pub(crate) fn schema(name: &str) -> Result<Document, Absence> {
    schemas::get(name).map(|document| Document { version: document.version, bytes: document.bytes })
}

pub(crate) fn secret(name: &str) -> Result<Vec<u8>, Absence> {
    secrets::get(name)
}
