//! What becomes of a traced message after its publisher was told: the pipelines on its way out, deliveries, settlements.
//!
//! Only messages whose trace goes on ([`Followed`]) cost their deliveries anything. Which these are is known on the
//! shard's own thread before the first delivery of a message is on its way, so that none is missed; it is not known
//! any more after a restart.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use wharf_protocol::{MessageId, Name, Receipt, Timestamp, TransactionReceipt};
use wharf_shard::{Changed, Seen, ShardError};

use super::{Pass, Trace};

/// Messages whose traces go on at most; the oldest are followed no further.
const FOLLOWED_MAX: usize = 16_384;
/// Things that are told of one trace after its message was stored; then it is complete.
pub const SEQUELS_MAX: usize = 64;
/// Passes through pipelines on the way out that one trace tells.
const PASSES_OUT_MAX: usize = 16;
/// How much of a reason is kept.
const NOTE_BYTES_MAX: usize = 512;

/// One thing that became of a stored message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequel {
    /// Which of the messages that the traced one became.
    pub message: MessageId,
    /// The queue or stream.
    pub queue: Name,
    /// When.
    pub at: Timestamp,
    /// Which delivery it is, from 1.
    pub attempt: u32,
    /// What.
    pub kind: SequelKind,
    /// Why, where somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What became of a stored message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SequelKind {
    /// It was handed to a consumer.
    Delivered,
    /// A pipeline on the way out dropped it: it was acked by the broker, or a reader without a group passed over it.
    Filtered,
    /// Its consumer is done with it.
    Acked,
    /// Its consumer, or a pipeline on the way out, gave it back.
    Nacked,
    /// It was settled too late: its lease had ended.
    Stale,
    /// It is a dead letter.
    DeadLettered,
}

/// What is added to a trace that is kept.
#[derive(Clone, Debug)]
pub(crate) enum Later {
    Sequel(Sequel),
    /// A pipeline on the way out.
    Pass(Box<Pass>),
}

/// Stored messages whose traces go on.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    /// How many, for those who only want to know whether there are any.
    count: AtomicUsize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    left: HashMap<MessageId, Left>,
    /// The oldest first; some are not followed any more.
    order: VecDeque<MessageId>,
}

/// What is still expected of one message.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// Queues and streams in which it lies.
    landings: u16,
    /// Things that may still be told.
    sequels: usize,
}

impl Trace {
    /// Adds what became of its messages, up to the bounds.
    pub(crate) fn add(&mut self, later: Later) {
        let out = || self.passes.iter().filter(|pass| pass.on_way_from.is_some()).count();
        match later {
            Later::Sequel(sequel) if self.sequels.len() < SEQUELS_MAX => self.sequels.push(sequel),
            Later::Pass(pass) if out() < PASSES_OUT_MAX => self.passes.push(*pass),
            Later::Sequel(_) | Later::Pass(_) => self.sequels_left_out += 1,
        }
    }
}

impl SequelKind {
    /// Whether its queue is done with the message.
    fn ends(self) -> bool {
        matches!(self, Self::Filtered | Self::Acked | Self::DeadLettered)
    }
}

impl Sequel {
    pub(crate) fn noted(self, reason: Option<String>) -> Self {
        let cut = |mut text: String| {
            text.truncate(text.floor_char_boundary(NOTE_BYTES_MAX));
            text
        };
        Self { note: reason.map(cut), ..self }
    }
}

impl Followed {
    /// Follows a message that lies in so many queues and streams.
    pub(crate) fn follow(&self, id: MessageId, landings: u16) {
        let mut known = self.lock();
        known.left.insert(id, Left { landings, sequels: SEQUELS_MAX });
        known.order.push_back(id);
        while known.order.len() > FOLLOWED_MAX {
            if let Some(oldest) = known.order.pop_front() {
                known.left.remove(&oldest);
            }
        }
        self.count.store(known.left.len(), Relaxed);
    }

