//! What streams promise: dense offsets that never change, retention that is never early, the last of each key kept,
//! each message of a partition to one member at a time, and nothing again that was settled.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use wharf_protocol::{
    Death, DeathCause, ErrorCode, HeadersBuilder, Message, MessageId, Part, Receipt, Timestamp,
    TransactionReceipt,
};
use wharf_queue::{
    Assignment, Change, Commit, ConsumerId, DEAD_LETTERS, Destination, EXPECT_KEY_OFFSET, EXPECT_LAST_OFFSET,
    Effect, Entry, Failed, GiveUp, GiveUpTo, JoinGroup, Passed, Publish, QueuePolicy, Record, ResetGroup,
    Start, StreamPolicy, StreamView, Transaction,
};

use crate::shard::{Shard, name};

const MEMBER: u64 = 1_000;

fn message(key: Option<&str>, payload: &str) -> Message {
    let mut message = Message::new("a".parse().expect("a topic"), payload.to_owned());
    message.key = key.map(|key| key.to_owned().into());
    message
}

fn expecting(mut message: Message, header: &str, value: &str) -> Message {
    message.headers = HeadersBuilder::default().set(header, value).build().expect("small");
    message
}

impl Shard {
    fn create_stream(&mut self, stream: &str, policy: StreamPolicy) {
        self.change(Change::CreateStream { name: name(stream), policy }).expect("created");
    }

    fn append(&mut self, streams: &[&str], message: Message) -> Receipt {
        let id = |stream: &&str| self.state.topology().backlog(stream).expect("a backlog");
        let destinations = streams.iter().map(|stream| Destination::from(id(stream))).collect();
        self.send(Publish::from(Entry { message, destinations })).0
    }

    fn stream(&self, stream: &str) -> StreamView {
        self.state.stream(stream).expect("a stream")
    }

    /// The offsets that a partition keeps, and where each lies.
    fn offsets(&self, stream: &str, partition: u16) -> BTreeMap<u64, u64> {
        let id = self.stream(stream).id;
        let found = self.state.read_stream(id, partition, 0, usize::MAX).expect("a partition");
        found.places.iter().map(|place| (place.offset, place.id.index)).collect()
    }

    fn join(&mut self, stream: &str, group: &str, member: u64, start: Start) -> Vec<Effect> {
        let (stream, group) = (name(stream), name(group));
        self.apply(Record::JoinGroup(JoinGroup { member: ConsumerId(member), stream, group, start }))
    }

    fn leave(&mut self, member: u64) -> Vec<Effect> {
        self.apply(Record::LeaveGroup { member: ConsumerId(member) })
    }

    fn commit(&mut self, member: u64, passed: Passed) -> (Vec<u32>, Vec<Effect>) {
        let mut effects = self.apply(Record::Commit(Commit {
            member: ConsumerId(member),
            passed: vec![passed],
            failed: vec![],
        }));
        match effects.pop() {
            Some(Effect::Committed { stale, .. }) => (stale, effects),
            other => panic!("a commit is answered last: {other:?}"),
        }
    }

    /// A member fails with a message: whether that was stale, and whether it was one too many.
    fn fail(&mut self, member: u64, assignment: &Assignment, offset: u64) -> (bool, bool) {
        let Assignment { partition, generation, .. } = *assignment;
        let failed = vec![Failed { partition, generation, first: offset, offset }];
        let commit = Commit { member: ConsumerId(member), passed: vec![], failed };
        match self.apply(Record::Commit(commit)).pop() {
            Some(Effect::Committed { stale, given_up, .. }) => (!stale.is_empty(), !given_up.is_empty()),
            other => panic!("a commit is answered last: {other:?}"),
        }
    }
}

fn passed(assignment: &Assignment, first: u64, last: u64) -> Passed {
    let (partition, generation) = (assignment.partition, assignment.generation);
    Passed { partition, generation, first, last, dead_letter: None }
}

/// What a member was told last.
fn assigned(effects: &[Effect], member: u64) -> Vec<Assignment> {
    let told = effects.iter().rev().find_map(|effect| match effect {
        Effect::Assigned { member: who, assignments } if who.0 == member => Some(assignments.clone()),
        _ => None,
    });
    told.expect("the member was told")
}

