//! The task of a trial: it runs the other side on copies, and ends the trial when its watch says so.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::mpsc;
use wharf_pipeline::Pipeline;
use wharf_protocol::Name;
use wharf_queue::Trial;

use super::run::Copied;
use super::seen::Seen;
use crate::node::WeakNode;
use crate::pipelines::replay::each_of;

/// How many copies run together.
const BATCH: usize = 32;

/// What runs the other side on the copies of a trial.
pub(super) struct Task {
    pub(super) node: WeakNode,
    pub(super) name: Name,
    pub(super) trial: Trial,
    pub(super) other: Arc<Pipeline>,
    pub(super) seen: Arc<Seen>,
}

impl Task {
    pub(super) async fn run(self, mut copies: mpsc::Receiver<Copied>) {
        loop {
            let mut batch = Vec::new();
            let came = tokio::select! {
                came = copies.recv_many(&mut batch, BATCH) => Some(came),
                () = self.seen.concluded.notified() => None,
            };
            if came == Some(0) {
                return;
            }
            if !batch.is_empty() {
                self.compare(batch).await;
            }
            let Some(conclusion) = self.seen.conclusion() else { continue };
            let Some(node) = self.node.upgrade() else { return };
            if let Err(error) = node.conclude(&self.name, &self.trial, conclusion).await {
                tracing::error!(pipeline = %self.name, %error, "a trial could not be ended");
            }
            return;
        }
    }

    /// Runs the other side on copies, at the time at which the first side ran: what reads a clock, or draws random bits,
    /// which hang on it, says the same then.
    async fn compare(&self, batch: Vec<Copied>) {
        let Some(node) = self.node.upgrade() else { return };
        for copies in batch.chunk_by(|one, next| one.now == next.now) {
            let items = copies.iter().map(|copy| copy.item.clone()).collect();
            let others = {
                let _turn = node.pipelines_in_use().trials.turn().await;
                self.other.run_timed(items, copies[0].now).await
            };
            for (copy, other) in copies.iter().zip(each_of(others)) {
                self.seen.bytes_waiting.fetch_sub(copy.bytes, Relaxed);
                self.seen.compared(self.trial.kind, copy, &other);
            }
        }
    }
}
