//! Messages looked at and moved by an operator.

use std::time::Duration;

use wharf_protocol::{ErrorCode, Message, MessageId};
use wharf_queue::{Effect, Move, Order, Place, QueuePolicy, Record, Selection};

use crate::shard::{Shard, brief, message, name};

fn relocate(shard: &mut Shard, select: Selection, to: &str) -> Vec<Effect> {
    shard.apply(Record::Move(Move { queue: name("q"), select, to: name(to) }))
}

#[test]
fn every_message_is_seen_in_its_place_and_stays_there() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.attach(1, "q", 2);
    for _ in 0..3 {
        shard.publish(&["q"], message("m"));
    }
    shard.nack(1, 2, 500);
    let seen = shard.state.browse("q", 0, 9);
    let until = shard.now().after(Duration::from_millis(500));
    let places: Vec<Place> = seen.iter().map(|each| each.place).collect();
    assert_eq!(places, [Place::Leased, Place::Delayed { until }, Place::Ready]);
    assert_eq!((seen[1].attempts, seen[1].failures, seen[1].bytes), (1, 1, 43));
    let offsets: Vec<u64> = shard.state.browse("q", 1, 1).iter().map(|each| each.offset).collect();
    assert_eq!(offsets, [1], "from an offset on, at most so many");
}

#[test]
fn waiting_messages_move_and_what_a_consumer_holds_stays() {
    let mut shard = Shard::with_queues(&["q", "to"]);
    shard.attach(1, "q", 1);
    for priority in [0, 0, 3] {
        shard.publish(&["q"], Message { priority, ..message("m") });
    }
    shard.publish(&["q"], Message { delay: Some(Duration::from_millis(700)), ..message("late") });
    let effects = relocate(&mut shard, Selection::Offsets { from: 0, to: 9 }, "to");
    assert_eq!(effects, [Effect::Moved { moved: 3, kept: 1 }]);

    let (from, to) = (shard.queue("q"), shard.queue("to"));
    assert_eq!((from.leased, from.ready, from.delayed, from.moved), (1, 0, 0, 3));
    assert_eq!((to.ready, to.delayed), (2, 1));
    assert_eq!(brief(&shard.attach(2, "to", 9)), [(2, 1, 1), (2, 0, 1)], "priorities go with them");
    assert_eq!(shard.ack(1, 1).accepted, 1);
}

#[test]
fn messages_move_by_number_and_by_id_as_far_as_there_is_room() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.create("to", QueuePolicy { max_messages: 2, ..QueuePolicy::default() });
    for _ in 0..4 {
        shard.publish(&["q"], message("m"));
    }
    assert_eq!(relocate(&mut shard, Selection::Oldest(1), "to"), [Effect::Moved { moved: 1, kept: 0 }]);
    let last = shard.state.browse("q", 3, 1)[0].id;
    let ids = vec![last, MessageId { index: 999, entry: 0 }];
    assert_eq!(relocate(&mut shard, Selection::Ids(ids), "to"), [Effect::Moved { moved: 1, kept: 1 }]);
    assert_eq!(
        relocate(&mut shard, Selection::Oldest(9), "to"),
        [Effect::Moved { moved: 0, kept: 2 }],
        "full"
    );
}

#[test]
fn a_message_moved_in_has_the_whole_time_of_its_new_queue() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.create("to", QueuePolicy { ttl_ms: 100, ..QueuePolicy::default() });
    shard.publish(&["q"], message("m"));
    shard.wait(5_000);
    relocate(&mut shard, Selection::Oldest(9), "to");
    shard.wait(99);
    shard.tick();
    assert_eq!(shard.queue("to").ready, 1);
    shard.wait(1);
    shard.tick();
    assert_eq!(shard.queue("to").expired, 1);
}

#[test]
fn messages_do_not_move_where_their_keys_are_not_known() {
    let mut shard = Shard::with_queues(&["q", "other"]);
    shard.create("keyed", QueuePolicy { order: Order::Key, ..QueuePolicy::default() });
    for (to, code) in
        [("q", ErrorCode::Conflict), ("keyed", ErrorCode::Conflict), ("none", ErrorCode::NotFound)]
    {
        let effects = relocate(&mut shard, Selection::Oldest(9), to);
        assert!(
            matches!(&effects[..], [Effect::Refused(refusal)] if refusal.code == code),
            "{to}: {effects:?}"
        );
    }
}
