//! Publishing, competing consumers, credit, settling and coming back.

use wharf_protocol::{ErrorCode, Message, MessageId, Outcome, Receipt, Settlement, Stored};
use wharf_queue::{
    Attach, ConsumerId, Destination, Effect, Entry, Order, Publish, QueuePolicy, Record, STALE_TAGS_MAX,
};

use crate::shard::{Shard, brief, deliveries, message, name};

#[test]
fn one_record_brings_messages_to_several_queues() {
    let mut shard = Shard::with_queues(&["a", "b", "c"]);
    shard.attach(1, "b", 10);

    let destinations = |queues: &[&str]| queues.iter().map(|q| shard.id(q).into()).collect();
    let entries = vec![
        Entry { message: message("first"), destinations: destinations(&["a", "b"]) },
        Entry { message: message("second"), destinations: destinations(&["b", "c"]) },
    ];
    let (receipt, effects) = shard.send(Publish { entries, ..Publish::default() });

    let index = shard.state.applied();
    assert_eq!(receipt, Receipt::Stored(Stored { index, entries: 2 }));
    let ids: Vec<MessageId> = deliveries(effects).iter().map(|each| each.id).collect();
    assert_eq!(ids, [MessageId { index, entry: 0 }, MessageId { index, entry: 1 }]);
    assert_eq!((shard.queue("a").ready, shard.queue("b").leased, shard.queue("c").ready), (1, 2, 1));
}

#[test]
fn a_request_is_refused_when_nobody_is_there_to_answer() {
    let mut shard = Shard::with_queues(&["a", "b"]);
    let request = |shard: &Shard| {
        let destinations = vec![shard.id("a").into(), shard.id("b").into()];
        Publish { needs_consumer: true, ..Publish::from(Entry { message: message("?"), destinations }) }
    };
    let (receipt, _) = shard.send(request(&shard));
    assert!(matches!(receipt, Receipt::Rejected(rejection) if rejection.code == ErrorCode::NoListener));
    assert_eq!(shard.queue("a").enqueued, 0);

    shard.attach(1, "b", 0);
    let (receipt, _) = shard.send(request(&shard));
    assert!(matches!(receipt, Receipt::Stored(_)), "a busy consumer is one");
    shard.detach(1);
    let (receipt, _) = shard.send(request(&shard));
    assert!(matches!(receipt, Receipt::Rejected(_)));
    assert_eq!((shard.queue("a").enqueued, shard.queue("b").enqueued), (1, 1));
}

#[test]
fn a_message_to_nowhere_is_stored_as_nothing() {
    let mut shard = Shard::new();
    let gone = Destination::from(wharf_queue::QueueId(99));
    let (receipt, effects) = shard.send(Entry { message: message("m"), destinations: vec![gone] }.into());
    assert_eq!((receipt, effects), (Receipt::Stored(Stored { index: 1, entries: 1 }), vec![]));
    assert_eq!(shard.state.oldest_live_index(), 2, "nothing needs the record");
}

#[test]
fn competing_consumers_take_turns_as_far_as_their_credit_goes() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.attach(1, "q", 3);
    shard.attach(2, "q", 1);

    let mut got = Vec::new();
    for _ in 0..6 {
        got.extend(brief(&deliveries(shard.publish(&["q"], message("m")).1)));
    }
    assert_eq!(got, [(1, 0, 1), (2, 1, 1), (1, 2, 1), (1, 3, 1)]);
    assert_eq!(shard.queue("q").ready, 2);

    let more = shard.apply(Record::Credit { consumer: ConsumerId(2), add: 5, bytes: 0 });
    assert_eq!(brief(&deliveries(more)), [(2, 4, 1), (2, 5, 1)]);
}

