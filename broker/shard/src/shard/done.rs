//! What a batch did for one command, gathered from its effects until whoever waits can be told.

use wharf_protocol::Receipt;
use wharf_queue::Refusal;

use super::pending::{Reply, rejection};
use super::{Changed, Committed, exact};
use crate::ShardError;

/// What the records of one command did, as far as somebody is told.
#[derive(Default)]
pub(super) struct Done {
    pub(super) stale: Vec<u64>,
    pub(super) committed: Committed,
    pub(super) changed: Changed,
    refused: Option<ShardError>,
    pub(super) exact: exact::Done,
}

impl Done {
    /// One message of the command got its receipt.
    pub(super) fn receipt(&mut self, receipt: Receipt, reply: &mut Reply) {
        if let Reply::Publish { receipts, .. } = reply {
            receipts.push(receipt);
        }
    }

    /// The state refused a record of the command.
    pub(super) fn refuse(&mut self, refusal: Refusal, reply: &mut Reply) {
        if let Reply::Publish { receipts, .. } = reply {
            receipts.push(Receipt::Rejected(rejection(refusal.code, refusal.reason)));
        } else {
            self.refused = Some(refusal.into());
        }
    }

    /// Answers. Whoever stopped waiting does not need it.
    pub(super) fn tell(self, reply: Reply) {
        match reply {
            Reply::Publish { receipts, reply } => reply.send(receipts),
            Reply::Settle(reply) => drop(reply.send(self.refused.map_or(Ok(self.stale), Err))),
            Reply::Attach(reply) => drop(reply.send(self.refused.map_or(Ok(()), Err))),
            Reply::Change(reply) => reply.send(self.refused.map_or(Ok(self.changed), Err)),
            Reply::Exact(reply) => reply.tell(self.exact, self.refused),
            Reply::Commit(reply) => drop(reply.send(self.refused.map_or(Ok(self.committed), Err))),
            Reply::Nobody => {}
        }
    }
}
