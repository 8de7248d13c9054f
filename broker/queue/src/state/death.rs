//! How messages are given up: to the dead-letter queue of theirs, in the same record, once.

use std::sync::Arc;
use std::time::Duration;

use wharf_protocol::{Death, DeathCause, Message, MessageId, Name};

use super::State;
use super::enqueue::{Life, bytes_of};
use crate::backlog::Slot;
use crate::effect::Refusal;
use crate::lane::LaneId;
use crate::queue::{Extra, Fate, Queue};
use crate::seeded::{self, Fault};
use crate::{DEAD_LETTERS, Destination, Effect, QueueId};

/// The longest text kept of a death; what is over it is cut off. Dead letters are kept in memory.
const DEATH_TEXT_BYTES_MAX: usize = 1_024;
/// The shortest rest of a message that is given up and has nowhere to go: it must not spin.
const GIVEN_UP_REST_MIN: Duration = Duration::from_millis(1);

/// Why a message is given up.
pub(super) struct GivenUp {
    pub(super) cause: DeathCause,
    pub(super) reason: String,
    /// The stage, when one gave it up, and its plugin.
    pub(super) stage: Option<String>,
    pub(super) plugin: Option<String>,
}

impl GivenUp {
    pub(super) fn new(cause: DeathCause, reason: impl Into<String>) -> Self {
        Self { cause, reason: reason.into(), stage: None, plugin: None }
    }
}

impl State {
    /// Lays a message that a pipeline stage gave up where the queue it was on its way to has its dead letters, with what
    /// it brings from an earlier life.
    pub(super) fn enqueue_dead(
        &mut self,
        id: MessageId,
        destination: &Destination,
        death: &Death,
        message: &Message,
        life: Option<&Life>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(name) = self.backlog_name(destination.queue) else { return };
        let (name, now) = (name.to_string(), self.now);
        let queue = self.queues.get(&destination.queue);
        let meant = queue.map_or(LaneId::NONE, |queue| LaneId::of(message, &queue.policy));
        let death =
            Death { queue: name, attempts: 0, first_at: now, last_at: now, original: id, ..death.clone() };
        let target = self.dead_letter_queue(destination.queue, effects);
        let Life { attempts, past } = life.cloned().unwrap_or_default();
        let (priority, death) = (message.priority, Some(Box::new(death)));
        let extra = Extra { attempts, priority, death, past, ..Extra::default() };
        let target_policy = &self.queues[&target].policy;
        let lane = if target_policy.has_lanes() { LaneId::of(message, target_policy) } else { meant };
        self.lay(target, Slot { id, stored_at: now, bytes: bytes_of(message) }, lane, extra);
    }

    /// The dead letter with this id at that place: the queue's number, its slot, and its death.
    pub(super) fn letter(
        &self,
        queue: &Name,
        offset: u64,
        id: &MessageId,
    ) -> Result<(QueueId, Slot, &Death), Refusal> {
        let known = self.topology.queue(queue.as_str()).ok_or_else(|| Refusal::not_found("queue", queue))?;
        let queue = &self.queues[&known.id];
        let slot = queue.backlog.slot(offset).filter(|slot| slot.id == *id);
        let death = queue.extras.get(&offset).and_then(|extra| extra.death.as_deref());
        match (slot, death) {
            (Some(slot), Some(death)) => Ok((known.id, slot, death)),
            _ => Err(Refusal::not_found("dead letter", id)),
        }
    }

