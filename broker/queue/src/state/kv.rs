//! How records change what pipelines remember.

use super::State;
use crate::effect::Refusal;
use crate::{KvChange, KvPart, Publish};

impl State {
    /// Whether this publication came in one batch with one before it that has to come again.
    pub(super) fn is_behind_stale(&self, publish: &Publish) -> bool {
        publish.kv.as_ref().is_some_and(|part| self.kv.is_behind_stale(self.applied, part))
    }

    /// Whether the pipelines of this publication read what is still so.
    pub(super) fn is_current(&self, publish: &Publish) -> bool {
        publish.kv.as_ref().is_none_or(|part| self.kv.is_current(self.applied, part))
    }

    /// Makes what the pipelines of a publication that is stored changed.
    pub(super) fn remember_kv(&mut self, publish: &Publish) {
        if let Some(KvPart { changes, .. }) = publish.kv.as_deref() {
            let is_there = |change: &&KvChange| self.topology.pipeline(change.pipeline.as_str()).is_some();
            self.kv.change(changes.iter().filter(is_there));
        }
    }

    /// Changes by hand, of pipelines that are there.
    pub(super) fn change_kv(&mut self, changes: &[KvChange]) -> Result<(), Refusal> {
        let gone = |change: &&KvChange| self.topology.pipeline(change.pipeline.as_str()).is_none();
        if let Some(change) = changes.iter().find(gone) {
            return Err(Refusal::not_found("pipeline", &change.pipeline));
        }
        self.kv.change(changes);
        Ok(())
    }
}
