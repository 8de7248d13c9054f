//! Queues with limits: refused as a whole, or the oldest makes room; and times to live of the queue.

use std::time::Duration;

use bytes::Bytes;
use wharf_protocol::{DeathCause, ErrorCode, Message, ProducerId, Receipt, Rejection, Session};
use wharf_queue::{
    Change, Destination, Effect, Entry, Overflow, Publish, QueuePolicy, Record, Redrive, Selection,
};

use crate::shard::{Shard, brief, deliveries, message, name};

fn limited(max_messages: u64, overflow: Overflow) -> QueuePolicy {
    QueuePolicy { max_messages, overflow, ..QueuePolicy::default() }
}

fn ready(shard: &Shard, queue: &str) -> Vec<u64> {
    shard.state.peek(queue, 100).iter().map(|each| each.offset).collect()
}

fn rejected(receipt: Receipt) -> Rejection {
    match receipt {
        Receipt::Rejected(rejection) => rejection,
        other => panic!("refused, not {other:?}"),
    }
}

#[test]
fn a_full_queue_refuses_and_says_what_to_do() {
    let mut shard = Shard::new();
    shard.create("q", limited(2, Overflow::Reject));
    shard.publish(&["q"], message("m"));
    shard.publish(&["q"], message("m"));
    let rejection = rejected(shard.publish(&["q"], message("m")).0);
    assert_eq!(rejection.code, ErrorCode::Unavailable);
    let told = "queue q is full: 2 of 2 messages, 86 bytes; consume or purge some, or raise its limits";
    assert_eq!(rejection.reason, told);
}

#[test]
fn a_refused_publish_is_stored_nowhere_and_its_sequence_may_come_again() {
    let mut shard = Shard::with_queues(&["free"]);
    shard.create("q", limited(1, Overflow::Reject));
    shard.attach(1, "q", 10);
    shard.publish(&["q"], message("m"));
    let both = |shard: &Shard| Publish {
        session: Some(Session { producer: ProducerId(7), epoch: 1, sequence: 1 }),
        dedup: Some(9),
        ..Entry {
            message: message("m"),
            destinations: ["free", "q"].map(|queue| Destination::from(shard.id(queue))).into(),
        }
        .into()
    };
    rejected(shard.send(both(&shard)).0);
    assert_eq!((shard.queue("free").enqueued, shard.queue("q").enqueued), (0, 1), "what is leased counts");

    shard.ack(1, 1);
    assert!(matches!(shard.send(both(&shard)).0, Receipt::Stored(_)));
    assert!(matches!(shard.send(both(&shard)).0, Receipt::Duplicate(Some(_))), "a duplicate needs no room");
    assert_eq!((shard.queue("free").enqueued, shard.queue("q").enqueued), (1, 2));
}

#[test]
fn bytes_count_and_a_message_over_them_never_fits() {
    let mut shard = Shard::new();
    shard.create("q", QueuePolicy { max_bytes: 200, ..limited(0, Overflow::DropOldest) });
    let large = |bytes: usize| Message { payload: Bytes::from(vec![0; bytes]), ..message("") };
    for _ in 0..2 {
        assert!(matches!(shard.publish(&["q"], large(58)).0, Receipt::Stored(_)), "100 bytes with its head");
    }
    assert_eq!(shard.queue("q").bytes, 200);
    shard.publish(&["q"], large(0));
    assert_eq!((ready(&shard, "q"), shard.queue("q").bytes), (vec![1, 2], 142));
    rejected(shard.publish(&["q"], large(200)).0);
    assert_eq!(ready(&shard, "q"), [1, 2], "nothing goes for what would not fit even then");
}

#[test]
fn the_oldest_of_the_lowest_priority_makes_room() {
    let mut shard = Shard::new();
    shard.create("q", limited(3, Overflow::DropOldest));
    for priority in [5, 0, 0, 0, 5] {
        shard.publish(&["q"], Message { priority, ..message("m") });
    }
    assert_eq!(ready(&shard, "q"), [0, 4, 3]);
    assert_eq!((shard.queue("q").dropped, shard.queue("q").settled), (2, 2));
}

