//! Random commands: few queues, consumers, producers, keys and ids, so that they meet.

use std::time::Duration;

use wharf_protocol::{
    Death, DeathCause, HeadersBuilder, Message, MessageId, Name, Outcome, ProducerId, Session, Settlement,
    Timestamp,
};
use wharf_queue::{
    Attach, Backoff, Change, ConsumerId, Destination, EXPECT_KEY_OFFSET, EXPECT_LAST_OFFSET, Entry, Move,
    Order, Overflow, Publish, QueueId, QueuePolicy, Record, Redrive, Resolve, Schedule, Selection, State,
    Transaction,
};

use crate::Draw;

mod stream;

pub use stream::stream_creation;

/// The queues that commands are about. The last two are where messages end.
pub const QUEUES: [&str; 6] = ["a", "b", "c", "d", "dead-letters", "graves"];
/// The streams.
pub const STREAMS: [&str; 2] = ["s", "t"];
/// The keys of messages.
pub(crate) const KEYS: [&str; 3] = ["x", "y", "z"];
/// What a message takes without its payload, key and headers: 32 bytes of head and the topic.
pub const MESSAGE_BYTES: u64 = 42;

/// The header by which fair queues tell tenants apart.
const TENANT: &str = "tenant";

/// One step of a history, which becomes a record when it is its turn: what it names, it names by the state then.
#[derive(Clone, Debug)]
pub struct Command {
    /// Milliseconds since the one before.
    pub wait: u64,
    draw: Draw,
    kind: u64,
}

impl Command {
    /// A random one.
    pub fn random(draw: &mut Draw) -> Self {
        let wait = match draw.below(60) {
            0..30 => 0,
            30..50 => draw.below(30),
            50..59 => 30 + draw.below(90),
            _ => draw.below(20_000),
        };
        Self { wait, draw: Draw::new(draw.bits()), kind: draw.below(170) }
    }

    /// The record that it is after `state`.
    pub fn record(&self, state: &State) -> Record {
        let mut draw = self.draw.clone();
        let draw = &mut draw;
        match self.kind {
            0..30 => Record::Publish(publish(draw, state)),
            30..57 => settle(draw),
            57..67 => Record::Attach(Attach {
                consumer: consumer(draw),
                queue: name(draw),
                credit: small(draw, 8),
                auto_settle: draw.percent(15),
                notify_empty: draw.percent(50),
                credit_bytes: draw.maybe(30, |draw| draw.below(300)).unwrap_or(0),
            }),
            67..74 => Record::Credit {
                consumer: consumer(draw),
                add: small(draw, 6),
                bytes: draw.maybe(50, |draw| draw.below(200)).unwrap_or(0),
            },
            74..77 => Record::Detach { consumer: consumer(draw) },
            77..81 => Record::Tick,
            81 => Record::Restart,
            82..86 => redrive(draw, state),
            86..90 => relocate(draw, state),
            90..94 => {
                Record::Renew { consumer: consumer(draw), tags: vec![(draw.below(3), 8 + draw.below(4))] }
            }
            94..98 => {
                let (name, policy) = (name(draw), policy(draw));
                // What the policy is, or one of somebody who looked at it before.
                let was = draw.maybe(30, |draw| match state.topology().queue(name.as_str()) {
                    Some(info) if draw.percent(70) => Box::new(info.policy.clone()),
                    _ => Box::new(QueuePolicy::default()),
                });
                Record::Topology(Change::SetPolicy { name, policy, was })
            }
            98 if draw.percent(50) => Record::Topology(Change::DeleteQueue { name: name(draw) }),
            98 => Record::Topology(Change::PurgeQueue { name: name(draw) }),
            99 => Record::Topology(Change::CreateQueue { name: name(draw), policy: policy(draw) }),
            100..114 => Record::Publish(publish(draw, state)),
            114..126 => Record::Transaction(Box::new(transaction(draw, state))),
            126..129 => Record::ClaimProducer(producer(draw)),
            164..170 => resolve(draw, state),
            kind => stream::record(kind, draw, state),
        }
    }
}

/// The record that makes one of the first queues.
pub fn creation(draw: &mut Draw, queue: usize) -> Record {
    Record::Topology(Change::CreateQueue { name: queue_name(queue), policy: policy(draw) })
}

/// The record that attaches one of the first consumers, with room for a few messages.
pub(crate) fn attachment(draw: &mut Draw, consumer: usize) -> Record {
    Record::Attach(Attach {
        consumer: ConsumerId(consumer as u64),
        queue: queue_name(consumer),
        credit: 2 + small(draw, 8),
        auto_settle: false,
        notify_empty: draw.percent(50),
        credit_bytes: 0,
    })
}

