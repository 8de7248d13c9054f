//! The state machine of delivery said again, plainly, and random histories to compare the two.
//!
//! [`check`] makes commands from a seed, folds them into a [`State`](wharf_queue::State) and into a [`Model`], which
//! searches lists from end to end at every step, and compares after each record: the effects, and every message of
//! every queue. [`History`] watches the records and effects alone for what must hold whatever either has inside.
//! Every few records the state goes through a snapshot; at the end the log is replayed.
//!
//! ```
//! let tally = wharf_model::check(4711, 40).expect("state and model agree");
//! assert!(tally.ok > 0);
//! ```

mod case;
mod command;
mod draw;
mod history;
mod model;

pub use case::{Disagreement, RECORDS_AT_FIRST, Tally, check, commands_of};
pub use command::{Command, MESSAGE_BYTES, QUEUES, STREAMS, creation, stream_creation};
pub use draw::Draw;
pub use history::History;
pub use model::{Message, Model, Place, Stream};
