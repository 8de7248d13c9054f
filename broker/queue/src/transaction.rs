//! What a transaction is in the log: one record, applied as a whole or not at all.
//!
//! Messages of a transaction are numbered through: the second message of the second publish, where the first has
//! three, is entry 4 of the record.

use wharf_protocol::{Message, Session, Settlement};

use crate::{Commit, ConsumerId, Publish};

/// Publishes, settlements and moved cursors that happen together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Whose run it belongs to; a sequence already seen is a duplicate, and changes nothing.
    pub session: Option<Session>,
    /// What is published; at most 65,535 entries together. None has a session of its own: theirs is the
    /// transaction's.
    pub publishes: Vec<Publish>,
    /// Who settles what. Each delivery named must be held by its consumer.
    pub settles: Vec<(ConsumerId, Vec<Settlement>)>,
    /// What members of groups are done with: so do their cursors move. Each must hold what it names.
    pub cursors: Vec<Commit>,
}

impl Transaction {
    /// The message under number `entry` of the whole record.
    pub(crate) fn message(&self, entry: u16) -> Option<&Message> {
        let mut number = usize::from(entry);
        for publish in &self.publishes {
            match publish.entries.get(number) {
                Some(entry) => return Some(&entry.message),
                None => number -= publish.entries.len(),
            }
        }
        None
    }
}