#[test]
fn tags_count_from_one_for_each_consumer_and_settle_by_range() {
    let mut shard = Shard::with_queues(&["q"]);
    for _ in 0..6 {
        shard.publish(&["q"], message("m"));
    }
    let tags: Vec<u64> = shard.attach(1, "q", 6).iter().map(|each| each.tag).collect();
    assert_eq!(tags, [1, 2, 3, 4, 5, 6]);

    let middle = shard.settle(1, 2, 4, Outcome::Ack);
    assert_eq!((middle.accepted, middle.stale), (3, vec![]));
    let all = shard.settle(1, 0, u64::MAX, Outcome::Ack);
    assert_eq!((all.accepted, &all.stale[..6]), (3, &[0, 2, 3, 4, 7, 8][..]), "what is not held is stale");
    assert_eq!(all.stale.len(), STALE_TAGS_MAX, "told as far as it helps");
    assert_eq!((shard.queue("q").acked, shard.queue("q").leased), (6, 0));
}

#[test]
fn an_ack_counts_once() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.attach(1, "q", 1);
    shard.publish(&["q"], message("m"));

    assert_eq!(shard.ack(1, 1).accepted, 1);
    let again = shard.ack(1, 1);
    assert_eq!((again.accepted, again.stale), (0, vec![1]));
    let unknown = shard.ack(7, 1);
    assert_eq!((unknown.accepted, unknown.stale), (0, vec![1]));
}

#[test]
fn a_message_comes_back_at_its_place_when_its_consumer_leaves() {
    let mut shard = Shard::with_queues(&["q"]);
    for _ in 0..3 {
        shard.publish(&["q"], message("m"));
    }
    assert_eq!(brief(&shard.attach(1, "q", 2)), [(1, 0, 1), (1, 1, 1)]);
    shard.ack(1, 1);
    shard.detach(1);

    let got = shard.attach(2, "q", 10);
    assert_eq!(brief(&got), [(2, 1, 2), (2, 2, 1)]);
    assert_eq!(got.iter().map(|each| each.redelivered).collect::<Vec<_>>(), [true, false]);
    assert_eq!((shard.queue("q").returned, shard.queue("q").failed), (1, 0), "leaving is no failure");
}

#[test]
fn a_late_ack_does_not_settle_what_another_consumer_holds() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.publish(&["q"], message("m"));
    shard.attach(1, "q", 1);
    shard.attach(2, "q", 1);
    shard.wait(30_000);
    assert_eq!(brief(&deliveries(shard.tick())), [(2, 0, 2)]);

    assert_eq!(shard.ack(1, 1).stale, [1]);
    assert_eq!(shard.queue("q").leased, 1);
    assert_eq!(shard.ack(2, 1).accepted, 1);
}

#[test]
fn a_restart_returns_everything_as_redelivered() {
    let mut shard = Shard::with_queues(&["q", "r"]);
    shard.publish(&["q", "r"], message("m"));
    shard.attach(1, "q", 1);
    shard.attach(2, "r", 1);

    shard.apply(Record::Restart);
    assert_eq!((shard.queue("q").leased, shard.queue("q").consumers), (0, 0));
    assert_eq!(brief(&shard.attach(1, "q", 1)), [(1, 0, 2)], "numbers may be used again");
}

#[test]
fn higher_priorities_go_first_and_each_is_in_order() {
    let mut shard = Shard::with_queues(&["q"]);
    for priority in [0, 5, 31, 5, 0] {
        shard.publish(&["q"], Message { priority, ..message("m") });
    }
    let peeked: Vec<u64> = shard.state.peek("q", 10).iter().map(|each| each.offset).collect();
    assert_eq!(peeked, [2, 1, 3, 0, 4]);
    let got: Vec<u64> = shard.attach(1, "q", 10).iter().map(|each| each.offset).collect();
    assert_eq!(got, peeked);
}

#[test]
fn at_most_once_is_settled_before_it_is_delivered() {
    let mut shard = Shard::with_queues(&["q"]);
    let attach = Attach {
        consumer: ConsumerId(1),
        queue: name("q"),
        credit: 2,
        auto_settle: true,
        ..Attach::default()
    };
    shard.apply(Record::Attach(attach));
    for _ in 0..2 {
        shard.publish(&["q"], message("m"));
    }
    assert_eq!((shard.queue("q").acked, shard.queue("q").leased), (2, 0));
    shard.detach(1);
    assert_eq!(shard.attach(2, "q", 1), []);
}

