//! The deliveries of one consumer whose messages are traced: what is told of them and their settlements.
//!
//! A consumer none of whose messages is traced pays one comparison for each batch of deliveries and of settlements.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use wharf_protocol::{Delivery, MessageId, Name, Outcome, Settlement, Timestamp};
use wharf_shard::{Shard, ShardError};

use crate::trace::{Sequel, SequelKind, Tracing};

/// Deliveries of traced messages that one consumer may hold and whose settlements are told; more are not.
const HELD_MAX: usize = 4096;

/// Tells of one consumer's deliveries. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    tracing: Arc<Tracing>,
    /// The queue or stream.
    from: Name,
    held: Arc<Held>,
}

/// Deliveries that are not settled, by tag.
#[derive(Debug, Default)]
struct Held {
    count: AtomicUsize,
    tags: Mutex<BTreeMap<u64, Watched>>,
}

/// A delivery of a traced message.
#[derive(Clone, Copy, Debug)]
struct Watched {
    id: MessageId,
    offset: u64,
    attempt: u32,
}

/// Settlements that are told when it is known what they did.
#[derive(Debug, Default)]
pub(crate) struct Settling(Vec<(u64, Watched, Outcome)>);

impl Settling {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Watcher {
    pub(crate) fn new(tracing: &Arc<Tracing>, from: Name) -> Self {
        Self { tracing: Arc::clone(tracing), from, held: Arc::default() }
    }

    /// These go to the consumer; of a queue they are held until they are settled, or are settled already.
    pub(crate) fn delivered(&self, deliveries: &[Delivery], held: bool, settled: bool) {
        let followed = self.tracing.followed();
        if followed.is_idle() {
            return;
        }
        for delivery in deliveries.iter().filter(|delivery| followed.knows(delivery.id)) {
            let Delivery { tag, id, offset, attempt, .. } = *delivery;
            let watched = Watched { id, offset, attempt };
            self.tell(watched, SequelKind::Delivered, None);
            if settled {
                self.tell(
                    watched,
                    SequelKind::Acked,
                    Some("at most once: settled before its delivery".into()),
                );
            } else if held {
                self.hold(tag, watched);
            }
        }
    }

    /// Whether a settlement may be one to tell.
    pub(crate) fn holds_any(&self) -> bool {
        self.held.count.load(Relaxed) > 0
    }

    /// The traced ones among these, which are about to be settled.
    pub(crate) fn settling(&self, settlements: &[Settlement]) -> Settling {
        if !self.holds_any() {
            return Settling::default();
        }
        let mut tags = self.held.tags.lock().unwrap_or_else(PoisonError::into_inner);
        let mut settling = Vec::new();
        for Settlement { first, last, outcome } in settlements.iter().filter(|each| each.first <= each.last) {
            let inside: Vec<u64> = tags.range(first..=last).map(|(tag, _)| *tag).collect();
            settling.extend(
                inside.into_iter().filter_map(|tag| Some((tag, tags.remove(&tag)?, outcome.clone()))),
            );
        }
        self.held.count.store(tags.len(), Relaxed);
        Settling(settling)
    }

    /// Tells of settlements once their answer is there, and hands that on.
    pub(crate) fn settled(
        &self,
        settling: Settling,
        shard: &Shard,
        answer: oneshot::Receiver<Result<Vec<u64>, ShardError>>,
    ) -> oneshot::Receiver<Result<Vec<u64>, ShardError>> {
        let (tell, told) = oneshot::channel();
        let (watcher, shard) = (self.clone(), shard.clone());
        tokio::spawn(async move {
            // Without an answer nobody knows what became of them, and who asked is told so.
            let Ok(answer) = answer.await else { return };
            if let Ok(stale) = &answer {
                watcher.tell_settled(settling, stale, &shard).await;
            }
            // Whoever settled may have left.
            let _ = tell.send(answer);
        });
        told
    }

    /// Tells of settlements that are done, but for those that came too late.
    pub(crate) async fn tell_settled(&self, settling: Settling, stale: &[u64], shard: &Shard) {
        for (tag, watched, outcome) in settling.0 {
            let (kind, note) = match outcome {
                _ if stale.contains(&tag) => (SequelKind::Stale, None),
                Outcome::Ack => (SequelKind::Acked, None),
                Outcome::DeadLetter { reason } => (SequelKind::DeadLettered, Some(reason)),
                Outcome::Nack { .. } => (SequelKind::Nacked, None),
            };
            self.tell(watched, kind, note);
            if kind == SequelKind::Nacked && self.died(watched, shard).await {
                let reason = format!("its nack was one too many, at attempt {}", watched.attempt);
                self.tell(watched, SequelKind::DeadLettered, Some(reason));
            }
        }
    }

    /// Whether a nacked message is in its queue no longer, after as many attempts as its queue allows.
    async fn died(&self, watched: Watched, shard: &Shard) -> bool {
        let policy = shard.topology().queue(self.from.as_str()).map(|queue| queue.policy.max_attempts);
        if policy.is_none_or(|max| watched.attempt < max) {
            return false;
        }
        let (from, offset) = (self.from.clone(), watched.offset);
        let here = shard.query(move |state, _| {
            state.browse(from.as_str(), offset, 1).first().is_some_and(|there| there.offset == offset)
        });
        matches!(here.await, Ok(false))
    }

    fn hold(&self, tag: u64, watched: Watched) {
        let mut tags = self.held.tags.lock().unwrap_or_else(PoisonError::into_inner);
        if tags.len() < HELD_MAX {
            tags.insert(tag, watched);
        }
        self.held.count.store(tags.len(), Relaxed);
    }

    fn tell(&self, watched: Watched, kind: SequelKind, note: Option<String>) {
        let Watched { id: message, attempt, .. } = watched;
        let (queue, at) = (self.from.clone(), Timestamp::wall_clock());
        self.tracing.sequel(Sequel { message, queue, at, attempt, kind, note: None }.noted(note));
    }
}