#[test]
fn a_body_is_stored_once_for_queues_and_streams() {
    let mut shard = Shard::with_queues(&["work"]);
    shard.create_stream("orders", StreamPolicy::default());
    let id = shard.state.topology().backlog("orders").expect("a stream");
    let destinations = vec![Destination::from(shard.id("work")), Destination::from(id)];
    let entry = Entry { message: message(None, "x"), destinations };
    let (receipt, effects) = shard.send(Publish::from(entry));
    let Receipt::Stored(stored) = receipt else { panic!("{receipt:?}") };
    assert_eq!(shard.offsets("orders", 0), BTreeMap::from([(0, stored.index)]));
    assert_eq!(shard.queue("work").ready, 1);
    assert!(effects.contains(&Effect::Appended { stream: id, partition: 0, next: 1 }));
}

#[test]
fn names_are_shared_with_queues() {
    let mut shard = Shard::with_queues(&["work"]);
    let create = |name_: &str| Change::CreateStream { name: name(name_), policy: StreamPolicy::default() };
    assert_eq!(shard.change(create("work")).expect_err("taken").code, ErrorCode::Conflict);
    assert_eq!(shard.change(create(DEAD_LETTERS)).expect_err("taken").code, ErrorCode::Conflict);
    shard.change(create("orders")).expect("made");
    let policy = QueuePolicy::default();
    let queue = Change::CreateQueue { name: name("orders"), policy: policy.clone() };
    assert_eq!(shard.change(queue).expect_err("taken").code, ErrorCode::Conflict);
    let policy = QueuePolicy { dead_letter: Some(name("orders")), ..policy };
    let queue = Change::CreateQueue { name: name("other"), policy };
    assert_eq!(shard.change(queue).expect_err("dead letters need a queue").code, ErrorCode::Conflict);
}

#[test]
fn retention_by_count_keeps_at_least_that_and_at_most_a_quarter_more() {
    let mut shard = Shard::new();
    shard.create_stream("s", StreamPolicy { max_messages: 40, ..StreamPolicy::default() });
    for n in 0..200 {
        shard.append(&["s"], message(None, "x"));
        let kept = shard.stream("s").partitions[0].messages;
        assert!((40.min(n + 1)..=50).contains(&kept), "{kept} of {}", n + 1);
    }
}

#[test]
fn retention_by_age_is_never_early_and_needs_no_traffic() {
    let mut shard = Shard::new();
    shard.create_stream("s", StreamPolicy { max_age_ms: 1_000, ..StreamPolicy::default() });
    shard.append(&["s"], message(None, "a"));
    shard.wait(100);
    shard.append(&["s"], message(None, "b"));
    shard.wait(999);
    shard.tick();
    assert!(shard.offsets("s", 0).contains_key(&1), "one that is 999 ms old is kept");
    shard.wait(1);
    shard.tick();
    assert_eq!(shard.offsets("s", 0), BTreeMap::new());
    assert_eq!(shard.stream("s").partitions[0].next, 2, "offsets go on");
    assert!(shard.state.oldest_live_index() > shard.state.applied(), "no record is needed any more");
}

#[test]
fn compaction_keeps_the_last_of_each_key_and_takes_tombstones_later() {
    let mut shard = Shard::new();
    shard.create_stream("s", StreamPolicy { compact: true, tombstone_ms: 500, ..StreamPolicy::default() });
    for (key, payload) in [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1"), ("b", ""), ("a", "3")] {
        shard.append(&["s"], message(Some(key), payload));
    }
    let kept: Vec<u64> = shard.offsets("s", 0).into_keys().collect();
    assert_eq!(kept, [3, 4, 5], "offsets stay, with gaps");
    assert_eq!(shard.state.last_of_key("s", b"a").map(|(_, place)| place.offset), Some(5));
    shard.wait(499);
    shard.tick();
    assert!(shard.state.last_of_key("s", b"b").is_some(), "readers still see that the key was taken");
    shard.wait(1);
    shard.tick();
    assert_eq!(shard.state.last_of_key("s", b"b"), None);
    assert_eq!(shard.offsets("s", 0).into_keys().collect::<Vec<_>>(), [3, 5]);
}

