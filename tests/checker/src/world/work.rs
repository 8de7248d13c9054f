//! The work of a world: what its clients do in one step, as chance has it.

use std::sync::atomic::Ordering;

use tokio::sync::oneshot;
use wharf_protocol::{Message, Outcome, Receipt, TransactionReceipt};
use wharf_queue::{Change, Destination, Entry, Place, Publish, Redrive, Resolve, Selection, State};
use wharf_shard::ShardError;

use super::publish::Published;
use super::trail::PARTITIONS;
use super::{QUEUES, World, group, name};
use crate::history::Seen;
use crate::{Answer, Label};

/// Consumers at a time.
const CONSUMERS_MAX: usize = 6;

/// A command that was sent, and its answer to come.
pub(super) enum Sent {
    Publish(Vec<Published>, oneshot::Receiver<Vec<Receipt>>),
    Settle(Vec<(Seen, Outcome)>, oneshot::Receiver<Result<Vec<u64>, ShardError>>, Vec<u64>),
    Commit(group::Sent),
    Transact(Box<(Seen, Published)>, oneshot::Receiver<Result<TransactionReceipt, ShardError>>),
}

impl World {
    /// Does so many steps, or as many as the shard goes on for.
    pub(crate) async fn work(&mut self, steps: u64) {
        for _ in 0..steps {
            if self.is_stopped() || !self.step().await {
                return;
            }
        }
    }

    /// One step: topology and consumers now and then, a burst of commands, a look, and time goes on. False when the
    /// shard has stopped.
    async fn step(&mut self) -> bool {
        match self.random.below(12) {
            0..4 if self.consumers.len() < CONSUMERS_MAX => self.attach().await,
            4 => self.detach(),
            5 if self.random.below(4) == 0 => self.purge().await,
            5 => self.resolve().await,
            6 if self.random.below(2) == 0 => self.redrive().await,
            7 => {
                let partition = self.random.below(PARTITIONS.into()) as u16;
                let read = self.trail.range((partition, 0)..(partition + 1, 0)).count() as u64;
                let from = self.random.below(read + 1);
                self.read_trail(partition, from).await;
            }
            8 => self.change_group().await,
            _ => {}
        }
        self.burst().await;
        let goes_on = !self.is_stopped() && self.look().await.is_some();
        // Only now: what a look shows happened at one moment.
        self.pass_time();
        goes_on
    }

    fn pass_time(&mut self) {
        let by = match self.random.below(16) {
            // Past every lease.
            0 => 1_500,
            _ => self.random.below(150),
        };
        self.clock.fetch_add(by, Ordering::SeqCst);
        if self.random.below(24) == 0 {
            // Somebody set the clock back; the shard's own time stands still meanwhile.
            self.clock.fetch_sub(300, Ordering::SeqCst);
        }
    }

    /// Sends a few commands that are written as one batch, and takes their answers.
    async fn burst(&mut self) {
        self.failed_before = self.disk.failed().filter(|failed| self.is_final(failed));
        let Ok(hold) = self.hold().await else { return };
        let mut sent = Vec::new();
        for _ in 0..1 + self.random.below(4) {
            match self.random.below(9) {
                0..4 => sent.extend(self.publish_some().await),
                4 | 5 => sent.extend(self.settle_some().await),
                6 => self.give_credit().await,
                7 => sent.extend(self.commit_some().await.map(Sent::Commit)),
                _ => sent.extend(self.transact().await),
            }
        }
        drop(hold);
        for each in sent {
            match each {
                Sent::Publish(published, answer) => self.receipts(published, answer.await.ok()),
                Sent::Settle(settled, answer, tags) => self.settled(settled, tags, answer.await.ok()),
                Sent::Commit(sent) => self.answered(sent).await,
                Sent::Transact(sent, answer) => {
                    let (input, output) = *sent;
                    self.transacted(&input, output, answer.await.ok());
                }
            }
        }
    }

    async fn purge(&mut self) {
        let purged = self.shard().change(Change::PurgeQueue { name: name("fancy") }).await;
        self.history.excuse_all("fancy");
        self.history.other(answer_of(&purged));
    }

    async fn redrive(&mut self) {
        let redrive =
            Redrive { queue: name("dead"), select: Selection::Oldest(4), to: None, redriven_max: None };
        let redriven = self.shard().redrive(redrive).await;
        self.history.other(answer_of(&redriven));
    }

    /// Ends a dead letter as what it becomes on its way through nothing, or discards it.
    async fn resolve(&mut self) {
        let pick = self.random.number();
        let ask = move |state: &State, _: &wharf_log::Stats| {
            // One that a consumer holds is refused.
            let mut free = state.browse("dead", 0, usize::MAX);
            free.retain(|each| each.place != Place::Leased && each.death.is_some());
            let one = free.get(pick as usize % free.len().max(1))?;
            let letter = state.dead_letters("dead", one.offset, 1).pop()?;
            let (attempts, to) = (one.attempts, state.topology().backlog(&letter.death.queue)?);
            Some((letter, attempts, to, state.topology().revision()))
        };
        let Ok(Some((letter, attempts, to, topology))) = self.shard().query(ask).await else { return };
        let Ok(Some(message)) = self.shard().read(vec![letter.id]).await.map(|mut read| read.pop()) else {
            return;
        };
        let origin = QUEUES.into_iter().find(|queue| *queue == letter.death.queue);
        let discarded = origin.filter(|_| self.random.below(6) == 0);
        let seen = Seen {
            queue: "dead",
            consumer: u32::MAX,
            boot: self.boot,
            label: Label::read(&message.payload),
            id: letter.id,
            offset: letter.offset,
            attempt: attempts,
            redelivered: attempts > 1,
            died_in: Some(letter.death.queue),
        };
        let message = Message { ttl: None, delay: None, ..message };
        let entry = Entry { message, destinations: vec![Destination::from(to)] };
        let becomes = discarded.is_none().then(|| Publish { topology, ..Publish::from(entry) });
        let resolve = Resolve { queue: name("dead"), offset: letter.offset, id: letter.id, becomes };
        let answer = match self.shard().resolve(resolve, None).await {
            Ok(answer) => answer.await.unwrap_or_else(|_| Err(self.shard().gone())),
            Err(error) => Err(error),
        };
        let became = answer.as_ref().ok().and_then(|changed| changed.became?.ids().next());
        if let (Some(queue), Some(label), Some(id)) = (origin, seen.label, became) {
            self.history.owes(queue, label, id);
        }
        self.history.resolved(&seen, discarded, answer_of(&answer));
    }

    /// Something was confirmed although the disk had failed before the step began.
    pub(super) fn note_late_confirm(&mut self, answer: Answer) {
        if let (Answer::Ok, Some(failed)) = (answer, self.failed_before.clone()) {
            self.violation("confirmed", format!("after a failure that is final: {failed}"));
        }
    }

    /// Whether nothing may be confirmed after this failure: a write or sync of the log's own end.
    fn is_final(&self, failed: &str) -> bool {
        let of_records = failed.starts_with("write ") || failed.starts_with("sync ");
        self.failure_is_final && of_records && failed.ends_with(".segment")
    }
}

pub(super) fn answer_of<T>(result: &Result<T, ShardError>) -> Answer {
    match result {
        Ok(_) => Answer::Ok,
        Err(ShardError::Stopped(_)) => Answer::Unknown,
        Err(_) => Answer::Failed,
    }
}
