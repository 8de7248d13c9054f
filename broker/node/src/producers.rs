//! Producers by name: each start is a new life that goes on where the last one stopped.

use wharf_protocol::{Name, ProducerId, Receipt, Session};
use wharf_shard::Claimed;
use xxhash_rust::xxh3::xxh3_128;

use crate::{Node, NodeError, Principal, Publication, Receipts};

/// A new life of a named producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewLife {
    /// Its id: that of its name, for this principal.
    pub producer: ProducerId,
    /// Its epoch; whoever still publishes under an older one is refused.
    pub epoch: u32,
    /// The highest sequence that its earlier lives have stored; 0 when none.
    pub last_sequence: u64,
}

impl Node {
    /// Begins a new life of the producer `name` of `who`; its earlier lives are fenced off, durably. Producers of
    /// different principals are different, whatever their names.
    ///
    /// # Errors
    /// Too many producers; the node is stopping.
    pub async fn claim_producer(&self, who: &Principal, name: &Name) -> Result<NewLife, NodeError> {
        let producer = producer_id(who.name(), name.as_str());
        let Claimed { epoch, last_sequence } = self.shard().claim_producer(producer).await?;
        tracing::info!(principal = who.name(), %name, epoch, last_sequence, "a producer begins a new life");
        Ok(NewLife { producer, epoch, last_sequence })
    }

    /// The highest sequence that a session has stored; `None` when its producer is not known.
    ///
    /// # Errors
    /// A newer life of it took over ([`NodeError::Fenced`]); the node is stopping.
    pub async fn last_sequence(&self, producer: ProducerId, epoch: u32) -> Result<Option<u64>, NodeError> {
        let known = self.shard().query(move |state, _| state.producer(producer)).await?;
        match known {
            Some((current, _)) if current > epoch => Err(NodeError::Fenced(format!(
                "producer {producer} has epoch {current}, and this is its epoch {epoch}: a newer life of it took over"
            ))),
            Some((current, last)) if current == epoch => Ok(Some(last)),
            _ => Ok(None),
        }
    }

    /// What became of messages that were published before under these sequences, without taking them through
    /// pipelines again: an alarm, or a new version of a stage, does not unmake what is stored. Those that are not
    /// known are published.
    pub async fn publish_again(&self, who: &Principal, batch: Vec<Publication>) -> Receipts {
        let sessions: Vec<_> = batch.iter().map(|publication| publication.session).collect();
        let told = self.shard().query(move |state, _| {
            let told = |session: Option<Session>| state.told_before(&session?);
            sessions.into_iter().map(told).collect::<Option<Vec<Receipt>>>()
        });
        match told.await {
            Ok(Some(receipts)) => Receipts::new(receipts.into_iter().map(Some).collect(), None),
            _ => self.publish(who, batch).await,
        }
    }
}

fn producer_id(principal: &str, name: &str) -> ProducerId {
    let bytes = [b"producer\0", principal.as_bytes(), b"\0", name.as_bytes()].concat();
    ProducerId(xxh3_128(&bytes))
}
