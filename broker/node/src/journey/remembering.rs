//! Those of a batch that meet pipelines that remember: what these read and changed for each publication, until it is
//! part of the publication's record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use wharf_pipeline::{Item, Recall};
use wharf_protocol::{ErrorCode, KV_READS_MAX, Kept, Name};
use wharf_queue::{KvChange, KvPart, KvRead, kv_digest};

use super::{Journey, Traveller, rejection};
use crate::memories::{Key, Turn};
use crate::pipelines::{Active, Run};

/// How many keys may be read for one publication by all that it becomes: they are in one record.
const READS_MAX: usize = 16 * KV_READS_MAX;

/// What pipelines read and changed for one publication, each key once.
#[derive(Default)]
pub(super) struct Recalled {
    /// The digest of what was there, where something was.
    reads: BTreeMap<Key, Option<u64>>,
    changes: BTreeMap<Key, Option<Kept>>,
}

impl Recalled {
    /// Notes what one message read and changed in `pipeline`. What an earlier one of the publication read or left is no
    /// reading of its own.
    fn note(&mut self, pipeline: &Name, recall: Recall) {
        for (key, kept) in recall.reads {
            let key = (pipeline.clone(), key);
            if !self.changes.contains_key(&key) {
                self.reads.entry(key).or_insert_with(|| kept.as_ref().map(kv_digest));
            }
        }
        let changes = recall.changes.into_iter();
        self.changes.extend(changes.map(|(key, kept)| ((pipeline.clone(), key), kept)));
    }

    fn into_part(self, follows: bool) -> KvPart {
        let reads = self.reads.into_iter().map(|((pipeline, key), seen)| KvRead { pipeline, key, seen });
        let changes =
            self.changes.into_iter().map(|((pipeline, key), kept)| KvChange { pipeline, key, kept });
        KvPart { follows, reads: reads.collect(), changes: changes.collect() }
    }
}

impl Journey {
    /// Lets the pipelines of the journey remember.
    pub(crate) fn take_turn(&mut self, turn: Turn) {
        self.turn = Some(turn);
    }

    /// What its pipelines leave behind, of publications that are not rejected.
    pub(crate) fn kv_changes(&self) -> impl Iterator<Item = (&Key, &Option<Kept>)> {
        let open = self.recalled.iter().filter(|(origin, _)| self.decided[**origin].is_none());
        open.flat_map(|(_, recalled)| &recalled.changes)
    }

    /// Gives each publication its part of what was recalled.
    pub(super) fn settle_recalled(&mut self) {
        for (origin, place) in self.places.iter_mut().enumerate() {
            let recalled = self.recalled.remove(&origin);
            // None of a batch overtakes the one before it.
            let follows = self.turn.is_some() && origin > 0;
            if follows || recalled.is_some() {
                place.kv = Some(Box::new(recalled.unwrap_or_default().into_part(follows)));
            }
        }
    }

    /// Runs messages through a pipeline that remembers, and notes what it read and changed for each.
    pub(super) async fn run_remembering(&mut self, name: &Name, group: &[Traveller]) -> Result<Run, String> {
        let active = self.entered(name).map(|entered| &**entered);
        let (Some(Active::Ready { number, pipeline, trial }), Some(turn)) = (active, &self.turn) else {
            // It began to remember after the journey had begun.
            return Err(changed_meanwhile());
        };
        let items: Vec<Item> = group.iter().map(|traveller| Item::new(traveller.message.clone())).collect();
        let copies = trial.as_ref().map(|trial| (Arc::clone(trial), trial.copies(&items), Instant::now()));
        let (number, ran) = (*number, pipeline.run_remembering(items, self.now, turn.memory(name)).await);
        let mut processed = Vec::with_capacity(ran.len());
        for (traveller, (each, recall)) in group.iter().zip(ran) {
            self.note(traveller.origin, name, recall);
            processed.push(each);
        }
        if let Some((trial, copies, began)) = copies {
            trial.show_all(copies, &processed, began.elapsed(), self.now);
        }
        Ok(Run::of(number, processed))
    }

    /// Notes what a pipeline read and changed for a publication, and ends the publication when that is too much.
    pub(super) fn note(&mut self, origin: usize, pipeline: &Name, recall: Recall) {
        if recall == Recall::default() {
            return;
        }
        if let Some(turn) = &self.turn {
            recall.changes.iter().for_each(|(key, kept)| turn.leave(pipeline, key, kept));
        }
        let recalled = self.recalled.entry(origin).or_default();
        recalled.note(pipeline, recall);
        if recalled.reads.len() > READS_MAX {
            let text = format!(
                "its pipelines read more than {READS_MAX} keys of what they remember for what it became"
            );
            self.reject(origin, rejection(ErrorCode::StageFailed, text));
        }
    }
}

pub(super) fn changed_meanwhile() -> String {
    "it was changed while the message was on its way; send it again".to_owned()
}
