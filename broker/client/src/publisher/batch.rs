//! The messages that were written together, and what became of each.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use wharf_protocol::frame::Confirmation;
use wharf_protocol::{PipelineVersion, Receipt};

use crate::PublishError;

/// The answers to one batch, shared by its confirms: one allocation for all of them.
#[derive(Debug, Default)]
pub(super) struct Batch(Mutex<Answers>);

#[derive(Debug, Default)]
struct Answers {
    /// Ascending.
    runs: Vec<Confirmation>,
    /// For what the runs do not answer: there will be no answer.
    error: Option<PublishError>,
    waiting: HashMap<u64, Waker>,
}

impl Batch {
    /// The answer to `sequence`, when it is there.
    pub(super) fn poll(&self, sequence: u64, cx: &Context<'_>) -> Poll<Result<Receipt, PublishError>> {
        let mut answers = self.lock();
        let run = answers.runs.partition_point(|run| run.last() < sequence);
        if let Some(receipt) = answers.runs.get(run).and_then(|run| run.receipt(sequence)) {
            return Poll::Ready(Ok(receipt));
        }
        if let Some(error) = &answers.error {
            return Poll::Ready(Err(error.clone()));
        }
        match answers.waiting.get_mut(&sequence) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => {
                answers.waiting.insert(sequence, cx.waker().clone());
            }
        }
        Poll::Pending
    }

    /// Which versions handled `sequence`, when its answer is there and says so.
    pub(super) fn versions(&self, sequence: u64) -> Vec<PipelineVersion> {
        let answers = self.lock();
        let run = answers.runs.partition_point(|run| run.last() < sequence);
        let run = answers.runs.get(run).filter(|run| run.first <= sequence);
        run.map(|run| run.versions.clone()).unwrap_or_default()
    }

    /// Adds the answer to messages of this batch; whoever waits for one of them is put into `wakers`.
    pub(super) fn answer(&self, run: Confirmation, wakers: &mut Vec<Waker>) {
        let mut answers = self.lock();
        let answered = run.first..=run.last();
        wakers.extend(
            answers.waiting.extract_if(|sequence, _| answered.contains(sequence)).map(|(_, waker)| waker),
        );
        answers.runs.push(run);
    }

    /// There will be no more answers.
    pub(super) fn fail(&self, error: PublishError, wakers: &mut Vec<Waker>) {
        let mut answers = self.lock();
        answers.error = Some(error);
        wakers.extend(answers.waiting.drain().map(|(_, waker)| waker));
    }

    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
