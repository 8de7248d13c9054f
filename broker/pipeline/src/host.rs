//! What a plugin can reach of the broker while it runs: its batch, its emitter, and what its stage grants.
//!
//! Nothing here waits, and everything is bounded: no import can hold a thread or fill memory.

mod capability;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use wasmtime::component::{Resource, ResourceTable};
use wasmtime::{ResourceLimiter, Result};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wharf_protocol::{HEADERS_BYTES_MAX, Headers, HeadersBuilder, Message, Timestamp};
use xxhash_rust::xxh3::Xxh3;

use crate::bindings::wharf::plugin::emit::{self, Body, EmitError};
use crate::bindings::wharf::plugin::{clock, log, metrics, random, types};
pub(crate) use capability::{About, Borrowed, Remembered};

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

/// An output that was taken.
#[derive(Debug)]
pub(crate) struct Emitted {
    pub(crate) parent: usize,
    pub(crate) to: Option<usize>,
    pub(crate) message: Message,
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
            memory: Memory { bytes_max: limits.memory_bytes, all: Arc::clone(all), ..Memory::default() },
            logbook,
            call: Call::default(),
            way: Way::default(),
            grants: Arc::clone(&rights.grants),
            about: Arc::clone(&rights.about),
            library: library.clone(),
            limits: Arc::clone(limits),
        }
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

impl types::Host for Host {}

impl types::HostBatch for Host {
    fn len(&mut self, _: Resource<Batch>) -> Result<u32> {
        Ok(u32::try_from(self.call.count)?)
    }

    fn topic(&mut self, _: Resource<Batch>, i: u32) -> Result<String> {
        Ok(self.call.message(i)?.topic.as_str().to_owned())
    }

    fn key(&mut self, _: Resource<Batch>, i: u32) -> Result<Option<Vec<u8>>> {
        Ok(self.call.message(i)?.key.as_ref().map(|key| key.to_vec()))
    }

    fn message_id(&mut self, _: Resource<Batch>, i: u32) -> Result<Option<String>> {
        Ok(self.call.message(i)?.message_id.as_ref().map(ToString::to_string))
    }

    fn reply_to(&mut self, _: Resource<Batch>, i: u32) -> Result<Option<String>> {
        Ok(self.call.message(i)?.reply_to.as_ref().map(ToString::to_string))
    }

    fn header(&mut self, _: Resource<Batch>, i: u32, name: String) -> Result<Option<Vec<u8>>> {
        Ok(self.call.message(i)?.headers.get(&name).map(<[u8]>::to_vec))
    }

    fn headers(&mut self, _: Resource<Batch>, i: u32) -> Result<Vec<types::Header>> {
        let headers = &self.call.message(i)?.headers;
        Ok(headers.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect())
    }

    fn payload_length(&mut self, _: Resource<Batch>, i: u32) -> Result<u64> {
        Ok(self.call.message(i)?.payload.len() as u64)
    }

    fn payload(&mut self, _: Resource<Batch>, i: u32) -> Result<Vec<u8>> {
        Ok(self.call.message(i)?.payload.to_vec())
    }

    fn payload_range(&mut self, _: Resource<Batch>, i: u32, start: u64, length: u32) -> Result<Vec<u8>> {
        let payload = &self.call.message(i)?.payload;
        let start = usize::try_from(start).unwrap_or(usize::MAX).min(payload.len());
        let end = start.saturating_add(length as usize).min(payload.len());
        Ok(payload[start..end].to_vec())
    }

    fn priority(&mut self, _: Resource<Batch>, i: u32) -> Result<u8> {
        Ok(self.call.message(i)?.priority)
    }

    fn attempt(&mut self, _: Resource<Batch>, i: u32) -> Result<u32> {
        Ok(self.call.item(i)?.attempt)
    }

    fn published_at(&mut self, _: Resource<Batch>, i: u32) -> Result<u64> {
        Ok(self.call.item(i)?.published_at.unwrap_or(self.call.now).0)
    }

    fn deadline(&mut self, _: Resource<Batch>, i: u32) -> Result<Option<u64>> {
        let item = self.call.item(i)?;
        let published_at = item.published_at.unwrap_or(self.call.now);
        Ok(item.message.ttl.map(|ttl| published_at.after(ttl).0))
    }

    fn drop(&mut self, _: Resource<Batch>) -> Result<()> {
        Ok(())
    }
}

impl emit::Host for Host {}

