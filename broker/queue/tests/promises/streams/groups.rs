//! Groups: each message of a partition to one member at a time, and nothing again that was settled.

use super::*;

#[test]
fn a_member_that_takes_over_begins_at_the_floor_and_knows_what_is_settled() {
    let mut shard = Shard::new();
    shard.create_stream("s", StreamPolicy::default());
    (0..10).for_each(|_| drop(shard.append(&["s"], message(None, "x"))));
    let first = assigned(&shard.join("s", "g", MEMBER, Start::First), MEMBER)[0].clone();
    for (from, to) in [(0, 2), (5, 6)] {
        assert_eq!(shard.commit(MEMBER, passed(&first, from, to)).0, [0; 0]);
    }
    assert_eq!(assigned(&shard.join("s", "g", MEMBER + 1, Start::First), MEMBER + 1), [], "it stands by");
    let second = assigned(&shard.leave(MEMBER), MEMBER + 1)[0].clone();
    assert_eq!((second.floor, &second.settled[..], second.seen), (3, &[(5, 6)][..], 10));
    assert_eq!(shard.commit(MEMBER, passed(&first, 3, 3)).0, [0], "who left settles nothing");
    let old = Passed { generation: first.generation, ..passed(&second, 3, 4) };
    assert_eq!(shard.commit(MEMBER + 1, old).0, [0], "nor does an old generation");
    assert_eq!(shard.commit(MEMBER + 1, passed(&second, 3, 4)).0, [0; 0]);
    assert_eq!(shard.state.groups("s")[0].cursors[0].floor, 7);
    assert_eq!(shard.state.groups("s")[0].cursors[0].lag, 3);
}

#[test]
fn a_restart_keeps_cursors_and_lets_all_members_go() {
    let mut shard = Shard::new();
    shard.create_stream("s", StreamPolicy { partitions: 3, ..StreamPolicy::default() });
    (0..30).for_each(|_| drop(shard.append(&["s"], message(None, "x"))));
    let mine = assigned(&shard.join("s", "g", MEMBER, Start::First), MEMBER);
    mine.iter().for_each(|each| drop(shard.commit(MEMBER, passed(each, 0, 4))));
    shard.apply(Record::Restart);
    let again = assigned(&shard.join("s", "g", MEMBER, Start::New), MEMBER);
    assert_eq!(again.iter().map(|each| (each.floor, each.seen)).collect::<Vec<_>>(), [(5, 10); 3]);
}

#[test]
fn a_message_that_is_given_up_lies_with_the_dead_letters_once() {
    let mut shard = Shard::new();
    shard.create_stream("s", StreamPolicy::default());
    (0..3).for_each(|n| drop(shard.append(&["s"], message(None, &n.to_string()))));
    let mine = assigned(&shard.join("s", "g", MEMBER, Start::First), MEMBER)[0].clone();
    let give_up = Passed { dead_letter: Some("no good".into()), ..passed(&mine, 1, 1) };
    shard.commit(MEMBER, give_up.clone());
    shard.commit(MEMBER, give_up);
    let dead = shard.state.dead_letters(DEAD_LETTERS, 0, 10);
    assert_eq!(dead.len(), 1, "once");
    assert_eq!((&dead[0].death.queue[..], &dead[0].death.reason[..]), ("s", "group g: no good"));
    assert_eq!(dead[0].id.index, shard.offsets("s", 0)[&1], "the body is not stored again");
}

/// A stream `s` of three messages, of which groups give one up after `max_attempts` failures.
fn impatient(max_attempts: u32, to: GiveUpTo) -> Shard {
    let mut shard = Shard::new();
    let give_up = GiveUp { max_attempts, to };
    shard.create_stream("s", StreamPolicy { give_up, ..StreamPolicy::default() });
    (0..3).for_each(|n| drop(shard.append(&["s"], message(None, &n.to_string()))));
    shard
}

