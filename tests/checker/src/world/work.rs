//! The work of a world: what its clients do in one step, as chance has it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use wharf_protocol::{
    ErrorCode, Message, Outcome, ProducerId, Receipt, Session, Settlement, TransactionReceipt,
};
use wharf_queue::{Attach, Change, Destination, Durability, Entry, Publish, Redrive, Selection, Transaction};
use wharf_shard::{Outlet, ShardError};

use super::trail::{LEDGER, PARTITIONS, TRAIL};
use super::{Consumer, Exactness, World, durability, group, name};
use crate::history::{Queue, Seen};
use crate::{Answer, Label};

/// Where one message may go.
const ROUTES: [&[Queue]; 11] = [
    &["plain"],
    &["plain"],
    &["fancy"],
    &["quick"],
    &["once"],
    &["plain", "once"],
    &["plain", "quick"],
    &[TRAIL],
    &["plain", TRAIL],
    &[TRAIL],
    &[LEDGER],
];
/// Consumers at a time.
const CONSUMERS_MAX: usize = 6;
/// Credit that a consumer has at most.
const CREDIT_MAX: u64 = 8;
/// The producer of what transactions make.
const TRANSFORMER: usize = 3;

/// A command that was sent, and its answer to come.
enum Sent {
    Publish(Vec<Published>, oneshot::Receiver<Vec<Receipt>>),
    Settle(Vec<(Seen, Outcome)>, oneshot::Receiver<Result<Vec<u64>, ShardError>>, Vec<u64>),
    Commit(group::Sent),
    Transact(Box<(Seen, Published)>, oneshot::Receiver<Result<TransactionReceipt, ShardError>>),
}

/// A publish that was sent.
struct Published {
    label: Label,
    publish: Publish,
    durability: Durability,
    producer: usize,
    /// It was confirmed before: to be answered as a duplicate.
    again: bool,
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

