//! Write plugins for the Wharf message broker.
//!
//! A plugin is a Wasm component that the broker runs on each message of a pipeline's stage. Here it is one function
//! and one attribute:
//!
//! ```
//! use wharf_plugin::{Emit, Failure, Message, Out, Transformed, transformer};
//!
//! /// Makes text loud.
//! #[transformer]
//! fn shout(message: &Message, out: &mut Out) -> Result<Transformed, Failure> {
//!     let loud = message.text()?.to_uppercase();
//!     out.emit(Emit::bytes(loud.as_bytes()))
//! }
//! # fn main() {}
//! ```
//!
//! With a configuration, which the broker checks when a pipeline is applied:
//!
//! ```
//! use serde::Deserialize;
//! use wharf_plugin::{Config, Message, Problem, validator};
//!
//! #[derive(Deserialize, Config)]
//! #[serde(deny_unknown_fields)]
//! struct Limits {
//!     /// The longest payload that is accepted.
//!     max_bytes: usize,
//! }
//!
//! /// Accepts payloads up to a length.
//! #[validator]
//! fn at_most(message: &Message, limits: &Limits) -> Result<(), Problem> {
//!     match message.payload().len() {
//!         length if length <= limits.max_bytes => Ok(()),
//!         length => Err(Problem::new("too-long", format!("{length} bytes, at most {}", limits.max_bytes))),
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! - The attributes: [`macro@validator`], [`macro@router`], [`macro@transformer`], [`macro@enricher`]. A plugin that
//!   prepares something once implements the traits instead: [`Plugin`], and [`Validator`], [`Router`],
//!   [`Transformer`] or [`Enricher`].
//! - [`Config`](derive@Config) derives the JSON Schema of a configuration when the plugin is compiled.
//! - [`Message`] borrows from the packed batch that the broker hands over; [`Reads`] says what is packed.
//! - A [`Problem`] rejects with `?`, as do common errors; [`OrFail`] makes one of any error.
//! - [`log`], [`clock`] and [`metrics`] are the broker's; there is no network, file or environment.
//! - [`lookup`], [`kv`], [`schema`] and [`secrets`] are granted by name in the pipeline's stage.
//! - The feature `harness` tests the logic natively and the component in the broker's engine.
//!
//! `cargo build --target wasm32-wasip2` makes the component of a library with `crate-type = ["cdylib", "rlib"]`.
#[doc(hidden)]
pub mod bindings;
mod config;
mod configuration;
mod emit;
mod export;
mod failure;
#[doc(hidden)]
#[cfg(target_family = "wasm")]
pub mod guest;
#[cfg(all(feature = "harness", not(target_family = "wasm")))]
pub mod harness;
mod host;
mod message;
mod plugin;
#[cfg(any(test, all(target_family = "wasm", feature = "pool")))]
mod pool;
mod reads;
#[cfg(any(target_family = "wasm", feature = "harness"))]
mod run;
mod stage;

pub use config::{NoConfig, parse_config};
pub use configuration::{Bound, Configuration, Member, Shape};
pub use emit::{Emit, Out, Transformed};
pub use failure::{Failure, OrFail, Problem};
pub use host::{Level, clock, kv, log, lookup, metrics, schema, secrets};
pub use message::Message;
pub use plugin::{Enricher, Headers, Plugin, Route, Router, Transformer, Validator};
pub use reads::{Fields, Reads};
pub use stage::{Output, Stage};

/// Makes a plugin of a function that accepts messages, or says why not.
///
/// The function is the plugin; the attribute adds the type that carries it, named like it: `at_most` is the plugin
/// `AtMost`, which tests name. It takes what it needs, told apart by type:
///
/// | parameter | what it is |
/// |---|---|
/// | `&Message` | the message |
/// | `&T` | the stage's configuration, where `T` derives `Deserialize` and [`Config`](derive@Config) |
/// | `[Output; N]` | the outputs that the attribute names, in that order |
/// | `&Stage` | the stage: its name, its pipeline, its outputs |
/// | `&mut Out` | where a transformer's outputs go |
/// | `&mut Headers` | the headers that an enricher sets |
///
/// It gives what the trait's method gives, with any error that becomes a [`Failure`].
///
/// In the attribute's brackets, each where it is wanted:
///
/// | argument | what it says |
/// |---|---|
/// | `reads(topic, key, payload, headers("region"))` | what is packed into each call, in place of what the body shows |
/// | `outputs("eu", "us")` | the outputs that the stage must declare |
/// | `check = path` | a function `fn(&T) -> Result<(), Problem>` for what of a configuration its type does not say |
/// | `summary = "…"` | the line for listings, in place of the first line of the docs |
/// | `schema = "…"` | a JSON Schema written by hand, for a `T` that derives none |
///
/// Without `reads`, the fields are those whose methods the body calls on the message: `message.header("region")` packs
/// that header. A message that is passed on to another function is taken to be read for its payload. Nothing but time
/// hangs on it: what is not packed is fetched.
///
/// ```
/// use serde::Deserialize;
/// use wharf_plugin::{Config, Failure, Message, OrFail, Problem, validator};
///
/// #[derive(Deserialize, Config)]
/// #[serde(deny_unknown_fields)]
/// struct Bounds {
///     min_cents: u64,
///     max_cents: u64,
/// }
///
/// impl Bounds {
///     fn check(&self) -> Result<(), Problem> {
///         if self.min_cents > self.max_cents {
///             return Err(Problem::new("bad-config", "min_cents is over max_cents").at("/min_cents"));
///         }
///         Ok(())
///     }
/// }
///
/// /// Accepts orders of a fair price.
/// #[validator(check = Bounds::check)]
/// fn fair_price(message: &Message, bounds: &Bounds) -> Result<(), Failure> {
///     let cents: u64 = message.require_header("cents")?.parse().or_reject("bad-cents")?;
///     if !(bounds.min_cents..=bounds.max_cents).contains(&cents) {
///         return Err(Problem::new("unfair", format!("{cents} cents")).into());
///     }
///     Ok(())
/// }
///
/// # use wharf_plugin::Plugin;
/// # fn main() {
/// assert_eq!(FairPrice::SUMMARY, "Accepts orders of a fair price");
/// assert_eq!(FairPrice::READS.headers, ["cents"]);
/// assert!(!FairPrice::READS.payload);
/// # }
/// ```
pub use wharf_plugin_macros::validator;