#[test]
fn an_expected_offset_that_is_another_refuses_everything() {
    let mut shard = Shard::with_queues(&["work"]);
    shard.create_stream("s", StreamPolicy { index_keys: true, ..StreamPolicy::default() });
    let first = || expecting(message(Some("a"), "1"), EXPECT_LAST_OFFSET, "none");
    assert!(matches!(shard.append(&["s", "work"], first()), Receipt::Stored(_)));
    let Receipt::Rejected(rejection) = shard.append(&["s", "work"], first()) else { panic!("a conflict") };
    assert_eq!(rejection.code, ErrorCode::Conflict);
    assert!(rejection.reason.contains("is 0, not none"), "{}", rejection.reason);
    assert_eq!(shard.queue("work").ready, 1, "nothing went to the queue either");

    shard.append(&["s"], message(Some("b"), "2"));
    let third = |expected| expecting(message(Some("a"), "3"), EXPECT_KEY_OFFSET, expected);
    assert!(matches!(shard.append(&["s"], third("1")), Receipt::Rejected(_)), "that is the other key's");
    assert!(matches!(shard.append(&["s"], third("0")), Receipt::Stored(_)));
    assert!(matches!(shard.append(&["s"], third("x")), Receipt::Rejected(_)), "no offset at all");
}

#[test]
fn messages_of_one_record_expect_each_other() {
    let mut shard = Shard::new();
    shard.create_stream("s", StreamPolicy::default());
    let id = shard.stream("s").id;
    let entry = |expected: &str| Entry {
        message: expecting(message(None, "x"), EXPECT_LAST_OFFSET, expected),
        destinations: vec![Destination::from(id)],
    };
    let publish = |entries| Publish { entries, ..Publish::default() };
    let (receipt, _) = shard.send(publish(vec![entry("none"), entry("0"), entry("0")]));
    assert!(matches!(receipt, Receipt::Rejected(_)), "the third would come after the second");
    assert_eq!(shard.stream("s").partitions[0].next, 0);
    let (receipt, _) = shard.send(publish(vec![entry("none"), entry("0"), entry("1")]));
    assert!(matches!(receipt, Receipt::Stored(_)));
}

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
fn a_deleted_stream_tells_its_members_and_needs_no_record() {
    let mut shard = Shard::new();
    shard.create_stream("s", StreamPolicy { max_age_ms: 50, ..StreamPolicy::default() });
    shard.append(&["s"], message(None, "x"));
    shard.join("s", "g", MEMBER, Start::First);
    let told = shard.change(Change::DeleteStream { name: name("s") }).expect("deleted");
    assert!(told.contains(&Effect::Cancelled { consumer: ConsumerId(MEMBER) }));
    assert_eq!((shard.state.next_timer(), shard.state.streams().len()), (None, 0));
    assert!(shard.state.oldest_live_index() > shard.state.applied());
}

/// One message: its record, key, time and whether it is empty.
type Came = (u64, Option<String>, u64, bool);

/// What a naive stream knows.
#[derive(Default)]
struct Naive {
    /// By partition: every message that ever came, by offset.
    runs: Vec<Vec<Came>>,
    /// By partition: what was settled in group `g`.
    settled: Vec<BTreeSet<u64>>,
    /// What each member was told last.
    members: BTreeMap<u64, Vec<Assignment>>,
}

