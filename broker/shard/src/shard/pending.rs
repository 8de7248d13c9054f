//! Commands on their way into one batch: their records in order, and who waits for each.

use tokio::sync::oneshot;
use wharf_protocol::{ErrorCode, Receipt, Rejection};
use wharf_queue::{ConsumerId, Durability, Publish, Record};

use super::{Changed, Command, Committed, Told, exact};
use crate::ShardError;

/// Records to be written together.
pub(super) struct Pending {
    pub(super) records: Vec<Record>,
    /// Each covers the next few of `records`.
    pub(super) parts: Vec<Part>,
    /// The strongest that any of them needs.
    pub(super) durability: Durability,
    /// Bytes of payload, for bounding a batch.
    pub(super) bytes: usize,
}

/// The records of one command.
pub(super) struct Part {
    pub(super) records: usize,
    pub(super) reply: Reply,
}

/// Who waits for what a command's records do.
pub(super) enum Reply {
    Publish { receipts: Vec<Receipt>, reply: Told<Vec<Receipt>> },
    Settle(oneshot::Sender<Result<Vec<u64>, ShardError>>),
    Attach(oneshot::Sender<Result<(), ShardError>>),
    Change(Told<Result<Changed, ShardError>>),
    Exact(exact::Reply),
    Commit(oneshot::Sender<Result<Committed, ShardError>>),
    Nobody,
}

impl Default for Pending {
    fn default() -> Self {
        Self { records: Vec::new(), parts: Vec::new(), durability: Durability::Memory, bytes: 0 }
    }
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// A record that nobody waits for.
    pub(super) fn add_record(&mut self, record: Record) {
        self.add(record, Durability::Memory, Reply::Nobody);
    }

    /// Messages that came together, and the durability that their queues promise.
    pub(super) fn add_publish(
        &mut self,
        published: Vec<Publish>,
        durability: Durability,
        reply: Told<Vec<Receipt>>,
    ) {
        let receipts = Vec::with_capacity(published.len());
        self.parts.push(Part { records: published.len(), reply: Reply::Publish { receipts, reply } });
        self.durability = self.durability.max(durability);
        self.bytes += published.iter().map(Publish::payload_bytes).sum::<usize>();
        self.records.extend(published.into_iter().map(Record::Publish));
    }

    /// One record and who waits for it.
    pub(super) fn add(&mut self, record: Record, durability: Durability, reply: Reply) {
        self.records.push(record);
        self.parts.push(Part { records: 1, reply });
        self.durability = self.durability.max(durability);
    }
}

impl Reply {
    /// Says that nothing was written, and why.
    pub(super) fn refuse(self, records: usize, error: &ShardError) {
        // Whoever stopped waiting does not need the answer.
        match self {
            Self::Publish { reply, .. } => {
                let rejection = rejection(error.code(), error.to_string());
                reply.send(vec![Receipt::Rejected(rejection); records]);
            }
            Self::Settle(reply) => drop(reply.send(Err(error.clone()))),
            Self::Attach(reply) => drop(reply.send(Err(error.clone()))),
            Self::Change(reply) => reply.send(Err(error.clone())),
            Self::Exact(reply) => reply.tell(exact::Done::default(), Some(error.clone())),
            Self::Commit(reply) => drop(reply.send(Err(error.clone()))),
            Self::Nobody => {}
        }
    }
}

/// What a publisher is told of a message that was refused after its pipelines.
pub(super) fn rejection(code: ErrorCode, reason: String) -> Rejection {
    Rejection { code, stage: None, reason, retry_after_ms: None }
}

/// What a full disk must not lose: a lease that moved. It is tried again; the rest is refused.
pub(super) fn moves_a_lease(record: &Record) -> bool {
    matches!(
        record,
        Record::Credit { .. } | Record::Detach { .. } | Record::LeaveGroup { .. } | Record::Restart
    )
}

/// A consumer that a record brings.
pub(super) fn attached(record: &Record) -> Option<ConsumerId> {
    match record {
        Record::Attach(attach) => Some(attach.consumer),
        _ => None,
    }
}

impl Command {
    /// Whether it may be taken together with what came before, which a question and a farewell must see done. A read
    /// of a stream need not: it sees what its reader has been told of.
    pub(super) fn is_record(&self) -> bool {
        !matches!(self, Self::Query(_) | Self::Kept | Self::Stop(_))
    }
}
