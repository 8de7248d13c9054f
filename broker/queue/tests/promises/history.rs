//! What must hold of any history of records and effects, whatever the state machine looks like inside.

use std::collections::{BTreeMap, BTreeSet};

use wharf_protocol::{MessageId, Outcome, Receipt, Timestamp};
use wharf_queue::{Deliver, Effect, QueueId, Record, Stamped, State};

/// A message's place: a queue and an offset.
type Place = (QueueId, u64);

/// What a reader of records and effects knows.
#[derive(Default)]
pub(crate) struct History {
    /// First moment for a first delivery, and the moment from which on there may be none.
    stored: BTreeMap<MessageId, (Timestamp, Option<Timestamp>)>,
    sessions: BTreeSet<(u128, u32, u64)>,
    consumers: BTreeMap<u64, QueueId>,
    leases: BTreeMap<(u64, u64), (Place, Timestamp)>,
    attempts: BTreeMap<Place, u32>,
    acked: BTreeSet<Place>,
    redriven: bool,
}

impl History {
    /// Checks what record `index` did; `state` is the state after it.
    pub(crate) fn check(&mut self, index: u64, stamped: &Stamped, effects: &[Effect], state: &State) {
        self.leases.retain(|_, (_, deadline)| *deadline > stamped.at);
        match &stamped.record {
            Record::Publish(publish) => {
                let receipts = effects.iter().filter(|each| matches!(each, Effect::Receipt(_)));
                assert_eq!(receipts.count(), 1, "one answer to a publish");
                if effects.iter().any(|each| matches!(each, Effect::Receipt(Receipt::Stored(_)))) {
                    if let Some(session) = &publish.session {
                        let key = (session.producer.0, session.epoch, session.sequence);
                        assert!(self.sessions.insert(key), "I4: one enqueue for a sequence");
                    }
                    for (entry, stored) in (0..).zip(&publish.entries) {
                        let from = stored.message.delay.map_or(stamped.at, |delay| stamped.at.after(delay));
                        let until = stored.message.ttl.map(|ttl| stamped.at.after(ttl));
                        self.stored.insert(MessageId { index, entry }, (from, until));
                    }
                }
            }
            Record::Attach(attach) if !effects.iter().any(|each| matches!(each, Effect::Refused(_))) => {
                let queue = state.topology().queue(attach.queue.as_str()).expect("attached to").id;
                self.consumers.insert(attach.consumer.0, queue);
            }
            Record::Detach { consumer } => self.leases.retain(|(holder, _), _| *holder != consumer.0),
            Record::Restart => self.leases.clear(),
            Record::Settle { consumer, settlements } => {
                let mut ended = 0;
                for settlement in settlements {
                    let held = self.leases.extract_if(.., |(holder, tag), _| {
                        *holder == consumer.0 && (settlement.first..=settlement.last).contains(tag)
                    });
                    for (_, (place, _)) in held.collect::<Vec<_>>() {
                        ended += 1;
                        if settlement.outcome == Outcome::Ack {
                            self.acked.insert(place);
                        }
                    }
                }
                let told = effects.iter().any(
                    |effect| matches!(effect, Effect::Settled { accepted, .. } if *accepted == ended as u64),
                );
                assert!(told, "I9: a lease that is over settles nothing; {ended} were live");
            }
            _ => {}
        }
        for effect in effects {
            match effect {
                Effect::Redriven { moved, .. } => self.redriven |= *moved > 0,
                Effect::Cancelled { consumer } => self.leases.retain(|(holder, _), _| *holder != consumer.0),
                Effect::Deliver(deliver) => self.delivery(stamped.at, deliver, state),
                _ => {}
            }
        }
    }

    fn delivery(&mut self, at: Timestamp, deliver: &Deliver, state: &State) {
        let queue = self.consumers[&deliver.consumer.0];
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
        assert!(!self.leases.values().any(|(held, _)| *held == place), "I9: one lease a message");
        let of_queue = state.queues().find(|view| view.id == queue).expect("it delivers").name;
        let lease = state.topology().queue(of_queue.as_str()).expect("it delivers").policy.lease_ms;
        let deadline = at.after(std::time::Duration::from_millis(lease));
        self.leases.insert((deliver.consumer.0, deliver.tag), (place, deadline));
    }

    /// A consumer that settles as it is delivered holds nothing.
    pub(crate) fn auto_settled(&mut self, consumer: u64) {
        let taken = self.leases.extract_if(.., |(holder, _), _| *holder == consumer);
        for (_, (place, _)) in taken.collect::<Vec<_>>() {
            self.acked.insert(place);
        }
    }
}