#[test]
fn a_message_that_fails_too_often_is_dead_lettered_and_holds_its_partition_no_more() {
    let mut shard = impatient(3, GiveUpTo::DeadLetter);
    let mine = assigned(&shard.join("s", "g", MEMBER, Start::First), MEMBER)[0].clone();
    assert_eq!(shard.fail(MEMBER, &mine, 0), (false, false));
    assert_eq!(shard.fail(MEMBER, &mine, 0), (false, false));
    assert_eq!(shard.state.groups("s")[0].cursors[0].failing, 1);
    assert_eq!(shard.fail(MEMBER, &mine, 0), (false, true));
    let dead = shard.state.dead_letters(DEAD_LETTERS, 0, 10);
    assert_eq!(dead.len(), 1);
    let death = &dead[0].death;
    assert_eq!((death.cause, death.attempts), (DeathCause::MaxAttempts, 3));
    assert_eq!(death.reason, "group g: failed 3 times, at last by a nack");
    let cursor = shard.state.groups("s")[0].cursors[0];
    assert_eq!((cursor.floor, cursor.lag, cursor.failing), (1, 2, 0));
    assert_eq!(shard.fail(MEMBER, &mine, 0), (true, false), "what is settled fails no more");
    assert_eq!(shard.offsets("s", 0).len(), 3, "the stream keeps it, for others");
}

#[test]
fn failures_are_counted_on_by_another_member_after_a_restart_and_for_each_group_by_itself() {
    let mut shard = impatient(2, GiveUpTo::DeadLetter);
    let first = assigned(&shard.join("s", "g", MEMBER, Start::First), MEMBER)[0].clone();
    shard.fail(MEMBER, &first, 1);
    shard.apply(Record::Restart);
    let other = assigned(&shard.join("s", "h", MEMBER, Start::First), MEMBER)[0].clone();
    assert_eq!(other.failures, []);
    assert_eq!(shard.fail(MEMBER, &other, 1), (false, false));
    let second = assigned(&shard.join("s", "g", MEMBER + 1, Start::First), MEMBER + 1)[0].clone();
    assert_eq!(second.failures, [(1, 1)]);
    assert_eq!(shard.fail(MEMBER + 1, &second, 1), (false, true));
}

#[test]
fn a_message_may_be_passed_over_instead_or_never_be_given_up() {
    let mut shard = impatient(1, GiveUpTo::Skip);
    let mine = assigned(&shard.join("s", "g", MEMBER, Start::First), MEMBER)[0].clone();
    assert_eq!(shard.fail(MEMBER, &mine, 0), (false, true));
    assert_eq!(shard.state.dead_letters(DEAD_LETTERS, 0, 10), []);
    assert_eq!(shard.state.groups("s")[0].cursors[0].floor, 1);

    let mut shard = impatient(0, GiveUpTo::DeadLetter);
    let mine = assigned(&shard.join("s", "g", MEMBER, Start::First), MEMBER)[0].clone();
    (0..100).for_each(|_| assert_eq!(shard.fail(MEMBER, &mine, 0), (false, false)));
}

#[test]
fn a_full_dead_letter_queue_holds_a_partition_until_there_is_room() {
    let mut shard = impatient(1, GiveUpTo::DeadLetter);
    shard.create(DEAD_LETTERS, QueuePolicy { max_messages: 1, ..QueuePolicy::default() });
    let mine = assigned(&shard.join("s", "g", MEMBER, Start::First), MEMBER)[0].clone();
    assert_eq!(shard.fail(MEMBER, &mine, 0), (false, true));
    assert_eq!(shard.fail(MEMBER, &mine, 1), (false, false), "full: that is back-pressure, not loss");
    shard.apply(Record::Topology(Change::PurgeQueue { name: name(DEAD_LETTERS) }));
    assert_eq!(shard.fail(MEMBER, &mine, 1), (false, true));
    assert_eq!(shard.state.dead_letters(DEAD_LETTERS, 0, 10)[0].death.attempts, 2);
}

