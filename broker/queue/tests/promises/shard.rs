//! A log and the state folded from it, by hand.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use wharf_protocol::{Message, Name, Outcome, Receipt, Session, Settlement, Timestamp};
use wharf_queue::{
    Attach, Change, ConsumerId, Deliver, Destination, Effect, Entry, Publish, QueueId, QueuePolicy,
    QueueView, Record, Refusal, Stamped, State,
};

/// One shard without a disk: checks at every record that a replay and a restored snapshot do the same.
pub(crate) struct Shard {
    pub(crate) state: State,
    /// Fed with what was encoded and decoded, and restored from its own snapshot after each record.
    twin: State,
    log: Vec<Bytes>,
    now: Timestamp,
}

impl Shard {
    pub(crate) fn new() -> Self {
        let now = Timestamp(1_000_000);
        Self { state: State::default(), twin: State::default(), log: Vec::new(), now }
    }

    /// A shard with queues of the default policy.
    pub(crate) fn with_queues(names: &[&str]) -> Self {
        let mut shard = Self::new();
        for queue in names {
            shard.create(queue, QueuePolicy::default());
        }
        shard
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// Lets time pass; the next record is stamped with it.
    pub(crate) fn wait(&mut self, milliseconds: u64) {
        self.now = self.now.after(Duration::from_millis(milliseconds));
    }

    pub(crate) fn apply(&mut self, record: Record) -> Vec<Effect> {
        let stamped = Stamped { at: self.now, record };
        let mut bytes = BytesMut::new();
        stamped.encode(&mut bytes);
        self.log.push(bytes.freeze());
        let index = self.log.len() as u64;

        let mut effects = Vec::new();
        self.state.apply(index, &stamped, &mut effects);
        self.state.verify();

        let decoded = Stamped::decode(self.log[self.log.len() - 1].clone()).expect("what was encoded");
        let mut twins = Vec::new();
        self.twin.apply(index, &decoded, &mut twins);
        assert_eq!(effects, twins, "a restored state does the same");
        assert_eq!(self.state.hash(), self.twin.hash(), "a restored state is the same");
        let restored = State::restore(&self.twin.snapshot()).expect("a snapshot");
        assert_eq!(restored.next_timer(), self.twin.next_timer());
        assert_eq!(restored.oldest_live_index(), self.twin.oldest_live_index());
        assert_eq!(restored.hash(), self.twin.hash());
        self.twin = restored;
        effects
    }

    pub(crate) fn tick(&mut self) -> Vec<Effect> {
        self.apply(Record::Tick)
    }

    pub(crate) fn change(&mut self, change: Change) -> Result<Vec<Effect>, Refusal> {
        let effects = self.apply(Record::Topology(change));
        match effects.first() {
            Some(Effect::Refused(refusal)) => Err(refusal.clone()),
            _ => Ok(effects),
        }
    }

    pub(crate) fn create(&mut self, queue: &str, policy: QueuePolicy) {
        self.change(Change::CreateQueue { name: name(queue), policy }).expect("created");
    }

    pub(crate) fn id(&self, queue: &str) -> QueueId {
        self.state.topology().queue(queue).expect("a queue").id
    }

    pub(crate) fn queue(&self, queue: &str) -> QueueView {
        self.state.queue(queue).expect("a queue")
    }

    /// Publishes one message to queues: the receipt, and what else came of it.
    pub(crate) fn publish(&mut self, queues: &[&str], message: Message) -> (Receipt, Vec<Effect>) {
        let destinations = queues.iter().map(|queue| Destination::from(self.id(queue))).collect();
        self.send(Publish::from(Entry { message, destinations }))
    }

    pub(crate) fn send(&mut self, publish: Publish) -> (Receipt, Vec<Effect>) {
        let mut effects = self.apply(Record::Publish(publish));
        match effects.remove(0) {
            Effect::Receipt(receipt) => (receipt, effects),
            other => panic!("a publish is answered first, not by {other:?}"),
        }
    }

    pub(crate) fn publish_with(
        &mut self,
        queue: &str,
        session: Option<Session>,
        dedup: Option<u128>,
    ) -> Receipt {
        let entry = Entry { message: message("m"), destinations: vec![self.id(queue).into()] };
        self.send(Publish { session, dedup, ..Publish::from(entry) }).0
    }

    /// A consumer with credit: what it gets at once.
    pub(crate) fn attach(&mut self, consumer: u64, queue: &str, credit: u32) -> Vec<Deliver> {
        let attach =
            Attach { consumer: ConsumerId(consumer), queue: name(queue), credit, ..Attach::default() };
        deliveries(self.apply(Record::Attach(attach)))
    }

    pub(crate) fn detach(&mut self, consumer: u64) -> Vec<Deliver> {
        deliveries(self.apply(Record::Detach { consumer: ConsumerId(consumer) }))
    }

    pub(crate) fn settle(&mut self, consumer: u64, first: u64, last: u64, outcome: Outcome) -> Settled {
        let settlements = vec![Settlement { first, last, outcome }];
        let effects = self.apply(Record::Settle { consumer: ConsumerId(consumer), settlements });
        let counts = effects.iter().find_map(|effect| match effect {
            Effect::Settled { accepted, stale, .. } => Some((*accepted, stale.clone())),
            _ => None,
        });
        let (accepted, stale) = counts.expect("settlements are answered");
        Settled { accepted, stale, delivered: deliveries(effects) }
    }

    pub(crate) fn ack(&mut self, consumer: u64, tag: u64) -> Settled {
        self.settle(consumer, tag, tag, Outcome::Ack)
    }

    pub(crate) fn nack(&mut self, consumer: u64, tag: u64, delay_ms: u64) -> Settled {
        let delay = Some(Duration::from_millis(delay_ms));
        self.settle(consumer, tag, tag, Outcome::Nack { delay })
    }
}

impl Drop for Shard {
    /// However a scenario ends, its log replays to the same state.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut replayed = State::default();
        for (index, bytes) in (1..).zip(&self.log) {
            let stamped = Stamped::decode(bytes.clone()).expect("what was encoded");
            replayed.apply(index, &stamped, &mut Vec::new());
        }
        assert_eq!(replayed.hash(), self.state.hash(), "a replay gives the same state");
    }
}

/// The answer to settlements.
pub(crate) struct Settled {
    pub(crate) accepted: u64,
    pub(crate) stale: Vec<u64>,
    pub(crate) delivered: Vec<Deliver>,
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(crate) fn message(payload: &'static str) -> Message {
    Message::new("orders.new".parse().expect("a topic"), payload)
}

pub(crate) fn deliveries(effects: Vec<Effect>) -> Vec<Deliver> {
    let deliver = |effect| match effect {
        Effect::Deliver(deliver) => Some(deliver),
        _ => None,
    };
    effects.into_iter().filter_map(deliver).collect()
}

/// Consumer, offset, attempt: what most tests ask of deliveries.
pub(crate) fn brief(deliveries: &[Deliver]) -> Vec<(u64, u64, u32)> {
    deliveries.iter().map(|each| (each.consumer.0, each.offset, each.attempt)).collect()
}
