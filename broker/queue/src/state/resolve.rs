//! How a dead letter ends: what it became is stored and the letter goes, in one record; or it is discarded.

use wharf_protocol::Stored;

use super::State;
use super::enqueue::Life;
use crate::effect::Refusal;
use crate::past::Past;
use crate::queue::Fate;
use crate::seeded::{self, Fault};
use crate::{Effect, Publish, Resolve, kv};

impl State {
    /// Ends a dead letter. All that could refuse it is asked before anything is done, so a letter that is refused lies
    /// where it lay; room is found beside it.
    pub(super) fn resolve(&mut self, resolve: &Resolve, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let Resolve { queue, offset, id, becomes } = resolve;
        let (from, ..) = self.letter(queue, *offset, id)?;
        let entries = becomes.as_ref().map_or(&[][..], |publish| &publish.entries);
        if let Some(publish) = becomes {
            self.check_becoming(publish)?;
        }

        let queue = self.queues.get_mut(&from).expect("the letter lies there");
        if !queue.withdraw(*offset, &mut self.timers) {
            return Err(Refusal::conflict(format!("a consumer holds dead letter {id}")));
        }
        let fate = if becomes.is_some() { Fate::Redriven } else { Fate::Purged };
        let extra = if seeded::is(Fault::ResolvedLetterStays) {
            queue.ready(*offset, self.now);
            queue.extras[offset].clone()
        } else {
            queue.remove(*offset, fate, &mut self.timers, &mut self.live).1
        };
        self.touched.push(from);
        let stored = u16::try_from(entries.len()).expect("a publish has at most 65,535 entries");
        effects.push(Effect::Resolved(Stored { index: self.applied, entries: stored }));

        if let Some(publish) = becomes {
            self.remember_kv(publish);
            let past = Some(Past::redriven(extra.past, extra.death));
            let life = Life { attempts: extra.attempts, past };
            self.enqueue_all(0, &publish.entries, Some(&life), effects);
        }
        Ok(())
    }

    /// Whether what a letter became may be stored: its pipelines read what is still so, streams are where it expects
    /// them, and there is room. What would go nowhere at all is refused: a publish may, a letter is not lost.
    fn check_becoming(&self, publish: &Publish) -> Result<(), Refusal> {
        if !self.kv.are_current(publish.kv.as_deref()) {
            return Err(kv::stale());
        }
        let mut destinations = publish.entries.iter().flat_map(|entry| &entry.destinations);
        let is_there = |id| self.queues.contains_key(id) || self.streams.contains_key(id);
        if !publish.entries.is_empty() && !destinations.any(|to| is_there(&to.queue)) {
            return Err(Refusal::conflict("the queues to which it was on its way are gone"));
        }
        if let Some((_, unmet)) = self.unmet_expectation((0..).zip(&publish.entries)) {
            return Err(Refusal { code: unmet.code, reason: unmet.reason });
        }
        self.find_room(&publish.entries)
    }
}
