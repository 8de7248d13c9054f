//! The consumers of a kill run.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::watch;
use wharf_client::{Client, ConsumeOptions, Delivery, Settle, SettleError};
use wharf_disk::Random;

use super::Shared;
use crate::history::{Queue, Seen};
use crate::{Answer, Label};

/// Settlements that one consumer has on their way at a time.
const WINDOW: usize = 256;

/// One consumer of one queue.
pub(super) struct Consumer {
    pub(super) number: u32,
    pub(super) queue: Queue,
    pub(super) random: Random,
    pub(super) history: Shared,
}

impl Consumer {
    /// Consumes through every restart until told to stop: acks most, nacks some, forgets some.
    pub(super) async fn run(mut self, client: Client, mut stopped: watch::Receiver<bool>) {
        let options = ConsumeOptions { prefetch: 512, ..ConsumeOptions::default() };
        let mut consumer = client.consume(self.queue, options).await.expect("the queue is there");
        let mut sent = VecDeque::new();
        loop {
            let delivery = tokio::select! {
                delivery = consumer.next() => delivery,
                _ = stopped.wait_for(|stop| *stop) => None,
            };
            let Some(delivery) = delivery else { break };
            let seen = self.note(&delivery);
            match self.random.below(100) {
                // Forgotten: it comes back when the broker has restarted.
                0 => drop(delivery),
                1..6 => sent.push_back((None, delivery.nack(Some(Duration::ZERO)))),
                _ => sent.push_back((Some(seen), delivery.ack())),
            }
            if sent.len() == WINDOW {
                self.answer(sent.pop_front().expect("the window is full")).await;
            }
        }
        for each in sent {
            self.answer(each).await;
        }
        drop(consumer);
    }

    /// Consumes until nothing is left, and acks all of it.
    ///
    /// # Errors
    /// When the broker ends it before.
    pub(super) async fn drain(self, client: Client) -> Result<()> {
        let options = ConsumeOptions { until_empty: true, ..ConsumeOptions::default() };
        let mut consumer = client.consume(self.queue, options).await?;
        let mut sent = VecDeque::new();
        while let Some(delivery) = consumer.next().await {
            let seen = self.note(&delivery);
            sent.push_back((Some(seen), delivery.ack()));
            if sent.len() == WINDOW {
                self.answer(sent.pop_front().expect("the window is full")).await;
            }
        }
        for each in sent {
            self.answer(each).await;
        }
        let end = consumer.end();
        ensure!(end.is_none(), "draining {}: {end:?}", self.queue);
        Ok(())
    }

    fn note(&self, delivery: &Delivery) -> Seen {
        let seen = Seen {
            queue: self.queue,
            consumer: self.number,
            // What moves leases is written before its effects, and the system survives: no boot is told apart.
            boot: 0,
            label: Label::read(&delivery.message.payload),
            id: delivery.id,
            offset: delivery.offset,
            attempt: delivery.attempt,
            redelivered: delivery.redelivered,
            died_in: delivery.death.as_ref().map(|death| death.queue.clone()),
        };
        self.history.lock().delivered(seen.clone());
        seen
    }

    /// Waits for the answer to an ack of what was seen, or to a nack.
    async fn answer(&self, (acked, settle): (Option<Seen>, Settle)) {
        let answer = verdict(settle.await);
        match acked {
            Some(seen) => self.history.lock().settled_for_good(&seen, answer),
            None => self.history.lock().other(answer),
        }
        self.history.settled();
    }
}

fn verdict(answer: Result<(), SettleError>) -> Answer {
    match answer {
        Ok(()) => Answer::Ok,
        Err(SettleError::Stale) => Answer::Failed,
        Err(SettleError::Unknown) => Answer::Unknown,
    }
}
