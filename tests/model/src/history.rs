//! What must hold of any history of records and effects, whatever the state machine looks like inside.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wharf_protocol::{MessageId, Outcome, Receipt, Session, Settlement, Timestamp, TransactionReceipt};
use wharf_queue::{
    ConsumerId, Deliver, Effect, Entry, Order, QueueId, QueuePolicy, Record, Stamped, State, Transaction,
};

/// A message's place: a queue and an offset.
type Place = (QueueId, u64);

/// A place, and the message there.
struct Held(Place, MessageId);

/// What a reader of records and effects knows.
#[derive(Default)]
pub struct History {
    /// First moment for a first delivery, and the moment from which on there may be none.
    stored: BTreeMap<MessageId, (Timestamp, Option<Timestamp>)>,
    sessions: BTreeSet<(u128, u32, u64)>,
    /// Of each consumer, its queue, and whether it holds nothing.
    consumers: BTreeMap<u64, (QueueId, bool)>,
    leases: BTreeMap<(u64, u64), (Held, Timestamp)>,
    attempts: BTreeMap<Place, u32>,
    acked: BTreeSet<Place>,
    /// The message's key, where it has one.
    keys: BTreeMap<MessageId, Vec<u8>>,
    /// Of each queue, key and priority, the last id that was delivered for the first time.
    in_order: BTreeMap<(QueueId, Vec<u8>, u8), MessageId>,
    priorities: BTreeMap<MessageId, u8>,
    /// Their turn comes when their delay ends.
    delayed: BTreeSet<MessageId>,
    /// Dead letters that were delivered: one that died in a queue without an order by key has none after it.
    dead: BTreeSet<Place>,
    redriven: bool,
    /// Of each partition of a stream, the next offset, and what was seen at each.
    offsets: BTreeMap<(QueueId, u16), (u64, BTreeMap<u64, MessageId>)>,
}

impl History {
    /// Checks what record `index` did; `state` is the state after it.
    pub fn check(&mut self, index: u64, stamped: &Stamped, effects: &[Effect], state: &State) {
        self.leases.retain(|_, (_, deadline)| *deadline > stamped.at);
        match &stamped.record {
            Record::Publish(publish) => {
                let receipts = effects.iter().filter(|each| matches!(each, Effect::Receipt(_)));
                assert_eq!(receipts.count(), 1, "one answer to a publish");
                if effects.iter().any(|each| matches!(each, Effect::Receipt(Receipt::Stored(_)))) {
                    self.happened(publish.session.as_ref());
                    self.stored(MessageId { index, entry: 0 }, stamped.at, &publish.entries);
                }
            }
            Record::Resolve(resolve) => {
                let done = effects.iter().any(|each| matches!(each, Effect::Resolved(_)));
                if let Some(publish) = resolve.becomes.as_ref().filter(|_| done) {
                    self.stored(MessageId { index, entry: 0 }, stamped.at, &publish.entries);
                }
            }
            Record::Transaction(transaction) => self.transaction(index, stamped.at, transaction, effects),
            Record::Attach(attach) if !effects.iter().any(|each| matches!(each, Effect::Refused(_))) => {
                let queue = state.topology().queue(attach.queue.as_str()).expect("attached to").id;
                self.consumers.insert(attach.consumer.0, (queue, attach.auto_settle));
            }
            Record::Detach { consumer } => self.leases.retain(|(holder, _), _| *holder != consumer.0),
            Record::Restart => self.leases.clear(),
            Record::Renew { consumer, tags } => self.renewal(stamped.at, consumer.0, tags, effects, state),
            Record::Settle { consumer, settlements } => {
                let ended = self.settled(*consumer, settlements);
                let told = effects.iter().any(
                    |effect| matches!(effect, Effect::Settled { accepted, .. } if *accepted == ended as u64),
                );
                assert!(told, "I9: a lease that is over settles nothing; {ended} were live");
            }
            _ => {}
        }
        self.offsets(state);
        for effect in effects {
            match effect {
                Effect::Redriven { moved, .. } | Effect::Moved { moved, .. } => self.redriven |= *moved > 0,
                Effect::Cancelled { consumer } => self.leases.retain(|(holder, _), _| *holder != consumer.0),
                Effect::Deliver(deliver) => self.delivery(stamped.at, deliver, state),
                _ => {}
            }
        }
    }