    /// Follows the messages of these records, each with the landings of its messages, as soon as they have their ids.
    pub(crate) fn of_records(
        self: &Arc<Self>,
        records: Vec<(usize, Vec<u16>)>,
    ) -> Option<Seen<Vec<Receipt>>> {
        if records.is_empty() {
            return None;
        }
        let followed = Arc::clone(self);
        Some(Box::new(move |receipts| {
            for (record, landings) in records {
                if let Some(Receipt::Stored(stored)) = receipts.get(record) {
                    followed.follow_all(stored.ids(), landings);
                }
            }
        }))
    }

    /// Follows the messages that a dead letter becomes, with the landings of each.
    pub(crate) fn of_letter(self: &Arc<Self>, landings: Vec<u16>) -> Seen<Result<Changed, ShardError>> {
        let followed = Arc::clone(self);
        Box::new(move |answer| {
            if let Ok(Changed { became: Some(stored), .. }) = answer {
                followed.follow_all(stored.ids(), landings);
            }
        })
    }

    /// Follows the messages of these publications of a transaction, each with the entry at which they begin and the
    /// landings of each.
    pub(crate) fn of_transaction(
        self: &Arc<Self>,
        publications: Vec<(u16, Vec<u16>)>,
    ) -> Option<Seen<Result<TransactionReceipt, ShardError>>> {
        if publications.is_empty() {
            return None;
        }
        let followed = Arc::clone(self);
        Some(Box::new(move |answer| {
            let Ok(TransactionReceipt::Committed(committed)) = answer else { return };
            for (first, landings) in publications {
                followed.follow_all(committed.stored.ids().skip(first.into()), landings);
            }
        }))
    }

    /// Follows messages, each with its landings.
    fn follow_all(&self, ids: impl Iterator<Item = MessageId>, landings: Vec<u16>) {
        ids.zip(landings).for_each(|(id, landings)| self.follow(id, landings));
    }

    /// Whether nothing is followed: then there is nothing to look up.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.count.load(Relaxed) == 0
    }

    pub(crate) fn knows(&self, id: MessageId) -> bool {
        self.lock().left.contains_key(&id)
    }

    /// Whether this may still be told of a message. One that every queue is done with, or of which enough was told, is
    /// followed no further.
    pub(crate) fn tells(&self, id: MessageId, kind: SequelKind) -> bool {
        let mut known = self.lock();
        let Some(left) = known.left.get_mut(&id) else { return false };
        left.sequels -= 1;
        left.landings = left.landings.saturating_sub(u16::from(kind.ends()));
        if left.sequels == 0 || left.landings == 0 {
            known.left.remove(&id);
            self.count.store(known.left.len(), Relaxed);
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64) -> MessageId {
        MessageId { index, entry: 0 }
    }

    #[test]
    fn a_message_is_followed_until_every_queue_is_done_with_it() {
        let followed = Followed::default();
        assert!(followed.is_idle());
        followed.follow(id(1), 2);
        let told = [SequelKind::Delivered, SequelKind::Nacked, SequelKind::Acked, SequelKind::Stale];
        assert!(told.into_iter().all(|kind| followed.tells(id(1), kind)));
        assert!(followed.knows(id(1)) && !followed.is_idle(), "the other queue has it");
        assert!(followed.tells(id(1), SequelKind::DeadLettered));
        assert!(!followed.knows(id(1)) && followed.is_idle());
        assert!(!followed.tells(id(1), SequelKind::Acked));
    }

    #[test]
    fn no_more_is_told_of_one_message_than_the_bound() {
        let followed = Followed::default();
        followed.follow(id(1), 1);
        let told = (0..2 * SEQUELS_MAX).filter(|_| followed.tells(id(1), SequelKind::Delivered)).count();
        assert_eq!(told, SEQUELS_MAX);
        assert!(followed.is_idle());
    }

    #[test]
    fn the_oldest_are_followed_no_further_when_there_are_too_many() {
        let followed = Followed::default();
        let many = FOLLOWED_MAX as u64 + 10;
        (0..many).for_each(|n| followed.follow(id(n), 1));
        assert!((0..10).all(|n| !followed.knows(id(n))));
        assert!((10..many).all(|n| followed.knows(id(n))));
        assert_eq!(followed.count.load(Relaxed), FOLLOWED_MAX);
    }
}
