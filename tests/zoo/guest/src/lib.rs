//! The animals of the zoo that can be written in Rust: one component, and its configuration says which animal.
//!
//! Empty except for Wasm, so that a build of the workspace has nothing to do here.

#[cfg(target_family = "wasm")]
mod guest;