/// Publishes, settlements and moved cursors: some of them hold, some do not.
fn transaction(draw: &mut Draw, state: &State) -> Transaction {
    if draw.percent(40) {
        return transaction_of_a_range(draw);
    }
    let mut publishes: Vec<Publish> =
        (0..draw.one_of(&[0, 1, 1, 2, 3])).map(|_| publish(draw, state)).collect();
    publishes.iter_mut().for_each(|publish| (publish.session, publish.needs_consumer) = (None, false));
    let settles = (0..draw.one_of(&[0, 0, 1, 1, 2])).map(|_| {
        let settlement = |draw: &mut Draw| {
            let first = 1 + draw.below(5);
            let last = first + draw.one_of(&[0, 0, 1, 1, 2]);
            let outcome = match draw.below(5) {
                0 => Outcome::Nack { delay: None },
                1 => Outcome::DeadLetter { reason: "not mine".into() },
                _ => Outcome::Ack,
            };
            Settlement { first, last, outcome }
        };
        let settlements = (0..draw.one_of(&[1, 1, 1, 2])).map(|_| settlement(draw)).collect();
        (consumer(draw), settlements)
    });
    let settles = settles.collect();
    let cursors = (0..draw.one_of(&[0, 0, 1])).map(|_| stream::commit_of_transaction(draw, state)).collect();
    let session = draw.maybe(60, session);
    Transaction { session, publishes, settles, cursors }
}

/// A range of deliveries and nothing else that could refuse it: in its midst one may be settled or lapsed.
fn transaction_of_a_range(draw: &mut Draw) -> Transaction {
    let first = draw.one_of(&[1, 1, 2, 3]);
    let settlement = Settlement { first, last: first + 1 + draw.below(2), outcome: Outcome::Ack };
    Transaction { settles: vec![(consumer(draw), vec![settlement])], ..Transaction::default() }
}

fn session(draw: &mut Draw) -> Session {
    Session { producer: producer(draw), epoch: 1 + small(draw, 2), sequence: draw.below(8) }
}

fn producer(draw: &mut Draw) -> ProducerId {
    match draw.below(9) {
        0 => Schedule::producer(&"nightly".parse().expect("a name")),
        number => ProducerId(u128::from(number % 2)),
    }
}

/// A policy with some of all that there is: short times, so that they run out, and low limits.
fn policy(draw: &mut Draw) -> QueuePolicy {
    let retry_min_ms = draw.one_of(&[0, 10, 10]);
    let order = draw.one_of(&[Order::Fifo, Order::Fifo, Order::Key]);
    QueuePolicy {
        lease_ms: draw.one_of(&[50, 50, 80]),
        max_attempts: 2 + small(draw, 2),
        retry_min_ms,
        retry_max_ms: 40,
        retry: draw.one_of(&[Backoff::Exponential, Backoff::Linear, Backoff::Fixed]),
        retry_jitter_percent: draw.one_of(&[25, 25, 0, 100]),
        dead_letter: draw.maybe(30, |draw| queue_name(4 + draw.below(2) as usize)),
        dead_letter_expired: draw.percent(40),
        ttl_ms: draw.maybe(25, |draw| 20 + draw.below(100)).unwrap_or(0),
        max_messages: draw.maybe(25, |draw| 1 + draw.below(5)).unwrap_or(0),
        max_bytes: draw.maybe(15, |draw| MESSAGE_BYTES * (1 + draw.below(5))).unwrap_or(0),
        overflow: draw.one_of(&[Overflow::Reject, Overflow::DropOldest, Overflow::DeadLetter]),
        order,
        single_active: draw.percent(15),
        exclusive: draw.percent(6),
        expires_ms: draw.maybe(6, |draw| 50 + draw.below(300)).unwrap_or(0),
        fair_by: draw.maybe(if order == Order::Key { 2 } else { 30 }, |_| TENANT.to_owned()),
        ..QueuePolicy::default()
    }
}

fn publish(draw: &mut Draw, state: &State) -> Publish {
    let mut entries: Vec<Entry> =
        (0..draw.one_of(&[1, 1, 1, 1, 2, 2, 6])).map(|_| entry(draw, state)).collect();
    if entries.len() > 2 {
        // All to one place: so that a consumer holds several, and settles one in their midst.
        let destinations = entries[0].destinations.clone();
        entries.iter_mut().for_each(|entry| entry.destinations.clone_from(&destinations));
    }
    let session = draw.maybe(30, session);
    let dedup = draw.maybe(20, |draw| u128::from(draw.below(4)));
    let needs_consumer = draw.percent(5);
    Publish {
        session,
        dedup,
        topology: state.topology().revision(),
        needs_consumer,
        entries,
        ..Publish::default()
    }
}

fn entry(draw: &mut Draw, state: &State) -> Entry {
    let payload = vec![b'x'; draw.one_of(&[0, 1, 1, 1, 20, 200])];
    let mut message = Message::new("orders.new".parse().expect("a topic"), payload);
    let word = |draw: &mut Draw| draw.one_of(&KEYS);
    message.key = draw.maybe(60, |draw| word(draw).into());
    let mut headers = HeadersBuilder::default();
    if draw.percent(60) {
        headers.set(TENANT, word(draw));
    }
    for expected in [EXPECT_LAST_OFFSET, EXPECT_KEY_OFFSET] {
        if draw.percent(4) {
            headers.set(expected, draw.one_of(&["none", "0", "1", "2", "?"]));
        }
    }
    message.headers = headers.build().expect("small");
    if draw.percent(35) {
        let milliseconds = |draw: &mut Draw| Duration::from_millis(1 + draw.below(100));
        message.priority = draw.one_of(&[0, 1, 1, 2, 31]);
        message.ttl = draw.maybe(40, milliseconds);
        message.delay = draw.maybe(40, milliseconds);
    }
    let destinations = (0..draw.one_of(&[0, 1, 1, 1, 1, 2])).map(|_| {
        let name = if draw.percent(30) { draw.one_of(&STREAMS) } else { QUEUES[queue(draw)] };
        let queue = state.topology().backlog(name).unwrap_or(QueueId(1_000));
        Destination { queue, death: draw.maybe(7, |_| Box::new(death())) }
    });
    let destinations = destinations.collect();
    Entry { message, destinations }
}

