//! What pipelines remember changes with a publication or not at all.

use std::collections::BTreeMap;

use bytes::Bytes;
use bytestring::ByteString;
use proptest::prelude::*;
use wharf_protocol::{Kept, Name, ProducerId, Receipt, Session, TransactionReceipt};
use wharf_queue::{
    Change, Effect, Entry, KvChange, KvPart, KvRead, Publish, QueuePolicy, Record, Transaction, is_stale,
    is_stale_rejection, kv_digest,
};

use crate::shard::{Shard, message, name};

fn shard() -> Shard {
    let mut shard = Shard::with_queues(&["q"]);
    for pipeline in ["p", "other"] {
        let change = Change::ApplyPipeline {
            name: name(pipeline),
            spec: "".into(),
            ingress: None,
            by: "tests".into(),
            note: String::new(),
            delivery: Vec::new(),
        };
        shard.change(change).expect("applied");
    }
    shard
}

fn kept(value: u64, expires: Option<wharf_protocol::Timestamp>) -> Kept {
    Kept { value: Bytes::from(value.to_string()), expires }
}

fn now(shard: &Shard, pipeline: &Name, key: &str) -> Option<u64> {
    let kept = shard.state.kv().get(pipeline, key)?;
    Some(std::str::from_utf8(&kept.value).expect("text").parse().expect("a number"))
}

fn change(key: &str, kept: Option<Kept>) -> KvChange {
    KvChange { pipeline: name("p"), key: key.into(), kept }
}

/// A publication whose pipeline found `seen` under `key` and left `left` there.
fn part(key: &str, seen: Option<&Kept>, left: Option<Kept>) -> KvPart {
    let read = KvRead { pipeline: name("p"), key: key.into(), seen: seen.map(kv_digest) };
    KvPart { reads: vec![read], changes: vec![change(key, left)], ..KvPart::default() }
}

fn publish(shard: &Shard, kv: KvPart) -> Publish {
    let entry = Entry { message: message("m"), destinations: vec![shard.id("q").into()] };
    Publish { kv: Some(Box::new(kv)), ..Publish::from(entry) }
}

fn send(shard: &mut Shard, kv: KvPart) -> Receipt {
    let publish = publish(shard, kv);
    shard.send(publish).0
}

#[test]
fn an_outdated_reading_stores_nothing() {
    let mut shard = shard();
    let (one, two) = (kept(1, None), kept(2, None));
    assert!(matches!(send(&mut shard, part("n", None, Some(one.clone()))), Receipt::Stored(_)));

    assert!(is_stale(&send(&mut shard, part("n", None, Some(two.clone())))));
    assert_eq!((shard.queue("q").ready, now(&shard, &name("p"), "n")), (1, Some(1)));

    assert!(matches!(send(&mut shard, part("n", Some(&one), Some(two))), Receipt::Stored(_)));
    assert_eq!((shard.queue("q").ready, now(&shard, &name("p"), "n")), (2, Some(2)));
}

/// The second of one batch, stored while the first has to come again, would leave a gap in the producer's run, and
/// the first would be refused for it.
#[test]
fn what_follows_a_stale_publication_does_not_overtake_it() {
    let mut shard = shard();
    send(&mut shard, part("n", None, Some(kept(1, None))));
    let session = |sequence| Some(Session { producer: ProducerId(7), epoch: 1, sequence });

    let stale = Publish { session: session(1), ..publish(&shard, part("n", None, None)) };
    assert!(is_stale(&shard.send(stale).0));
    let follower = KvPart { follows: true, ..KvPart::default() };
    for sequence in [2, 3] {
        let follower = Publish { session: session(sequence), ..publish(&shard, follower.clone()) };
        assert!(is_stale(&shard.send(follower).0));
    }

    let again = Publish { session: session(1), ..publish(&shard, KvPart::default()) };
    assert!(matches!(shard.send(again).0, Receipt::Stored(_)));
    let next = Publish { session: session(2), ..publish(&shard, follower) };
    assert!(matches!(shard.send(next).0, Receipt::Stored(_)), "what it follows was stored");
}

#[test]
fn a_duplicate_or_refused_message_changes_nothing() {
    let mut shard = shard();
    shard.create("small", QueuePolicy { max_messages: 1, ..QueuePolicy::default() });
    let counted = |shard: &Shard, key: &str| now(shard, &name("p"), key);
    let blind = |key: &str| KvPart { changes: vec![change(key, Some(kept(1, None)))], ..KvPart::default() };

    let first = Publish { dedup: Some(9), ..publish(&shard, blind("a")) };
    shard.send(first);
    let second = Publish { dedup: Some(9), ..publish(&shard, blind("b")) };
    assert!(matches!(shard.send(second).0, Receipt::Duplicate(_)));
    assert_eq!((counted(&shard, "a"), counted(&shard, "b")), (Some(1), None));

    for (key, stored) in [("c", Some(1)), ("d", None)] {
        let entry = Entry { message: message("m"), destinations: vec![shard.id("small").into()] };
        shard.send(Publish { kv: Some(Box::new(blind(key))), ..Publish::from(entry) });
        assert_eq!(counted(&shard, key), stored, "the queue is full after one");
    }
}

/// A stage may drop a message and remember that it saw it: then there is a record without messages.
#[test]
fn a_dropped_message_is_remembered_with_its_session() {
    let mut shard = shard();
    let session = Some(Session { producer: ProducerId(7), epoch: 1, sequence: 1 });
    let kv = Some(Box::new(part("n", None, Some(kept(1, None)))));
    let dropped = Publish { session, kv, ..Publish::default() };

    assert!(matches!(shard.send(dropped.clone()).0, Receipt::Stored(stored) if stored.entries == 0));
    assert!(matches!(shard.send(dropped).0, Receipt::Duplicate(Some(_))));
    assert_eq!(now(&shard, &name("p"), "n"), Some(1));
}

