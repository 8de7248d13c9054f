//! Random commands of streams, groups, and what is declared beside queues.

use bytes::BytesMut;
use wharf_protocol::{Message, Name, Start, Timestamp};
use wharf_queue::{
    Change, Commit, ConsumerId, Deduplication, Failed, GiveUp, GiveUpTo, JoinGroup, Passed, Record,
    ResetGroup, State, StreamPolicy,
};

use super::{MESSAGE_BYTES, QUEUES, STREAMS, name, queue_name, small};
use crate::Draw;

/// The record that makes one of the first streams.
pub fn stream_creation(draw: &mut Draw, stream: usize) -> Record {
    Record::Topology(Change::CreateStream { name: parse(STREAMS[stream]), policy: policy(draw) })
}

/// A command about streams and groups, or about what is declared.
pub(super) fn record(kind: u64, draw: &mut Draw, state: &State) -> Record {
    match kind {
        ..136 => {
            let start = start(draw, state);
            Record::JoinGroup(JoinGroup {
                member: member(draw),
                stream: stream(draw),
                group: group(draw),
                start,
            })
        }
        136..138 => Record::LeaveGroup { member: member(draw) },
        138..147 => Record::Commit(commit(draw, state)),
        147..149 => {
            let (to, partition) = (start(draw, state), draw.maybe(50, |draw| draw.below(3) as u16));
            Record::ResetGroup(ResetGroup { stream: stream(draw), group: group(draw), to, partition })
        }
        149 if draw.percent(30) => Record::DeleteGroup { stream: stream(draw), group: group(draw) },
        149 => Record::Topology(Change::DeleteStream { name: stream(draw) }),
        150 | 151 => Record::Topology(Change::CreateStream { name: either(draw), policy: policy(draw) }),
        152 | 153 => {
            let (name, mut policy) = (stream(draw), policy(draw));
            // These stay as they were made, but for some that are to be refused.
            if let Some(info) = state.topology().stream(name.as_str()).filter(|_| draw.percent(90)) {
                let StreamPolicy { partitions, compact, index_keys, .. } = info.policy;
                policy = StreamPolicy { partitions, compact, index_keys, ..policy };
            }
            let was = draw.maybe(30, |draw| match state.topology().stream(name.as_str()) {
                Some(info) if draw.percent(70) => Box::new(info.policy.clone()),
                _ => Box::new(StreamPolicy::default()),
            });
            Record::Topology(Change::SetStreamPolicy { name, policy, was })
        }
        154..156 => {
            let (pattern, queue) = (pattern(draw), either(draw));
            let pipeline = draw.maybe(5, |_| parse("none"));
            Record::Topology(Change::Bind { pattern, queue, pipeline })
        }
        156 => Record::Topology(Change::Unbind { pattern: pattern(draw), queue: either(draw) }),
        157..163 => Record::Topology(schedule(draw, state)),
        _ => Record::Topology(Change::SetDeduplication(Deduplication {
            window_ms: draw.one_of(&[0, 40, 200, 600_000]),
            max: draw.one_of(&[0, 1, 2, 1_000]),
        })),
    }
}

/// What the owner of a partition is done with, mostly.
pub(super) fn commit(draw: &mut Draw, state: &State) -> Commit {
    let groups = state.groups(draw.one_of(&STREAMS));
    let owned = groups.iter().flat_map(|group| (0..).zip(&group.cursors));
    let mut owned: Vec<_> = owned.filter_map(|(n, cursor)| Some((cursor.owner?, n, *cursor))).collect();
    if owned.is_empty() {
        let passed = Passed { partition: 0, generation: 1, first: 0, last: 0, dead_letter: None };
        return Commit { member: member(draw), passed: vec![passed], failed: Vec::new() };
    }
    let first = draw.below(owned.len() as u64) as usize;
    let member = owned[first].0;
    owned.retain(|(owner, ..)| *owner == member);
    let passed = (0..draw.one_of(&[1, 1, 2])).map(|_| {
        let (_, partition, cursor) = owned[draw.below(owned.len() as u64) as usize];
        let first = cursor.floor + draw.one_of(&[0, 0, 0, 1, 2, 4]);
        let last = first + draw.one_of(&[0, 0, 1, 2]);
        let generation = cursor.generation + u64::from(draw.percent(5));
        Passed { partition, generation, first, last, dead_letter: draw.maybe(15, |_| "no good".into()) }
    });
    let passed = passed.collect();
    let failed = draw.maybe(70, |draw| {
        let (_, partition, cursor) = owned[draw.below(owned.len() as u64) as usize];
        // The same ones again and again, until they are given up.
        let first = cursor.floor + draw.one_of(&[0, 0, 0, 1]);
        let offset = first + draw.one_of(&[0, 0, 0, 1]);
        let generation = cursor.generation + u64::from(draw.percent(5));
        Failed { partition, generation, first, offset }
    });
    let failed = failed.into_iter().collect();
    Commit { member: if draw.percent(95) { member } else { self::member(draw) }, passed, failed }
}

