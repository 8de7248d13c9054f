//! The state: all queues, consumers, topology and memory of duplicates, as of one record.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_protocol::{Death, DeathCause, Name, ProducerId, Receipt, Rejection, Session, Timestamp};

use self::death::GivenUp;
use crate::consumer::Consumer;
use crate::effect::Refusal;
use crate::live::LiveRecords;
use crate::message_ids::MessageIds;
use crate::producers::{Producers, Seen};
use crate::purse::Purse;
use crate::queue::{Fate, Queue};
use crate::seeded::{self, Fault};
use crate::stream::Stream;
use crate::timers::{Timer, Timers};
use crate::{
    Browsed, ConsumerId, DeadLetter, Effect, Kv, QueueId, QueueView, Record, Stamped, Topology, Waiting,
};

mod change;
mod death;
mod edit;
mod enqueue;
mod expectation;
mod group;
mod kv;
mod lease;
mod line;
mod owner;
mod resolve;
mod room;
mod stream;
mod transaction;
mod transfer;

pub use expectation::{EXPECT_KEY_OFFSET, EXPECT_LAST_OFFSET};
pub use stream::StreamPlaces;

/// All delivery state of one shard, as of one record.
#[derive(Debug, Default)]
pub struct State {
    /// The index of the last record.
    pub(crate) applied: u64,
    /// The stamp of the last record.
    pub(crate) now: Timestamp,
    pub(crate) topology: Arc<Topology>,
    pub(crate) queues: BTreeMap<QueueId, Queue>,
    pub(crate) consumers: BTreeMap<ConsumerId, Consumer>,
    pub(crate) producers: Producers,
    pub(crate) message_ids: MessageIds,
    /// Follows from the rest.
    pub(crate) timers: Timers,
    /// Follows from the rest.
    pub(crate) live: LiveRecords,
    /// How many queues have limits; follows from the rest.
    pub(crate) limited: usize,
    /// Queues where this record may have met a waiting consumer with a message; empty between records.
    pub(crate) touched: Vec<QueueId>,
    /// What pipelines remember.
    pub(crate) kv: Kv,
    pub(crate) streams: BTreeMap<QueueId, Stream>,
    /// What owners with a bound hold; follows from the rest.
    pub(crate) purses: BTreeMap<String, Purse>,
    /// The stream and group of each member; follows from the streams.
    pub(crate) members: BTreeMap<ConsumerId, (QueueId, Name)>,
    /// Partitions that this record appended to; empty between records.
    pub(crate) appended: Vec<(QueueId, u16)>,
}

impl State {
    /// Folds record `index` into the state and appends what is to be done about it to `effects`.
    ///
    /// What is due by the record's stamp happens first, then what the record says, then deliveries: so a
    /// lease that lapses at a record's stamp is over for the settlements in it, and the effects of time
    /// ([`Effect::TopologyChanged`], when a dead-letter queue is made) come before the record's answer.
    ///
    /// # Panics
    /// If the index does not rise or the stamp goes back: the log guarantees both.
    pub fn apply(&mut self, index: u64, stamped: &Stamped, effects: &mut Vec<Effect>) {
        assert!(index > self.applied, "record {index} comes after record {}", self.applied);
        assert!(stamped.at >= self.now, "record {index} is stamped before the one before it");
        let before = self.now;
        (self.applied, self.now) = (index, stamped.at);

        self.pass_time(if seeded::is(Fault::ExpiryByRecordBefore) { before } else { stamped.at }, effects);
        let done = match &stamped.record {
            Record::Publish(publish) => {
                self.publish(publish, effects);
                Ok(())
            }
            Record::Settle { consumer, settlements } => {
                self.settle(*consumer, settlements, effects);
                Ok(())
            }
            Record::Attach(attach) => self.attach(attach),
            Record::Credit { consumer, add, bytes } => self.credit(*consumer, *add, *bytes),
            Record::Detach { consumer } => self.detach(*consumer, effects),
            Record::Tick => Ok(()),
            Record::Restart => {
                self.restart(effects);
                Ok(())
            }
            Record::Topology(change) => self.change(change, effects),
            Record::Redrive(redrive) => self.redrive(redrive, effects),
            Record::JoinGroup(join) => self.join_group(join, effects),
            Record::LeaveGroup { member } => self.leave_group(*member, effects),
            Record::Commit(commit) => {
                self.apply_commit(commit, effects);
                Ok(())
            }
            Record::ResetGroup(reset) => self.reset_group(reset, effects),
            Record::DeleteGroup { stream, group } => self.delete_group(stream, group, effects),
            Record::Renew { consumer, tags } => {
                self.renew(*consumer, tags, effects);
                Ok(())
            }
            Record::Move(order) => self.move_messages(order, effects),
            Record::Refuse { consumer, refused } => {
                self.refuse(*consumer, refused, effects);
                Ok(())
            }
            Record::Transaction(transaction) => {
                self.transact(transaction, effects);
                Ok(())
            }
            Record::ClaimProducer(producer) => self.claim(*producer, effects),
            Record::ChangeKv(changes) => self.change_kv(changes),
            Record::Edit(edit) => self.edit(edit, effects),
            Record::Resolve(resolve) => self.resolve(resolve, effects),
        };
        if let Err(refusal) = done {
            effects.push(Effect::Refused(refusal));
        }
        self.deliver(effects);
        self.tell_appended(effects);
    }

