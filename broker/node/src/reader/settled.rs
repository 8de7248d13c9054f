//! The answer to a member's settlements: for whoever waits for it, and for the reader, which learns from it what comes
//! again.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;
use wharf_shard::{Committed, ShardError};

use super::desk::Desk;
use super::held::Deliveries;
use crate::NodeError;

/// Resolves when settlements are durable, to the tags that were stale: other members have their partitions.
///
/// Dropped, it undoes nothing: the reader hears the answer then.
#[derive(Debug)]
pub struct ReaderSettled {
    pub(super) awaited: Option<Awaited>,
    /// Tags that were not held.
    pub(super) stale: Vec<u64>,
    pub(super) desk: Arc<Desk>,
}

/// An answer that is to come, and what it is about.
#[derive(Debug)]
pub(super) struct Awaited {
    pub(super) answer: oneshot::Receiver<Result<Committed, ShardError>>,
    /// The tags behind each range of the commit.
    pub(super) tags: Vec<Vec<u64>>,
    /// The tag of each of its failures, and the number of the nack.
    pub(super) nacks: Vec<(u64, u64)>,
}

impl Awaited {
    /// The tags that were stale, once that is known; `deliveries` learn what became of the nacks.
    pub(super) fn poll(
        &mut self,
        deliveries: &mut Deliveries,
        context: &mut Context<'_>,
    ) -> Poll<Result<Vec<u64>, ShardError>> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        let doubt = |_| Err(ShardError::Stopped("the settlement is in doubt".into()));
        let Committed { stale, given_up } = answer.unwrap_or_else(doubt)?;
        let mut stale_tags = Vec::new();
        // Both rise.
        let among = |numbers: &[u32], n: u32| numbers.binary_search(&n).is_ok();
        let mut n = 0;
        for tags in &mut self.tags {
            if among(&stale, n) {
                stale_tags.append(tags);
            }
            n += 1;
        }
        for (tag, nack) in &self.nacks {
            let refused = among(&stale, n);
            stale_tags.extend(refused.then_some(*tag));
            deliveries.counted(*nack, refused || among(&given_up, n));
            n += 1;
        }
        Poll::Ready(Ok(stale_tags))
    }
}

impl Future for ReaderSettled {
    type Output = Result<Vec<u64>, NodeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { awaited, stale, desk } = &mut *self;
        if let Some(asked) = awaited {
            let answer = ready!(asked.poll(&mut desk.lock().deliveries, context));
            if !asked.nacks.is_empty() {
                desk.changed.notify_one();
            }
            *awaited = None;
            stale.append(&mut answer.map_err(NodeError::from)?);
        }
        stale.sort_unstable();
        Poll::Ready(Ok(std::mem::take(stale)))
    }
}

impl Drop for ReaderSettled {
    fn drop(&mut self) {
        if let Some(awaited) = self.awaited.take().filter(|awaited| !awaited.nacks.is_empty()) {
            self.desk.lock().unheard.push(awaited);
            self.desk.changed.notify_one();
        }
    }
}