#[test]
fn what_cannot_be_dropped_refuses_what_comes() {
    let mut shard = Shard::new();
    shard.create("q", limited(2, Overflow::DropOldest));
    shard.attach(1, "q", 1);
    shard.publish(&["q"], message("leased"));
    shard.publish(&["q"], Message { delay: Some(Duration::from_secs(9)), ..message("delayed") });
    rejected(shard.publish(&["q"], message("m")).0);
    assert_eq!((shard.queue("q").leased, shard.queue("q").delayed), (1, 1));
}

#[test]
fn what_makes_room_may_be_dead_lettered() {
    let mut shard = Shard::new();
    shard.create("q", limited(1, Overflow::DeadLetter));
    shard.publish(&["q"], message("first"));
    shard.publish(&["q"], message("second"));
    let dead = shard.state.dead_letters("dead-letters", 0, 9);
    let told = (dead[0].death.cause, dead[0].death.reason.as_str(), dead[0].death.queue.as_str());
    assert_eq!(told, (DeathCause::Overflow, "it was the oldest when its queue was full", "q"));
    assert_eq!((ready(&shard, "q"), shard.queue("q").dead_lettered), (vec![1], 1));
}

/// A shard whose dead-letter queue has room for one letter, and has one.
fn with_full_dead_letters(policy: QueuePolicy) -> Shard {
    let mut shard = Shard::new();
    shard.create("dead-letters", limited(1, Overflow::Reject));
    shard.create("q", QueuePolicy { max_attempts: 1, retry_max_ms: 1_000, ..policy });
    shard.attach(1, "q", 100);
    shard.publish(&["q"], message("m"));
    shard.nack(1, 1, 0);
    assert_eq!(shard.queue("dead-letters").ready, 1);
    shard
}

#[test]
fn what_a_full_dead_letter_queue_has_no_room_for_rests_and_comes_again() {
    let mut shard = with_full_dead_letters(QueuePolicy::default());
    shard.publish(&["q"], message("m"));
    shard.nack(1, 2, 0);
    assert_eq!((shard.queue("q").delayed, shard.queue("dead-letters").enqueued), (1, 1), "not lost");
    shard.wait(1_000);
    assert_eq!(brief(&deliveries(shard.tick())), [(1, 1, 2)]);

    shard.change(Change::PurgeQueue { name: name("dead-letters") }).expect("purged");
    shard.nack(1, 3, 0);
    assert_eq!((shard.queue("q").dead_lettered, shard.queue("dead-letters").ready), (2, 1));
}

#[test]
fn what_expires_before_a_full_dead_letter_queue_is_not_delivered_and_not_lost() {
    let policy = QueuePolicy { dead_letter_expired: true, ttl_ms: 50, ..QueuePolicy::default() };
    let mut shard = with_full_dead_letters(policy);
    shard.detach(1);
    shard.publish(&["q"], message("m"));
    shard.wait(50);
    shard.tick();
    assert_eq!(shard.queue("q").delayed, 1);
    shard.wait(1_000);
    assert_eq!(shard.attach(2, "q", 9), [], "it ran out");
    assert_eq!(shard.queue("q").delayed, 1, "and waits for room again");

    shard.change(Change::PurgeQueue { name: name("dead-letters") }).expect("purged");
    shard.wait(1_000);
    shard.tick();
    assert_eq!(shard.state.dead_letters("dead-letters", 0, 9)[0].death.cause, DeathCause::Expired);
}