    /// What belongs to a session happens once.
    fn happened(&mut self, session: Option<&Session>) {
        if let Some(session) = session {
            let key = (session.producer.0, session.epoch, session.sequence);
            assert!(self.sessions.insert(key), "I4: one enqueue for a sequence");
        }
    }

    /// Messages are stored, from `first` on.
    fn stored(&mut self, first: MessageId, at: Timestamp, entries: &[Entry]) {
        for (entry, stored) in (first.entry..).zip(entries) {
            let from = stored.message.delay.map_or(at, |delay| at.after(delay));
            let until = stored.message.ttl.map(|ttl| at.after(ttl));
            let id = MessageId { entry, ..first };
            self.stored.insert(id, (from, until));
            self.priorities.insert(id, stored.message.priority);
            self.keys.extend(stored.message.key.as_ref().map(|key| (id, key.to_vec())));
            if stored.message.delay.is_some() {
                self.delayed.insert(id);
            }
        }
    }

    /// How many live leases these settlements end.
    fn settled(&mut self, consumer: ConsumerId, settlements: &[Settlement]) -> usize {
        let mut ended = 0;
        for settlement in settlements {
            let held = self.leases.extract_if(.., |(holder, tag), _| {
                *holder == consumer.0 && (settlement.first..=settlement.last).contains(tag)
            });
            for (_, (Held(place, _), _)) in held.collect::<Vec<_>>() {
                ended += 1;
                if settlement.outcome == Outcome::Ack {
                    self.acked.insert(place);
                }
            }
        }
        ended
    }

    /// I7: all of it, or nothing.
    fn transaction(&mut self, index: u64, at: Timestamp, transaction: &Transaction, effects: &[Effect]) {
        let mut receipts = effects.iter().filter_map(|effect| match effect {
            Effect::Transacted(receipt) => Some(&**receipt),
            _ => None,
        });
        let (receipt, more) = (receipts.next().expect("a transaction is answered"), receipts.next());
        assert_eq!(more, None, "one answer to a transaction");
        let TransactionReceipt::Committed(committed) = receipt else {
            let done = |effect: &Effect| {
                matches!(effect, Effect::Receipt(_) | Effect::Appended { .. } | Effect::Committed { .. })
            };
            assert!(!effects.iter().any(done), "I7: nothing of what was refused happens");
            return;
        };
        self.happened(transaction.session.as_ref());
        let mut first = MessageId { index, entry: 0 };
        for (number, publish) in (0..).zip(&transaction.publishes) {
            if !committed.duplicates.contains(&number) {
                self.stored(first, at, &publish.entries);
            }
            first.entry += publish.entries.len() as u16;
        }
        for (consumer, settlements) in &transaction.settles {
            let named: u64 = settlements.iter().map(|each| each.last - each.first + 1).sum();
            let ended = self.settled(*consumer, settlements);
            assert_eq!(ended as u64, named, "I7, I9: all that a transaction settles is held");
        }
        let stale = |effect: &Effect| matches!(effect, Effect::Committed { stale, .. } if !stale.is_empty());
        assert!(!effects.iter().any(stale), "I7: all that a transaction passes is its member's");
    }

