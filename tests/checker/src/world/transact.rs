//! Transactions of a world: a message acked, and what became of it published, together or not at all.

use std::sync::atomic::Ordering;

use wharf_protocol::{Outcome, Settlement, TransactionReceipt};
use wharf_queue::{Durability, Transaction};
use wharf_shard::ShardError;

use super::publish::Published;
use super::work::Sent;
use super::{Consumer, World};
use crate::Answer;
use crate::history::Seen;

/// The producer of what transactions make.
pub(super) const TRANSFORMER: usize = 3;

impl World {
    /// Acks one message and publishes what became of it, together or not at all.
    pub(super) async fn transact(&mut self) -> Option<Sent> {
        let holds = |consumer: &Consumer| {
            consumer.queue == "plain"
                && consumer.held.iter().any(|(_, seen)| seen.label.is_some_and(|label| label.producer < 4))
        };
        let place = self.consumers.iter().position(holds)?;
        let held = &mut self.consumers[place].held;
        let first = held.iter().position(|(_, seen)| seen.label.is_some_and(|label| label.producer < 4))?;
        let (tag, input) = held.remove(first);
        let id = self.consumers[place].id;
        let mut output = self.message(TRANSFORMER, &["plain"]);
        // What is published in a transaction belongs to the transaction's run.
        let session = output.publish.session.take();
        let settles = vec![(id, vec![Settlement { first: tag, last: tag, outcome: Outcome::Ack }])];
        let bytes = output.publish.payload_bytes();
        let transaction =
            Transaction { session, publishes: vec![output.publish.clone()], settles, cursors: Vec::new() };
        self.history.transacting(&input, output.label);
        match self.shard().transact(transaction, bytes, Durability::Fsync, None).await {
            Ok(answer) => Some(Sent::Transact(Box::new((input, output)), answer)),
            Err(_) => {
                self.transacted(&input, output, None);
                None
            }
        }
    }

    pub(super) fn transacted(
        &mut self,
        input: &Seen,
        output: Published,
        answer: Option<Result<TransactionReceipt, ShardError>>,
    ) {
        let answer = match answer {
            Some(Ok(TransactionReceipt::Committed(_) | TransactionReceipt::Duplicate(_))) => Answer::Ok,
            Some(Ok(_) | Err(ShardError::Full(_))) => Answer::Failed,
            Some(Err(_)) | None => Answer::Unknown,
        };
        let now = self.books_now.max(self.clock.load(Ordering::SeqCst));
        if answer == Answer::Ok && !self.books.holds(input, now) {
            self.violation(
                "lease",
                format!("{}: a transaction acked it after the lease had ended", input.id),
            );
        }
        if answer != Answer::Failed {
            self.books.let_go(input);
        }
        self.note_late_confirm(answer);
        self.history.settled_for_good(input, answer);
        match answer {
            Answer::Failed => self.history.refused(output.label),
            _ => self.history.published(output.label, answer),
        }
    }
}
