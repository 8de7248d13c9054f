//! Write plugins for the Wharf message broker.
//!
//! A plugin is a Wasm component that the broker runs on each message of a pipeline's stage. Here it is a type, two
//! `impl`s and a line:
//!
//! ```
//! use wharf_plugin::{Emit, Failure, Message, NoConfig, Out, Plugin, Problem, Stage, Transformed, Transformer};
//!
//! struct Shout;
//!
//! impl Plugin for Shout {
//!     type Config = NoConfig;
//!     const SUMMARY: &'static str = "makes text loud";
//!
//!     fn init(_config: NoConfig, _stage: &Stage) -> Result<Self, Problem> {
//!         Ok(Self)
//!     }
//! }
//!
//! impl Transformer for Shout {
//!     fn transform(&mut self, message: &Message<'_>, out: &mut Out<'_>) -> Result<Transformed, Failure> {
//!         let loud = message.text()?.to_uppercase();
//!         out.emit(Emit::bytes(loud.as_bytes()))
//!     }
//! }
//!
//! wharf_plugin::export!(Shout as transformer);
//! # fn main() {}
//! ```
//!
//! - The kinds: [`Validator`], [`Router`], [`Transformer`], [`Enricher`]. What all have is in [`Plugin`].
//! - [`Message`] borrows from the packed batch that the broker hands over; [`Reads`] says what is packed.
//! - A [`Problem`] rejects with `?`; [`OrFail`] makes one of any error.
//! - [`log`], [`clock`] and [`metrics`] are the broker's; there is no network, file or environment.
//! - [`lookup`], [`kv`], [`schema`] and [`secrets`] are granted by name in the pipeline's stage.
//! - The feature `harness` tests the logic natively and the component in the broker's engine.
//!
//! `cargo build --target wasm32-wasip2` makes the component of a library with `crate-type = ["cdylib", "rlib"]`.
#[doc(hidden)]
pub mod bindings;
mod config;
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
mod reads;
#[cfg(any(target_family = "wasm", feature = "harness"))]
mod run;
mod stage;

pub use config::{NoConfig, parse_config};
pub use emit::{Emit, Out, Transformed};
pub use failure::{Failure, OrFail, Problem};
pub use host::{Level, clock, kv, log, lookup, metrics, schema, secrets};
pub use message::Message;
pub use plugin::{Enricher, Headers, Plugin, Route, Router, Transformer, Validator};
pub use reads::Reads;
pub use stage::{Output, Stage};
