//! The consumers of a kill run.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::watch;
use wharf_client::{Client, ConsumeOptions, Delivery, Settle, SettleError};
use wharf_disk::Random;

use super::Shared;
use super::source::Source;
use crate::Answer;
use crate::history::{Queue, Seen};

/// Settlements that one consumer has on their way at a time.
const WINDOW: usize = 256;

/// One consumer of a queue, or member of a group.
pub(super) struct Consumer {
    pub(super) number: u32,
    pub(super) source: Source,
    pub(super) random: Random,
    pub(super) shared: Shared,
}

impl Consumer {
    /// Consumes through every restart until told to stop: acks most, nacks some, forgets some.
    pub(super) async fn run(mut self, client: Client, mut stopped: watch::Receiver<bool>) {
        self.shared.lock().joins(self.number);
        let options = ConsumeOptions { prefetch: 512, ..ConsumeOptions::default() };
        let mut consumer = self.source.open(&client, options).await.expect("its source is there");
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

    /// Consumes a queue until nothing is left, or as a member of a group until all of `left` came, and acks all of it.
    ///
    /// # Errors
    /// When the broker ends it before.
    pub(super) async fn drain(self, client: Client, mut left: BTreeSet<(Queue, u64)>) -> Result<()> {
        self.shared.lock().joins(self.number);
        let until_empty = matches!(self.source, Source::Queue(_));
        let options = ConsumeOptions { until_empty, ..ConsumeOptions::default() };
        let mut consumer = self.source.open(&client, options).await?;
        let mut sent = VecDeque::new();
        while until_empty || !left.is_empty() {
            let Some(delivery) = consumer.next().await else { break };
            let seen = self.note(&delivery);
            left.remove(&(seen.queue, seen.offset));
            sent.push_back((Some(seen), delivery.ack()));
            if sent.len() == WINDOW {
                self.answer(sent.pop_front().expect("the window is full")).await;
            }
        }
        for each in sent {
            self.answer(each).await;
        }
        let end = consumer.end();
        ensure!(end.is_none(), "draining {:?}: {end:?}", self.source);
        Ok(())
    }

    fn note(&self, delivery: &Delivery) -> Seen {
        let seen = self.source.seen(self.number, delivery);
        if let Source::Group { .. } = self.source {
            self.shared.journal().note("a group", delivery);
        }
        self.shared.lock().delivered(seen.clone());
        seen
    }

    /// Waits for the answer to an ack of what was seen, or to a nack.
    async fn answer(&self, (acked, settle): (Option<Seen>, Settle)) {
        let answer = verdict(settle.await);
        let mut history = self.shared.lock();
        match acked {
            Some(seen) => {
                history.of_kind(self.source.ack(), answer);
                history.settled_for_good(&seen, answer);
            }
            None => history.of_kind("nack", answer),
        }
        drop(history);
        self.shared.settled();
    }
}

fn verdict(answer: Result<(), SettleError>) -> Answer {
    match answer {
        Ok(()) => Answer::Ok,
        Err(SettleError::Stale) => Answer::Failed,
        Err(SettleError::Unknown) => Answer::Unknown,
    }
}
