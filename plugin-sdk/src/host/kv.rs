//! What a pipeline remembers from message to message; a stage grants it as `kv`.
//!
//! All that is changed for a message is stored in that message's own record, or none of it: a message that is
//! rejected, a duplicate, or on which the plugin breaks changes nothing. So a count is exact, whatever crashes.
//!
//! ```
//! use wharf_plugin::{Failure, Message, NoConfig, Plugin, Problem, Route, Router, Stage, kv};
//!
//! /// Lets the first ten messages of each key pass.
//! struct FirstTen;
//!
//! impl Plugin for FirstTen {
//!     type Config = NoConfig;
//!     const SUMMARY: &'static str = "lets the first ten messages of a key pass";
//!
//!     fn init(_config: NoConfig, _stage: &Stage) -> Result<Self, Problem> {
//!         Ok(Self)
//!     }
//! }
//!
//! impl Router for FirstTen {
//!     fn route(&self, message: &Message<'_>) -> Result<Route, Failure> {
//!         let key = String::from_utf8_lossy(message.key().unwrap_or_default());
//!         Ok(if kv::add(&format!("seen/{key}"), 1)? <= 10 { Route::Pass } else { Route::Drop })
//!     }
//! }
//!
//! wharf_plugin::export!(FirstTen as router);
//! # fn main() {}
//! ```

use std::time::Duration;

use crate::host::backend;
use crate::{Failure, Problem};

/// Why `kv` does not do what it was asked for.
///
/// ```
/// use wharf_plugin::{Failure, kv};
///
/// assert_eq!(kv::set("", b"x"), Err(kv::Error::BadKey));
/// assert!(matches!(Failure::from(kv::Error::Full), Failure::Retry { .. }), "there may be room later");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Error {
    /// A key has 1 to 512 bytes.
    BadKey,
    /// A value has at most 65,536 bytes.
    ValueTooLarge,
    /// One message changes at most 128 keys.
    TooManyChanges,
    /// The pipeline's space is full.
    Full,
    /// [`add`] to a value that is no whole number of 64 bits, or past its range.
    NotANumber,
}

/// The value of `key`, unless it expired.
///
/// ```
/// use wharf_plugin::kv;
///
/// assert_eq!(kv::get("last-order")?, None);
/// # Ok::<(), kv::Error>(())
/// ```
///
/// # Errors
/// The key is out of bounds.
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    backend::kv::get(key)
}

/// Sets `key` for good.
///
/// ```
/// use wharf_plugin::kv;
///
/// kv::set("last-order", b"A-7")?;
/// assert_eq!(kv::get("last-order")?.as_deref(), Some(&b"A-7"[..]));
/// # Ok::<(), kv::Error>(())
/// ```
///
/// # Errors
/// The key or value is out of bounds, or there is no room.
pub fn set(key: &str, value: &[u8]) -> Result<(), Error> {
    backend::kv::set(key, value, None)
}

/// Sets `key` for a while of logged time.
///
/// ```
/// use std::time::Duration;
/// use wharf_plugin::kv;
///
/// kv::set_for("seen/A-7", b"", Duration::from_secs(3600))?;
/// assert!(kv::get("seen/A-7")?.is_some());
/// # Ok::<(), kv::Error>(())
/// ```
///
/// # Errors
/// As [`set`].
pub fn set_for(key: &str, value: &[u8], ttl: Duration) -> Result<(), Error> {
    backend::kv::set(key, value, Some(milliseconds(ttl)))
}

/// Removes `key`; fine when it is not there.
///
/// ```
/// use wharf_plugin::kv;
///
/// kv::set("seen/A-7", b"")?;
/// kv::remove("seen/A-7")?;
/// assert_eq!(kv::get("seen/A-7")?, None);
/// # Ok::<(), kv::Error>(())
/// ```
///
/// # Errors
/// The key is out of bounds.
pub fn remove(key: &str) -> Result<(), Error> {
    backend::kv::remove(key)
}

/// Adds to a counter, which is 0 where it is not there, and gives what it is now.
///
/// ```
/// use wharf_plugin::kv;
///
/// assert_eq!(kv::add("orders/acme", 1)?, 1);
/// assert_eq!(kv::add("orders/acme", 4)?, 5);
/// assert_eq!(kv::get("orders/acme")?.as_deref(), Some(&b"5"[..]), "it is kept as text");
/// # Ok::<(), kv::Error>(())
/// ```
///
/// # Errors
/// As [`set`]; or the value is no counter.
pub fn add(key: &str, by: i64) -> Result<i64, Error> {
    backend::kv::add(key, by, None)
}

/// As [`add`]; a counter that this call makes ends after `ttl`, and later calls leave its end as it is: a count
/// for each window of time.
///
/// ```
/// use std::time::Duration;
/// use wharf_plugin::kv;
///
/// /// Whether `customer` has sent no more than ten messages since the first of the last minute.
/// fn within_rate(customer: &str) -> Result<bool, kv::Error> {
///     Ok(kv::add_for(&format!("rate/{customer}"), 1, Duration::from_secs(60))? <= 10)
/// }
///
/// assert_eq!((1..=11).map(|_| within_rate("acme")).filter(|within| *within == Ok(true)).count(), 10);
/// ```
///
/// # Errors
/// As [`add`].
pub fn add_for(key: &str, by: i64, ttl: Duration) -> Result<i64, Error> {
    backend::kv::add(key, by, Some(milliseconds(ttl)))
}

fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::BadKey => "a kv key has 1 to 512 bytes",
            Self::ValueTooLarge => "a kv value has at most 65536 bytes",
            Self::TooManyChanges => "one message changes at most 128 kv keys",
            Self::Full => "the pipeline's kv space is full",
            Self::NotANumber => "the kv value is no whole number of 64 bits, or would pass its range",
        })
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    /// No room may be had later; the rest will not change by itself.
    fn from(error: Error) -> Self {
        let code = match error {
            Error::BadKey => "kv-bad-key",
            Error::ValueTooLarge => "kv-value-too-large",
            Error::TooManyChanges => "kv-too-many-changes",
            Error::Full => "kv-full",
            Error::NotANumber => "kv-not-a-number",
        };
        let problem = Problem::new(code, error.to_string());
        match error {
            Error::Full => Self::Retry { problem, after: None },
            _ => Self::Reject(problem),
        }
    }
}
