//! The other side of a reader: credit and settlements, from any task.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;
use wharf_protocol::{Outcome, Settlement};
use wharf_queue::{Commit, ConsumerId, Durability};
use wharf_shard::Shard;

use super::desk::Desk;
use super::held::Told;
use super::settled::{Awaited, ReaderSettled};
use crate::NodeError;

/// The most credit that a reader can have.
const CREDIT_MAX: u64 = 65_536;
/// What a reader is told that settles without a group.
const NO_MEMBER: &str = "a reader without a group has nothing to settle; join a group for that";

/// Credit and settlements of one reader, from any task.
#[derive(Clone)]
pub struct ReaderControls {
    shard: Shard,
    pub(super) desk: Arc<Desk>,
    /// Set by a reader that joins a group.
    pub(super) member: Option<ConsumerId>,
    pub(super) durability: Durability,
}

impl ReaderControls {
    /// Of a reader without a group, with `credit` to begin with.
    pub(super) fn new(shard: Shard, durability: Durability, credit: u32) -> Self {
        let controls = Self { shard, desk: Arc::default(), member: None, durability };
        controls.credit(credit);
        controls
    }

    /// Allows `add` more messages to come.
    pub fn credit(&self, add: u32) {
        let mut given = self.desk.lock();
        given.credit = (given.credit + u64::from(add)).min(CREDIT_MAX);
        drop(given);
        self.desk.changed.notify_one();
    }

    /// What a settlement says, for a transaction's record; nothing is settled by that.
    pub(crate) fn commit_of(&self, settlement: &Settlement) -> Result<Commit, String> {
        let member = self.member.ok_or(NO_MEMBER)?;
        let Settlement { first, last, outcome } = settlement;
        if matches!(outcome, Outcome::Nack { .. }) {
            return Err("a message of a stream is nacked outside of a transaction".into());
        }
        let passed = self.desk.lock().deliveries.passed(settlement);
        let passed = passed.ok_or_else(|| {
            format!(
                "not all deliveries {first} to {last} are held: settled before, or another member has them"
            )
        })?;
        Ok(Commit { member, passed, failed: Vec::new() })
    }

    /// A transaction settled these.
    pub(crate) fn forget(&self, settlement: &Settlement) {
        if let Some(member) = self.member {
            let settlements = std::slice::from_ref(settlement);
            drop(self.desk.lock().deliveries.settle(member, settlements, Instant::now()));
            self.desk.changed.notify_one();
        }
    }

    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    /// Hands settlements on, in order. They are durable when what comes back resolves; what is nacked comes again
    /// after that, unless it was given up.
    ///
    /// # Errors
    /// The reader is no member of a group; the node is stopping.
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<ReaderSettled, NodeError> {
        let member = self.member.ok_or_else(|| NodeError::Invalid(NO_MEMBER.into()))?;
        let told = self.desk.lock().deliveries.settle(member, &settlements, Instant::now());
        self.desk.changed.notify_one();
        let Told { commit, tags, nacks, stale } = told;
        let mut awaited = None;
        if !commit.passed.is_empty() || !commit.failed.is_empty() {
            let answer = self.shard.commit(commit, self.durability).await?;
            awaited = Some(Awaited { answer, tags, nacks });
        }
        Ok(ReaderSettled { awaited, stale, desk: Arc::clone(&self.desk) })
    }
}

impl fmt::Debug for ReaderControls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReaderControls").field("member", &self.member).finish_non_exhaustive()
    }
}
