//! How long message ids are remembered, as an administrator sees and changes it.

use wharf_queue::{Change, Deduplication};

use crate::{Action, Node, NodeError, Principal};

/// How message ids are remembered at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupView {
    /// The bounds.
    pub bounds: Deduplication,
    /// How many ids are remembered.
    pub remembered: u64,
}

impl Node {
    /// How long message ids are remembered, how many, and how many are.
    ///
    /// # Errors
    /// Not allowed; the node is stopping.
    pub async fn deduplication(&self, who: &Principal) -> Result<DedupView, NodeError> {
        who.check(Action::Administer)?;
        let view = self.shard().query(|state, _| DedupView {
            bounds: *state.topology().deduplication(),
            remembered: state.message_ids(),
        });
        Ok(view.await?)
    }

    /// Sets how long message ids are remembered, and how many. What is beyond new bounds is forgotten at once.
    ///
    /// # Errors
    /// The bounds are impossible; not allowed; the node is stopping.
    pub async fn set_deduplication(
        &self,
        who: &Principal,
        bounds: Deduplication,
    ) -> Result<DedupView, NodeError> {
        who.check(Action::Administer)?;
        self.shard().change(Change::SetDeduplication(bounds)).await?;
        self.deduplication(who).await
    }
}
