//! How a dead letter is mended: another message takes its place, in one record.

use wharf_protocol::MessageId;

use super::State;
use super::enqueue::bytes_of;
use crate::backlog::Slot;
use crate::effect::Refusal;
use crate::lane::LaneId;
use crate::past::Past;
use crate::queue::{Extra, Fate};
use crate::{Edit, Effect};

impl State {
    /// Puts the record's own message where a dead letter lies. Its death, its attempts and its past stay with it;
    /// it has a new id and lies behind the others. Once: the old letter is not there any more.
    pub(super) fn edit(&mut self, edit: &Edit, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let (from, slot, death) = self.letter(&edit.queue, edit.offset, &edit.id)?;
        let queue = &self.queues[&from];
        let bytes = bytes_of(&edit.message);
        if !queue.has_room(0, u64::from(bytes.saturating_sub(slot.bytes))) {
            return Err(Refusal::conflict(format!(
                "queue {} has no room for {bytes} bytes in its place",
                edit.queue
            )));
        }
        // As when it died on its way: the lane is that of the queue it goes back to, or of this one.
        let origin = self.topology.queue(&death.queue).map(|origin| &self.queues[&origin.id]);
        let lane = match queue.policy.has_lanes() {
            true => LaneId::of(&edit.message, &queue.policy),
            false => origin.map_or(LaneId::NONE, |origin| LaneId::of(&edit.message, &origin.policy)),
        };

        let queue = self.queues.get_mut(&from).expect("found above");
        if !queue.withdraw(edit.offset, &mut self.timers) {
            return Err(Refusal::conflict(format!("a consumer holds dead letter {}", edit.id)));
        }
        let (slot, extra) = queue.remove(edit.offset, Fate::Moved, &mut self.timers, &mut self.live);
        let id = MessageId { index: self.applied, entry: 0 };
        let extra = Extra {
            attempts: extra.attempts,
            priority: edit.message.priority,
            death: extra.death,
            past: Some(Past::edited(extra.past)),
            ..Extra::default()
        };
        self.lay(from, Slot { id, bytes, ..slot }, lane, extra);
        effects.push(Effect::Edited { id });
        Ok(())
    }
}
