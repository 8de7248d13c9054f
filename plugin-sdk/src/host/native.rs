//! A stand-in for the host, so that a plugin's logic runs natively: one batch, and one log for each thread.

mod batch;
mod emitter;
pub(crate) mod kv;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::bindings::imports::wharf::plugin::types::Absence;
use crate::host::Level;
use crate::host::schema::Document;
use crate::{Problem, Stage};

pub(crate) use batch::{Batch, Stored};
pub(crate) use emitter::Emitter;

/// The time that [`clock::now`](crate::clock::now) gives where nothing else was set, as the engine's harness has it:
/// 2026-01-01T00:00:00Z.
pub(crate) const NOW: u64 = 1_767_225_600_000;

/// The panic of a plugin that breaks off because the broker would end its call.
pub(crate) struct Breach(pub(crate) Problem);

thread_local! {
    static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    static LENT: RefCell<Lent> = RefCell::default();
    static SEED: Cell<u64> = const { Cell::new(0) };
    static TIME: Cell<u64> = const { Cell::new(NOW) };
    /// By the names that a pipeline file uses; `None`: everything.
    static GRANTED: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// What the stand-in lends on this thread.
#[derive(Debug, Default)]
pub(crate) struct Lent {
    pub(crate) stage: Stage,
    /// The configuration, as JSON.
    pub(crate) config: String,
    /// Tables: their version and entries.
    pub(crate) tables: BTreeMap<String, (u64, BTreeMap<String, Vec<u8>>)>,
    pub(crate) schemas: BTreeMap<String, Document>,
    pub(crate) secrets: BTreeMap<String, Vec<u8>>,
    /// What of it cannot be read: `lookup:prices`.
    pub(crate) unavailable: Vec<String>,
}

/// Sets the time and what is granted for what follows on this thread, and begins its random bits anew.
pub(crate) fn prepare(now: u64, granted: Vec<String>) {
    TIME.set(now);
    SEED.set(0);
    GRANTED.set(Some(granted));
}

fn granted(grant: &str) {
    let denied = |granted: &Option<Vec<String>>| {
        granted.as_ref().is_some_and(|granted| granted.iter().all(|each| each != grant))
    };
    if GRANTED.with_borrow(denied) {
        let message =
            format!("it used {grant}, which its stage does not grant; add {grant:?} to the stage's grants");
        breach("plugin-grant", message);
    }
}

fn breach(code: &'static str, message: String) -> ! {
    std::panic::panic_any(Breach(Problem::new(code, message)))
}

/// Breaks off where it is not granted, and says where it cannot be read.
fn lent_by_name(interface: &str, name: &str) -> Result<(), Absence> {
    let grant = format!("{interface}:{name}");
    granted(&grant);
    if LENT.with_borrow(|lent| lent.unavailable.contains(&grant)) {
        return Err(Absence::Unavailable("the test says so".to_owned()));
    }
    Ok(())
}

pub(crate) fn log(level: Level, line: &str) {
    granted("log");
    LINES.with_borrow_mut(|lines| lines.push((level, line.to_owned())));
}

pub(crate) fn now() -> u64 {
    granted("clock");
    TIME.get()
}

/// SplitMix64: of one seed, so that a test sees the same bits each time.
pub(crate) fn random(index: u32) -> u64 {
    granted("random");
    let seed = SEED.get().wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(index));
    SEED.set(seed);
    let bits = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Nobody asks natively for what is counted.
pub(crate) fn add(_name: &str, _by: u64) {
    granted("metrics");
}

/// The lines that this thread wrote since the last call.
pub(crate) fn take_lines() -> Vec<(Level, String)> {
    LINES.take()
}

/// Changes what this thread's stand-in lends.
pub(crate) fn lend(change: impl FnOnce(&mut Lent)) {
    LENT.with_borrow_mut(change);
}

pub(crate) fn stage() -> Stage {
    LENT.with_borrow(|lent| lent.stage.clone())
}

pub(crate) fn config() -> String {
    LENT.with_borrow(|lent| lent.config.clone())
}

fn from_table<R>(table: &str, look: impl FnOnce(u64, &BTreeMap<String, Vec<u8>>) -> R) -> Result<R, Absence> {
    lent_by_name("lookup", table)?;
    LENT.with_borrow(|lent| {
        let (version, entries) = lent.tables.get(table).ok_or(Absence::NoSuchName)?;
        Ok(look(*version, entries))
    })
}

pub(crate) fn lookup(table: &str, key: &str) -> Result<Option<Vec<u8>>, Absence> {
    from_table(table, |_, entries| entries.get(key).cloned())
}

pub(crate) fn lookup_many(table: &str, keys: &[&str]) -> Result<Vec<Option<Vec<u8>>>, Absence> {
    from_table(table, |_, entries| keys.iter().map(|&key| entries.get(key).cloned()).collect())
}

pub(crate) fn table_version(table: &str) -> Result<u64, Absence> {
    from_table(table, |version, _| version)
}

pub(crate) fn schema(name: &str) -> Result<Document, Absence> {
    lent_by_name("schema", name)?;
    LENT.with_borrow(|lent| lent.schemas.get(name).cloned().ok_or(Absence::NoSuchName))
}

pub(crate) fn secret(name: &str) -> Result<Vec<u8>, Absence> {
    lent_by_name("secrets", name)?;
    LENT.with_borrow(|lent| lent.secrets.get(name).cloned().ok_or(Absence::NoSuchName))
}