    /// The index of the last record; 0 before any.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The stamp of the last record: the next one is stamped with no less.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// What is declared. Cheap to clone and keep.
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// The highest sequence that a producer has stored, and the epoch of its present life.
    pub fn producer(&self, producer: ProducerId) -> Option<(u32, u64)> {
        self.producers.known.get(&producer).map(|known| (known.epoch, known.last))
    }

    /// What a resend under `session` is told, when its sequence was passed: a duplicate, or refused as it was.
    pub fn told_before(&self, session: &Session) -> Option<Receipt> {
        match self.producers.check(session) {
            Ok(Seen::New) => None,
            Ok(Seen::Before(place)) => Some(Receipt::Duplicate(place)),
            Err(Refusal { code, reason }) => {
                let (stage, retry_after_ms) = (None, None);
                Some(Receipt::Rejected(Rejection { code, stage, reason, retry_after_ms }))
            }
        }
    }

    /// How many message ids are remembered.
    pub fn message_ids(&self) -> u64 {
        self.message_ids.iter().len() as u64
    }

    /// A lower bound of the records that messages in queues refer to, at most 4,095 too low: no record below
    /// is read again. The index after the last record when there is none.
    pub fn oldest_live_index(&self) -> u64 {
        self.live.oldest().unwrap_or(self.applied + 1)
    }

    /// The records of `range` that messages in queues and streams refer to, rising; it takes as long as looking at
    /// each message. No other record of it is read again.
    pub fn live_records(&self, range: std::ops::Range<u64>) -> Vec<u64> {
        let queues = self.queues.values().flat_map(|queue| queue.backlog.unsettled_in(&range));
        let ids = queues.chain(self.streams.values().flat_map(|stream| stream.of_records(&range)));
        let mut indexes: Vec<u64> = ids.map(|id| id.index).filter(|index| range.contains(index)).collect();
        indexes.sort_unstable();
        indexes.dedup();
        indexes
    }

    /// When time next changes something: a record stamped then or later does it, a [`Record::Tick`] if no
    /// other comes. Sometimes early, never late.
    pub fn next_timer(&self) -> Option<Timestamp> {
        self.timers.next().into_iter().chain(self.kv.next_expiry()).min()
    }

    /// What pipelines remember, as of the last record, also of those to come.
    pub fn kv(&self) -> &Kv {
        &self.kv
    }

    /// One queue in numbers.
    pub fn queue(&self, name: &str) -> Option<QueueView> {
        Some(self.queue_named(name)?.view())
    }

    /// All queues in numbers, by number.
    pub fn queues(&self) -> impl ExactSizeIterator<Item = QueueView> {
        self.queues.values().map(Queue::view)
    }

    /// The highest sequence that a producer has stored, in its newest epoch; `None`: it is not known here.
    pub fn last_sequence(&self, producer: ProducerId) -> Option<u64> {
        self.producers.known.get(&producer).map(|known| known.last)
    }

    /// At most `max` ready messages of a queue, in the order in which they would be delivered.
    pub fn peek(&self, queue: &str, max: usize) -> Vec<Waiting> {
        self.queue_named(queue).map(|queue| queue.peek(max)).unwrap_or_default()
    }

    /// At most `max` messages of a queue that are not settled, in order, from offset `from` on: without taking
    /// them, whatever they wait for.
    pub fn browse(&self, queue: &str, from: u64, max: usize) -> Vec<Browsed> {
        let queue = self.queue_named(queue);
        queue.map(|queue| queue.browse(from).take(max).collect()).unwrap_or_default()
    }

    /// At most `max` dead letters of a queue, in order, from offset `from` on.
    pub fn dead_letters(&self, queue: &str, from: u64, max: usize) -> Vec<DeadLetter> {
        let queue = self.queue_named(queue);
        queue.map(|queue| queue.dead_letters(from).take(max).collect()).unwrap_or_default()
    }

    /// The dead letters of a queue that are `wanted`, in order, from offset `from` on: at most `max`, of the first
    /// `looked_max`; and where to go on, when that was not all.
    pub fn find_dead_letters(
        &self,
        queue: &str,
        from: u64,
        looked_max: usize,
        max: usize,
        wanted: impl Fn(&Death) -> bool,
    ) -> (Vec<DeadLetter>, Option<u64>) {
        let queue = self.queue_named(queue);
        queue.map(|queue| queue.find_dead_letters(from, looked_max, max, wanted)).unwrap_or_default()
    }

