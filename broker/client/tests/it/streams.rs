use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wharf_client::{
    Client, CommitError, ConsumeError, ConsumeOptions, Consumer, ErrorCode, HeadersBuilder, Message, Part,
    PublishError, ReadOptions, SettleError, Start, Timestamp,
};
use wharf_node::{Binding, EXPECT_LAST_OFFSET, GiveUp, Principal, StreamPolicy};

use crate::broker::TestBroker;

impl TestBroker {
    /// Creates a stream `events`, bound to `events.#`.
    async fn stream(&self, policy: StreamPolicy) {
        let me = Principal::system();
        let name: wharf_client::Name = "events".parse().expect("a name");
        self.node.create_stream(&me, name.clone(), policy).await.expect("created");
        let pattern = "events.#".parse().expect("a pattern");
        self.node.bind(&me, Binding { pattern, queue: name, pipeline: None }).await.expect("bound");
    }

    async fn floors(&self, group: &str) -> Vec<u64> {
        let stream = "events".parse().expect("a name");
        let groups = self.node.groups(&Principal::system(), &stream).await.expect("there");
        let group = groups.iter().find(|each| each.name.as_str() == group).expect("there");
        group.cursors.iter().map(|cursor| cursor.floor).collect()
    }
}

fn event(key: Option<&str>, payload: String) -> Message {
    let mut message = Message::new("events.a".parse().expect("a topic"), payload);
    message.key = key.map(|key| key.to_owned().into());
    message
}

async fn publish(client: &Client, numbers: std::ops::Range<usize>) {
    let publisher = client.publisher().await.expect("a publisher");
    for n in numbers {
        publisher.publish(event(Some(&(n % 7).to_string()), n.to_string())).await.expect("sent");
    }
    publisher.flush().await.expect("stored");
}

/// All that a reader gets until its end: payloads by partition.
async fn read_all(client: &Client, options: ReadOptions) -> BTreeMap<u16, Vec<(u64, String)>> {
    let stream = client.stream("events").expect("a name");
    let mut reader = stream.read(ReadOptions { until_end: true, ..options }).await.expect("a reader");
    let mut runs = BTreeMap::<u16, Vec<(u64, String)>>::new();
    while let Some(message) = reader.next().await {
        let payload = String::from_utf8_lossy(&message.message.payload).into_owned();
        runs.entry(message.partition).or_default().push((message.offset, payload));
    }
    assert!(reader.end().is_none(), "{:?}", reader.end());
    runs
}

async fn join(client: &Client, group: &str) -> Consumer {
    let stream = client.stream("events").expect("a name");
    stream.group(group, Start::First, ConsumeOptions::default()).await.expect("a member")
}

#[tokio::test]
async fn every_reader_sees_the_same_offsets_and_keys_keep_their_order() {
    let broker = TestBroker::start().await;
    broker.stream(StreamPolicy { partitions: 3, ..StreamPolicy::default() }).await;
    let client = broker.connect().await;
    publish(&client, 0..6_000).await;

    let runs = read_all(&client, ReadOptions::default()).await;
    assert_eq!(runs.values().map(Vec::len).sum::<usize>(), 6_000);
    assert!(runs.len() > 1, "seven keys go to more than one partition");
    for run in runs.values() {
        assert!(run.iter().zip(0..).all(|((offset, _), n)| *offset == n), "offsets are dense");
        for key in 0..7 {
            let mine = run.iter().filter_map(|(_, text)| text.parse::<u64>().ok()).filter(|n| n % 7 == key);
            assert!(mine.is_sorted(), "one key keeps its order");
        }
    }
    assert_eq!(read_all(&client, ReadOptions { prefetch: 3, ..ReadOptions::default() }).await, runs);
    let one = read_all(&client, ReadOptions { partitions: vec![1], ..ReadOptions::default() }).await;
    assert_eq!(one.get(&1), runs.get(&1));
    assert!(one.keys().all(|partition| *partition == 1));
}

