//! A state that a handle and its task share, and how each waits for the other to change it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A state behind a lock that is never held across an await.
#[derive(Debug)]
pub(crate) struct SharedState<T> {
    state: Mutex<T>,
    changed: Notify,
}

impl<T> SharedState<T> {
    pub(crate) fn new(state: T) -> Self {
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state has changed: whoever waits looks again.
    pub(crate) fn notify(&self) {
        self.changed.notify_waiters();
    }

    /// Waits until `condition` holds. A change that is told while it looks is not missed.
    pub(crate) async fn wait_until(&self, condition: impl Fn(&T) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if condition(&self.lock()) {
                return;
            }
            changed.await;
        }
    }
}
