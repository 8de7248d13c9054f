//! The answers to a batch of publishes, when they are due.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;
use wharf_protocol::{ErrorCode, PipelineVersion, Receipt, Rejection};

use crate::status::Counts;

/// Resolves to a receipt for each publication of a batch, in order, once the whole batch is decided and durable.
///
/// It never fails: what could not be stored has [`Receipt::Rejected`]. Dropping it undoes nothing.
#[derive(Debug)]
pub struct Receipts {
    /// What was decided before the log, by place in the batch.
    decided: Vec<Option<Receipt>>,
    /// What the shard decides: a receipt for each place still open, in order.
    stored: Option<oneshot::Receiver<Vec<Receipt>>>,
    /// Which versions handled each; empty when nobody asked.
    versions: Vec<Vec<PipelineVersion>>,
    /// Who counts what is told.
    counts: Option<Arc<Counts>>,
}

impl Receipts {
    pub(crate) fn new(
        decided: Vec<Option<Receipt>>,
        stored: Option<oneshot::Receiver<Vec<Receipt>>>,
    ) -> Self {
        Self { decided, stored, versions: Vec::new(), counts: None }
    }

    pub(crate) fn of_versions(self, versions: Vec<Vec<PipelineVersion>>) -> Self {
        Self { versions, ..self }
    }

    /// Counted as they are told.
    pub(crate) fn counted(self, counts: &Arc<Counts>) -> Self {
        Self { counts: Some(Arc::clone(counts)), ..self }
    }

    /// Which versions of which pipelines handled each publication, in order, where one of the batch asks for it
    /// ([`Publication::tell_versions`](crate::Publication::tell_versions)); else nothing. They are known before the
    /// receipts. Of a duplicate they are those that it passed this time: what is stored may have passed others.
    pub fn take_versions(&mut self) -> Vec<Vec<PipelineVersion>> {
        std::mem::take(&mut self.versions)
    }

    /// How many there will be.
    pub(crate) fn count(&self) -> usize {
        self.decided.len()
    }
}

impl Future for Receipts {
    type Output = Vec<Receipt>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Vec<Receipt>> {
        let stored = match &mut self.stored {
            None => Vec::new(),
            Some(stored) => ready!(Pin::new(stored).poll(context)).unwrap_or_default(),
        };
        self.stored = None;
        let mut stored = stored.into_iter();
        let decided = std::mem::take(&mut self.decided).into_iter();
        let told: Vec<_> = decided.map(|each| each.or_else(|| stored.next()).unwrap_or_else(gone)).collect();
        if let Some(counts) = &self.counts {
            told.iter().for_each(|receipt| counts.told(receipt));
        }
        Poll::Ready(told)
    }
}

/// The shard ended with the batch in its hands: nobody knows whether it is in the log.
fn gone() -> Receipt {
    Receipt::Rejected(Rejection {
        code: ErrorCode::Closing,
        stage: None,
        reason: "the broker stopped before it knew; send it again with its sequence".into(),
        retry_after_ms: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_protocol::Stored;

    #[tokio::test]
    async fn what_was_decided_early_keeps_its_place() {
        let early = Receipt::Duplicate(None);
        let late = Receipt::Stored(Stored { index: 7, entries: 1 });
        let (reply, stored) = oneshot::channel();
        let receipts = Receipts::new(vec![None, Some(early.clone()), None], Some(stored));
        reply.send(vec![late.clone()]).expect("it is waited for");

        let told = receipts.await;
        assert_eq!(told[..2], [late, early]);
        assert!(matches!(&told[2], Receipt::Rejected(r) if r.code == ErrorCode::Closing));
    }
}
