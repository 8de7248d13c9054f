//! What the broker offers to a plugin beside its message: lines for the operator, the time, counters; tables,
//! memory, schemas and secrets where its stage grants them.
//!
//! In a component these are calls to the host. Natively, as in a plugin's unit tests, they go to a stand-in that
//! belongs to the thread.

#[cfg(target_family = "wasm")]
#[path = "host/component.rs"]
mod backend;
#[cfg(not(target_family = "wasm"))]
#[path = "host/native.rs"]
#[cfg_attr(not(feature = "harness"), expect(dead_code, reason = "the harness drives it"))]
pub(crate) mod backend;

use crate::bindings::imports::wharf::plugin::types::Absence;
use crate::{Failure, Problem};

#[cfg(any(target_family = "wasm", feature = "harness"))]
pub(crate) use backend::end_message;
pub(crate) use backend::{Batch, Emitter, config as backend_config, random, stage as backend_stage};

/// How much a log line matters.
///
/// ```
/// use wharf_plugin::{Level, log};
///
/// let level = if cfg!(debug_assertions) { Level::Debug } else { Level::Info };
/// log::write(level, "a table of 4,096 rates is in use");
/// assert!(Level::Debug < Level::Error);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever writes the plugin.
    Debug,
    /// For whoever runs it.
    Info,
    /// Somebody should look at it one day.
    Warn,
    /// Somebody should look at it now.
    Error,
}

/// Lines for the operator: bounded by the host in length and number, control characters escaped.
///
/// ```
/// use wharf_plugin::log;
///
/// log::debug("for whoever writes the plugin");
/// log::info("for whoever runs it");
/// log::warn("somebody should look at it one day");
/// log::error("somebody should look at it now");
/// ```
pub mod log {
    use super::{Level, backend};

    /// Writes a line at `level`.
    pub fn write(level: Level, line: &str) {
        backend::log(level, line);
    }

    /// For whoever writes the plugin.
    pub fn debug(line: &str) {
        write(Level::Debug, line);
    }

    /// For whoever runs the plugin.
    pub fn info(line: &str) {
        write(Level::Info, line);
    }

    /// Somebody should look at it one day.
    pub fn warn(line: &str) {
        write(Level::Warn, line);
    }

    /// Somebody should look at it now.
    pub fn error(line: &str) {
        write(Level::Error, line);
    }
}

/// The logged time.
///
/// ```
/// use wharf_plugin::clock;
///
/// let begun = clock::now();
/// assert_eq!(begun, clock::now(), "it stands still in a call");
/// ```
pub mod clock {
    use super::backend;

    /// Milliseconds since 1970: constant within a call, so that a run can be repeated.
    pub fn now() -> u64 {
        backend::now()
    }
}

/// Counters of the plugin's own, shown with its stage's metrics.
///
/// ```
/// use wharf_plugin::metrics;
///
/// metrics::add("orders", 1);
/// metrics::add("order-lines", 12);
/// ```
pub mod metrics {
    use super::backend;

    /// Adds `by` to the counter `name`.
    pub fn add(name: &str, by: u64) {
        backend::add(name, by);
    }
}

/// Reference tables that an operator uploads; a stage grants each by name, `lookup:prices`.
///
/// A table stays the same within a call; a new version is seen by the next one.
///
/// ```
/// use wharf_plugin::{Emit, Failure, Message, Out, Problem, Transformed, lookup, transformer};
///
/// #[derive(serde::Deserialize)]
/// struct Article {
///     cents: u64,
/// }
///
/// /// Makes the price of an article of its number.
/// #[transformer]
/// fn priced(message: &Message, out: &mut Out) -> Result<Transformed, Failure> {
///     let number = message.text()?;
///     let article: Option<Article> = lookup::json("articles", number)?;
///     let article = article.ok_or_else(|| Problem::new("no-article", format!("there is no article {number}")))?;
///     out.emit(Emit::bytes(article.cents.to_string().as_bytes()))
/// }
///
/// # #[cfg(not(feature = "harness"))]
/// # fn main() {}
/// # #[cfg(feature = "harness")]
/// # fn main() {
/// use wharf_plugin::harness::Harness;
///
/// let plugin = Harness::<Priced>::native().table("articles", [("A-1", r#"{"cents": 250}"#)]);
/// plugin.send("A-1").assert_payload("250");
/// plugin.send("B-9").assert_rejected("no-article");
/// Harness::<Priced>::native().unavailable("lookup:articles").send("A-1").assert_retried("table-unavailable");
/// # }
/// ```
pub mod lookup {
    use serde::de::DeserializeOwned;

