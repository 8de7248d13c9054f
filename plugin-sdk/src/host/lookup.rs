//! Reference tables that an operator uploads; a stage grants each by name, `lookup:prices`.
//!
//! A table stays the same within a call; a new version is seen by the next one.
//!
//! ```
//! use wharf_plugin::{Emit, Failure, Message, Out, Problem, Transformed, lookup, transformer};
//!
//! #[derive(serde::Deserialize)]
//! struct Article {
//!     cents: u64,
//! }
//!
//! /// Makes the price of an article of its number.
//! #[transformer]
//! fn priced(message: &Message, out: &mut Out) -> Result<Transformed, Failure> {
//!     let number = message.text()?;
//!     let article: Option<Article> = lookup::json("articles", number)?;
//!     let article = article.ok_or_else(|| Problem::new("no-article", format!("there is no article {number}")))?;
//!     out.emit(Emit::bytes(article.cents.to_string().as_bytes()))
//! }
//!
//! # #[cfg(not(feature = "harness"))]
//! # fn main() {}
//! # #[cfg(feature = "harness")]
//! # fn main() {
//! use wharf_plugin::harness::Harness;
//!
//! let plugin = Harness::<Priced>::native().table("articles", [("A-1", r#"{"cents": 250}"#)]);
//! plugin.send("A-1").assert_payload("250");
//! plugin.send("B-9").assert_rejected("no-article");
//! Harness::<Priced>::native().unavailable("lookup:articles").send("A-1").assert_retried("table-unavailable");
//! # }
//! ```

use serde::de::DeserializeOwned;

use crate::host::{absent, backend};
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