#[tokio::test]
async fn a_reader_begins_where_it_is_told_and_follows_what_comes() {
    let broker = TestBroker::start().await;
    broker.stream(StreamPolicy::default()).await;
    let client = broker.connect().await;
    publish(&client, 0..100).await;
    let stream = client.stream("events").expect("a name");
    let first_of = async |start| {
        let mut reader =
            stream.read(ReadOptions { start, ..ReadOptions::default() }).await.expect("a reader");
        reader.next().await.expect("a message").offset
    };

    assert_eq!(first_of(Start::Last).await, 99);
    assert_eq!(first_of(Start::Offset(42)).await, 42);
    assert_eq!(first_of(Start::Time(Timestamp(1))).await, 0);
    let start = Start::New;
    let mut tail = stream.read(ReadOptions { start, ..ReadOptions::default() }).await.expect("a reader");
    publish(&client, 100..103).await;
    for n in 100..103 {
        let message = tail.next().await.expect("a message");
        assert_eq!((message.offset, &message.message.payload[..]), (n, n.to_string().as_bytes()));
    }
}

#[tokio::test]
async fn members_share_the_partitions_and_another_takes_over() {
    let broker = TestBroker::start().await;
    broker.stream(StreamPolicy { partitions: 4, ..StreamPolicy::default() }).await;
    let client = broker.connect().await;
    let (mut one, mut two) = (join(&client, "g").await, join(&client, "g").await);
    publish(&client, 0..2_000).await;

    let (mut seen, mut owners) = (BTreeSet::new(), BTreeMap::new());
    while seen.len() < 1_000 {
        let (member, message) = tokio::select! {
            message = one.next() => (1, message),
            message = two.next() => (2, message),
        };
        let message = message.expect("a message");
        assert_eq!(*owners.entry(message.partition).or_insert(member), member, "one owner at a time");
        assert!(seen.insert((message.partition, message.offset)), "each message to one member");
        message.ack();
    }
    one.flush().await;
    two.flush().await;
    drop(one);

    while seen.len() < 2_000 {
        let message = two.next().await.expect("a message");
        // What the other had and did not ack comes again; what it acked does not.
        assert!(seen.insert((message.partition, message.offset)), "nothing acked comes again");
        message.ack();
    }
    two.flush().await;
    let runs = read_all(&client, ReadOptions::default()).await;
    let ends: Vec<u64> = (0..4).map(|p| runs.get(&p).map_or(0, |run| run.len() as u64)).collect();
    assert_eq!(broker.floors("g").await, ends);
}

#[tokio::test]
async fn acks_in_any_order_hold_for_the_next_member() {
    let broker = TestBroker::start().await;
    broker.stream(StreamPolicy::default()).await;
    let client = broker.connect().await;
    publish(&client, 0..10).await;
    let mut first = join(&client, "g").await;
    let mut open = Vec::new();
    for _ in 0..10 {
        let message = first.next().await.expect("a message");
        assert!(!message.redelivered);
        if message.offset % 3 == 1 {
            message.ack().await.expect("durable");
        } else {
            open.push(message);
        }
    }
    drop(first);
    let mut second = join(&client, "g").await;
    for message in &open {
        let again = second.next().await.expect("a message");
        assert_eq!((again.offset, again.redelivered), (message.offset, true));
        again.ack();
    }
    second.flush().await;
    assert_eq!(
        open.pop().expect("the last").ack().await,
        Err(SettleError::Stale),
        "it is not the first's any more"
    );
    assert_eq!(broker.floors("g").await, [10]);
}

#[tokio::test]
async fn a_nacked_message_comes_again_before_newer_ones_and_a_dead_letter_does_not() {
    let broker = TestBroker::start().await;
    broker.stream(StreamPolicy::default()).await;
    let client = broker.connect().await;
    publish(&client, 0..5).await;
    let stream = client.stream("events").expect("a name");
    let options = ConsumeOptions { prefetch: 1, ..ConsumeOptions::default() };
    let mut member = stream.group("g", Start::First, options).await.expect("a member");
    let first = member.next().await.expect("a message");
    assert_eq!(first.attempt, 1);
    first.nack(Some(Duration::from_millis(5))).await.expect("taken");
    let again = member.next().await.expect("a message");
    assert_eq!((again.offset, again.attempt, again.redelivered), (0, 2, true));
    again.dead_letter("no good").await.expect("durable");
    let next = member.next().await.expect("a message");
    assert_eq!(next.offset, 1);

    assert_eq!(broker.floors("g").await, [1]);
    let until_empty = ConsumeOptions { until_empty: true, ..ConsumeOptions::default() };
    let mut dead = client.consume("dead-letters", until_empty).await.expect("a consumer");
    let letter = dead.next().await.expect("a dead letter");
    let death = letter.death.as_ref().expect("it died");
    assert_eq!((&death.queue[..], &death.reason[..]), ("events", "group g: no good"));
    assert_eq!(letter.message.payload, "0");
}

