//! How messages go from one queue to another: dead letters on their way again, waiting ones where an operator
//! wants them.

use std::collections::BTreeSet;
use std::sync::Arc;

use wharf_protocol::{MessageId, Name};

use super::State;
use crate::backlog::Slot;
use crate::effect::Refusal;
use crate::lane::LaneId;
use crate::past::Past;
use crate::queue::{Extra, Fate};
use crate::{Effect, MOVED_MAX, Move, QueueId, Redrive, Selection};

impl State {
    /// Sends dead letters on their way again.
    pub(super) fn redrive(&mut self, redrive: &Redrive, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let not_found = |name: &Name| Refusal::not_found("queue", name);
        let topology = Arc::clone(&self.topology);
        let from = topology.queue(redrive.queue.as_str()).ok_or_else(|| not_found(&redrive.queue))?.id;
        let to = match &redrive.to {
            Some(name) => Some(topology.queue(name.as_str()).ok_or_else(|| not_found(name))?.id),
            None => None,
        };
        let dead = self.queues[&from].dead();
        let (offsets, limit): (Vec<u64>, usize) = match &redrive.select {
            Selection::Oldest(limit) => (dead.map(|(offset, _)| offset).collect(), *limit as usize),
            Selection::Offsets { from, to } => {
                let chosen = dead.filter(|(offset, _)| (*from..*to).contains(offset));
                (chosen.map(|(offset, _)| offset).collect(), usize::MAX)
            }
            Selection::At(offsets) => {
                drop(dead);
                let extras = &self.queues[&from].extras;
                let is_dead = |offset: &u64| extras.get(offset).is_some_and(|extra| extra.death.is_some());
                (offsets.iter().copied().filter(is_dead).collect(), usize::MAX)
            }
            Selection::Ids(ids) => {
                let ids: BTreeSet<&MessageId> = ids.iter().collect();
                let chosen = dead.filter(|(_, id)| ids.contains(id)).map(|(offset, _)| offset);
                (chosen.collect(), usize::MAX)
            }
        };

        let (mut moved, mut kept, mut found) = (0, 0, BTreeSet::new());
        for offset in offsets {
            if moved as usize == limit {
                break;
            }
            let queue = &self.queues[&from];
            let extra = queue.extras.get(&offset).expect("a dead letter has its death");
            let death = extra.death.as_deref().expect("a dead letter has its death");
            let redriven = extra.past.as_ref().map_or(0, |past| past.redriven);
            let original = topology.queue(&death.queue).map(|queue| queue.id);
            let id = queue.backlog.slot(offset).expect("a dead letter is not settled").id;
            found.insert(id);
            // One that died on its way into no queue at all has none to go back to.
            let target = to.or(original).filter(|target| *target != from);
            let target = target.filter(|_| redrive.redriven_max.is_none_or(|max| redriven < max));
            let Some(target) = target.filter(|target| self.can_go(from, offset, *target)) else {
                kept += 1;
                continue;
            };
            let queue = self.queues.get_mut(&from).expect("found above");
            let lane = queue.backlog.lane(offset);
            let (slot, extra) = queue.remove(offset, Fate::Redriven, &mut self.timers, &mut self.live);
            let Extra { attempts, priority, past, death, .. } = extra;
            let past = Some(Past::redriven(past, death));
            self.lay(target, slot, lane, Extra { attempts, priority, past, ..Extra::default() });
            moved += 1;
        }
        if let Selection::Ids(ids) = &redrive.select {
            kept += ids.iter().filter(|id| !found.contains(id)).count() as u64;
        }
        self.touched.push(from);
        effects.push(Effect::Redriven { moved, kept });
        Ok(())
    }