/// Found by a long run against the model: whether it was told at once that its time had run out hung on whether it had
/// been something out of the common before.
#[test]
fn what_runs_out_while_time_jumps_past_its_lease_rests_before_a_full_dead_letter_queue() {
    for priority in [0, 1] {
        let policy = QueuePolicy { lease_ms: 50, ttl_ms: 100, ..QueuePolicy::default() };
        let mut shard = with_full_dead_letters(policy);
        shard.publish(&["q"], Message { priority, ..message("m") });
        shard.wait(200);
        shard.tick();
        assert_eq!((shard.queue("q").delayed, shard.queue("q").expired), (1, 0), "priority {priority}");
        shard.wait(1_000);
        shard.tick();
        assert_eq!((shard.queue("q").delayed, shard.queue("q").expired), (0, 1), "priority {priority}");
    }
}

#[test]
fn a_full_dead_letter_queue_holds_publishers_back() {
    let mut shard = with_full_dead_letters(limited(1, Overflow::DeadLetter));
    shard.detach(1);
    shard.publish(&["q"], message("m"));
    let rejection = rejected(shard.publish(&["q"], message("m")).0);
    assert!(rejection.reason.starts_with("dead-letter queue dead-letters is full"), "{}", rejection.reason);
}

#[test]
fn redriven_letters_stay_when_there_is_no_room() {
    let mut shard = with_full_dead_letters(limited(1, Overflow::DropOldest));
    shard.detach(1);
    shard.publish(&["q"], message("m"));
    let redrive =
        Redrive { queue: name("dead-letters"), select: Selection::Oldest(9), to: None, redriven_max: None };
    assert_eq!(shard.apply(Record::Redrive(redrive)), [Effect::Redriven { moved: 0, kept: 1 }]);
    assert_eq!(ready(&shard, "q"), [1], "and push nothing out");
}

#[test]
fn the_shorter_time_to_live_holds() {
    let mut shard = Shard::new();
    shard.create("q", QueuePolicy { ttl_ms: 100, ..QueuePolicy::default() });
    let ttl = |ms| Message { ttl: Some(Duration::from_millis(ms)), ..message("m") };
    for message in [message("plain"), ttl(10), ttl(1_000)] {
        shard.publish(&["q"], message);
    }
    let ends: Vec<u64> = shard
        .state
        .browse("q", 0, 9)
        .iter()
        .map(|each| each.expires.map_or(0, |at| at.0 - shard.now().0))
        .collect();
    assert_eq!(ends, [100, 10, 100]);
    shard.wait(99);
    shard.tick();
    assert_eq!(ready(&shard, "q"), [0, 2], "not early");
    shard.wait(1);
    shard.tick();
    assert_eq!((ready(&shard, "q"), shard.queue("q").expired), (vec![], 3));
}

#[test]
fn a_queues_time_to_live_changes_for_what_waits() {
    let mut shard = Shard::with_queues(&["q"]);
    let set = |shard: &mut Shard, ttl_ms| {
        let policy = QueuePolicy { ttl_ms, ..QueuePolicy::default() };
        shard.change(Change::SetPolicy { name: name("q"), policy, was: None }).expect("changed");
    };
    shard.attach(1, "q", 2);
    for _ in 0..3 {
        shard.publish(&["q"], message("m"));
    }
    shard.nack(1, 2, 0);
    shard.wait(100);
    set(&mut shard, 200);
    assert_eq!(shard.queue("q").ready, 2);
    set(&mut shard, 50);
    assert_eq!((shard.queue("q").ready, shard.queue("q").expired), (0, 2), "all but what a consumer holds");
    set(&mut shard, 0);
    shard.nack(1, 1, 0);
    assert_eq!(ready(&shard, "q"), [0], "it is in time again");
}

#[test]
fn a_lower_limit_lets_the_oldest_go_at_once() {
    let mut shard = Shard::with_queues(&["q"]);
    for _ in 0..5 {
        shard.publish(&["q"], message("m"));
    }
    let policy = limited(2, Overflow::DropOldest);
    shard.change(Change::SetPolicy { name: name("q"), policy, was: None }).expect("changed");
    assert_eq!(ready(&shard, "q"), [3, 4]);
}