#[tokio::test]
async fn a_poison_message_holds_its_partition_for_so_many_attempts_whoever_takes_it() {
    let broker = TestBroker::start().await;
    let give_up = GiveUp { max_attempts: 3, ..GiveUp::default() };
    broker.stream(StreamPolicy { give_up, ..StreamPolicy::default() }).await;
    let client = broker.connect().await;
    publish(&client, 0..2).await;
    let stream = client.stream("events").expect("a name");
    let options = ConsumeOptions { prefetch: 1, ..ConsumeOptions::default() };
    for attempts in [1..=2, 3..=3] {
        let mut member = stream.group("g", Start::First, options).await.expect("a member");
        for attempt in attempts {
            let poison = member.next().await.expect("a message");
            assert_eq!((poison.offset, poison.attempt), (0, attempt), "counted on by the next member");
            poison.nack(Some(Duration::ZERO)).await.expect("taken");
        }
        drop(member);
    }
    let mut member = stream.group("g", Start::First, options).await.expect("a member");
    assert_eq!(member.next().await.expect("a message").offset, 1, "it goes on");
    let until_empty = ConsumeOptions { until_empty: true, ..ConsumeOptions::default() };
    let mut dead = client.consume("dead-letters", until_empty).await.expect("a consumer");
    let letter = dead.next().await.expect("a dead letter");
    let death = letter.death.as_ref().expect("it died");
    assert_eq!((death.attempts, &death.reason[..]), (3, "group g: failed 3 times, at last by a nack"));
}

