//! The stream as all of its readers saw it: offsets are dense and immutable, and everybody sees the same (I5).

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use tokio::sync::watch;
use wharf_client::{Client, Delivery, MessageId, ReadOptions};

use super::Shared;
use super::source::{READER, STREAM, seen};
use crate::{Label, Violation};

/// What lies at each partition and offset, as whoever read it first found it.
#[derive(Debug, Default)]
pub(super) struct Journal {
    found: BTreeMap<(u16, u64), (MessageId, Option<Label>)>,
    pub(super) violations: Vec<Violation>,
    /// What was compared with something found earlier.
    pub(super) compared: u64,
}

impl Journal {
    /// Compares what `who` got with what others found there. False: nobody had read it before.
    pub(super) fn note(&mut self, who: &str, delivery: &Delivery) -> bool {
        let place = (delivery.partition, delivery.offset);
        let got = (delivery.id, Label::read(&delivery.message.payload));
        let Some(known) = self.found.get(&place) else {
            self.found.insert(place, got);
            return false;
        };
        self.compared += 1;
        if *known != got {
            let what = format!("{who} found {got:?} at {place:?}, and it was {known:?}");
            self.violations.push(Violation::new("stream", what));
        }
        true
    }

    /// What lies in each partition.
    pub(super) fn places(&self) -> impl Iterator<Item = (u16, u64, Option<Label>)> {
        self.found.iter().map(|((partition, offset), (_, label))| (*partition, *offset, *label))
    }
}

/// Reads the stream from its beginning through every restart, until told to stop.
pub(super) async fn follow(client: Client, number: u32, shared: Shared, mut stopped: watch::Receiver<bool>) {
    let stream = client.stream(STREAM).expect("the constant is a name");
    let mut reader = stream.read(ReadOptions::default()).await.expect("the stream is there");
    let mut next = BTreeMap::<u16, u64>::new();
    loop {
        let message = tokio::select! {
            message = reader.next() => message,
            _ = stopped.wait_for(|stop| *stop) => None,
        };
        let Some(message) = message else { break };
        let next = next.entry(message.partition).or_default();
        shared.journal().note("a reader", &message);
        if message.offset + 1 == *next {
            // After a lost connection, the last one may come twice.
            continue;
        }
        if message.offset != *next {
            let what = format!("{}/{} came where {next} was due", message.partition, message.offset);
            shared.journal().violations.push(Violation::new("stream", what));
        }
        *next = message.offset + 1;
        shared.lock().read(seen(READER[usize::from(message.partition)], number, &message));
        shared.settled();
    }
}

/// Reads all of the stream once more, as a reader who has seen nothing yet.
///
/// # Errors
/// When the broker ends it before.
pub(super) async fn read_all(client: Client, number: u32, shared: &Shared) -> Result<()> {
    let stream = client.stream(STREAM)?;
    let mut reader = stream.read(ReadOptions { until_end: true, ..ReadOptions::default() }).await?;
    let mut next = BTreeMap::<u16, u64>::new();
    while let Some(message) = reader.next().await {
        let next = next.entry(message.partition).or_default();
        if message.offset != *next {
            let what = format!("{}/{} came where {next} was due", message.partition, message.offset);
            shared.journal().violations.push(Violation::new("stream", what));
        }
        *next = message.offset + 1;
        let seen = seen(READER[usize::from(message.partition)], number, &message);
        shared.journal().note("the last reader", &message);
        let label = seen.label;
        let mut history = shared.lock();
        if label.is_none_or(|label| !history.may_be_settled(seen.queue, seen.offset, label)) {
            history.read(seen);
        }
    }
    ensure!(reader.end().is_none(), "reading the stream: {:?}", reader.end());
    let mut journal = shared.journal();
    let beyond =
        journal.places().find(|(partition, offset, _)| next.get(partition).is_none_or(|n| offset >= n));
    if let Some((partition, offset, label)) = beyond {
        let what = format!("{partition}/{offset} was read, and is gone: {label:?}");
        journal.violations.push(Violation::new("stream", what));
    }
    Ok(())
}