#[test]
fn the_messages_of_a_transaction_build_on_each_other_or_none_happens() {
    let mut shard = shard();
    let (one, two) = (kept(1, None), kept(2, None));
    let both = |shard: &Shard| Transaction {
        publishes: vec![
            publish(shard, part("n", None, Some(one.clone()))),
            publish(shard, part("n", Some(&one), Some(two.clone()))),
        ],
        ..Transaction::default()
    };
    let transact = |shard: &mut Shard| {
        let effects = shard.apply(Record::Transaction(Box::new(both(shard))));
        let Some(Effect::Transacted(receipt)) = effects.into_iter().next() else { panic!("it is answered") };
        *receipt
    };
    assert!(matches!(transact(&mut shard), TransactionReceipt::Committed(_)));
    assert_eq!((shard.queue("q").ready, now(&shard, &name("p"), "n")), (2, Some(2)));

    let TransactionReceipt::Refused { rejection, .. } = transact(&mut shard) else { panic!("it is stale") };
    assert!(is_stale_rejection(&rejection));
    assert_eq!(shard.queue("q").ready, 2);
}

#[test]
fn a_pipeline_takes_its_memory_with_it_and_changes_by_hand_need_one() {
    let mut shard = shard();
    send(&mut shard, part("n", None, Some(kept(1, None))));
    shard.change(Change::RemovePipeline { name: name("p") }).expect("removed");
    assert_eq!(now(&shard, &name("p"), "n"), None);
    assert!(shard.state.kv().views().is_empty());

    let refused = shard.apply(Record::ChangeKv(vec![change("n", None)]));
    assert!(matches!(&refused[..], [Effect::Refused(_)]));
    let late = KvPart { changes: vec![change("n", Some(kept(1, None)))], ..KvPart::default() };
    send(&mut shard, late);
    assert!(shard.state.kv().views().is_empty(), "nobody would ever remove it");
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    /// A pipeline reads one key and leaves something under another: `seen` may be of long ago.
    Publish {
        read: u8,
        outdated: bool,
        write: u8,
        left: Option<u64>,
        ttl: Option<u64>,
    },
    ByHand {
        key: u8,
        left: Option<u64>,
    },
    Wait(u64),
    Remove,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || 0..4_u8;
    let publish = (
        key(),
        any::<bool>(),
        key(),
        proptest::option::weighted(0.8, 0..9_u64),
        proptest::option::weighted(0.3, 1..200_u64),
    );
    let step = prop_oneof![
        8 => publish.prop_map(|(read, outdated, write, left, ttl)| {
            Step::Publish { read, outdated, write, left, ttl }
        }),
        1 => (key(), proptest::option::of(0..9_u64)).prop_map(|(key, left)| Step::ByHand { key, left }),
        3 => (1..150_u64).prop_map(Step::Wait),
        1 => Just(Step::Remove),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Every record also goes through its encoding, a replay and a snapshot: see `shard.rs`.
    #[test]
    fn a_random_history_leaves_what_a_plain_map_holds(steps in steps()) {
        let mut shard = shard();
        let mut model: BTreeMap<String, Kept> = BTreeMap::new();
        for step in steps {
            let at = shard.now();
            model.retain(|_, kept| kept.lives(at));
            match step {
                Step::Publish { read, outdated, write, left, ttl } => {
                    let (read, write) = (format!("k{read}"), format!("k{write}"));
                    let there = model.get(&read).cloned();
                    let elsewhere = Kept { value: "elsewhere".into(), expires: None };
                    let seen = if outdated { Some(&elsewhere) } else { there.as_ref() };
                    let expires = ttl.map(|ttl| at.after(std::time::Duration::from_millis(ttl)));
                    let left = left.map(|left| kept(left, expires));
                    let mut part = part(&read, seen, None);
                    part.changes = vec![change(&write, left.clone())];
                    let receipt = send(&mut shard, part);
                    prop_assert_eq!(is_stale(&receipt), outdated);
                    if !outdated {
                        match left {
                            Some(left) => model.insert(write, left),
                            None => model.remove(&write),
                        };
                    }
                }
                Step::ByHand { key, left } => {
                    let (key, left) = (format!("k{key}"), left.map(|left| kept(left, None)));
                    shard.apply(Record::ChangeKv(vec![change(&key, left.clone())]));
                    match left {
                        Some(left) => model.insert(key, left),
                        None => model.remove(&key),
                    };
                }
                Step::Wait(ms) => {
                    shard.wait(ms);
                    shard.tick();
                    model.retain(|_, kept| kept.lives(shard.now()));
                }
                Step::Remove => {
                    let remove = Change::RemovePipeline { name: name("other") };
                    // It is gone after the first time.
                    let _ = shard.change(remove);
                }
            }
            let held = shard.state.kv().list(&name("p"), "", "", 100);
            let model_list: Vec<(ByteString, Kept)> =
                model.iter().map(|(key, kept)| (key.as_str().into(), kept.clone())).collect();
            prop_assert_eq!(&held, &model_list);
            let cost: u64 = held.iter().map(|(key, kept)| kept.cost(key.len())).sum();
            prop_assert_eq!(shard.state.kv().bytes(&name("p")), cost);
            prop_assert_eq!(shard.queue("q").ready, shard.queue("q").enqueued);
        }
    }
}