    /// Gives up a message that is nowhere: it goes to its queue's dead-letter queue. One that is dead already,
    /// or lies in the very queue it would go to, stays, and rests for the longest retry delay: so no
    /// dead letter goes in circles. One whose dead-letter queue is full stays and rests as well, alive: it is
    /// given up again when that is over and it has failed, or is still expired.
    pub(super) fn dead_letter(
        &mut self,
        from: QueueId,
        offset: u64,
        given_up: GivenUp,
        effects: &mut Vec<Effect>,
    ) {
        let room = self.has_room_for_dead(from, offset);
        let queue = self.queues.get_mut(&from).expect("the caller found it");
        let slot = queue.backlog.slot(offset).expect("a message that is given up is not settled");
        let known = queue.extras.get(&offset).cloned().unwrap_or_default();
        let death = known.death.unwrap_or_else(|| {
            Box::new(Death {
                queue: queue.name.to_string(),
                cause: given_up.cause,
                reason: bounded(&given_up.reason),
                stage: given_up.stage.as_deref().map(bounded),
                plugin: given_up.plugin.as_deref().map(bounded),
                attempts: known.attempts,
                first_at: slot.stored_at,
                last_at: self.now,
                original: slot.id,
            })
        });
        let was_dead = queue.extras.get(&offset).is_some_and(|extra| extra.death.is_some());
        let stays = was_dead || queue.dead_letters_to() == queue.name;
        if stays || !room {
            if stays {
                queue.die_here(offset, death, self.now, &mut self.timers);
            }
            let rest = Duration::from_millis(queue.policy.retry_max_ms).max(GIVEN_UP_REST_MIN);
            queue.delay(offset, self.now.after(rest), self.now, &mut self.timers);
            return;
        }
        let lane = queue.backlog.lane(offset);
        let (slot, extra) = queue.remove(offset, Fate::DeadLettered, &mut self.timers, &mut self.live);
        let target = self.dead_letter_queue(from, effects);
        let Extra { attempts, priority, past, .. } = extra;
        let extra = Extra { attempts, priority, death: Some(death), past, ..Extra::default() };
        if seeded::is(Fault::DeadLetterTwice) {
            self.lay(target, slot, lane, extra.clone());
        }
        self.lay(target, slot, lane, extra);
        self.make_room_in(target, effects);
    }

    /// The queue where `queue`, or a stream, has its dead letters, made when there is none.
    pub(super) fn dead_letter_queue(&mut self, queue: QueueId, effects: &mut Vec<Effect>) -> QueueId {
        let name = self.dead_letters_to(queue);
        if let Some(known) = self.topology.queue(name.as_str()) {
            return known.id;
        }
        let id = Arc::make_mut(&mut self.topology).dead_letter_queue(self.applied, &name);
        let policy = self.topology.queue(name.as_str()).expect("just made").policy.clone();
        self.open_queue(id, name, policy);
        effects.push(Effect::TopologyChanged);
        id
    }

    /// The queue where `backlog`, a queue or stream, has its dead letters, if both are there.
    pub(super) fn grave_of(&self, backlog: QueueId) -> Option<&Queue> {
        let known = self.queues.contains_key(&backlog) || self.streams.contains_key(&backlog);
        known.then(|| self.queue_named(self.dead_letters_to(backlog).as_str()))?
    }

    /// The name of the queue where `backlog`, a queue or stream that is there, has its dead letters.
    fn dead_letters_to(&self, backlog: QueueId) -> Name {
        match self.queues.get(&backlog) {
            Some(queue) => queue.dead_letters_to(),
            None => name_or_default(&self.streams[&backlog].policy.dead_letter),
        }
    }

    /// The name of a queue or stream.
    fn backlog_name(&self, backlog: QueueId) -> Option<&Name> {
        let queue = self.queues.get(&backlog).map(|queue| &queue.name);
        queue.or_else(|| self.streams.get(&backlog).map(|stream| &stream.name))
    }
}

impl Queue {
    /// The name of the queue where this one has its dead letters.
    pub(super) fn dead_letters_to(&self) -> Name {
        name_or_default(&self.policy.dead_letter)
    }
}

/// Where the dead letters go of a policy that says `named`.
fn name_or_default(named: &Option<Name>) -> Name {
    let default = || DEAD_LETTERS.parse().expect("the constant is a name");
    named.clone().unwrap_or_else(default)
}

/// A text as far as it is kept.
pub(super) fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(DEATH_TEXT_BYTES_MAX)].to_owned()
}
