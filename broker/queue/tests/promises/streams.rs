//! What streams promise: dense offsets that never change, retention that is never early, the last of each key kept.

mod groups;
mod naive;

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
    let policy = StreamPolicy { dead_letter: Some(name("own")), ..StreamPolicy::default() };
    let stream = Change::CreateStream { name: name("own"), policy };
    assert_eq!(shard.change(stream).expect_err("its own need one too").code, ErrorCode::Conflict);
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
