//! A zoo of hostile plugins, and the proof that they stay in their cages.
//!
//! Each [`Beast`] is a plugin that tries one thing, and the fate that must befall it. [`Cage::hold`] takes it into a
//! real broker, provokes it amid messages that it must not harm, and asserts: the broker lives, each message is
//! where the stage's failure policy says with a reason that a person understands, the others of its batch pass, the
//! process stays small, and a neighbour with a pipeline of its own keeps flowing.
//!
//! `cargo test -p wharf-zoo` holds them all. `cargo run --release -p wharf-zoo` measures the neighbour beside each.

pub mod beast;
pub mod cage;
pub mod herd;
pub mod wild;

pub use beast::{Beast, Body, Fate};
pub use cage::Cage;