    use super::{absent, backend};
    use crate::{Failure, Problem};

    /// The value of `key` in `table`, if it has one.
    ///
    /// # Errors
    /// Asks for a retry while the table is not there or cannot be read.
    pub fn get(table: &str, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        backend::lookup(table, key).map_err(|absence| absent("table", table, absence))
    }

    /// The value of `key` in `table`, if it has one, as text.
    ///
    /// # Errors
    /// As [`get`]; rejects with `lookup-not-utf8` a value that is no text.
    pub fn text(table: &str, key: &str) -> Result<Option<String>, Failure> {
        let text = get(table, key)?.map(String::from_utf8).transpose();
        text.map_err(|_| {
            Problem::new("lookup-not-utf8", format!("`{key}` in table `{table}` is not UTF-8 text")).into()
        })
    }

    /// The value of `key` in `table`, if it has one, from JSON.
    ///
    /// # Errors
    /// As [`get`]; rejects with `lookup-not-json` a value that is not the JSON that was expected.
    pub fn json<T: DeserializeOwned>(table: &str, key: &str) -> Result<Option<T>, Failure> {
        let value = get(table, key)?.map(|value| serde_json::from_slice(&value)).transpose();
        value.map_err(|error| {
            let message = format!("`{key}` in table `{table}` is not the JSON that was expected: {error}");
            Problem::new("lookup-not-json", message).into()
        })
    }

    /// One value or none for each of `keys`, in order: one call of the host for all of them.
    ///
    /// ```
    /// use wharf_plugin::{Failure, lookup};
    ///
    /// /// How many of `codes` are known.
    /// fn known(codes: &[&str]) -> Result<usize, Failure> {
    ///     Ok(lookup::get_many("codes", codes)?.into_iter().flatten().count())
    /// }
    /// # assert!(matches!(known(&["a"]), Err(Failure::Retry { .. })), "nothing is lent here");
    /// ```
    ///
    /// # Errors
    /// As [`get`].
    pub fn get_many(table: &str, keys: &[&str]) -> Result<Vec<Option<Vec<u8>>>, Failure> {
        backend::lookup_many(table, keys).map_err(|absence| absent("table", table, absence))
    }

    /// Which version of `table` is in use: 1 for the first that was uploaded.
    ///
    /// ```
    /// use wharf_plugin::lookup;
    ///
    /// let failure = lookup::version("nobody-lent-it").unwrap_err();
    /// assert_eq!(failure.problem().code, "no-table");
    /// ```
    ///
    /// # Errors
    /// As [`get`].
    pub fn version(table: &str) -> Result<u64, Failure> {
        backend::table_version(table).map_err(|absence| absent("table", table, absence))
    }
}

/// What a pipeline remembers from message to message; a stage grants it as `kv`.
///
/// All that is changed for a message is stored in that message's own record, or none of it: a message that is
/// rejected, a duplicate, or on which the plugin breaks changes nothing. So a count is exact, whatever crashes.
///
/// ```
/// use wharf_plugin::{Failure, Message, NoConfig, Plugin, Problem, Route, Router, Stage, kv};
///
/// /// Lets the first ten messages of each key pass.
/// struct FirstTen;
///
/// impl Plugin for FirstTen {
///     type Config = NoConfig;
///     const SUMMARY: &'static str = "lets the first ten messages of a key pass";
///
///     fn init(_config: NoConfig, _stage: &Stage) -> Result<Self, Problem> {
///         Ok(Self)
///     }
/// }
///
/// impl Router for FirstTen {
///     fn route(&self, message: &Message<'_>) -> Result<Route, Failure> {
///         let key = String::from_utf8_lossy(message.key().unwrap_or_default());
///         Ok(if kv::add(&format!("seen/{key}"), 1)? <= 10 { Route::Pass } else { Route::Drop })
///     }
/// }
///
/// wharf_plugin::export!(FirstTen as router);
/// # fn main() {}
/// ```
pub mod kv {
    use std::time::Duration;

    use super::backend;
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
        backend::kv_get(key)
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
        backend::kv_set(key, value, None)
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
        backend::kv_set(key, value, Some(milliseconds(ttl)))
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
        backend::kv_remove(key)
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
        backend::kv_add(key, by, None)
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
        backend::kv_add(key, by, Some(milliseconds(ttl)))
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
}

