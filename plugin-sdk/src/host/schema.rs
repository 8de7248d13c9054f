//! Schemas that an operator uploads; a stage grants each by name, `schema:order`.
//!
//! ```
//! use wharf_plugin::{Failure, Message, Problem, schema, validator};
//!
//! /// Accepts the words that stand in a schema, one a line.
//! #[validator]
//! fn known_word(message: &Message) -> Result<(), Failure> {
//!     let document = schema::get("words")?;
//!     let words = std::str::from_utf8(&document.bytes)?;
//!     match words.lines().any(|word| word.as_bytes() == message.payload()) {
//!         true => Ok(()),
//!         false => Err(Problem::new("unknown-word", format!("not in version {}", document.version)).into()),
//!     }
//! }
//!
//! # #[cfg(not(feature = "harness"))]
//! # fn main() {}
//! # #[cfg(feature = "harness")]
//! # fn main() {
//! use wharf_plugin::harness::Harness;
//!
//! let plugin = Harness::<KnownWord>::native().schema("words", "yes\nno");
//! plugin.send("yes").assert_passed();
//! plugin.send("perhaps").assert_rejected("unknown-word");
//! # }
//! ```

mod compiled;

use crate::Failure;
use crate::host::{absent, backend};

pub use compiled::Compiled;

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
