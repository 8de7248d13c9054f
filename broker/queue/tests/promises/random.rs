//! Random commands: few queues, consumers, producers and ids, so that they meet.

use std::time::Duration;

use proptest::collection::{SizeRange, vec};
use proptest::option;
use proptest::prelude::*;
use wharf_protocol::{
    Death, DeathCause, Message, MessageId, Outcome, ProducerId, Session, Settlement, Timestamp,
};
use wharf_queue::{
    Attach, Change, ConsumerId, Destination, Entry, Publish, QueueId, QueuePolicy, Record, Redrive,
    Selection, State,
};

use crate::shard::{message, name};

pub(crate) const QUEUES: [&str; 5] = ["a", "b", "c", "dead-letters", "graves"];

#[derive(Clone, Debug)]
pub(crate) struct Command {
    /// Milliseconds since the one before.
    pub(crate) wait: u64,
    action: Action,
}

#[derive(Clone, Debug)]
enum Action {
    Create(usize),
    Delete(usize),
    Purge(usize),
    Publish(Sent),
    Attach { consumer: u64, queue: usize, credit: u32, auto_settle: bool, notify_empty: bool },
    Credit { consumer: u64, add: u32 },
    Detach(u64),
    Settle { consumer: u64, ranges: Vec<(u64, u64, u8)> },
    Tick,
    Restart,
    Redrive { queue: usize, oldest: Option<u32>, to: Option<usize> },
}

#[derive(Clone, Debug)]
struct Sent {
    queues: Vec<(usize, bool)>,
    unusual: Option<(u8, Option<u64>, Option<u64>)>,
    session: Option<(u128, u32, u64)>,
    dedup: Option<u128>,
}

/// The policy of each queue: short times, so that they run out.
pub(crate) fn policy(queue: usize) -> QueuePolicy {
    QueuePolicy {
        lease_ms: 50,
        max_attempts: 2 + queue as u32 % 2,
        retry_min_ms: if queue == 2 { 0 } else { 10 },
        retry_max_ms: 40,
        dead_letter: (queue == 1).then(|| name("graves")),
        dead_letter_expired: queue == 1,
        ..QueuePolicy::default()
    }
}

pub(crate) fn create(queue: usize) -> Record {
    Record::Topology(Change::CreateQueue { name: name(QUEUES[queue]), policy: policy(queue) })
}

pub(crate) fn commands(length: impl Into<SizeRange>) -> impl Strategy<Value = Vec<Command>> {
    vec((prop_oneof![3 => Just(0), 2 => 0..30_u64, 1 => 30..120_u64], action()), length)
        .prop_map(|steps| steps.into_iter().map(|(wait, action)| Command { wait, action }).collect())
}

fn action() -> impl Strategy<Value = Action> {
    let queue = || prop_oneof![6 => 0..3_usize, 1 => Just(3_usize), 1 => Just(4_usize)];
    let consumer = || 0..4_u64;
    let unusual = (0..4_u8, option::of(1..100_u64), option::of(1..100_u64));
    let session = (0..2_u128, 1..3_u32, 1..8_u64);
    let sent = (
        vec((queue(), proptest::bool::weighted(0.1)), 0..3),
        option::weighted(0.4, unusual),
        option::weighted(0.3, session),
        option::weighted(0.2, 0..4_u128),
    );
    let sent = sent.prop_map(|(queues, unusual, session, dedup)| Sent { queues, unusual, session, dedup });
    let attach = (consumer(), queue(), 0..6_u32, proptest::bool::weighted(0.2), any::<bool>());
    let attach = attach.prop_map(|(consumer, queue, credit, auto_settle, notify_empty)| Action::Attach {
        consumer,
        queue,
        credit,
        auto_settle,
        notify_empty,
    });
    let settle = (consumer(), vec((0..12_u64, 0..4_u64, any::<u8>()), 1..3));
    let redrive =
        (prop_oneof![Just(3_usize), Just(4_usize), queue()], option::of(0..4_u32), option::of(queue()));
    prop_oneof![
        30 => sent.prop_map(Action::Publish),
        12 => attach,
        8 => (consumer(), 0..6_u32).prop_map(|(consumer, add)| Action::Credit { consumer, add }),
        30 => settle.prop_map(|(consumer, ranges)| Action::Settle { consumer, ranges }),
        3 => consumer().prop_map(Action::Detach),
        6 => Just(Action::Tick),
        1 => Just(Action::Restart),
        4 => redrive.prop_map(|(queue, oldest, to)| Action::Redrive { queue, oldest, to }),
        2 => queue().prop_map(Action::Create),
        1 => queue().prop_map(Action::Delete),
        1 => queue().prop_map(Action::Purge),
    ]
}

