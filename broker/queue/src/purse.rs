//! The bytes that the queues and streams of one owner hold together, and the most that they may.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wharf_protocol::ErrorCode;

use crate::effect::Refusal;

/// What one owner with a bound holds, counted by each of its queues and partitions. Clones are the same purse.
///
/// It follows from the rest of the state. Only the shard's own thread changes it, so that the count is exact.
#[derive(Clone, Debug)]
pub(crate) struct Purse(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    owner: String,
    bytes_max: u64,
    held: AtomicU64,
}

/// The bytes of one queue or partition, which its owner's purse counts as well, if it has one.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    own: u64,
    purse: Option<Purse>,
}

impl Purse {
    pub(crate) fn new(owner: &str, bytes_max: u64) -> Self {
        Self(Arc::new(Inner { owner: owner.to_owned(), bytes_max, held: AtomicU64::new(0) }))
    }

    pub(crate) fn owner(&self) -> &str {
        &self.0.owner
    }

    pub(crate) fn held(&self) -> u64 {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Refuses so many bytes more, if they are over the bound.
    pub(crate) fn check(&self, coming: u64) -> Result<(), Refusal> {
        let Inner { owner, bytes_max, .. } = &*self.0;
        let held = self.held();
        if held.saturating_add(coming) <= *bytes_max {
            return Ok(());
        }
        let reason = format!(
            "the queues and streams that {owner} made hold {held} bytes, {coming} more are over its quota of \
             {bytes_max} stored bytes; consume or purge some, or raise it"
        );
        Err(Refusal { code: ErrorCode::Unavailable, reason })
    }
}

impl Bytes {
    /// Bytes that no purse counts.
    pub(crate) fn of(own: u64) -> Self {
        Self { own, purse: None }
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.own
    }

    #[inline]
    pub(crate) fn add(&mut self, bytes: u64) {
        self.own += bytes;
        if let Some(purse) = &self.purse {
            purse.0.held.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn sub(&mut self, bytes: u64) {
        self.own -= bytes;
        if let Some(purse) = &self.purse {
            purse.0.held.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    pub(crate) fn purse(&self) -> Option<&Purse> {
        self.purse.as_ref()
    }

    /// Has them counted by `purse` from now on, and by no other.
    pub(crate) fn count_in(&mut self, purse: Option<Purse>) {
        let own = self.own;
        // What the old purse counts goes as this does.
        *self = Self { own: 0, purse };
        self.add(own);
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if let Some(purse) = &self.purse {
            purse.0.held.fetch_sub(self.own, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purse_counts_what_its_queues_hold_and_no_more_when_they_are_gone() {
        let purse = Purse::new("shop", 100);
        let (mut one, mut two) = (Bytes::of(30), Bytes::default());
        one.count_in(Some(purse.clone()));
        two.count_in(Some(purse.clone()));
        two.add(60);
        one.sub(10);
        assert_eq!((purse.held(), one.get(), two.get()), (80, 20, 60));

        purse.check(20).expect("just fits");
        let refused = purse.check(21).expect_err("over");
        assert_eq!(refused.code, ErrorCode::Unavailable);
        assert!(refused.reason.contains("shop made hold 80 bytes, 21 more are over its quota of 100"));

        drop(two);
        assert_eq!(purse.held(), 20);
        one.count_in(None);
        assert_eq!((purse.held(), one.get()), (0, 20));
    }
}
