//! A stand-in for the host, so that a plugin's logic runs natively: one batch, and one log for each thread.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::bindings::imports::wharf::plugin::types::Absence;
use crate::bindings::imports::wharf::plugin::types::{Slot, Span, View};
use crate::bindings::outputs::wharf::plugin::emit;
use crate::host::Level;
use crate::host::kv::Error;
use crate::host::schema::Document;
use crate::message::ABSENT;
use crate::{Fields, Stage};

/// The time that [`clock::now`](crate::clock::now) gives where nothing else was set, as the engine's harness has it:
/// 2026-01-01T00:00:00Z.
pub(crate) const NOW: u64 = 1_767_225_600_000;

/// The panic of a plugin that used what its stage does not grant.
pub(crate) struct Denied(pub(crate) String);

thread_local! {
    static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    static COUNTERS: RefCell<BTreeMap<String, u64>> = const { RefCell::new(BTreeMap::new()) };
    static LENT: RefCell<Lent> = RefCell::default();
    static KV: RefCell<Memory> = const { RefCell::new(Memory::new()) };
    /// What the message that is under way left so far.
    static CHANGED: RefCell<Changes> = const { RefCell::new(Changes::new()) };
    /// What each message of the batch left that is done.
    static DONE: RefCell<Vec<Changes>> = const { RefCell::new(Vec::new()) };
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

/// What there is in this thread's `kv`.
type Memory = BTreeMap<String, Kept>;

/// What a message leaves there.
type Changes = BTreeMap<String, Option<Kept>>;

#[cfg(feature = "harness")]
use crate::harness::Remembered as Kept;

/// A value in this thread's `kv`.
#[cfg(not(feature = "harness"))]
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) value: Vec<u8>,
    /// When it expires, in milliseconds since 1970.
    pub(crate) expires_ms: Option<u64>,
}

/// The bounds of the broker's `kv`.
const KV_KEY_BYTES_MAX: usize = 512;
const KV_VALUE_BYTES_MAX: usize = 65_536;

/// One message, with all its fields.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stored {
    pub(crate) topic: String,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) message_id: Option<String>,
    pub(crate) reply_to: Option<String>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) payload: Vec<u8>,
    pub(crate) attempt: u32,
    pub(crate) priority: u8,
    /// How long it lives, in milliseconds.
    pub(crate) ttl: Option<u64>,
}

/// What a plugin can ask for beside the packed view.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch(pub(crate) Vec<Stored>);

impl Batch {
    fn message(&self, i: u32) -> &Stored {
        self.0.get(i as usize).expect("the message is in the batch")
    }

    pub(crate) fn topic(&self, i: u32) -> String {
        self.message(i).topic.clone()
    }

    pub(crate) fn key(&self, i: u32) -> Option<Vec<u8>> {
        self.message(i).key.clone()
    }

    pub(crate) fn message_id(&self, i: u32) -> Option<String> {
        self.message(i).message_id.clone()
    }

    pub(crate) fn reply_to(&self, i: u32) -> Option<String> {
        self.message(i).reply_to.clone()
    }

    pub(crate) fn header(&self, i: u32, name: &str) -> Option<Vec<u8>> {
        self.message(i).headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone())
    }

    pub(crate) fn headers(&self, i: u32) -> Vec<(String, Vec<u8>)> {
        self.message(i).headers.clone()
    }

    pub(crate) fn payload(&self, i: u32) -> Vec<u8> {
        self.message(i).payload.clone()
    }

    pub(crate) fn len(&self) -> u32 {
        length32(self.0.len())
    }

    pub(crate) fn attempt(&self, i: u32) -> u32 {
        self.message(i).attempt
    }

    pub(crate) fn published_at(&self, _i: u32) -> u64 {
        TIME.get()
    }

    pub(crate) fn priority(&self, i: u32) -> u8 {
        self.message(i).priority
    }

    pub(crate) fn deadline(&self, i: u32) -> Option<u64> {
        self.message(i).ttl.map(|ttl| TIME.get().saturating_add(ttl))
    }

    /// Packs what `reads` names, as the broker does.
    pub(crate) fn view(&self, reads: &Fields) -> View {
        let mut view = View { slots: Vec::new(), headers: Vec::new(), bytes: Vec::new() };
        for message in &self.0 {
            let mut pack = |field: Option<&[u8]>| pack(&mut view.bytes, field);
            if reads.topic || reads.key || reads.payload {
                let topic = pack(reads.topic.then_some(message.topic.as_bytes()));
                let key = pack(if reads.key { message.key.as_deref() } else { None });
                let payload = pack(reads.payload.then_some(message.payload.as_slice()));
                let received_at = TIME.get();
                view.slots.push(Slot { topic, key, payload, attempt: message.attempt, received_at });
            }
            for name in &reads.headers {
                let value = message.headers.iter().find(|(own, _)| own == name);
                view.headers.push(pack(value.map(|(_, value)| value.as_slice())));
            }
        }
        view
    }
}

fn pack(bytes: &mut Vec<u8>, field: Option<&[u8]>) -> Span {
    let start = length32(bytes.len());
    let Some(field) = field else {
        return Span { start, length: ABSENT };
    };
    bytes.extend_from_slice(field);
    Span { start, length: length32(field.len()) }
}

