//! A plugin that misbehaves as its messages ask, for the tests of the engine.
//!
//! It is of all four kinds. The header `behave` of each message says what to do; see `behave` in `guest.rs`. It is
//! written on the bare bindings, because the SDK keeps its users from most of this. Natively it is empty.

#[cfg(target_family = "wasm")]
mod guest;