    /// Checks what has to hold the long way: for tests, and for whoever doubts a state.
    ///
    /// # Panics
    /// If it does not hold.
    pub fn verify(&self) {
        for (id, queue) in &self.queues {
            let mine = self.consumers.values().filter(|consumer| consumer.queue == *id);
            let held: Vec<u64> = mine.clone().flat_map(Consumer::held).collect();
            assert!(queue.is_conserved_exactly(&held), "queue {}: every message is somewhere", queue.name);
            assert_eq!(mine.count() as u64, queue.consumers, "queue {}: consumers", queue.name);
            let info = self.topology.queue(queue.name.as_str()).expect("every queue is declared");
            assert_eq!((info.id, &info.policy), (*id, &queue.policy), "queue {}: as declared", queue.name);
            let single = queue.active.is_some() == (queue.policy.single_active && queue.consumers > 0);
            assert!(single, "queue {}: one consumer is active, or none is chosen", queue.name);
        }
        assert_eq!(self.queues.len(), self.topology.queues().len(), "every declared queue is there");
        let limited = self.queues.values().filter(|queue| queue.policy.is_limited()).count();
        assert_eq!(self.limited, limited, "queues with limits are counted");
        self.verify_streams();
        assert!(self.next_timer().is_none_or(|at| at > self.now), "nothing due is left undone");
        let oldest =
            self.queues.values().flat_map(|queue| queue.backlog.unsettled().map(|(_, s)| s.id.index));
        let oldest = oldest.chain(self.streams.values().flat_map(Stream::oldest_index));
        assert!(
            self.oldest_live_index() <= oldest.min().unwrap_or(self.applied + 1),
            "no needed record goes"
        );
    }

    pub(crate) fn queue_named(&self, name: &str) -> Option<&Queue> {
        self.queues.get(&self.topology.queue(name)?.id)
    }

    /// Does what is due by `now`.
    fn pass_time(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.kv.pass_time(now);
        self.message_ids.sweep(self.now, self.topology.deduplication());
        self.producers.sweep(self.now, |producer| self.topology.is_scheduled(producer));
        while let Some((at, timer)) = self.timers.fire(now) {
            match timer {
                Timer::Ready(id, offset) => {
                    let queue = self.queues.get_mut(&id).expect("a queue's timers go with it");
                    if queue.withdraw(offset, &mut self.timers) {
                        self.touched.push(id);
                        // One that could not be buried when it ran out comes round again.
                        match queue.is_expired(offset, at) {
                            true => self.expire(id, offset, effects),
                            false => queue.ready(offset, self.now),
                        }
                    }
                }
                Timer::Expire(id, offset) => {
                    let queue = self.queues.get_mut(&id).expect("a queue's timers go with it");
                    // One that a consumer holds may still be acked; it expires when it comes back.
                    if queue.withdraw(offset, &mut self.timers) {
                        self.touched.push(id);
                        self.expire(id, offset, effects);
                    }
                }
                Timer::Oldest(id) => {
                    self.queues.get_mut(&id).expect("a queue's timers go with it").oldest_armed = None;
                    self.expire_outlived(id, at, effects);
                }
                Timer::Lease(consumer) => self.lapse(consumer, effects),
                Timer::Retain(stream, partition) => self.retain(stream, partition),
                Timer::Unused(id) => self.delete_queue(id, effects),
            }
        }
    }

    /// Ends the messages without a timer of their own that have outlived their queue's time by a moment.
    fn expire_outlived(&mut self, id: QueueId, by: Timestamp, effects: &mut Vec<Effect>) {
        let next = |state: &mut Self| {
            let queue = state.queues.get_mut(&id).expect("a queue's timers go with it");
            queue.next_outlived(by, &mut state.timers)
        };
        while let Some(offset) = next(self) {
            self.touched.push(id);
            self.expire(id, offset, effects);
        }
    }

    /// Ends a message that is nowhere because its time to live ran out.
    fn expire(&mut self, id: QueueId, offset: u64, effects: &mut Vec<Effect>) {
        let queue = self.queues.get_mut(&id).expect("the caller found it");
        let dead = queue.extras.get(&offset).is_some_and(|extra| extra.death.is_some());
        if queue.policy.dead_letter_expired && !dead {
            self.dead_letter(
                id,
                offset,
                GivenUp::new(DeathCause::Expired, "its time to live ran out"),
                effects,
            );
        } else {
            queue.remove(offset, Fate::Expired, &mut self.timers, &mut self.live);
        }
    }
}