#[derive(Clone, Debug)]
enum Step {
    Append { key: Option<u8>, empty: bool },
    Wait(u16),
    Join(u64),
    Leave(u64),
    Settle { member: u64, choose: u8, first: u8, count: u8, stale: bool },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (proptest::option::of(0..4_u8), any::<bool>()).prop_map(|(key, empty)| Step::Append { key, empty }),
        2 => (0..400_u16).prop_map(Step::Wait),
        1 => (0..4_u64).prop_map(Step::Join),
        1 => (0..4_u64).prop_map(Step::Leave),
        4 => (0..4_u64, any::<u8>(), 0..20_u8, 0..4_u8, proptest::bool::weighted(0.1))
            .prop_map(|(member, choose, first, count, stale)| Step::Settle { member, choose, first, count, stale }),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_does_what_a_naive_one_does(
        steps in proptest::collection::vec(step(), 1..120),
        partitions in 1..4_u16,
        (max_age_ms, max_messages, max_bytes) in (prop_oneof![Just(0), 1..500_u64], prop_oneof![Just(0), 1..20_u64], prop_oneof![Just(0), 1..900_u64]),
        (compact, index_keys, tombstone_ms) in (any::<bool>(), any::<bool>(), 0..300_u64),
    ) {
        let policy = StreamPolicy {
            partitions, max_age_ms, max_messages, max_bytes, compact, index_keys, tombstone_ms, ..StreamPolicy::default()
        };
        let mut shard = Shard::new();
        shard.create_stream("s", policy.clone());
        let id = shard.stream("s").id;
        let runs = usize::from(partitions);
        let mut naive = Naive { runs: vec![Vec::new(); runs], settled: vec![BTreeSet::new(); runs], ..Naive::default() };
        for step in steps {
            let told = match step {
                Step::Append { key, empty } => {
                    let key = key.map(|key| key.to_string());
                    let message = message(key.as_deref(), if empty { "" } else { "x" });
                    let entry = Entry { message, destinations: vec![Destination::from(id)] };
                    let (receipt, effects) = shard.send(Publish::from(entry));
                    let Receipt::Stored(stored) = receipt else { panic!("{receipt:?}") };
                    let Some(Effect::Appended { partition, next, .. }) = effects.last() else { panic!("told") };
                    let run = &mut naive.runs[usize::from(*partition)];
                    prop_assert_eq!(*next, run.len() as u64 + 1, "offsets are dense");
                    run.push((stored.index, key, shard.now().0, empty));
                    effects
                }
                Step::Wait(ms) => {
                    shard.wait(ms.into());
                    shard.tick()
                }
                Step::Join(member) if !naive.members.contains_key(&member) => {
                    naive.members.insert(member, Vec::new());
                    shard.join("s", "g", member, Start::First)
                }
                Step::Leave(member) if naive.members.remove(&member).is_some() => shard.leave(member),
                Step::Settle { member, choose, first, count, stale } => {
                    let held = naive.members.get(&member).filter(|held| !held.is_empty());
                    let Some(held) = held else { continue };
                    let mine = &held[usize::from(choose) % held.len()];
                    let (first, last) = (u64::from(first), u64::from(first) + u64::from(count));
                    let mut range = passed(mine, first, last);
                    range.generation += u64::from(stale);
                    let refused = shard.commit(member, range).0;
                    let number = usize::from(mine.partition);
                    let there = last < naive.runs[number].len() as u64;
                    prop_assert_eq!(refused.is_empty(), there && !stale);
                    if refused.is_empty() {
                        naive.settled[number].extend(first..=last);
                    }
                    Vec::new()
                }
                Step::Restart => {
                    naive.members.clear();
                    shard.apply(Record::Restart)
                }
                Step::Join(_) | Step::Leave(_) => continue,
            };
            for effect in told {
                if let Effect::Assigned { member, assignments } = effect {
                    naive.members.insert(member.0, assignments);
                }
            }
            agree(&shard, &naive, &policy);
        }
    }
}

