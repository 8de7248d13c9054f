//! What the producers of a world publish, and what their receipts mean.

use std::sync::atomic::Ordering;
use std::time::Duration;

use wharf_protocol::{ErrorCode, Message, ProducerId, Receipt, Session};
use wharf_queue::{Destination, Durability, Entry, Publish};

use super::trail::{LEDGER, TRAIL};
use super::transact::TRANSFORMER;
use super::work::Sent;
use super::{Exactness, World, durability};
use crate::history::Queue;
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

/// A publish that was sent.
pub(super) struct Published {
    pub(super) label: Label,
    pub(super) publish: Publish,
    durability: Durability,
    producer: usize,
    /// It was confirmed before: to be answered as a duplicate.
    again: bool,
}

impl World {
    pub(super) async fn publish_some(&mut self) -> Option<Sent> {
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
    pub(super) fn message(&mut self, producer: usize, queues: &[Queue]) -> Published {
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

    pub(super) fn receipts(&mut self, batch: Vec<Published>, receipts: Option<Vec<Receipt>>) {
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
}
