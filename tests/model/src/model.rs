//! The state machine said again, plainly: lists, searched from end to end at every step.
//!
//! It knows every message that ever came to a queue, by offset, and looks at all of them to find what is due, who is
//! next and what is full. Nothing is kept for speed, so nothing can be out of step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wharf_protocol::{Death, ErrorCode, MessageId, Name, Pattern, Stored, Timestamp};
use wharf_queue::{ConsumerId, Deduplication, Effect, QueuePolicy, Record, Refusal, Schedule, Stamped};

mod change;
mod consumer;
mod death;
mod group;
mod publish;
mod stream;
mod topology;
mod transaction;
mod turn;

pub(crate) use group::Cursor;
pub(crate) use stream::Partition;
pub use stream::Stream;
pub(crate) use turn::Tenant;

/// The reference.
#[derive(Default)]
pub struct Model {
    index: u64,
    now: Timestamp,
    next_queue: u32,
    /// By number.
    pub queues: BTreeMap<u32, Queue>,
    consumers: BTreeMap<u64, Consumer>,
    producers: BTreeMap<u128, (u32, BTreeMap<u64, Stored>)>,
    /// Message ids, as they came.
    ids: Vec<(Timestamp, u128, Stored)>,
    pub(crate) deduplication: Deduplication,
    /// By number.
    pub streams: BTreeMap<u32, Stream>,
    /// The stream and group of each member.
    members: BTreeMap<u64, (u32, Name)>,
    /// Partitions that this record appended to.
    appended: BTreeSet<(u32, usize)>,
    pub(crate) bindings: BTreeSet<(Pattern, Name)>,
    pub(crate) schedules: BTreeMap<Name, Schedule>,
    effects: Vec<Effect>,
}

/// A queue: all that ever came to it.
pub struct Queue {
    /// Its name.
    pub name: String,
    pub(crate) policy: QueuePolicy,
    /// Since when it has this policy.
    policy_at: Timestamp,
    /// Every message that ever came, by offset.
    pub messages: Vec<Message>,
    /// Consumers that can take more, in turn.
    line: Vec<u64>,
    active: Option<u64>,
    unused_since: Option<Timestamp>,
    tenants: BTreeMap<u32, Tenant>,
    /// The period in which all tenants' loads were brought up to date last.
    period: u64,
    pub(crate) dropped: u64,
    pub(crate) moved: u64,
}

/// A message in one queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub(crate) id: MessageId,
    pub(crate) stored_at: Timestamp,
    /// When it came to this queue.
    came_at: Timestamp,
    pub(crate) bytes: u32,
    /// The hash of its key or tenant; 0 without.
    lane: u32,
    pub(crate) attempts: u32,
    pub(crate) failures: u32,
    /// 0 to 31.
    pub priority: u8,
    /// Its own end, whatever the queue's.
    expires: Option<Timestamp>,
    pub(crate) death: Option<Box<Death>>,
    /// How often it was redriven.
    pub(crate) redriven: u32,
    /// Its earlier deaths, as many as are remembered.
    pub(crate) deaths: Vec<Death>,
    /// Where it is.
    pub place: Place,
    /// It came as a plain message and has not come back since: of those that run out in one moment, such go last.
    plain: bool,
    /// It has run out, and rests where it could not be buried.
    overdue: bool,
}

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// It waits for a consumer.
    Ready,
    /// A consumer holds it.
    Leased,
    /// It waits for its time.
    Delayed(Timestamp),
    /// It is settled.
    Gone,
}

struct Consumer {
    queue: u32,
    attached_by: u64,
    credit: u64,
    bytes: Option<i64>,
    auto_settle: bool,
    notify_empty: bool,
    told: bool,
    next_tag: u64,
    /// Tag, offset, deadline.
    held: Vec<(u64, usize, Timestamp)>,
    /// When its leases are looked at next: it decides which of two consumers gives back first.
    look: Option<Timestamp>,
}

