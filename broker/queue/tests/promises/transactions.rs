//! A transaction happens as a whole or not at all, once.

use proptest::prelude::*;
use wharf_protocol::{
    Committed, ErrorCode, Message, Outcome, Part, ProducerId, Rejection, Session, Settlement, Stored,
    TransactionReceipt,
};
use wharf_queue::{ConsumerId, Effect, Entry, Publish, Record, Stamped, Transaction};

use crate::shard::{Shard, brief, deliveries, message};

fn to(shard: &Shard, queue: &str, message: Message) -> Publish {
    Publish::from(Entry { message, destinations: vec![shard.id(queue).into()] })
}

fn ack(consumer: u64, first: u64, last: u64) -> (ConsumerId, Vec<Settlement>) {
    (ConsumerId(consumer), vec![Settlement { first, last, outcome: Outcome::Ack }])
}

fn session(epoch: u32, sequence: u64) -> Option<Session> {
    Some(Session { producer: ProducerId(9), epoch, sequence })
}

/// The answer, and what else came of it.
fn transact(shard: &mut Shard, transaction: Transaction) -> (TransactionReceipt, Vec<Effect>) {
    let mut effects = shard.apply(Record::Transaction(Box::new(transaction)));
    match effects.remove(0) {
        Effect::Transacted(receipt) => (*receipt, effects),
        other => panic!("a transaction is answered first, not by {other:?}"),
    }
}

fn committed(index: u64, entries: u16) -> TransactionReceipt {
    let (duplicates, unrouted) = (Vec::new(), Vec::new());
    TransactionReceipt::Committed(Committed { stored: Stored { index, entries }, duplicates, unrouted })
}

fn refused(receipt: TransactionReceipt) -> (Part, ErrorCode) {
    match receipt {
        TransactionReceipt::Refused { part, rejection: Rejection { code, .. } } => (part, code),
        other => panic!("refused, not {other:?}"),
    }
}

/// A shard where consumer 1 holds the first three of `in`, and consumer 2 waits at `out`.
fn transformer() -> Shard {
    let mut shard = Shard::with_queues(&["in", "out"]);
    for _ in 0..4 {
        shard.publish(&["in"], message("input"));
    }
    shard.attach(1, "in", 3);
    shard.attach(2, "out", 10);
    shard
}

#[test]
fn inputs_are_acked_and_outputs_appended_in_one_record() {
    let mut shard = transformer();
    let publishes = vec![to(&shard, "out", message("a")), to(&shard, "out", message("b"))];
    let transaction = Transaction { publishes, settles: vec![ack(1, 1, 2)], ..Transaction::default() };
    let (receipt, effects) = transact(&mut shard, transaction);

    let index = shard.state.applied();
    assert_eq!(receipt, committed(index, 2));
    let delivered = deliveries(effects);
    assert_eq!(brief(&delivered), [(2, 0, 1), (2, 1, 1)]);
    let ids: Vec<_> = delivered.iter().map(|each| (each.id.index, each.id.entry)).collect();
    assert_eq!(ids, [(index, 0), (index, 1)], "messages are numbered through the record");
    assert_eq!((shard.queue("in").acked, shard.queue("in").leased), (2, 1));
}

#[test]
fn a_delivery_that_is_not_held_any_more_refuses_the_whole() {
    let mut shard = transformer();
    shard.ack(1, 2);
    let before = shard.queue("in");
    for (settle, part) in [
        (vec![ack(1, 1, 1), ack(1, 2, 2)], Part::Settlement(1)),
        (vec![ack(1, 1, 3)], Part::Settlement(0)),
        (vec![ack(1, 3, 4)], Part::Settlement(0)),
        (vec![ack(1, 0, 1)], Part::Settlement(0)),
        (vec![ack(1, 1, u64::MAX)], Part::Settlement(0)),
        (vec![ack(7, 1, 1)], Part::Settlement(0)),
    ] {
        let publishes = vec![to(&shard, "out", message("output"))];
        let transaction =
            Transaction { publishes, settles: settle, session: session(1, 1), ..Transaction::default() };
        let (receipt, effects) = transact(&mut shard, transaction);
        assert_eq!(refused(receipt), (part, ErrorCode::Conflict));
        assert_eq!(effects, [], "nothing happened");
    }
    assert_eq!((shard.queue("in"), shard.queue("out").enqueued), (before, 0));

    // The refused sequence was not used up.
    let transaction =
        Transaction { settles: vec![ack(1, 1, 1)], session: session(1, 1), ..Transaction::default() };
    assert!(matches!(transact(&mut shard, transaction).0, TransactionReceipt::Committed(_)));
}

