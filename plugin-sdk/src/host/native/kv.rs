//! The thread's `kv`, which keeps what a message leaves as the broker does: when the message comes through.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

#[cfg(feature = "harness")]
use crate::harness::Remembered as Kept;
use crate::host::kv::Error;
use crate::host::native::{TIME, breach, granted};

/// The bounds of the broker's `kv`.
const KEY_BYTES_MAX: usize = 512;
const VALUE_BYTES_MAX: usize = 65_536;
const CHANGES_MAX: usize = 128;
const READS_MAX: usize = 1024;

thread_local! {
    static KV: RefCell<Memory> = const { RefCell::new(Memory::new()) };
    /// What the message that is under way left so far.
    static CHANGED: RefCell<Changes> = const { RefCell::new(Changes::new()) };
    /// Which keys it read that it had not changed.
    static READ: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
    /// What each message of the batch left that is done.
    static DONE: RefCell<Vec<Changes>> = const { RefCell::new(Vec::new()) };
}

/// What there is in the thread's `kv`.
type Memory = BTreeMap<String, Kept>;

/// What a message leaves there.
type Changes = BTreeMap<String, Option<Kept>>;

/// A value in the thread's `kv`.
#[cfg(not(feature = "harness"))]
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) value: Vec<u8>,
    /// When it expires, in milliseconds since 1970.
    pub(crate) expires_ms: Option<u64>,
}

/// Begins a batch with this in `kv`.
pub(crate) fn remember(memory: Memory) {
    KV.set(memory);
    CHANGED.take();
    READ.take();
    DONE.take();
}

/// What each message of the batch left.
pub(crate) fn take_changes() -> Vec<Changes> {
    DONE.take()
}

/// Ends a message as the broker does: what it left is there for the next one, unless it failed.
pub(crate) fn end_message(came_through: bool) {
    let changed = CHANGED.take();
    READ.take();
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

fn check(key: &str) -> Result<(), Error> {
    granted("kv");
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(Error::BadKey);
    }
    Ok(())
}

fn read(key: &str) -> Result<Option<Kept>, Error> {
    check(key)?;
    let own = CHANGED.with_borrow(|changed| changed.get(key).cloned());
    let found = own.unwrap_or_else(|| {
        note_read(key);
        KV.with_borrow(|kv| kv.get(key).cloned())
    });
    Ok(found.filter(|kept| kept.expires_ms.is_none_or(|expires| expires > TIME.get())))
}

fn note_read(key: &str) {
    let read = READ.with_borrow_mut(|read| {
        read.insert(key.to_owned());
        read.len()
    });
    if read > READS_MAX {
        let message =
            format!("it read more than {READS_MAX} keys of what its pipeline remembers for one message");
        breach("plugin-answer", message);
    }
}

fn change(key: &str, kept: Option<Kept>) -> Result<(), Error> {
    CHANGED.with_borrow_mut(|changed| {
        if changed.len() >= CHANGES_MAX && !changed.contains_key(key) {
            return Err(Error::TooManyChanges);
        }
        changed.insert(key.to_owned(), kept);
        Ok(())
    })
}

pub(crate) fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    Ok(read(key)?.map(|kept| kept.value))
}

pub(crate) fn set(key: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<(), Error> {
    check(key)?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(Error::ValueTooLarge);
    }
    let expires_ms = ttl_ms.map(|ttl_ms| TIME.get().saturating_add(ttl_ms));
    change(key, Some(Kept { value: value.to_vec(), expires_ms }))
}

pub(crate) fn remove(key: &str) -> Result<(), Error> {
    check(key)?;
    change(key, None)
}

pub(crate) fn add(key: &str, by: i64, ttl_ms: Option<u64>) -> Result<i64, Error> {
    let (counted, expires_ms) = match read(key)? {
        None => (0, ttl_ms.map(|ttl_ms| TIME.get().saturating_add(ttl_ms))),
        Some(kept) => {
            let number = std::str::from_utf8(&kept.value).ok().and_then(|text| text.parse::<i64>().ok());
            (number.ok_or(Error::NotANumber)?, kept.expires_ms)
        }
    };
    let counted = counted.checked_add(by).ok_or(Error::NotANumber)?;
    change(key, Some(Kept { value: counted.to_string().into_bytes(), expires_ms }))?;
    Ok(counted)
}
