//! What a settled delivery's owner waits for.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::SettleError;

/// Resolves when the settlement would survive a crash, or the lease was renewed. Dropping it takes nothing back.
#[derive(Debug)]
pub struct Settle(State);

#[derive(Debug)]
enum State {
    Known(Result<(), SettleError>),
    Sent { batch: Arc<Batch>, tag: u64 },
}

impl Settle {
    pub(super) fn known(result: Result<(), SettleError>) -> Self {
        Self(State::Known(result))
    }

    pub(super) fn sent(batch: Arc<Batch>, tag: u64) -> Self {
        Self(State::Sent { batch, tag })
    }
}

impl Future for Settle {
    type Output = Result<(), SettleError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &self.0 {
            State::Known(result) => Poll::Ready(result.clone()),
            State::Sent { batch, tag } => batch.poll(*tag, cx),
        }
    }
}

/// The settlements of one frame, shared by those who wait for it: one allocation for all of them.
#[derive(Debug, Default)]
pub(super) struct Batch(Mutex<Answer>);

#[derive(Debug, Default)]
struct Answer {
    /// The tags that were stale, ascending.
    result: Option<Result<Vec<u64>, SettleError>>,
    /// Of an answer in several parts, what has come.
    parts: Vec<u64>,
    waiting: HashMap<u64, Waker>,
}

impl Batch {
    fn poll(&self, tag: u64, cx: &Context<'_>) -> Poll<Result<(), SettleError>> {
        let mut answer = self.lock();
        match &answer.result {
            Some(Ok(stale)) if stale.binary_search(&tag).is_ok() => Poll::Ready(Err(SettleError::Stale)),
            Some(Ok(_)) => Poll::Ready(Ok(())),
            Some(Err(error)) => Poll::Ready(Err(error.clone())),
            None => {
                match answer.waiting.get_mut(&tag) {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => {
                        answer.waiting.insert(tag, cx.waker().clone());
                    }
                }
                Poll::Pending
            }
        }
    }

    /// Takes a part of the answer; with the last one, tells everybody.
    pub(super) fn add(&self, stale: Vec<u64>, last: bool, wakers: &mut Vec<Waker>) {
        let mut answer = self.lock();
        answer.parts.extend(stale);
        if last {
            let stale = std::mem::take(&mut answer.parts);
            drop(answer);
            self.answer(Ok(stale), wakers);
        }
    }

    /// Tells everybody.
    pub(super) fn answer(&self, mut result: Result<Vec<u64>, SettleError>, wakers: &mut Vec<Waker>) {
        if let Ok(stale) = &mut result {
            stale.sort_unstable();
        }
        let mut answer = self.lock();
        answer.result = Some(result);
        wakers.extend(answer.waiting.drain().map(|(_, waker)| waker));
    }

    fn lock(&self) -> MutexGuard<'_, Answer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
