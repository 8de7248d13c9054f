//! The consumers and readers of one connection, by the numbers under which its transactions name them.
//!
//! Numbers are drawn at random: one of an earlier connection, or of another, names nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wharf_node::Settler;

/// Shared by the streams of a connection.
#[derive(Clone, Default)]
pub(crate) struct Consumers(Arc<Mutex<HashMap<u64, Settler>>>);

/// A consumer's number, for as long as it is there.
pub(crate) struct Entered {
    pub(crate) number: u64,
    consumers: Consumers,
}

impl Consumers {
    /// Gives a consumer its number.
    pub(crate) fn enter(&self, settler: Settler) -> Entered {
        let number = rand::random();
        self.lock().insert(number, settler);
        Entered { number, consumers: self.clone() }
    }

    /// The consumer of that number, if it is there.
    pub(crate) fn named(&self, number: u64) -> Option<Settler> {
        self.lock().get(&number).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Settler>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.consumers.lock().remove(&self.number);
    }
}