fn length32(length: usize) -> u32 {
    u32::try_from(length).expect("a test's batch is under 4 GiB")
}

/// An output, as it was emitted.
#[derive(Debug, Clone)]
pub(crate) struct Emitted {
    pub(crate) parent: u32,
    pub(crate) to: Option<u16>,
    pub(crate) payload: Vec<u8>,
    pub(crate) set_headers: Vec<(String, Vec<u8>)>,
    pub(crate) remove_headers: Vec<String>,
}

/// Keeps what is emitted.
#[derive(Debug, Default)]
pub(crate) struct Emitter {
    pub(crate) payloads: Vec<Vec<u8>>,
    pub(crate) emitted: RefCell<Vec<Emitted>>,
}

impl Emitter {
    pub(crate) fn emit(&self, output: emit::Output<'_>) -> Result<(), emit::EmitError> {
        let parent = self.payloads.get(output.parent as usize).ok_or(emit::EmitError::NoSuchParent)?;
        let payload = match output.body {
            emit::Body::Same => parent.clone(),
            emit::Body::Part((start, length)) => {
                let start = usize::try_from(start).map_err(|_| emit::EmitError::BadRange)?;
                let length = usize::try_from(length).map_err(|_| emit::EmitError::BadRange)?;
                let end = start.checked_add(length).ok_or(emit::EmitError::BadRange)?;
                parent.get(start..end).ok_or(emit::EmitError::BadRange)?.to_vec()
            }
            emit::Body::Bytes(bytes) => bytes.to_vec(),
        };
        let owned = |&(name, value): &(&str, &[u8])| (name.to_owned(), value.to_owned());
        self.emitted.borrow_mut().push(Emitted {
            parent: output.parent,
            to: output.to,
            payload,
            set_headers: output.set_headers.iter().map(owned).collect(),
            remove_headers: output.remove_headers.iter().map(|&name| name.to_owned()).collect(),
        });
        Ok(())
    }
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
        std::panic::panic_any(Denied(grant.to_owned()));
    }
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

pub(crate) fn add(name: &str, by: u64) {
    granted("metrics");
    COUNTERS.with_borrow_mut(|counters| *counters.entry(name.to_owned()).or_default() += by);
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

/// Begins a batch with this in `kv`.
pub(crate) fn remember(memory: Memory) {
    KV.set(memory);
    CHANGED.take();
    DONE.take();
}

/// What each message of the batch left.
pub(crate) fn take_changes() -> Vec<Changes> {
    DONE.take()
}

/// Ends a message as the broker does: what it left is there for the next one, unless it failed.
pub(crate) fn end_message(came_through: bool) {
    let changed = CHANGED.take();
    let left = if came_through { changed } else { Changes::new() };
    KV.with_borrow_mut(|kv| {
        for (key, kept) in &left {
            match kept {
                Some(kept) => kv.insert(key.clone(), kept.clone()),
                None => kv.remove(key),
            };
        }
    });
    DONE.with_borrow_mut(|done| done.push(left));
}

fn kept(key: &str) -> Result<Option<Kept>, Error> {
    granted("kv");
    if key.is_empty() || key.len() > KV_KEY_BYTES_MAX {
        return Err(Error::BadKey);
    }
    let own = CHANGED.with_borrow(|changed| changed.get(key).cloned());
    let found = own.unwrap_or_else(|| KV.with_borrow(|kv| kv.get(key).cloned()));
    Ok(found.filter(|kept| kept.expires_ms.is_none_or(|expires| expires > TIME.get())))
}

fn change(key: &str, kept: Option<Kept>) {
    CHANGED.with_borrow_mut(|changed| changed.insert(key.to_owned(), kept));
}

pub(crate) fn kv_get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    Ok(kept(key)?.map(|kept| kept.value))
}

pub(crate) fn kv_set(key: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<(), Error> {
    kept(key)?;
    if value.len() > KV_VALUE_BYTES_MAX {
        return Err(Error::ValueTooLarge);
    }
    let expires_ms = ttl_ms.map(|ttl_ms| TIME.get().saturating_add(ttl_ms));
    change(key, Some(Kept { value: value.to_vec(), expires_ms }));
    Ok(())
}

pub(crate) fn kv_remove(key: &str) -> Result<(), Error> {
    kept(key)?;
    change(key, None);
    Ok(())
}

pub(crate) fn kv_add(key: &str, by: i64, ttl_ms: Option<u64>) -> Result<i64, Error> {
    let (counted, expires_ms) = match kept(key)? {
        None => (0, ttl_ms.map(|ttl_ms| TIME.get().saturating_add(ttl_ms))),
        Some(kept) => {
            let number = std::str::from_utf8(&kept.value).ok().and_then(|text| text.parse::<i64>().ok());
            (number.ok_or(Error::NotANumber)?, kept.expires_ms)
        }
    };
    let counted = counted.checked_add(by).ok_or(Error::NotANumber)?;
    change(key, Some(Kept { value: counted.to_string().into_bytes(), expires_ms }));
    Ok(counted)
}