impl Model {
    /// Folds a record: what is to be done about it, without sentences for people.
    pub fn apply(&mut self, index: u64, stamped: &Stamped) -> Vec<Effect> {
        (self.index, self.now) = (index, stamped.at);
        self.forget_ids();
        self.pass_time();
        self.retain();
        match &stamped.record {
            Record::Publish(publish) => self.publish(publish),
            Record::Settle { consumer, settlements } => self.settle(consumer.0, settlements),
            Record::Attach(attach) => self.attach(attach),
            Record::Credit { consumer, add, bytes } => self.credit(consumer.0, *add, *bytes),
            Record::Detach { consumer } => match self.consumers.get(&consumer.0).map(|known| known.queue) {
                Some(queue) => {
                    self.leave(consumer.0);
                    if self.queues[&queue].policy.exclusive {
                        self.delete(queue);
                    }
                }
                None => self.refuse(ErrorCode::NotFound),
            },
            Record::Tick => {}
            Record::Restart => self.restart(),
            Record::Topology(change) => self.change(change),
            Record::Redrive(redrive) => self.redrive(redrive),
            Record::Renew { consumer, tags } => self.renew(consumer.0, tags),
            Record::Move(order) => self.relocate(order),
            Record::Transaction(transaction) => self.transact(transaction),
            Record::ClaimProducer(producer) => self.claim(producer.0),
            Record::JoinGroup(join) => self.join_group(join),
            Record::LeaveGroup { member } => self.leave_group(member.0),
            Record::Commit(commit) => self.commit(commit),
            Record::ResetGroup(reset) => self.reset_group(reset),
            Record::Resolve(resolve) => self.resolve_letter(resolve),
            Record::DeleteGroup { stream, group } => self.delete_group(stream, group),
            // What pipelines remember is tested where they are.
            other => panic!("the model knows no {other:?}"),
        }
        for queue in self.queues.keys().copied().collect::<Vec<_>>() {
            self.deliver(queue);
        }
        self.tell_appended();
        std::mem::take(&mut self.effects)
    }

    fn pass_time(&mut self) {
        while let Some(due) = self.next_due() {
            self.fall_due(due);
        }
    }

    /// What is due, earliest first: when, then 0 ready 1 expired 2 expired and plain 3 leases 4 unused, then queue,
    /// then offset or consumer.
    fn next_due(&self) -> Option<(Timestamp, u8, u64, u64)> {
        let mut due = Vec::new();
        for (id, queue) in &self.queues {
            let id = u64::from(*id);
            for (offset, message) in (0..).zip(&queue.messages) {
                if let Place::Delayed(until) = message.place {
                    due.push((until, 0, id, offset));
                }
                let waits = matches!(message.place, Place::Ready | Place::Delayed(_)) && !message.overdue;
                if let Some(at) = queue.expiry(message).filter(|_| waits) {
                    let kind = if message.plain { 2 } else { 1 };
                    due.push((at.max(queue.policy_at), kind, id, offset));
                }
            }
            if let Some(since) = queue.unused_since.filter(|_| queue.policy.expires_ms > 0) {
                due.push((since.after(Duration::from_millis(queue.policy.expires_ms)), 4, id, 0));
            }
        }
        due.extend(self.consumers.iter().filter_map(|(id, consumer)| Some((consumer.look?, 3, *id, 0))));
        due.into_iter().filter(|(at, ..)| *at <= self.now).min()
    }

    fn fall_due(&mut self, (at, kind, number, offset): (Timestamp, u8, u64, u64)) {
        let (queue, offset) = (number as u32, offset as usize);
        match kind {
            0 => {
                let known = &self.queues[&queue];
                match known.expiry(&known.messages[offset]).is_some_and(|end| end <= at) {
                    true => self.expire(queue, offset),
                    false => self.ready(queue, offset),
                }
            }
            1 | 2 => self.expire(queue, offset),
            3 => self.lapse(number),
            _ => self.delete(queue),
        }
    }

    fn named(&self, name: &str) -> Option<u32> {
        self.queues.iter().find(|(_, queue)| queue.name == name).map(|(id, _)| *id)
    }

    fn message(&mut self, queue: u32, offset: usize) -> &mut Message {
        &mut self.queues.get_mut(&queue).expect("there").messages[offset]
    }

    fn refuse(&mut self, code: ErrorCode) {
        self.effects.push(Effect::Refused(Refusal { code, reason: String::new() }));
    }
}

impl Queue {
    /// When a message may no longer be delivered.
    pub(crate) fn expiry(&self, message: &Message) -> Option<Timestamp> {
        let ttl = Duration::from_millis(self.policy.ttl_ms);
        let here = (self.policy.ttl_ms > 0).then(|| message.came_at.after(ttl));
        message.expires.into_iter().chain(here).min()
    }

    /// How many messages are there that `which` says, and what they take.
    pub(crate) fn count(&self, which: impl Fn(&Message) -> bool) -> (u64, u64) {
        let which = self.messages.iter().filter(|message| message.place != Place::Gone && which(message));
        which.fold((0, 0), |(n, bytes), message| (n + 1, bytes + u64::from(message.bytes)))
    }

    /// The one consumer that is served, where the policy says that one is.
    pub(crate) fn active(&self) -> Option<ConsumerId> {
        self.active.map(ConsumerId)
    }
}
