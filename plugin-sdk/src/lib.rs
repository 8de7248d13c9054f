//! Write plugins for the Wharf message broker.
//!
//! A plugin is a Wasm component that a broker runs on each message of a pipeline's stage. With this crate it is a
//! plain type and a few lines: see [`Validator`], [`Router`], [`Transformer`] and [`Enricher`].
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
pub use host::{Level, clock, log, metrics};
pub use message::Message;
pub use plugin::{Enricher, Headers, Plugin, Route, Router, Transformer, Validator};
pub use reads::Reads;
pub use stage::{Output, Stage};