/// Whether a stream is as a naive one would be.
fn agree(shard: &Shard, naive: &Naive, policy: &StreamPolicy) {
    let now = shard.now().0;
    let groups = shard.state.groups("s");
    for (number, run) in (0..).zip(&naive.runs) {
        let kept = shard.offsets("s", number);
        for (offset, index) in &kept {
            assert_eq!(run[*offset as usize].0, *index, "an offset always means the same message");
        }
        let live = |(offset, (_, key, at, empty)): (u64, &(u64, Option<String>, u64, bool))| {
            let superseded =
                run[offset as usize + 1..].iter().any(|later| later.1.is_some() && later.1 == *key);
            let taken = *empty && key.is_some() && now >= at + policy.tombstone_ms;
            !(policy.compact && (superseded || taken))
        };
        let live: Vec<u64> = (0..).zip(run).filter(|each| live(*each)).map(|(offset, _)| offset).collect();
        // What has to be there: the newest, up to each limit, and nothing that is too old has to.
        let young =
            |offset: &&u64| policy.max_age_ms == 0 || run[**offset as usize].2 + policy.max_age_ms > now;
        let bytes = |offset: u64| {
            message(run[offset as usize].1.as_deref(), if run[offset as usize].3 { "" } else { "x" })
                .encoded_bytes() as u64
        };
        let (mut messages, mut size) = (0, 0);
        // In a compacted stream, what went for want of room may have gone before others of its time did.
        let limited = policy.compact && (policy.max_messages, policy.max_bytes) != (0, 0);
        for offset in live.iter().rev().take_while(young).filter(|_| !limited) {
            let enough = (policy.max_messages > 0 && messages >= policy.max_messages)
                || (policy.max_bytes > 0 && size >= policy.max_bytes);
            if enough {
                break;
            }
            assert!(kept.contains_key(offset), "partition {number}: offset {offset} went early");
            (messages, size) = (messages + 1, size + bytes(*offset));
        }
        assert!(
            kept.keys().all(|offset| live.contains(offset)),
            "partition {number}: superseded ones are gone"
        );
        if policy.knows_keys() {
            for key in ["0", "1", "2", "3"] {
                let last =
                    (0..).zip(run).filter(|(_, each)| each.1.as_deref() == Some(key)).map(|(o, _)| o).last();
                let found = shard.state.last_of_key("s", key.as_bytes()).filter(|(p, _)| *p == number);
                let expected = last.filter(|last| kept.contains_key(last));
                assert_eq!(found.map(|(_, place)| place.offset), expected, "the last of key {key}");
            }
        }
        let Some(group) = groups.first() else { continue };
        let owners =
            naive.members.iter().filter(|(_, held)| held.iter().any(|each| each.partition == number));
        let owners: Vec<u64> = owners.map(|(member, _)| *member).collect();
        assert_eq!(
            owners,
            Vec::from_iter(group.cursors[usize::from(number)].owner.map(|owner| owner.0)),
            "one owner"
        );
        let settled = &naive.settled[usize::from(number)];
        let floor = group.cursors[usize::from(number)].floor;
        let first = kept.keys().next().copied().unwrap_or(run.len() as u64);
        assert!(
            (0..floor).all(|offset| settled.contains(&offset)
                || offset < first.max(floor.min(first))
                || !kept.contains_key(&offset)),
            "partition {number}: nothing open is passed over"
        );
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

/// Found by random commands: the limits of a dead-letter queue held for what died on its way to a queue alone.
#[test]
fn what_dies_on_its_way_to_a_stream_needs_room_among_the_dead() {
    let mut shard = Shard::new();
    shard.create_stream("s", StreamPolicy::default());
    let policy = QueuePolicy { max_messages: 1, ..QueuePolicy::default() };
    shard.change(Change::CreateQueue { name: name(DEAD_LETTERS), policy }).expect("created");
    let stream = shard.stream("s").id;
    let mut dies = || {
        let destination = Destination { death: Some(Box::new(death())), ..stream.into() };
        let entry = Entry { message: message(None, "x"), destinations: vec![destination] };
        shard.send(Publish::from(entry)).0
    };
    assert!(matches!(dies(), Receipt::Stored(_)));
    let Receipt::Rejected(rejection) = dies() else { panic!("there is no room") };
    assert_eq!(rejection.code, ErrorCode::Unavailable);
}

/// Found by writing the model: messages after one that was left out were counted as if it had not been there, and so
/// looked for in another partition.
#[test]
fn an_expectation_holds_where_the_message_goes_also_after_one_that_is_left_out() {
    let mut shard = Shard::new();
    shard.create_stream("s", StreamPolicy { partitions: 2, ..StreamPolicy::default() });
    let to = |shard: &Shard, message| {
        let destinations = vec![shard.stream("s").id.into()];
        Publish::from(Entry { message, destinations })
    };
    let known = Publish { dedup: Some(7), ..to(&shard, message(None, "known")) };
    shard.send(known.clone());
    shard.append(&["s"], message(None, "other"));
    shard.append(&["s"], message(None, "third"));
    let nexts: Vec<u64> = shard.stream("s").partitions.iter().map(|each| each.next).collect();
    assert_eq!(nexts.iter().sum::<u64>(), 3);

    // Messages without a key go round by where they lie: this one is entry 1 of the next record.
    let index = shard.state.applied() + 1;
    let partition = ((index + 1) % 2) as usize;
    let last = (nexts[partition] - 1).to_string();
    let expects = to(&shard, expecting(message(None, "new"), EXPECT_LAST_OFFSET, &last));
    let transaction = Transaction { publishes: vec![known, expects], ..Transaction::default() };
    let effects = shard.apply(Record::Transaction(Box::new(transaction)));
    let Some(Effect::Transacted(receipt)) = effects.first() else { panic!("{effects:?}") };
    assert!(matches!(**receipt, TransactionReceipt::Committed(_)), "{receipt:?}");
    assert_eq!(shard.stream("s").partitions[partition].next, nexts[partition] + 1);
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