    async fn publish_some(&mut self) -> Option<Sent> {
        let producer = self.random.below(3) as usize;
        let mut batch = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            let known = self.producers[producer].confirmed.len() as u64;
            if known > 0 && self.random.below(8) == 0 {
                let place = self.random.below(known) as usize;
                let (publish, durability) = self.producers[producer].confirmed[place].clone();
                let label = Label::read(&publish.entries[0].message.payload).expect("its own");
                batch.push(Published { label, publish, durability, producer, again: true });
            } else {
                let queues = ROUTES[self.random.below(ROUTES.len() as u64) as usize];
                batch.push(self.message(producer, queues));
            }
        }
        self.send_publishes(batch).await
    }

    /// The next message of a producer, on its way to `queues`.
    fn message(&mut self, producer: usize, queues: &[Queue]) -> Published {
        let maker = &mut self.producers[producer];
        maker.last += 1;
        let label = Label { producer: maker.number, number: maker.last };
        let exactness = maker.exactness;
        let mut message = Message::new("load".parse().expect("a topic"), label.payload());
        message.key = Some(label.key().to_string().into());
        if queues.contains(&"fancy") {
            message.priority = self.random.below(4) as u8;
            message.delay =
                (self.random.below(4) == 0).then(|| Duration::from_millis(self.random.below(300)));
            message.ttl =
                (self.random.below(4) == 0).then(|| Duration::from_millis(1 + self.random.below(900)));
        }
        let now = self.books_now.max(self.clock.load(Ordering::SeqCst));
        for queue in queues {
            self.books.publishing(queue, label, &message, now);
        }
        let topology = self.shard().topology();
        let id = |name: &Queue| match topology.queue(name) {
            Some(queue) => Some(queue.id),
            None => topology.stream(name).map(|stream| stream.id),
        };
        let ids = queues.iter().filter_map(id);
        let destinations: Vec<Destination> = ids.map(Destination::from).collect();
        let topology = topology.revision();
        let session = (exactness == Exactness::Session).then(|| Session {
            producer: ProducerId(label.producer.into()),
            epoch: 1,
            sequence: label.number,
        });
        let dedup = (exactness == Exactness::MessageId)
            .then(|| u128::from(label.producer) << 64 | u128::from(label.number));
        let publish = Publish { session, dedup, topology, ..Publish::from(Entry { message, destinations }) };
        // What is compacted may go: its keys are looked at instead.
        let kept = if queues.contains(&LEDGER) { &[] } else { queues };
        self.history.publishing(label, kept, exactness == Exactness::Session);
        let durability = queues.iter().map(|queue| durability(queue)).max().unwrap_or_default();
        Published { label, publish, durability, producer, again: false }
    }

    async fn send_publishes(&mut self, batch: Vec<Published>) -> Option<Sent> {
        let records: Vec<_> = batch.iter().map(|each| each.publish.clone()).collect();
        let durability = batch.iter().map(|each| each.durability).max().unwrap_or_default();
        let bytes = records.iter().map(Publish::payload_bytes).sum();
        match self.shard().publish(records, bytes, durability).await {
            Ok(answer) => Some(Sent::Publish(batch, answer)),
            Err(_) => {
                self.receipts(batch, None);
                None
            }
        }
    }

    fn receipts(&mut self, batch: Vec<Published>, receipts: Option<Vec<Receipt>>) {
        let mut receipts = receipts.unwrap_or_default().into_iter();
        for published in batch {
            self.receipt(published, receipts.next());
        }
    }

    fn receipt(&mut self, published: Published, receipt: Option<Receipt>) {
        let Published { label, publish, durability, producer, again } = published;
        let answer = match &receipt {
            Some(Receipt::Stored(_)) if again => {
                self.violation("duplicated", format!("{label} was stored again after it had been confirmed"));
                Answer::Ok
            }
            Some(Receipt::Stored(_) | Receipt::Duplicate(_)) => Answer::Ok,
            // It stopped after a write failed: the write may be there.
            Some(Receipt::Rejected(rejection)) if rejection.code == ErrorCode::Closing => Answer::Unknown,
            Some(Receipt::Rejected(_)) => Answer::Failed,
            None => Answer::Unknown,
        };
        if again {
            self.history.other(answer);
            return;
        }
        if let (Some(Receipt::Stored(stored) | Receipt::Duplicate(Some(stored))), true) =
            (&receipt, self.is_of_ledger(&publish))
        {
            let last = self.ledger.entry(label.key()).or_default();
            *last = stored.index.max(*last);
        }
        self.note_late_confirm(answer);
        let exactness = self.producers[producer].exactness;
        match answer {
            Answer::Ok => {
                self.history.published(label, answer);
                if exactness != Exactness::Nothing && producer != TRANSFORMER {
                    self.producers[producer].confirmed.push((publish, durability));
                }
            }
            Answer::Failed => self.history.refused(label),
            Answer::Unknown => {
                self.history.published(label, answer);
                if exactness != Exactness::Nothing && producer != TRANSFORMER {
                    self.unanswered.push((label, publish, durability));
                }
            }
        }
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

    async fn attach(&mut self) {
        let queue = ["plain", "plain", "fancy", "quick", "once", "dead"][self.random.below(6) as usize];
        let credit = 1 + self.random.below(CREDIT_MAX);
        self.attach_to(queue, credit).await;
    }

    pub(super) async fn attach_to(&mut self, queue: Queue, credit: u64) {
        let outlet = Arc::new(Outlet::default());
        let attach = Attach {
            queue: name(queue),
            credit: u32::try_from(credit).expect("small"),
            auto_settle: queue == "once",
            ..Attach::default()
        };
        let attached = self.shard().attach(attach, Arc::clone(&outlet)).await;
        self.history.other(answer_of(&attached));
        if let Ok(id) = attached {
            self.consumers_made += 1;
            let number = self.consumers_made;
            self.consumers.push(Consumer { number, id, queue, outlet, credit, held: Vec::new() });
        }
    }

    fn detach(&mut self) {
        if self.consumers.is_empty() {
            return;
        }
        let place = self.random.below(self.consumers.len() as u64) as usize;
        let consumer = self.consumers.swap_remove(place);
        self.shard().detach(consumer.id);
        self.books.left(consumer.number);
    }

    async fn give_credit(&mut self) {
        let Some(place) = self.consumer_at_random() else { return };
        let consumer = &mut self.consumers[place];
        let add = CREDIT_MAX.saturating_sub(consumer.credit + consumer.held.len() as u64);
        consumer.credit += add;
        let id = consumer.id;
        // When it has stopped, the next answer says so.
        let _ = self.shard().credit(id, add as u32, 0).await;
    }

    async fn settle_some(&mut self) -> Option<Sent> {
        let place = self.consumer_at_random()?;
        let count = self.consumers[place].held.len() as u64;
        if count == 0 {
            return None;
        }
        let take = 1 + self.random.below(count);
        let mut settled = Vec::new();
        for _ in 0..take {
            let held = &mut self.consumers[place].held;
            let (tag, seen) = held.remove(self.random.below(held.len() as u64) as usize);
            let outcome = match self.random.below(10) {
                0 => Outcome::Nack { delay: None },
                1 => Outcome::Nack { delay: Some(Duration::from_millis(self.random.below(200))) },
                2 if seen.queue != "dead" => Outcome::DeadLetter { reason: "not mine".into() },
                _ => Outcome::Ack,
            };
            settled.push((tag, seen, outcome));
        }
        self.send_settles(place, settled).await
    }

    async fn send_settles(&mut self, place: usize, settled: Vec<(u64, Seen, Outcome)>) -> Option<Sent> {
        let (id, queue) = (self.consumers[place].id, self.consumers[place].queue);
        let of = |(tag, _, outcome): &(u64, Seen, Outcome)| Settlement {
            first: *tag,
            last: *tag,
            outcome: outcome.clone(),
        };
        let settlements = settled.iter().map(of).collect();
        let sent = self.shard().settle(id, settlements, durability(queue)).await;
        let tags = settled.iter().map(|(tag, ..)| *tag).collect();
        let settled: Vec<_> = settled.into_iter().map(|(_, seen, outcome)| (seen, outcome)).collect();
        match sent {
            Ok(answer) => Some(Sent::Settle(settled, answer, tags)),
            Err(_) => {
                self.settled(settled, tags, None);
                None
            }
        }
    }

    fn settled(
        &mut self,
        settled: Vec<(Seen, Outcome)>,
        tags: Vec<u64>,
        answer: Option<Result<Vec<u64>, ShardError>>,
    ) {
        let now = self.books_now.max(self.clock.load(Ordering::SeqCst));
        for (tag, (seen, outcome)) in tags.into_iter().zip(settled) {
            let answer = match &answer {
                Some(Ok(stale)) if stale.contains(&tag) => Answer::Failed,
                Some(Ok(_)) => Answer::Ok,
                Some(Err(ShardError::Full(_))) => Answer::Failed,
                Some(Err(_)) | None => Answer::Unknown,
            };
            let holds = self.books.holds(&seen, now);
            let full = answer == Answer::Failed && self.disk.failed().is_some();
            if answer == Answer::Failed && holds && !full {
                self.violation("lease", format!("{}: refused, though the lease had not ended", seen.id));
            }
            if answer == Answer::Ok && !holds {
                let what = format!("{} from {}: accepted after the lease had ended", seen.id, seen.queue);
                self.violation("lease", what);
            }
            self.books.let_go(&seen);
            match outcome {
                Outcome::Ack | Outcome::DeadLetter { .. } => self.history.settled_for_good(&seen, answer),
                Outcome::Nack { delay } => {
                    if let (Answer::Ok, Some(delay)) = (answer, delay) {
                        self.books.rests(&seen, now + delay.as_millis() as u64);
                    }
                    self.history.other(answer);
                }
            }
        }
    }

    /// Acks one message and publishes what became of it, together or not at all.
    async fn transact(&mut self) -> Option<Sent> {
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
        match self.shard().transact(transaction, bytes, Durability::Fsync).await {
            Ok(answer) => Some(Sent::Transact(Box::new((input, output)), answer)),
            Err(_) => {
                self.transacted(&input, output, None);
                None
            }
        }
    }

    fn transacted(
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

    fn consumer_at_random(&mut self) -> Option<usize> {
        let count = self.consumers.len() as u64;
        (count > 0).then(|| self.random.below(count) as usize)
    }

    /// Sends again, after a restart, what had no answer.
    pub(super) async fn resend(&mut self) {
        for (label, publish, durability) in std::mem::take(&mut self.unanswered) {
            let producer = self.producers.iter().position(|each| each.number == label.producer);
            let producer = producer.expect("a label names its producer");
            let now = self.books_now.max(self.clock.load(Ordering::SeqCst));
            self.books.publishing("fancy", label, &publish.entries[0].message, now);
            let again = Published { label, publish, durability, producer, again: false };
            if let Some(Sent::Publish(batch, answer)) = self.send_publishes(vec![again]).await {
                self.receipts(batch, answer.await.ok());
            }
        }
    }

    /// Acks all that the consumers hold, and gives them credit for as much again.
    pub(super) async fn ack_all(&mut self, credit: u64) {
        for place in 0..self.consumers.len() {
            let held = std::mem::take(&mut self.consumers[place].held);
            let settled: Vec<_> = held.into_iter().map(|(tag, seen)| (tag, seen, Outcome::Ack)).collect();
            let consumer = &mut self.consumers[place];
            let add = credit.saturating_sub(consumer.credit);
            consumer.credit += add;
            let id = consumer.id;
            if !settled.is_empty()
                && let Some(Sent::Settle(settled, answer, tags)) = self.send_settles(place, settled).await
            {
                self.settled(settled, tags, answer.await.ok());
            }
            // When it has stopped, the next answer says so.
            let _ = self.shard().credit(id, add as u32, 0).await;
        }
    }
}

pub(super) fn answer_of<T>(result: &Result<T, ShardError>) -> Answer {
    match result {
        Ok(_) => Answer::Ok,
        Err(ShardError::Stopped(_)) => Answer::Unknown,
        Err(_) => Answer::Failed,
    }
}