    /// I5: an offset is given once, the next one follows, and what lies there is never another.
    fn offsets(&mut self, state: &State) {
        for stream in state.streams() {
            for (number, partition) in (0..).zip(&stream.partitions) {
                let run = self.offsets.entry((stream.id, number)).or_default();
                assert!(partition.next >= run.0, "I5: the next offset never goes back");
                let from = run.0;
                run.0 = partition.next;
                let places = state.read_stream(stream.id, number, 0, usize::MAX).expect("there").places;
                for place in places {
                    let known = *run.1.entry(place.offset).or_insert(place.id);
                    assert_eq!(known, place.id, "I5: what lies at an offset is never another");
                    let new = place.offset >= from;
                    assert!(!new || place.id.index == state.applied(), "I5: offsets are dense");
                }
            }
        }
    }

    fn delivery(&mut self, at: Timestamp, deliver: &Deliver, state: &State) {
        let (queue, auto_settle) = self.consumers[&deliver.consumer.0];
        let place = (queue, deliver.offset);
        let (from, until) = self.stored.get(&deliver.id).expect("I2: what is delivered was published");
        assert!(!self.acked.contains(&place), "I3: nothing is delivered after its ack");
        let attempt = self.attempts.insert(place, deliver.attempt).unwrap_or(0);
        assert!(deliver.attempt > attempt, "I8: attempts only grow");
        assert_eq!(deliver.redelivered, deliver.attempt > 1, "I8: a redelivery says so");
        // What was dead and is redriven begins anew: without its delay and its time to live.
        if deliver.attempt == 1 && deliver.death.is_none() && !self.redriven {
            assert!(at >= *from, "I13: no delay ends early");
            assert!(until.is_none_or(|until| at < until), "nothing expired is delivered");
        }
        assert!(!self.leases.values().any(|(held, _)| held.0 == place), "I9: one lease a message");
        if deliver.death.is_some() {
            self.dead.insert(place);
        }
        let policy = policy_of(queue, state);
        self.key_order(queue, &policy, deliver);
        if auto_settle {
            self.acked.insert(place);
            return;
        }
        let deadline = at.after(Duration::from_millis(policy.lease_ms));
        self.leases.insert((deliver.consumer.0, deliver.tag), (Held(place, deliver.id), deadline));
    }

    /// I6, and one in flight of each key where the policy says so.
    fn key_order(&mut self, queue: QueueId, policy: &QueuePolicy, deliver: &Deliver) {
        let Some(key) = self.keys.get(&deliver.id) else { return };
        let same = |held: &Held| {
            held.0.0 == queue && self.keys.get(&held.1) == Some(key) && !self.dead.contains(&held.0)
        };
        if policy.order == Order::Key && deliver.death.is_none() && !self.redriven {
            assert!(!self.leases.values().any(|(held, _)| same(held)), "one in flight of a key");
        }
        // Tenants take turns: between two of them there is no order.
        let first = deliver.attempt == 1 && deliver.death.is_none() && policy.fair_by.is_none();
        if first && !self.redriven && !self.delayed.contains(&deliver.id) {
            let place = (queue, key.clone(), self.priorities[&deliver.id]);
            let before = self.in_order.insert(place, deliver.id);
            assert!(
                before.is_none_or(|before| before <= deliver.id),
                "I6: first deliveries of a key in order"
            );
        }
    }

    fn renewal(&mut self, at: Timestamp, id: u64, tags: &[(u64, u64)], effects: &[Effect], state: &State) {
        let mut renewed = 0;
        for tag in tags.iter().flat_map(|(first, last)| *first..=*last) {
            if let Some((Held(place, _), deadline)) = self.leases.get_mut(&(id, tag)) {
                *deadline = at.after(Duration::from_millis(policy_of(place.0, state).lease_ms));
                renewed += 1;
            }
        }
        let told =
            effects.iter().any(|e| matches!(e, Effect::Renewed { renewed: told, .. } if *told == renewed));
        assert!(told, "I9: a lease that is over is not renewed; {renewed} were live");
    }
}

fn policy_of(queue: QueueId, state: &State) -> QueuePolicy {
    let name = state.queues().find(|view| view.id == queue).expect("it is there").name;
    state.topology().queue(name.as_str()).expect("it is there").policy.clone()
}
