//! What became of many messages, by verdict.

use serde::{Deserialize, Serialize};

use crate::{FailureKind, Processed};

/// Messages, counted by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// They go on.
    pub passed: u64,
    /// They end there, on purpose.
    pub dropped: u64,
    /// A stage refused them.
    pub rejected: u64,
    /// A stage wants them again later.
    pub retried: u64,
    /// A stage broke on them.
    pub faults: u64,
}

impl Totals {
    /// Counts a message.
    pub fn add(&mut self, processed: &Processed) {
        let count = match processed {
            Processed::Passed(_) => &mut self.passed,
            Processed::Dropped { .. } => &mut self.dropped,
            Processed::Failed(failure) => match failure.kind {
                FailureKind::Rejected => &mut self.rejected,
                FailureKind::Retry { .. } => &mut self.retried,
                FailureKind::Fault(_) => &mut self.faults,
            },
        };
        *count += 1;
    }
}
