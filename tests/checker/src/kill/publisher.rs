//! The publishers of a kill run.

use std::collections::VecDeque;

use tokio::sync::watch;
use wharf_client::{Client, Confirm, Message, PublishError, Publisher};
use wharf_disk::Random;

use super::source::destinations;
use super::{Shared, TOPIC};
use crate::{Answer, Label};

/// Messages that one publisher has on their way at a time.
const WINDOW: usize = 32;
/// One of so many publishes of a steady publisher is a batch.
const BATCH_EVERY: u64 = 8;
/// The most messages of a batch.
const BATCH_MAX: u64 = 12;

/// Publishes until told to stop, through every restart, and waits for the last answer. Now and then a batch.
pub(super) async fn steady(
    client: Client,
    producer: u32,
    mut random: Random,
    shared: Shared,
    mut stopped: watch::Receiver<bool>,
) {
    let publisher = client.publisher().await.expect("the broker takes publishers");
    let mut sent = VecDeque::new();
    let mut last = 0;
    loop {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => break,
            () = shared.room() => {}
        }
        let count = if random.below(BATCH_EVERY) == 0 { 2 + random.below(BATCH_MAX - 1) } else { 1 };
        let labels: Vec<Label> = (1..=count).map(|n| Label { producer, number: last + n }).collect();
        last += count;
        let answer = publish(&publisher, &labels, &shared).await;
        sent.push_back((labels, answer));
        if sent.len() == WINDOW {
            answered(sent.pop_front().expect("the window is full"), &shared).await;
        }
    }
    for each in sent {
        answered(each, &shared).await;
    }
}

/// Sends one message, or some as a batch.
async fn publish(publisher: &Publisher, labels: &[Label], shared: &Shared) -> Option<Confirm> {
    let messages: Vec<Message> = labels.iter().map(|label| message(*label)).collect();
    {
        let mut history = shared.lock();
        for (label, message) in labels.iter().zip(&messages) {
            history.publishing(*label, &destinations(message), true);
        }
        if labels.len() > 1 {
            history.batch(labels.to_vec());
        }
    }
    let sent = match messages.as_slice() {
        [one] => publisher.publish(one.clone()).await,
        batch => publisher.publish_all(batch).await,
    };
    sent.ok()
}

/// Waits for the answer to what one frame held.
async fn answered((labels, confirm): (Vec<Label>, Option<Confirm>), shared: &Shared) {
    let answer = match confirm {
        Some(confirm) => verdict(confirm.await),
        None => Answer::Unknown,
    };
    let mut history = shared.lock();
    history.of_kind(if labels.len() > 1 { "batch" } else { "publish" }, answer);
    for label in labels {
        history.published(label, answer);
    }
}

/// A publisher of batches that dies with its broker and sends nothing again: what was unanswered is unknown, and as a
/// whole.
pub(super) struct Batcher {
    producer: u32,
    number: u64,
    /// Without an answer.
    sent: VecDeque<(Vec<Label>, Option<Confirm>)>,
}

impl Batcher {
    pub(super) fn new(producer: u32) -> Self {
        Self { producer, number: 0, sent: VecDeque::new() }
    }

    /// Publishes until it is dropped.
    ///
    /// # Cancel safety
    /// Made to be dropped.
    pub(super) async fn live(&mut self, client: Client, mut random: Random, shared: &Shared) {
        let Ok(publisher) = client.publisher().await else { return };
        loop {
            shared.room().await;
            let count = 2 + random.below(BATCH_MAX - 1);
            let labels = (1..=count).map(|n| Label { producer: self.producer, number: self.number + n });
            let labels: Vec<Label> = labels.collect();
            self.number += count;
            self.sent.push_back((labels.clone(), None));
            let Some(confirm) = publish(&publisher, &labels, shared).await else { return };
            self.sent.back_mut().expect("just put there").1 = Some(confirm);
            if self.sent.len() == WINDOW {
                let Some((_, Some(confirm))) = self.sent.front_mut() else { return };
                let answer = verdict(confirm.await);
                // Out of the line only now: dropped while it waited, it is unknown.
                let (labels, _) = self.sent.pop_front().expect("the window is full");
                self.tell(&labels, answer, shared);
            }
        }
    }

    /// Its life is over.
    pub(super) fn end(&mut self, shared: &Shared) {
        for (labels, _) in std::mem::take(&mut self.sent) {
            self.tell(&labels, Answer::Unknown, shared);
        }
    }

    fn tell(&self, labels: &[Label], answer: Answer, shared: &Shared) {
        let mut history = shared.lock();
        history.of_kind("batch, sent once", answer);
        labels.iter().for_each(|label| history.published(*label, answer));
    }
}

/// A publisher that dies with its broker: its next life sends again what was unknown, by message id.
pub(super) struct Hasty {
    producer: u32,
    number: u64,
    /// Without an answer, in the order in which they were sent.
    sent: VecDeque<(Label, Option<Confirm>)>,
}

impl Hasty {
    pub(super) fn new(producer: u32) -> Self {
        Self { producer, number: 0, sent: VecDeque::new() }
    }

    /// Publishes until it is dropped: what is unanswered then is unknown.
    ///
    /// # Cancel safety
    /// Made to be dropped.
    pub(super) async fn live(&mut self, client: Client, shared: &Shared) {
        self.settle_up(&client, shared).await;
        loop {
            shared.room().await;
            self.number += 1;
            let label = Label { producer: self.producer, number: self.number };
            shared.lock().publishing(label, &destinations(&message(label)), false);
            self.sent.push_back((label, None));
            let Ok(confirm) = client.publish(message_with_id(label)).await else { return };
            self.sent.back_mut().expect("just put there").1 = Some(confirm);
            if self.sent.len() == WINDOW {
                self.answer_first(shared).await;
            }
        }
    }

    /// Sends again what had no answer, and waits for all of it.
    pub(super) async fn settle_up(&mut self, client: &Client, shared: &Shared) {
        for (label, confirm) in &mut self.sent {
            // What an earlier life left behind was one operation, and this is another.
            if confirm.take().is_some() {
                tell(*label, Answer::Unknown, shared);
            }
        }
        for place in 0..self.sent.len() {
            let label = self.sent[place].0;
            let Ok(confirm) = client.publish(message_with_id(label)).await else { return };
            self.sent[place].1 = Some(confirm);
        }
        while !self.sent.is_empty() {
            self.answer_first(shared).await;
        }
    }

    async fn answer_first(&mut self, shared: &Shared) {
        let Some((label, Some(confirm))) = self.sent.front_mut() else { return };
        let (label, answer) = (*label, verdict(confirm.await));
        // Out of the line only now: dropped while it waited, it is unknown.
        self.sent.pop_front();
        tell(label, answer, shared);
    }
}

/// What was sent by message id has an answer.
fn tell(label: Label, answer: Answer, shared: &Shared) {
    let mut history = shared.lock();
    history.of_kind("publish by message id", answer);
    history.published(label, answer);
}

fn verdict(answer: Result<wharf_client::Confirmed, PublishError>) -> Answer {
    match answer {
        Ok(_) => Answer::Ok,
        Err(PublishError::Closed) => Answer::Unknown,
        Err(_) => Answer::Failed,
    }
}

fn message(label: Label) -> Message {
    let mut message = Message::new(TOPIC.parse().expect("the constant is a topic"), label.payload());
    message.key = Some(label.key().to_string().into());
    message
}

fn message_with_id(label: Label) -> Message {
    let mut message = message(label);
    message.message_id = Some(label.to_string().into());
    message
}