#[test]
fn a_lease_that_lapses_at_its_record_refuses_it() {
    let mut shard = transformer();
    shard.wait(30_000);
    let transaction = Transaction { settles: vec![ack(1, 1, 1)], ..Transaction::default() };
    let (receipt, _) = transact(&mut shard, transaction);
    assert_eq!(refused(receipt), (Part::Settlement(0), ErrorCode::Conflict));
    assert_eq!(shard.queue("in").acked, 0);
}

#[test]
fn a_delivery_settled_twice_is_malformed() {
    let mut shard = transformer();
    let settles = vec![ack(1, 2, 3), ack(1, 1, 2)];
    let (receipt, _) = transact(&mut shard, Transaction { settles, ..Transaction::default() });
    assert_eq!(refused(receipt), (Part::Settlement(0), ErrorCode::Malformed));
    assert_eq!(shard.queue("in").leased, 3);
}

#[test]
fn a_resent_transaction_changes_nothing_and_is_told_so() {
    let mut shard = transformer();
    let publishes = vec![to(&shard, "out", message("output"))];
    let settles = vec![ack(1, 1, 3)];
    let transaction = Transaction { publishes, settles, session: session(1, 1), ..Transaction::default() };
    let (first, _) = transact(&mut shard, transaction.clone());
    let index = shard.state.applied();
    assert_eq!(first, committed(index, 1));

    // Its consumer went with the connection, and the broker was started again.
    shard.apply(Record::Restart);
    let (again, effects) = transact(&mut shard, transaction.clone());
    assert_eq!(again, TransactionReceipt::Duplicate(Some(Stored { index, entries: 1 })));
    assert_eq!(effects, []);
    assert_eq!((shard.queue("in").acked, shard.queue("out").enqueued), (3, 1));

    shard.apply(Record::ClaimProducer(ProducerId(9)));
    let (zombie, _) = transact(&mut shard, Transaction { session: session(1, 2), ..transaction });
    assert_eq!(refused(zombie), (Part::Whole, ErrorCode::Fenced));
}

#[test]
fn a_message_id_that_is_known_leaves_its_message_out_and_the_rest_happens() {
    let mut shard = transformer();
    shard.publish_with("out", None, Some(42));
    let known = |shard: &Shard, id| Publish { dedup: Some(id), ..to(shard, "out", message("m")) };
    let publishes = vec![known(&shard, 41), known(&shard, 42), known(&shard, 41), known(&shard, 43)];
    let (receipt, effects) = transact(&mut shard, Transaction { publishes, ..Transaction::default() });

    let TransactionReceipt::Committed(committed) = receipt else { panic!("committed, not {receipt:?}") };
    assert_eq!(committed.duplicates, [1, 2], "stored before, and earlier in this very transaction");
    let entries: Vec<_> = deliveries(effects).iter().map(|each| each.id.entry).collect();
    assert_eq!(entries, [0, 3], "a message keeps its number in the record");
}