fn settle(draw: &mut Draw) -> Record {
    let settlement = |draw: &mut Draw| {
        let (first, last) = tags(draw);
        let delay = |ms| Some(Duration::from_millis(ms));
        let outcome = match draw.below(20) {
            0..9 => Outcome::Ack,
            9..12 => Outcome::Nack { delay: None },
            12..15 => Outcome::Nack { delay: delay(0) },
            15..18 => Outcome::Nack { delay: delay(1 + draw.below(60)) },
            n => Outcome::DeadLetter { reason: format!("reason {n}") },
        };
        Settlement { first, last, outcome }
    };
    let mut settlements: Vec<Settlement> = (0..draw.one_of(&[1, 1, 2])).map(|_| settlement(draw)).collect();
    // One that is settled, once more.
    settlements.extend(draw.maybe(20, |_| settlements[0].clone()));
    Record::Settle { consumer: consumer(draw), settlements }
}

fn redrive(draw: &mut Draw, state: &State) -> Record {
    let queue = if draw.percent(70) { queue_name(4 + draw.below(2) as usize) } else { name(draw) };
    let ids = state.dead_letters(queue.as_str(), 0, 3).iter().map(|dead| dead.id).skip(1).collect();
    let select = selection(draw, ids);
    let to = draw.maybe(40, name);
    Record::Redrive(Redrive { queue, select, to, redriven_max: draw.maybe(30, |draw| small(draw, 3)) })
}

/// The end of a dead letter, mostly of one that is there.
fn resolve(draw: &mut Draw, state: &State) -> Record {
    let queue = if draw.percent(80) { queue_name(4 + draw.below(2) as usize) } else { name(draw) };
    let letters = state.dead_letters(queue.as_str(), 0, 4);
    let (mut offset, mut id) = match letters.is_empty() {
        true => (draw.below(4), MessageId { index: draw.below(9), entry: 0 }),
        false => {
            let letter = &letters[draw.below(letters.len() as u64) as usize];
            (letter.offset, letter.id)
        }
    };
    match draw.below(12) {
        0 => offset += 1,
        1 => id.entry += 1,
        _ => {}
    }
    let becomes = draw.maybe(80, |draw| {
        let mut publish = publish(draw, state);
        (publish.session, publish.dedup, publish.needs_consumer) = (None, None, false);
        publish
    });
    Record::Resolve(Box::new(Resolve { queue, offset, id, becomes }))
}

fn relocate(draw: &mut Draw, state: &State) -> Record {
    let queue = name(draw);
    let ids = state.browse(queue.as_str(), 0, 3).iter().map(|each| each.id).skip(1).collect();
    let select = selection(draw, ids);
    Record::Move(Move { queue, select, to: name(draw) })
}

fn selection(draw: &mut Draw, ids: Vec<MessageId>) -> Selection {
    match draw.below(3) {
        0 => Selection::Ids(ids),
        1 => Selection::Oldest(small(draw, 4)),
        _ => {
            let from = draw.below(12);
            Selection::Offsets { from, to: from + draw.below(6) }
        }
    }
}

fn death() -> Death {
    Death {
        queue: String::new(),
        cause: DeathCause::Stage,
        reason: "not JSON".into(),
        stage: Some("p/json".into()),
        plugin: None,
        attempts: 0,
        first_at: Timestamp(0),
        last_at: Timestamp(0),
        original: MessageId { index: 0, entry: 0 },
    }
}

fn consumer(draw: &mut Draw) -> ConsumerId {
    // One of them more than the others, so that what is told of a consumer meets.
    ConsumerId(draw.one_of(&[0, 0, 0, 1, 2, 3]))
}

fn queue(draw: &mut Draw) -> usize {
    match draw.below(10) {
        0 => 4,
        1 => 5,
        n => (n % 4) as usize,
    }
}

fn name(draw: &mut Draw) -> Name {
    let queue = queue(draw);
    queue_name(queue)
}

fn queue_name(queue: usize) -> Name {
    QUEUES[queue].parse().expect("a name")
}

fn tags(draw: &mut Draw) -> (u64, u64) {
    let first = draw.one_of(&[0, 1, 1, 2, 2, 3, 4, 5, 6]);
    (first, first + draw.one_of(&[0, 0, 1, 2, 5]))
}

fn small(draw: &mut Draw, end: u64) -> u32 {
    u32::try_from(draw.below(end)).expect("a small number")
}
