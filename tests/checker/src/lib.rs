//! The proof: checks that crash, break, damage and kill what is tested, and say what they found.
//!
//! Each check makes a run of many operations, writes down what every client did and saw ([`History`]), makes
//! something go wrong, and lets a judge compare what is there afterwards with what had been confirmed. The judge
//! knows the promises (`docs/guarantees.md`) and nothing of how they are kept.
//!
//! | check | what goes wrong | what it drives |
//! |---|---|---|
//! | [`crash`] | the power fails, or the process dies, at every operation of the disk | a shard on a simulated disk |
//! | [`faults`] | every operation of the disk fails, once or for good | the same |
//! | [`damage`] | every byte flipped, every file cut, segments of another history | the same |
//! | [`fuzz`] | bytes that were whole, changed at random | the decoders |
//! | [`model`] | random commands | the state machine, beside a naive model of it |
//! | [`golden`] | a newer version opens an older folder | log and state |
//! | `seeded` | a fault of our own, planted | all of these |
//! | `interleave` | threads take turns in many orders | the log's places, an outlet |
//! | [`kill`] | `kill -9` at random times | the real binary over QUIC |

pub mod crash;
pub mod damage;
pub mod faults;
mod fold;
pub mod fuzz;
pub mod golden;
pub mod history;
#[cfg(feature = "interleave")]
pub mod interleave;
pub mod kill;
pub mod label;
pub mod model;
pub mod report;
#[cfg(feature = "seeded")]
pub mod seeded;
mod spread;
mod world;

pub use history::History;
pub use label::Label;
pub use report::{Answer, Case, Report, Tally, Violation};
pub use spread::Plan;