#[test]
fn a_consumer_that_asked_is_told_once_that_nothing_is_ready() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.publish(&["q"], message("m"));
    let attach = Attach {
        consumer: ConsumerId(1),
        queue: name("q"),
        credit: 5,
        notify_empty: true,
        ..Attach::default()
    };
    let effects = shard.apply(Record::Attach(attach));
    assert_eq!(effects.last(), Some(&Effect::Empty { consumer: ConsumerId(1) }), "after what there was");
    assert_eq!(shard.tick(), []);

    let (_, effects) = shard.publish(&["q"], message("m"));
    assert_eq!(effects.len(), 2, "a delivery, and empty again");
    let asked = shard.apply(Record::Credit { consumer: ConsumerId(1), add: 1, bytes: 0 });
    assert_eq!(asked, [Effect::Empty { consumer: ConsumerId(1) }]);
}

/// A program that ends when its queue is empty ended after one message of each key: the others waited for its acks.
#[test]
fn what_waits_for_the_turn_of_its_key_is_not_nothing() {
    let mut shard = Shard::new();
    shard.create("q", QueuePolicy { order: Order::Key, ..QueuePolicy::default() });
    for payload in ["1", "2"] {
        shard.publish(&["q"], Message { key: Some("k".into()), ..message(payload) });
    }
    let attach = Attach { queue: name("q"), credit: 5, notify_empty: true, ..Attach::default() };
    let first = shard.apply(Record::Attach(Attach { consumer: ConsumerId(1), ..attach }));
    assert!(matches!(first[..], [Effect::Deliver(_)]), "{first:?}");

    let settlements = vec![Settlement { first: 1, last: 1, outcome: Outcome::Ack }];
    let then = shard.apply(Record::Settle { consumer: ConsumerId(1), settlements });
    assert!(
        matches!(then[..], [Effect::Settled { .. }, Effect::Deliver(_), Effect::Empty { .. }]),
        "{then:?}"
    );
}

#[test]
fn a_consumer_without_an_end_of_unsettled_messages_is_held_back() {
    let mut shard = Shard::with_queues(&["q"]);
    let entry = || Entry { message: message("m"), destinations: vec![shard.id("q").into()] };
    let entries: Vec<Entry> = (0..65_535).map(|_| entry()).collect();
    shard.send(Publish { entries, ..Publish::default() });
    shard.publish(&["q"], message("m"));
    shard.publish(&["q"], message("m"));

    assert_eq!(shard.attach(1, "q", u32::MAX).len(), 65_536);
    assert_eq!(shard.queue("q").ready, 1);
    assert_eq!(brief(&shard.ack(1, 2).delivered), [], "the oldest is what holds it");
    assert_eq!(brief(&shard.ack(1, 1).delivered), [(1, 65_536, 1)]);
}

#[test]
fn a_consumer_of_no_queue_and_a_second_of_one_number_are_refused() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.attach(1, "q", 1);
    for (consumer, queue, reason) in
        [(2, "nowhere", "there is no queue nowhere"), (1, "q", "there is a consumer 1 already")]
    {
        let attach = Attach { consumer: ConsumerId(consumer), queue: name(queue), ..Attach::default() };
        let effects = shard.apply(Record::Attach(attach));
        assert!(matches!(&effects[..], [Effect::Refused(refusal)] if refusal.reason == reason));
    }
}

#[test]
fn records_are_let_go_when_nothing_needs_them() {
    let mut shard = Shard::new();
    shard.create("q", QueuePolicy { max_attempts: 1, ..QueuePolicy::default() });
    shard.publish(&["q"], message("old"));
    shard.attach(1, "q", 1);
    shard.nack(1, 1, 0);
    for _ in 0..3 {
        shard.tick();
    }
    assert_eq!(shard.queue("dead-letters").ready, 1);
    assert!(shard.state.oldest_live_index() <= 2, "the dead letter's body is needed");

    shard.attach(2, "dead-letters", 1);
    shard.ack(2, 1);
    assert_eq!(shard.state.oldest_live_index(), shard.state.applied() + 1);
}
