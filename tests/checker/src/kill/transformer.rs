//! Consume, transform, produce: inputs acked and outputs published in one transaction, through every restart.

use std::time::Duration;

use tokio::sync::watch;
use wharf_client::{Client, CommitError, ConsumeOptions, Delivery, Message};
use wharf_disk::Random;

use super::source::Source;
use super::{MADE, OUTPUTS, Shared};
use crate::history::Seen;
use crate::{Answer, Label};

/// The most inputs of one transaction.
const INPUTS_MAX: u64 = 24;

/// One that acks what it gets and publishes an output for each, together or not at all.
pub(super) struct Transformer {
    /// As a consumer, and as the producer of its outputs.
    pub(super) number: u32,
    pub(super) source: Source,
    pub(super) random: Random,
    pub(super) shared: Shared,
}

impl Transformer {
    /// Works until told to stop.
    pub(super) async fn run(mut self, client: Client, mut stopped: watch::Receiver<bool>) {
        self.shared.lock().joins(self.number);
        let options = ConsumeOptions { prefetch: 256, ..ConsumeOptions::default() };
        let mut consumer = self.source.open(&client, options).await.expect("its source is there");
        let mut made = 0;
        loop {
            let first = tokio::select! {
                delivery = consumer.next() => delivery,
                _ = stopped.wait_for(|stop| *stop) => None,
            };
            let Some(first) = first else { break };
            let mut inputs = vec![first];
            let most = 1 + self.random.below(INPUTS_MAX);
            while (inputs.len() as u64) < most {
                let more = tokio::select! {
                    biased;
                    more = consumer.next() => more,
                    () = std::future::ready(()) => None,
                };
                let Some(more) = more else { break };
                inputs.push(more);
            }
            self.transact(&client, inputs, &mut made).await;
        }
    }

    async fn transact(&self, client: &Client, inputs: Vec<Delivery>, made: &mut u64) {
        let mut transaction = client.transaction();
        let mut pairs: Vec<(Seen, Label)> = Vec::new();
        for input in &inputs {
            *made += 1;
            let output = Label { producer: self.number, number: *made };
            let seen = self.source.seen(self.number, input);
            if let Source::Group { .. } = self.source {
                self.shared.journal().note("a group", input);
            }
            let mut history = self.shared.lock();
            history.delivered(seen.clone());
            history.transacting(&seen, output);
            history.publishing(output, &[OUTPUTS], false);
            transaction.ack(input);
            let topic = MADE.parse().expect("the constant is a topic");
            transaction.publish(Message::new(topic, output.payload()));
            pairs.push((seen, output));
        }
        let answer = match transaction.commit().await {
            Ok(_) => Answer::Ok,
            Err(CommitError::Closed) => Answer::Unknown,
            Err(_) => Answer::Failed,
        };
        let mut history = self.shared.lock();
        history.of_kind("transaction", answer);
        for (seen, output) in pairs {
            history.settled_for_good(&seen, answer);
            match answer {
                Answer::Failed => history.refused(output),
                Answer::Ok | Answer::Unknown => history.published(output, answer),
            }
        }
        drop(history);
        self.shared.settled();
        if answer == Answer::Failed {
            // Those of which the lease has not ended come again at once.
            inputs.into_iter().for_each(|input| drop(input.nack(Some(Duration::ZERO))));
        }
    }
}