#[tokio::test]
async fn an_append_that_expects_another_offset_is_a_conflict() {
    let broker = TestBroker::start().await;
    broker.stream(StreamPolicy::default()).await;
    let client = broker.connect().await;
    let expecting = |last: &str| {
        let headers = HeadersBuilder::default().set(EXPECT_LAST_OFFSET, last).build().expect("small");
        Message { headers, ..event(None, last.to_owned()) }
    };
    for (last, fits) in [("none", true), ("none", false), ("0", true), ("5", false), ("1", true)] {
        let stored = client.publish(expecting(last)).await.expect("sent").await;
        match stored {
            Ok(_) => assert!(fits, "{last}"),
            Err(PublishError::Rejected(rejection)) => {
                assert!(!fits, "{last}: {}", rejection.reason);
                assert_eq!(rejection.code, ErrorCode::Conflict);
                assert!(
                    rejection.reason.contains("last offset of stream events partition 0"),
                    "{}",
                    rejection.reason
                );
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(read_all(&client, ReadOptions::default()).await[&0].len(), 3);
}

#[tokio::test]
async fn a_compacted_stream_keeps_the_last_of_each_key() {
    let broker = TestBroker::start().await;
    broker.stream(StreamPolicy { compact: true, ..StreamPolicy::default() }).await;
    let client = broker.connect().await;
    publish(&client, 0..700).await;
    let stream = client.stream("events").expect("a name");
    let kept = &read_all(&client, ReadOptions::default()).await[&0];
    assert_eq!(kept.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), (693..700).collect::<Vec<_>>());
    let last = stream.last("3").await.expect("it knows keys").expect("a message");
    assert_eq!((last.offset, &last.message.payload[..]), (696, &b"696"[..]));
    assert!(stream.last("none").await.expect("it knows keys").is_none());

    let mut member = join(&client, "g").await;
    for _ in 0..7 {
        member.next().await.expect("a message").ack();
    }
    member.flush().await;
    assert_eq!(broker.floors("g").await, [700], "what is gone needs no settling");
}

#[tokio::test]
async fn a_reader_goes_on_after_a_lost_connection() {
    let mut broker = TestBroker::start().await;
    broker.stream(StreamPolicy { partitions: 2, ..StreamPolicy::default() }).await;
    let client = broker.connect().await;
    publish(&client, 0..500).await;
    let stream = client.stream("events").expect("a name");
    let mut reader =
        stream.read(ReadOptions { prefetch: 64, ..ReadOptions::default() }).await.expect("a reader");
    let mut got = BTreeSet::new();
    for _ in 0..200 {
        let message = reader.next().await.expect("a message");
        assert!(got.insert((message.partition, message.offset)));
    }
    broker.close_door().await;
    broker.open_door().await;
    while got.len() < 500 {
        let message = reader.next().await.expect("a message");
        assert!(got.insert((message.partition, message.offset)), "nothing comes twice");
    }
}

#[tokio::test]
async fn a_replay_keeps_the_pace_of_what_was_stored() {
    let broker = TestBroker::start().await;
    broker.stream(StreamPolicy::default()).await;
    let client = broker.connect().await;
    let publishing = tokio::time::Instant::now();
    while publishing.elapsed() < Duration::from_millis(150) {
        client.publish(event(None, "another".to_owned())).await.expect("sent").await.expect("stored");
    }
    let stream = client.stream("events").expect("a name");
    let options = ReadOptions { original_pace: true, until_end: true, ..ReadOptions::default() };
    let mut reader = stream.read(options).await.expect("a reader");
    let (mut began, mut stored, mut longest) = (None, None, Duration::ZERO);
    while let Some(message) = reader.next().await {
        let (now, at) = (tokio::time::Instant::now(), message.stored_at);
        let (began, stored) = (*began.get_or_insert(now), *stored.get_or_insert(at));
        let (waited, apart) = (now - began, at.since(stored));
        assert!(waited + Duration::from_millis(30) >= apart, "{waited:?} for {apart:?}");
        longest = longest.max(apart);
    }
    assert!(longest >= Duration::from_millis(100), "the last is {longest:?} after the first");
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let broker = TestBroker::start().await;
    broker.stream(StreamPolicy::default()).await;
    let client = broker.connect().await;
    let refused = |error: ConsumeError| match error {
        ConsumeError::Refused(refusal) => (refusal.code, refusal.reason),
        other => panic!("{other}"),
    };
    let nowhere = client.stream("nowhere").expect("a name");
    let (code, reason) = refused(nowhere.read(ReadOptions::default()).await.expect_err("no such stream"));
    assert_eq!((code, &reason[..]), (ErrorCode::NotFound, "there is no stream \"nowhere\""));
    let stream = client.stream("events").expect("a name");
    let options = ReadOptions { partitions: vec![1], ..ReadOptions::default() };
    assert_eq!(refused(stream.read(options).await.expect_err("no such partition")).0, ErrorCode::Malformed);
    assert_eq!(refused(stream.last("k").await.expect_err("no keys")).0, ErrorCode::Malformed);

    let mut reader = stream.read(ReadOptions::default()).await.expect("a reader");
    let me = Principal::system();
    broker.node.delete_stream(&me, &"events".parse().expect("a name")).await.expect("deleted");
    assert!(reader.next().await.is_none());
    assert!(
        matches!(reader.end(), Some(ConsumeError::Refused(refusal)) if refusal.code == ErrorCode::NotFound)
    );
}

/// Acks of a stream and outputs in one record: the group's cursor moves if and only if the output is there.
#[tokio::test]
async fn a_members_acks_are_part_of_a_transaction() {
    let broker = TestBroker::start().await;
    broker.stream(StreamPolicy::default()).await;
    let client = broker.connect().await;
    publish(&client, 0..4).await;
    let mut member = join(&client, "billing").await;
    let (first, second) = (member.next().await.expect("an event"), member.next().await.expect("another"));

    let output = || Message::new("orders.new".parse().expect("a topic"), "output");
    let mut transaction = client.transaction();
    transaction.ack(&first).ack(&second).publish(output());
    transaction.commit().await.expect("committed");
    assert_eq!((broker.floors("billing").await, broker.depth("orders").await), (vec![2], 1));

    let mut again = client.transaction();
    again.ack(&first).publish(output());
    let error = again.commit().await.expect_err("settled before");
    assert!(matches!(error, CommitError::Rejected { part: Part::Settlement(0), .. }), "{error}");

    // One that is refused for another part moves nothing.
    let third = member.next().await.expect("a third");
    let mut transaction = client.transaction();
    let unmet = HeadersBuilder::default().set(EXPECT_LAST_OFFSET, "99").build().expect("small");
    let expecting = Message { headers: unmet, ..event(None, "late".into()) };
    transaction.ack(&third).publish(output()).publish(expecting);
    let error = transaction.commit().await.expect_err("the stream is elsewhere");
    assert!(matches!(error, CommitError::Rejected { part: Part::Message(1), .. }), "{error}");
    assert_eq!((broker.floors("billing").await, broker.depth("orders").await), (vec![2], 1));
    third.ack().await.expect("still held");
    assert_eq!(broker.floors("billing").await, [3]);
}
