//! The thread's `kv`, which keeps what a message leaves as the broker does: when the message comes through.

use std::cell::RefCell;
use std::collections::BTreeMap;

#[cfg(feature = "harness")]
use crate::harness::Remembered as Kept;
use crate::host::kv::Error;
use crate::host::native::{TIME, granted};

/// The bounds of the broker's `kv`.
const KEY_BYTES_MAX: usize = 512;
const VALUE_BYTES_MAX: usize = 65_536;

thread_local! {
    static KV: RefCell<Memory> = const { RefCell::new(Memory::new()) };
    /// What the message that is under way left so far.
    static CHANGED: RefCell<Changes> = const { RefCell::new(Changes::new()) };
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
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(Error::BadKey);
    }
    let own = CHANGED.with_borrow(|changed| changed.get(key).cloned());
    let found = own.unwrap_or_else(|| KV.with_borrow(|kv| kv.get(key).cloned()));
    Ok(found.filter(|kept| kept.expires_ms.is_none_or(|expires| expires > TIME.get())))
}

fn change(key: &str, kept: Option<Kept>) {
    CHANGED.with_borrow_mut(|changed| changed.insert(key.to_owned(), kept));
}

pub(crate) fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    Ok(kept(key)?.map(|kept| kept.value))
}

pub(crate) fn set(key: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<(), Error> {
    kept(key)?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(Error::ValueTooLarge);
    }
    let expires_ms = ttl_ms.map(|ttl_ms| TIME.get().saturating_add(ttl_ms));
    change(key, Some(Kept { value: value.to_vec(), expires_ms }));
    Ok(())
}

pub(crate) fn remove(key: &str) -> Result<(), Error> {
    kept(key)?;
    change(key, None);
    Ok(())
}

pub(crate) fn add(key: &str, by: i64, ttl_ms: Option<u64>) -> Result<i64, Error> {
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