#[test]
fn nacks_and_dead_letters_are_part_of_it() {
    let mut shard = transformer();
    let reason = "no order number".to_owned();
    let settlements = vec![
        Settlement { first: 1, last: 1, outcome: Outcome::Ack },
        Settlement { first: 2, last: 2, outcome: Outcome::Nack { delay: None } },
        Settlement { first: 3, last: 3, outcome: Outcome::DeadLetter { reason } },
    ];
    let settles = vec![(ConsumerId(1), settlements)];
    let (receipt, _) = transact(&mut shard, Transaction { settles, ..Transaction::default() });
    assert!(matches!(receipt, TransactionReceipt::Committed(_)));
    let queue = shard.queue("in");
    assert_eq!((queue.acked, queue.delayed, queue.dead_lettered, queue.leased), (1, 1, 1, 0));
}

#[test]
fn its_messages_are_found_by_their_number() {
    let shard = transformer();
    let mut two = to(&shard, "out", message("b"));
    two.entries.push(Entry { message: message("c"), destinations: Vec::new() });
    let publishes = vec![to(&shard, "out", message("a")), Publish::default(), two];
    let record = Record::Transaction(Box::new(Transaction { publishes, ..Transaction::default() }));
    let payload = |entry| record.message(entry).map(|message| message.payload.clone());
    let found: Vec<_> = (0..4).filter_map(payload).collect();
    assert_eq!(found, ["a", "b", "c"]);
    assert_eq!(record.payload_bytes(), Some(3));
}

proptest! {
    /// Whatever is asked for in one transaction, all of it happens or none (I7).
    #[test]
    fn all_or_none(
        ranges in prop::collection::vec((1_u64..3, 0_u64..5, 0_u64..5), 0..4),
        outputs in 0_usize..4,
        sequence in 1_u64..3,
        acked in prop::option::of(1_u64..4),
    ) {
        let mut shard = transformer();
        if let Some(tag) = acked {
            shard.ack(1, tag);
        }
        let before = shard.queue("in").acked;
        let publishes: Vec<_> = (0..outputs).map(|_| to(&shard, "out", message("output"))).collect();
        let settles: Vec<_> = ranges.iter().map(|(consumer, a, b)| ack(*consumer, *a.min(b), *a.max(b))).collect();
        let tags: Vec<(u64, u64)> =
            ranges.iter().flat_map(|(c, a, b)| (*a.min(b)..=*a.max(b)).map(|tag| (*c, tag))).collect();
        let distinct: std::collections::BTreeSet<_> = tags.iter().copied().collect();
        let held = |(consumer, tag): &(u64, u64)| *consumer == 1 && (1..=3).contains(tag) && acked != Some(*tag);
        let possible = distinct.len() == tags.len() && tags.iter().all(held);

        let transaction = Transaction { publishes, settles, session: session(1, sequence), cursors: Vec::new() };
        for round in 0..2 {
            let (receipt, _) = transact(&mut shard, transaction.clone());
            let (gone, came) = (shard.queue("in").acked - before, shard.queue("out").enqueued);
            match (possible, round, receipt) {
                (true, 0, TransactionReceipt::Committed(_)) | (true, 1, TransactionReceipt::Duplicate(Some(_))) => {
                    prop_assert_eq!((gone, came), (tags.len() as u64, outputs as u64));
                }
                (false, _, TransactionReceipt::Refused { .. }) => prop_assert_eq!((gone, came), (0, 0)),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    /// Damaged bytes are an error, never a panic.
    #[test]
    fn a_damaged_transaction_is_refused_or_another(at in 16_usize..200, byte: u8, cut in 0_usize..200) {
        let shard = transformer();
        let publishes = vec![Publish { dedup: Some(7), ..to(&shard, "out", message("payload")) }; 2];
        let transaction = Transaction { publishes, settles: vec![ack(1, 1, 2)], session: session(1, 1), cursors: Vec::new() };
        let record = Record::Transaction(Box::new(transaction));
        let mut bytes = bytes::BytesMut::new();
        Stamped { at: wharf_protocol::Timestamp(1), record }.encode(&mut bytes);
        prop_assert!(Stamped::decode(bytes.clone().freeze().slice(..cut.min(bytes.len() - 1))).is_err());
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = Stamped::decode(bytes.freeze());
    }
}
