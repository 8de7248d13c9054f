//! What a plugin can reach of the broker while it runs: its batch, its emitter, and what its stage grants.
//!
//! Nothing here waits, and everything is bounded: no import can hold a thread or fill memory.

mod batch;
mod capability;
mod emit;
mod memory;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use wasmtime::Result;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wharf_protocol::{Message, Timestamp};
use xxhash_rust::xxh3::Xxh3;

use crate::bindings::wharf::plugin::emit::EmitError;
use crate::bindings::wharf::plugin::{clock, log, metrics, random};
use memory::Memory;

pub(crate) use capability::{About, Borrowed, Remembered};
pub(crate) use emit::{Emitted, with_headers};

use crate::logbook::Logbook;
use crate::text::printable;
use crate::way::Way;
use crate::{Fault, Grant, Item, Level, Library, Limits, Target, wasi};

/// How long the name of a plugin's own counter may be.
const COUNTER_NAME_BYTES_MAX: usize = 128;

/// The guest's handle to the batch of the call that runs; there is only one, so it carries nothing.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Batch;

/// The guest's handle to the outputs of the call that runs.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Emitter;

/// One message inside a pipeline.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) item: Item,
    /// Which message of the pipeline's batch it comes from.
    pub(crate) origin: usize,
    /// Where an earlier stage sent it.
    pub(crate) to: Option<Target>,
}

/// The host's side of one instance.
pub(crate) struct Host {
    wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    pub(crate) memory: Memory,
    pub(crate) logbook: Logbook,
    pub(crate) call: Call,
    pub(crate) way: Way,
    grants: Arc<[Grant]>,
    about: Arc<About>,
    library: Library,
    limits: Arc<Limits>,
}

/// What the instances of a stage may use, and what they are told of it. The default is nothing.
#[derive(Clone, Debug)]
pub(crate) struct Rights {
    pub(crate) grants: Arc<[Grant]>,
    pub(crate) about: Arc<About>,
}

/// The call that runs.
#[derive(Debug, Default)]
pub(crate) struct Call {
    units: Arc<Vec<Unit>>,
    first: usize,
    count: usize,
    now: Timestamp,
    /// How many outputs the stage declares.
    pub(crate) declared: usize,
    pub(crate) emitted: Vec<Emitted>,
    pub(crate) tallies: Vec<Tally>,
    bytes: usize,
    /// Whether something was emitted for a message that is not in the batch.
    pub(crate) stray: bool,
    pub(crate) counters: BTreeMap<String, u64>,
    pub(crate) borrowed: Borrowed,
    /// What the pipeline remembers, where the stage is granted it.
    pub(crate) remembering: Option<Remembered>,
}

/// What was counted for one message of the call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) outputs: usize,
    bytes: usize,
    /// The first output that was not taken.
    pub(crate) refused: Option<EmitError>,
    random_state: Option<u64>,
}

/// Why the host ends a call: carried through wasmtime as the error of an import.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Breach {
    pub(crate) fault: Fault,
    pub(crate) message: String,
}

impl Default for Rights {
    fn default() -> Self {
        Self { grants: Arc::new([]), about: Arc::default() }
    }
}

impl Breach {
    pub(crate) fn error(fault: Fault, message: impl Into<String>) -> wasmtime::Error {
        wasmtime::Error::new(Self { fault, message: message.into() })
    }
}

impl Host {
    /// Its memory counts among `all` that guests have.
    pub(crate) fn new(
        limits: &Arc<Limits>,
        library: &Library,
        rights: &Rights,
        all: &Arc<AtomicUsize>,
    ) -> Self {
        let logbook = Logbook::new(limits);
        Self {
            wasi: wasi::nothing(&logbook),
            table: ResourceTable::with_capacity(0),
            memory: Memory::new(limits.memory_bytes, all),
            logbook,
            call: Call::default(),
            way: Way::default(),
            grants: Arc::clone(&rights.grants),
            about: Arc::clone(&rights.about),
            library: library.clone(),
            limits: Arc::clone(limits),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn granted(&self, grant: &Grant) -> Result<()> {
        if self.grants.contains(grant) {
            return Ok(());
        }
        let name = grant.interface();
        let message =
            format!("it used {name}, which its stage does not grant; add {name:?} to the stage's grants");
        Err(Breach::error(Fault::Grant, message))
    }
}

impl Call {
    pub(crate) fn new(
        units: Arc<Vec<Unit>>,
        first: usize,
        count: usize,
        now: Timestamp,
        declared: usize,
    ) -> Self {
        Self { units, first, count, now, declared, tallies: vec![Tally::default(); count], ..Self::default() }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) fn items(&self) -> impl Iterator<Item = &Item> {
        self.units[self.first..self.first + self.count].iter().map(|unit| &unit.item)
    }

    fn item(&self, i: u32) -> Result<&Item> {
        let i = i as usize;
        if i >= self.count {
            let message = format!("it asked for message {i} of a batch of {}", self.count);
            return Err(Breach::error(Fault::Answer, message));
        }
        Ok(&self.units[self.first + i].item)
    }

    fn message(&self, i: u32) -> Result<&Message> {
        Ok(&self.item(i)?.message)
    }
}

impl log::Host for Host {
    fn log(&mut self, level: log::Level, message: String) -> Result<()> {
        self.granted(&Grant::Log)?;
        let level = match level {
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.logbook.write(level, &message);
        Ok(())
    }
}

impl clock::Host for Host {
    fn now(&mut self) -> Result<u64> {
        self.granted(&Grant::Clock)?;
        Ok(self.call.now.0)
    }
}

impl random::Host for Host {
    fn next(&mut self, i: u32) -> Result<u64> {
        self.granted(&Grant::Random)?;
        let seed = seed(self.call.item(i)?, self.call.now);
        let state = self.call.tallies[i as usize].random_state.get_or_insert(seed);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        Ok(split_mix(*state))
    }
}

/// The same for the same message at the same logged time, whatever batch it is in.
fn seed(item: &Item, now: Timestamp) -> u64 {
    let mut hash = Xxh3::with_seed(now.0);
    hash.update(item.message.topic.as_str().as_bytes());
    hash.update(item.message.message_id.as_deref().unwrap_or_default().as_bytes());
    hash.update(item.message.key.as_deref().unwrap_or_default());
    hash.update(item.message.headers.as_bytes());
    hash.update(&item.message.payload);
    hash.update(&item.attempt.to_le_bytes());
    hash.digest()
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
fn split_mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl metrics::Host for Host {
    fn add(&mut self, name: String, by: u64) -> Result<()> {
        self.granted(&Grant::Metrics)?;
        if name.is_empty()
            || name.len() > COUNTER_NAME_BYTES_MAX
            || name.chars().any(|c| !c.is_ascii_graphic())
        {
            let (shown, bytes) = (printable(&name, COUNTER_NAME_BYTES_MAX), name.len());
            let message = format!(
                "it named a counter {shown:?}, with {bytes} bytes; a name has 1 to {COUNTER_NAME_BYTES_MAX} visible \
                 ASCII characters"
            );
            return Err(Breach::error(Fault::Answer, message));
        }
        if self.call.counters.len() < self.limits.counters || self.call.counters.contains_key(&name) {
            let counter = self.call.counters.entry(name).or_default();
            *counter = counter.wrapping_add(by);
        }
        Ok(())
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}
