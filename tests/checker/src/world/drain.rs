//! The end of every run: the shard goes on, and everything that is there is consumed and acked.

use std::sync::atomic::Ordering;

use super::{QUEUES, World};
use crate::Violation;

/// Rounds in which everything has to drain: leases, retries and delays are over after a few.
const ROUNDS_MAX: u32 = 40;
/// Time that passes from round to round.
const ROUND_MS: u64 = 500;
/// Credit of each consumer that drains.
const CREDIT: u64 = 256;

impl World {
    /// Sends again what had no answer, consumes everything, and gives all that was broken, from the beginning on.
    pub(crate) async fn drain(&mut self) -> Vec<Violation> {
        self.resend().await;
        for queue in QUEUES {
            self.attach_to(queue, CREDIT).await;
        }
        let mut waiting = None;
        for _ in 0..ROUNDS_MAX {
            let Some(look) = self.look().await else { break };
            let left = Self::waiting(&look);
            let idle = self.consumers.iter().all(|consumer| consumer.held.is_empty());
            if left.is_empty() && idle {
                waiting = None;
                break;
            }
            waiting = Some(left);
            self.clock.fetch_add(ROUND_MS, Ordering::SeqCst);
            self.ack_all(CREDIT).await;
        }
        if let Some(waiting) = waiting {
            self.violation("stuck", format!("not drained after {ROUNDS_MAX} rounds: {waiting:?}"));
        }
        if !self.is_stopped() {
            self.drain_streams().await;
            // A member that comes last gets all of it, and so shows what is settled.
            while let Some(member) = self.members.pop() {
                self.leave_group(member).await;
            }
            self.join_group().await;
        }
        let expired: Vec<_> = self.books.expired(self.books_now).collect();
        for (queue, label) in expired {
            self.history.excuse(queue, label);
        }
        let mut violations = self.history.violations();
        violations.append(&mut self.violations);
        violations
    }

    /// After everything was consumed and acked: nothing comes any more, even after one more power cut.
    pub(crate) async fn assert_drained(&mut self) -> Vec<Violation> {
        if let Some(look) = self.look().await {
            let mut left = Self::waiting(&look);
            // There acks survive the process and not the machine, as publishes do.
            left.remove("quick");
            if !left.is_empty() {
                self.violation("resurrected", format!("{left:?} are back after everything was acked"));
            }
        }
        std::mem::take(&mut self.violations)
    }
}