    /// Takes waiting messages to another queue.
    pub(super) fn move_messages(&mut self, order: &Move, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let find = |name: &Name| {
            let queue = self.topology.queue(name.as_str());
            queue.map(|queue| queue.id).ok_or_else(|| Refusal::not_found("queue", name))
        };
        let (from, to) = (find(&order.queue)?, find(&order.to)?);
        if from == to {
            return Err(Refusal::conflict(format!("queue {} is moved to itself", order.queue)));
        }
        let (source, target) = (&self.queues[&from].policy, &self.queues[&to].policy);
        let lanes_of = |policy: &crate::QueuePolicy| (policy.order, policy.fair_by.clone());
        if target.has_lanes() && lanes_of(source) != lanes_of(target) {
            let reason = format!(
                "queue {} sorts its messages by key or tenant, and queue {} has not noted those of its own",
                order.to, order.queue
            );
            return Err(Refusal::conflict(reason));
        }

        let (mut moved, mut kept, mut found) = (0, 0, BTreeSet::new());
        let limit = if let Selection::Oldest(limit) = order.select { u64::from(limit) } else { u64::MAX };
        for (offset, id) in self.selected(from, &order.select) {
            if moved == limit {
                break;
            }
            found.insert(id);
            let until = self.queues[&from].extras.get(&offset).and_then(|extra| extra.not_before);
            if !self.can_go(from, offset, to) {
                kept += 1;
                continue;
            }
            let queue = self.queues.get_mut(&from).expect("found above");
            let lane = queue.backlog.lane(offset);
            let (slot, extra) = queue.remove(offset, Fate::Moved, &mut self.timers, &mut self.live);
            self.lay(to, slot, lane, Extra { failures: 0, not_before: until, ..extra });
            moved += 1;
        }
        if let Selection::Ids(ids) = &order.select {
            kept += ids.iter().filter(|id| !found.contains(id)).count() as u64;
        }
        self.touched.push(from);
        effects.push(Effect::Moved { moved, kept });
        Ok(())
    }

    /// The first of the messages that are selected, in order.
    fn selected(&self, queue: QueueId, select: &Selection) -> Vec<(u64, MessageId)> {
        let backlog = &self.queues[&queue].backlog;
        let place = |(offset, slot): (u64, Slot)| (offset, slot.id);
        match select {
            Selection::Oldest(_) => backlog.unsettled().map(place).take(MOVED_MAX).collect(),
            Selection::Offsets { from, to } => {
                let selected = backlog.unsettled_from(*from).take_while(|(offset, _)| offset < to);
                selected.map(place).take(MOVED_MAX).collect()
            }
            Selection::At(offsets) => {
                let slots = offsets.iter().filter_map(|offset| Some((*offset, backlog.slot(*offset)?)));
                slots.map(place).take(MOVED_MAX).collect()
            }
            Selection::Ids(ids) => {
                let ids: BTreeSet<&MessageId> = ids.iter().collect();
                let selected = backlog.unsettled().filter(|(_, slot)| ids.contains(&slot.id));
                selected.map(place).take(MOVED_MAX).collect()
            }
        }
    }

    /// Takes a message out of its place, if another queue has room for it and no consumer holds it.
    fn can_go(&mut self, from: QueueId, offset: u64, to: QueueId) -> bool {
        let bytes = self.queues[&from].backlog.slot(offset).map_or(0, |slot| u64::from(slot.bytes));
        let room = self.queues[&to].has_room(1, bytes);
        let queue = self.queues.get_mut(&from).expect("the caller found it");
        room && queue.withdraw(offset, &mut self.timers)
    }

    /// Adds a message of an earlier or this record to a queue that is there. Its lane is that of the queue
    /// from which it comes, or the last with lanes that it was in: its body is not at hand to read it again.
    pub(super) fn lay(&mut self, queue: QueueId, slot: Slot, lane: LaneId, extra: Extra) {
        self.live.add(slot.id.index);
        let target = self.queues.get_mut(&queue).expect("the caller found it");
        let extra = Extra { laid_at: Some(self.now), ..extra };
        target.push(slot, lane, extra, self.now, &mut self.timers);
        self.touched.push(queue);
    }
}