/// The same for a transaction, in which nothing fails, mostly.
pub(super) fn commit_of_transaction(draw: &mut Draw, state: &State) -> Commit {
    let commit = commit(draw, state);
    let failed = if draw.percent(5) { commit.failed } else { Vec::new() };
    Commit { failed, ..commit }
}

fn policy(draw: &mut Draw) -> StreamPolicy {
    StreamPolicy {
        partitions: if draw.percent(2) { 0 } else { 1 + draw.below(3) as u16 },
        max_age_ms: draw.maybe(30, |draw| 20 + draw.below(100)).unwrap_or(0),
        max_bytes: draw.maybe(20, |draw| MESSAGE_BYTES * (1 + draw.below(6))).unwrap_or(0),
        max_messages: draw.maybe(30, |draw| 1 + draw.below(9)).unwrap_or(0),
        compact: draw.percent(30),
        index_keys: draw.percent(30),
        tombstone_ms: 20 + draw.below(100),
        dead_letter: draw.maybe(30, |draw| queue_name(4 + draw.below(2) as usize)),
        give_up: GiveUp {
            max_attempts: small(draw, 4),
            to: draw.one_of(&[GiveUpTo::DeadLetter, GiveUpTo::DeadLetter, GiveUpTo::Skip]),
        },
        ..StreamPolicy::default()
    }
}

fn schedule(draw: &mut Draw, state: &State) -> Change {
    let name = parse(draw.one_of(&["nightly", "nightly", "hourly"]));
    let known = state.topology().schedule(name.as_str());
    match draw.below(8) {
        0 => Change::RemoveSchedule { name },
        // Mostly what changes something.
        1..5 => {
            let paused = known.is_some_and(|known| known.paused);
            Change::PauseSchedule { name, paused: paused != draw.percent(80) }
        }
        _ => {
            let mut message = BytesMut::new();
            Message::new("orders.new".parse().expect("a topic"), "report").encode(&mut message);
            // One that is cut off is none.
            message.truncate(if draw.percent(10) { 3 } else { message.len() });
            let (cron, time_zone) = (draw.one_of(&["0 3 * * *", "@hourly"]).into(), "Europe/Rome".into());
            Change::PutSchedule { name, cron, time_zone, message: message.freeze(), by: "me".into() }
        }
    }
}

fn start(draw: &mut Draw, state: &State) -> Start {
    match draw.below(6) {
        0 => Start::Last,
        1 => Start::New,
        2 => Start::Offset(draw.below(10)),
        3 => Start::Time(Timestamp(state.now().0.saturating_sub(draw.below(60)))),
        _ => Start::First,
    }
}

fn member(draw: &mut Draw) -> ConsumerId {
    ConsumerId(100 + draw.below(4))
}

fn group(draw: &mut Draw) -> Name {
    parse(draw.one_of(&["g", "g", "h"]))
}

fn stream(draw: &mut Draw) -> Name {
    parse(draw.one_of(&STREAMS))
}

/// A stream or queue.
fn either(draw: &mut Draw) -> Name {
    if draw.percent(50) { stream(draw) } else { name(draw) }
}

fn pattern(draw: &mut Draw) -> wharf_protocol::Pattern {
    draw.one_of(&["#", "orders.*", "orders.new", "*.new.#", "other"]).parse().expect("a pattern")
}

fn parse(text: &str) -> Name {
    debug_assert!(!QUEUES.contains(&text), "the queues have their own");
    text.parse().expect("a name")
}