impl emit::HostEmitter for Host {
    fn emit(&mut self, _: Resource<Emitter>, output: emit::Output) -> Result<Result<(), EmitError>> {
        let parent = output.parent as usize;
        if parent >= self.call.count {
            self.call.stray = true;
            return Ok(Err(EmitError::NoSuchParent));
        }
        let taken = self.take_output(parent, output)?;
        if let Err(refusal) = taken {
            self.call.tallies[parent].refused.get_or_insert(refusal);
        }
        Ok(taken)
    }

    fn drop(&mut self, _: Resource<Emitter>) -> Result<()> {
        Ok(())
    }
}

impl Host {
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn take_output(&mut self, parent: usize, output: emit::Output) -> Result<Result<(), EmitError>> {
        if self.call.tallies[parent].outputs >= self.limits.outputs {
            return Ok(Err(EmitError::TooMany));
        }
        let to = output.to.map(usize::from);
        if to.is_some_and(|to| to >= self.call.declared) {
            return Ok(Err(EmitError::NoSuchOutput));
        }
        let message = &self.call.units[self.call.first + parent].item.message;
        let payload = match output.body {
            Body::Same => message.payload.clone(),
            Body::Part((start, length)) => {
                let range = usize::try_from(start).ok().zip(usize::try_from(length).ok());
                let range = range.and_then(|(start, length)| Some(start..start.checked_add(length)?));
                match range {
                    Some(range) if range.end <= message.payload.len() => message.payload.slice(range),
                    _ => return Ok(Err(EmitError::BadRange)),
                }
            }
            Body::Bytes(bytes) => bytes.into(),
        };
        let Ok(headers) = with_headers(&message.headers, &output.set_headers, &output.remove_headers) else {
            return Ok(Err(EmitError::BadHeader));
        };
        let bytes = payload.len() + headers.as_bytes().len();
        let tally = &mut self.call.tallies[parent];
        if tally.bytes + bytes > self.limits.output_bytes {
            return Ok(Err(EmitError::TooLarge));
        }
        if self.call.bytes + bytes > self.limits.batch_output_bytes {
            let message =
                format!("its outputs for one batch exceed {} bytes", self.limits.batch_output_bytes);
            return Err(Breach::error(Fault::Answer, message));
        }
        tally.outputs += 1;
        tally.bytes += bytes;
        self.call.bytes += bytes;
        let message = Message { headers, payload, ..message.clone() };
        self.call.emitted.push(Emitted { parent, to, message });
        Ok(Ok(()))
    }
}

/// How many headers a plugin sets or removes of one message at most: each is looked for among all there are.
const HEADERS_CHANGED_MAX: usize = 1024;

/// `headers` with some set and some removed; unchanged ones are shared, not copied.
pub(crate) fn with_headers(
    headers: &Headers,
    set: &[types::Header],
    remove: &[String],
) -> Result<Headers, String> {
    if set.is_empty() && remove.is_empty() {
        return Ok(headers.clone());
    }
    let changed = set.len() + remove.len();
    if changed > HEADERS_CHANGED_MAX {
        return Err(format!("it changes {changed} headers; at most {HEADERS_CHANGED_MAX}"));
    }
    let bytes: usize = set.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > HEADERS_BYTES_MAX {
        return Err(format!("the headers are too large: {bytes} bytes, and at most {HEADERS_BYTES_MAX}"));
    }
    if set.iter().any(|(name, _)| name.is_empty() || name.chars().any(char::is_control)) {
        return Err("a header name is empty or has control characters".to_owned());
    }
    let mut builder: HeadersBuilder = headers.edit();
    for name in remove {
        builder.remove(name);
    }
    for (name, value) in set {
        builder.set(name, value);
    }
    builder.build().map_err(|_| "the headers are too large".to_owned())
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

/// The memory of one instance, over all its linear memories.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    bytes_max: usize,
    pub(crate) bytes: usize,
    pub(crate) peak_bytes: usize,
    /// Whether more was asked for than allowed.
    pub(crate) refused: bool,
    /// What the guests of the engine have together.
    all: Arc<AtomicUsize>,
}

impl Memory {
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Relaxed);
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        let bytes = self.bytes.saturating_add(desired.saturating_sub(current));
        if bytes > self.bytes_max {
            self.refused = true;
            return Ok(false);
        }
        self.all.fetch_add(bytes - self.bytes, Relaxed);
        self.bytes = bytes;
        self.peak_bytes = self.peak_bytes.max(bytes);
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(desired <= crate::engine::TABLE_ELEMENTS_MAX)
    }
}