/// Makes a plugin of a function that chooses where messages go; [`macro@validator`] says what it may take.
///
/// ```
/// use wharf_plugin::{Failure, Message, Output, Problem, Route, router};
///
/// /// Sends orders to the queue of their region.
/// #[router(outputs("europe", "america"))]
/// fn by_region(message: &Message, [europe, america]: [Output; 2]) -> Result<Route, Failure> {
///     match message.header_text("region")? {
///         Some("eu") => Ok(Route::to(europe)),
///         Some("us" | "ca") => Ok(Route::to(america)),
///         Some(other) => Err(Problem::new("unknown-region", format!("no output is for `{other}`")).into()),
///         None => Ok(Route::Pass),
///     }
/// }
/// # fn main() {}
/// ```
pub use wharf_plugin_macros::router;

/// Makes a plugin of a function that makes messages of messages; [`macro@validator`] says what it may take.
///
/// ```
/// use wharf_plugin::{Emit, Failure, Message, Out, Output, Transformed, transformer};
///
/// /// Sends each order on, and a copy without its payload to the audit.
/// #[transformer(outputs("audit"), reads(nothing))]
/// fn audited(_message: &Message, out: &mut Out, [audit]: [Output; 1]) -> Result<Transformed, Failure> {
///     out.emit(Emit::bytes(b"").to(audit))?;
///     out.emit(Emit::same())
/// }
/// # fn main() {}
/// ```
pub use wharf_plugin_macros::transformer;

/// Makes a plugin of a function that sets headers; [`macro@validator`] says what it may take.
///
/// ```
/// use wharf_plugin::{Failure, Headers, Message, enricher};
///
/// /// Says how large a message is.
/// #[enricher]
/// fn weighed(message: &Message, headers: &mut Headers) -> Result<(), Failure> {
///     headers.set("bytes", message.payload().len().to_string());
///     Ok(())
/// }
/// # fn main() {}
/// ```
pub use wharf_plugin_macros::enricher;

/// Derives [`Configuration`]: the shape of a configuration as serde reads it, from which its JSON Schema is made when
/// the plugin is compiled.
///
/// It understands what serde says of names (`rename`, `rename_all`, `alias`), of what may be left out (`default`,
/// `Option`, `skip`), of unknown members (`deny_unknown_fields`) and of enums (`tag`, `content`, `untagged`). The first
/// paragraph of a field's docs becomes its description. Its own words:
///
/// - `#[config(min = 1, max = 128)]` on a field bounds a number, the length of a text, or the members of a list or map;
/// - `#[config(any)]` on a field of a type that derives no shape leaves it to the plugin;
/// - `#[config(open)]` on a type whose unknown members are meant to be there. Others deny them: a misspelt key that
///   nobody notices is the commonest mistake in a configuration.
///
/// ```
/// use serde::Deserialize;
/// use wharf_plugin::{Config, config_schema};
///
/// #[derive(Deserialize, Config)]
/// #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
/// #[derive(Default)]
/// struct Settings {
///     /// How deep elements may lie in one another.
///     #[config(min = 1, max = 128)]
///     max_depth: Option<u8>,
///     otherwise: Otherwise,
/// }
///
/// #[derive(Deserialize, Config, Default)]
/// #[serde(rename_all = "kebab-case")]
/// enum Otherwise {
///     #[default]
///     Pass,
///     Drop,
///     To(Vec<String>),
/// }
///
/// let schema: serde_json::Value = serde_json::from_str(config_schema!(Settings)).unwrap();
/// assert_eq!(schema["properties"]["max-depth"]["anyOf"][0]["maximum"], 128);
/// assert_eq!(schema["properties"]["otherwise"]["anyOf"][0]["enum"][1], "drop");
/// assert_eq!(schema["properties"]["otherwise"]["anyOf"][1]["required"][0], "to");
/// ```
pub use wharf_plugin_macros::Config;
