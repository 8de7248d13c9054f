//! The publishers of a kill run.

use std::collections::VecDeque;

use tokio::sync::watch;
use wharf_client::{Client, Confirm, Message, PublishError};

use super::{QUEUES, Shared, TOPIC};
use crate::{Answer, Label};

/// Messages that one publisher has on their way at a time.
const WINDOW: usize = 32;

/// Publishes until told to stop, through every restart, and waits for the last answer.
pub(super) async fn steady(
    client: Client,
    producer: u32,
    history: Shared,
    mut stopped: watch::Receiver<bool>,
) {
    let publisher = client.publisher().await.expect("the broker takes publishers");
    let mut sent = VecDeque::new();
    for number in 1.. {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => break,
            () = history.room() => {}
        }
        let label = Label { producer, number };
        history.lock().publishing(label, &QUEUES, true);
        match publisher.publish(message(label)).await {
            Ok(confirm) => sent.push_back((label, confirm)),
            Err(_) => history.lock().published(label, Answer::Unknown),
        }
        if sent.len() == WINDOW {
            answer(sent.pop_front().expect("the window is full"), &history).await;
        }
    }
    for each in sent {
        answer(each, &history).await;
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
    pub(super) async fn live(&mut self, client: Client, history: &Shared) {
        self.settle_up(&client, history).await;
        loop {
            history.room().await;
            self.number += 1;
            let label = Label { producer: self.producer, number: self.number };
            history.lock().publishing(label, &QUEUES, false);
            self.sent.push_back((label, None));
            let Ok(confirm) = client.publish(message_with_id(label)).await else { return };
            self.sent.back_mut().expect("just put there").1 = Some(confirm);
            if self.sent.len() == WINDOW {
                self.answer_first(history).await;
            }
        }
    }

    /// Sends again what had no answer, and waits for all of it.
    pub(super) async fn settle_up(&mut self, client: &Client, history: &Shared) {
        for (label, confirm) in &mut self.sent {
            // What an earlier life left behind was one operation, and this is another.
            if confirm.take().is_some() {
                history.lock().published(*label, Answer::Unknown);
            }
        }
        for place in 0..self.sent.len() {
            let label = self.sent[place].0;
            let Ok(confirm) = client.publish(message_with_id(label)).await else { return };
            self.sent[place].1 = Some(confirm);
        }
        while !self.sent.is_empty() {
            self.answer_first(history).await;
        }
    }

    async fn answer_first(&mut self, history: &Shared) {
        let Some((label, Some(confirm))) = self.sent.front_mut() else { return };
        let (label, answer) = (*label, verdict(confirm.await));
        // Out of the line only now: dropped while it waited, it is unknown.
        self.sent.pop_front();
        history.lock().published(label, answer);
    }
}

async fn answer((label, confirm): (Label, Confirm), history: &Shared) {
    let answer = verdict(confirm.await);
    history.lock().published(label, answer);
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
