//! What the pipeline remembers, asked for through the import `kv`.

use crate::bindings::capabilities::wharf::plugin::kv;
use crate::host::kv::Error;

/// The broker sees by itself where a message ends.
pub(crate) fn end_message(_came_through: bool) {}

pub(crate) fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    kv::get(key).map_err(Error::from)
}

pub(crate) fn set(key: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<(), Error> {
    kv::set(key, value, ttl_ms).map_err(Error::from)
}

pub(crate) fn remove(key: &str) -> Result<(), Error> {
    kv::remove(key).map_err(Error::from)
}

pub(crate) fn add(key: &str, by: i64, ttl_ms: Option<u64>) -> Result<i64, Error> {
    kv::add(key, by, ttl_ms).map_err(Error::from)
}

impl From<kv::Error> for Error {
    fn from(error: kv::Error) -> Self {
        match error {
            kv::Error::BadKey => Self::BadKey,
            kv::Error::ValueTooLarge => Self::ValueTooLarge,
            kv::Error::TooManyChanges => Self::TooManyChanges,
            kv::Error::Full => Self::Full,
            kv::Error::NotANumber => Self::NotANumber,
        }
    }
}
