//! What exactly-once asks of a shard: transactions, and producers that claim a new life.

use tokio::sync::oneshot;
use wharf_protocol::{ProducerId, TransactionReceipt};
use wharf_queue::{Durability, Record, Transaction};

use super::{Command, Seen, Shard, Told};
use crate::ShardError;

/// The new life of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Its epoch; older ones are refused from now on.
    pub epoch: u32,
    /// The highest sequence that an earlier life has stored; 0 when none.
    pub last_sequence: u64,
}

/// Who waits for a record of this kind.
pub(super) enum Reply {
    Transaction(Told<Result<TransactionReceipt, ShardError>>),
    Claim(oneshot::Sender<Result<Claimed, ShardError>>),
}

/// What such a record did.
#[derive(Default)]
pub(super) struct Done {
    pub(super) receipt: Option<TransactionReceipt>,
    pub(super) claimed: Option<Claimed>,
}

impl Shard {
    /// Gives `transaction` its place in the order of the log; the answer comes when it is durable, and is seen by `seen`
    /// before anything of it is delivered.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, nothing was done; afterwards nothing undoes it.
    pub async fn transact(
        &self,
        transaction: Transaction,
        bytes: usize,
        durability: Durability,
        seen: Option<Seen<Result<TransactionReceipt, ShardError>>>,
    ) -> Result<oneshot::Receiver<Result<TransactionReceipt, ShardError>>, ShardError> {
        let (reply, answer) = Told::new(seen);
        let record = Record::Transaction(Box::new(transaction));
        let reply = Reply::Transaction(reply);
        self.send(Command::Exact { record, durability, reply }, bytes).await?;
        Ok(answer)
    }

    /// Begins a new life of `producer`, durably: what its older ones still send is refused.
    ///
    /// # Errors
    /// Too many producers; the shard stopped.
    pub async fn claim_producer(&self, producer: ProducerId) -> Result<Claimed, ShardError> {
        let (reply, answer) = oneshot::channel();
        let record = Record::ClaimProducer(producer);
        let command = Command::Exact { record, durability: Durability::Fsync, reply: Reply::Claim(reply) };
        self.send(command, 0).await?;
        self.answer(answer).await?
    }
}

impl Reply {
    /// Answers. Whoever stopped waiting does not need it.
    pub(super) fn tell(self, done: Done, refused: Option<ShardError>) {
        let error = refused.unwrap_or_else(|| ShardError::Stopped("the record was not answered".into()));
        match self {
            Self::Transaction(reply) => reply.send(done.receipt.ok_or(error)),
            Self::Claim(reply) => drop(reply.send(done.claimed.ok_or(error))),
        }
    }
}
