//! Where the two sides of a reader meet: who delivers, and who grants credit and settles.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::Notify;

use super::held::Deliveries;
use super::settled::Awaited;

/// Where the two sides of a reader meet.
#[derive(Debug, Default)]
pub(super) struct Desk {
    given: Mutex<Given>,
    /// Credit came, or a nack, or what was read in the background.
    pub(super) changed: Arc<Notify>,
}

/// What a reader may deliver, and what it has delivered.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) credit: u64,
    pub(super) deliveries: Deliveries,
    /// Answers about nacks for which nobody waits any more but the reader; at most one for each nack.
    pub(super) unheard: Vec<Awaited>,
}

impl Desk {
    pub(super) fn lock(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready when an answer has come that is for the reader alone.
    pub(super) fn hear(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut given = self.lock();
        let Given { deliveries, unheard, .. } = &mut *given;
        let before = unheard.len();
        unheard.retain_mut(|awaited| awaited.poll(deliveries, context).is_pending());
        if unheard.len() < before { Poll::Ready(()) } else { Poll::Pending }
    }
}