/// The record of a command; numbers of queues are those of `state`.
pub(crate) fn record(state: &State, command: &Command) -> Record {
    match command.action.clone() {
        Action::Create(queue) => create(queue),
        Action::Delete(queue) => Record::Topology(Change::DeleteQueue { name: name(QUEUES[queue]) }),
        Action::Purge(queue) => Record::Topology(Change::PurgeQueue { name: name(QUEUES[queue]) }),
        Action::Publish(sent) => Record::Publish(publish(state, &sent)),
        Action::Attach { consumer, queue, credit, auto_settle, notify_empty } => {
            let (consumer, queue) = (ConsumerId(consumer), name(QUEUES[queue]));
            Record::Attach(Attach { consumer, queue, credit, auto_settle, notify_empty, credit_bytes: 0 })
        }
        Action::Credit { consumer, add } => Record::Credit { consumer: ConsumerId(consumer), add, bytes: 0 },
        Action::Detach(consumer) => Record::Detach { consumer: ConsumerId(consumer) },
        Action::Settle { consumer, ranges } => {
            let settlement = |(first, more, kind): (u64, u64, u8)| {
                let delay = |ms: u8| Some(Duration::from_millis(u64::from(ms)));
                let outcome = match kind {
                    0..=89 => Outcome::Ack,
                    90..=139 => Outcome::Nack { delay: None },
                    140..=179 => Outcome::Nack { delay: delay(0) },
                    180..=219 => Outcome::Nack { delay: delay(kind - 179) },
                    _ => Outcome::DeadLetter { reason: format!("reason {kind}") },
                };
                Settlement { first, last: first + more, outcome }
            };
            let settlements = ranges.into_iter().map(settlement).collect();
            Record::Settle { consumer: ConsumerId(consumer), settlements }
        }
        Action::Tick => Record::Tick,
        Action::Restart => Record::Restart,
        Action::Redrive { queue, oldest, to } => {
            let queue = QUEUES[queue];
            let ids = || state.dead_letters(queue, 0, 3).iter().map(|dead| dead.id).skip(1).collect();
            let select = oldest.map_or_else(|| Selection::Ids(ids()), Selection::Oldest);
            Record::Redrive(Redrive { queue: name(queue), select, to: to.map(|to| name(QUEUES[to])) })
        }
    }
}

fn publish(state: &State, sent: &Sent) -> Publish {
    let mut message = message("m");
    if let Some((priority, ttl, delay)) = sent.unusual {
        let (ttl, delay) = (ttl.map(Duration::from_millis), delay.map(Duration::from_millis));
        message = Message { priority, ttl, delay, ..message };
    }
    let destination = |(queue, dead): &(usize, bool)| {
        let known = state.topology().queue(QUEUES[*queue]);
        let queue = known.map_or(QueueId(1_000), |queue| queue.id);
        Destination { queue, death: dead.then(|| Box::new(death())) }
    };
    let destinations = sent.queues.iter().map(destination).collect();
    let session = sent.session.map(|(producer, epoch, sequence)| {
        let producer = ProducerId(producer);
        Session { producer, epoch, sequence }
    });
    let entries = vec![Entry { message, destinations }];
    Publish { session, dedup: sent.dedup, topology: state.topology().revision(), entries }
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