#[test]
fn a_group_goes_where_it_is_set() {
    let mut shard = Shard::new();
    shard.create_stream("s", StreamPolicy::default());
    for _ in 0..6 {
        shard.append(&["s"], message(None, "x"));
        shard.wait(10);
    }
    let began = shard.now().0 - 60;
    let mine = assigned(&shard.join("s", "g", MEMBER, Start::Last), MEMBER)[0].clone();
    assert_eq!(mine.floor, 5);
    for (to, floor) in [
        (Start::First, 0),
        (Start::New, 6),
        (Start::Offset(4), 4),
        (Start::Offset(99), 6),
        (Start::Time(wharf_protocol::Timestamp(began + 11)), 2),
    ] {
        let (stream, group) = (name("s"), name("g"));
        let told = shard.apply(Record::ResetGroup(ResetGroup { stream, group, to, partition: None }));
        let again = assigned(&told, MEMBER)[0].clone();
        assert_eq!((again.floor, again.seen), (floor, 6), "{to:?}");
        assert_eq!(shard.commit(MEMBER, passed(&mine, 0, 0)).0, [0], "what it did before counts no more");
    }
}

#[test]
fn a_transaction_moves_a_groups_cursor_or_nothing() {
    let mut shard = Shard::with_queues(&["out"]);
    shard.create_stream("orders", StreamPolicy::default());
    for _ in 0..4 {
        shard.append(&["orders"], message(None, "x"));
    }
    let assignment = assigned(&shard.join("orders", "billing", 1, Start::First), 1)[0].clone();
    let transact = |shard: &mut Shard, ranges: &[(u64, u64)]| {
        let passed = ranges.iter().map(|(first, last)| passed(&assignment, *first, *last)).collect();
        let destinations = vec![shard.id("out").into()];
        let publishes = vec![Publish::from(Entry { message: message(None, "out"), destinations })];
        let cursors = vec![Commit { member: ConsumerId(1), passed, failed: vec![] }];
        let transaction = Transaction { publishes, cursors, ..Transaction::default() };
        match shard.apply(Record::Transaction(Box::new(transaction))).remove(0) {
            Effect::Transacted(receipt) => *receipt,
            other => panic!("a transaction is answered first, not by {other:?}"),
        }
    };
    let floor = |shard: &Shard| shard.state.groups("orders")[0].cursors[0].floor;

    assert!(matches!(transact(&mut shard, &[(0, 1)]), TransactionReceipt::Committed(_)));
    assert_eq!((floor(&shard), shard.queue("out").enqueued), (2, 1));
    for refused in [&[(1, 1)][..], &[(2, 9)], &[(2, 2), (2, 2)]] {
        let receipt = transact(&mut shard, refused);
        assert!(matches!(receipt, TransactionReceipt::Refused { part: Part::Cursor(0), .. }), "{receipt:?}");
        assert_eq!((floor(&shard), shard.queue("out").enqueued), (2, 1));
    }
}

#[test]
fn a_group_lags_by_what_is_kept_and_not_settled() {
    let mut shard = Shard::new();
    shard.create_stream("s", StreamPolicy { max_messages: 4, ..StreamPolicy::default() });
    for _ in 0..4 {
        shard.append(&["s"], message(None, "x"));
    }
    let effects = shard.join("s", "g", MEMBER, Start::First);
    let mine = assigned(&effects, MEMBER).remove(0);
    shard.commit(MEMBER, passed(&mine, 2, 3));
    for _ in 0..3 {
        shard.append(&["s"], message(None, "x"));
    }
    // 0 to 2 are gone, 2 and 3 are settled: 4, 5 and 6 are left.
    assert_eq!(shard.stream("s").partitions[0].first, 3);
    let cursor = shard.state.groups("s")[0].cursors[0];
    assert_eq!((cursor.floor, cursor.lag), (0, 3));
}