/// Schemas that an operator uploads; a stage grants each by name, `schema:order`.
///
/// ```
/// use wharf_plugin::{Failure, Message, Problem, schema, validator};
///
/// /// Accepts the words that stand in a schema, one a line.
/// #[validator]
/// fn known_word(message: &Message) -> Result<(), Failure> {
///     let document = schema::get("words")?;
///     let words = std::str::from_utf8(&document.bytes)?;
///     match words.lines().any(|word| word.as_bytes() == message.payload()) {
///         true => Ok(()),
///         false => Err(Problem::new("unknown-word", format!("not in version {}", document.version)).into()),
///     }
/// }
///
/// # #[cfg(not(feature = "harness"))]
/// # fn main() {}
/// # #[cfg(feature = "harness")]
/// # fn main() {
/// use wharf_plugin::harness::Harness;
///
/// let plugin = Harness::<KnownWord>::native().schema("words", "yes\nno");
/// plugin.send("yes").assert_passed();
/// plugin.send("perhaps").assert_rejected("unknown-word");
/// # }
/// ```
pub mod schema {
    use super::{absent, backend};
    use crate::Failure;

    pub use crate::compiled::Compiled;

    /// A schema, as it was uploaded.
    ///
    /// ```
    /// use wharf_plugin::schema::Document;
    ///
    /// let document = Document { version: 2, bytes: br#"{"type": "object"}"#.to_vec() };
    /// assert!(std::str::from_utf8(&document.bytes).is_ok());
    /// ```
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Document {
        /// 1 for the first that was uploaded.
        pub version: u64,
        /// The document.
        pub bytes: Vec<u8>,
    }

    /// The version of schema `name` that is in use; the same within a call.
    ///
    /// # Errors
    /// Asks for a retry while it is not there or cannot be read.
    pub fn get(name: &str) -> Result<Document, Failure> {
        backend::schema(name).map_err(|absence| absent("schema", name, absence))
    }
}

/// Secrets that an operator keeps in the broker; a stage grants each by name, `secrets:api-key`.
///
/// ```
/// use wharf_plugin::{Failure, Message, Problem, secrets, validator};
///
/// /// Accepts messages whose header `token` is the secret of that name.
/// #[validator]
/// fn trusted(message: &Message) -> Result<(), Failure> {
///     let token = secrets::get("token")?;
///     // `==` tells by its time how much was right; where that matters, compare in constant time.
///     match message.header("token") == Some(token.reveal()) {
///         true => Ok(()),
///         false => Err(Problem::new("not-trusted", "the token is another").into()),
///     }
/// }
///
/// # #[cfg(not(feature = "harness"))]
/// # fn main() {}
/// # #[cfg(feature = "harness")]
/// # fn main() {
/// use wharf_plugin::harness::{Harness, Input};
///
/// let plugin = Harness::<Trusted>::native().secret("token", "open sesame");
/// plugin.send(Input::new("x").header("token", "open sesame")).assert_passed();
/// plugin.send("x").assert_rejected("not-trusted");
/// # }
/// ```
pub mod secrets {
    use std::fmt;

    use super::{absent, backend};
    use crate::Failure;

    /// A value that does not show itself: [`reveal`](Self::reveal) gives it.
    #[derive(Clone, PartialEq, Eq)]
    pub struct Secret(Vec<u8>);

    impl Secret {
        /// The value. What becomes of it is the plugin's to mind.
        pub fn reveal(&self) -> &[u8] {
            &self.0
        }
    }

    impl fmt::Debug for Secret {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Secret(…)")
        }
    }

    /// The secret `name`.
    ///
    /// # Errors
    /// Asks for a retry while it is not there.
    pub fn get(name: &str) -> Result<Secret, Failure> {
        backend::secret(name).map(Secret).map_err(|absence| absent("secret", name, absence))
    }
}

/// What is not there now may be there later: an operator puts it there.
fn absent(kind: &'static str, name: &str, absence: Absence) -> Failure {
    let problem = match absence {
        Absence::NoSuchName => {
            Problem::new(format!("no-{kind}"), format!("the broker has no {kind} `{name}`"))
        }
        Absence::Unavailable(reason) => {
            Problem::new(format!("{kind}-unavailable"), format!("{kind} `{name}` cannot be read: {reason}"))
        }
    };
    Failure::Retry { problem, after: None }
}
