//! The proof: checks that crash, break, damage and kill what is tested, and say what they found.
//!
//! Each check makes a run of many operations, writes down what every client did and saw ([`History`]), makes
//! something go wrong, and lets a judge compare what is there afterwards with what had been confirmed. The judge
//! knows the promises (`docs/guarantees.md`) and nothing of how they are kept.
//!
//! | check | what goes wrong | what it drives |
//! |---|---|---|
//! | [`crash`] | the power fails, or the process dies, at every operation of the disk | a shard on a simulated disk |
//! | [`kill`] | `kill -9` at random times | the real binary over QUIC |

pub mod crash;
mod fold;
pub mod history;
pub mod kill;
pub mod label;
pub mod report;
mod spread;
mod world;

pub use history::History;
pub use label::Label;
pub use report::{Answer, Case, Report, Tally, Violation};
pub use spread::Plan;
