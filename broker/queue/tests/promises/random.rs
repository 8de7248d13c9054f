//! Random commands as values that shrink by their number.

use proptest::prelude::*;
use wharf_model::{Draw, commands_of};
use wharf_queue::{Record, State};

pub(crate) use wharf_model::Command;

pub(crate) fn create(queue: usize) -> Record {
    wharf_model::creation(&mut Draw::new(queue as u64), queue)
}

pub(crate) fn commands(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Command>> {
    (any::<u64>(), length).prop_map(|(seed, length)| commands_of(seed, length))
}

pub(crate) fn record(state: &State, command: &Command) -> Record {
    command.record(state)
}
