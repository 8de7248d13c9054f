//! How dead letters end: as what they became, in one record with their past, or as nothing.

use wharf_protocol::{Death, DeathCause, ErrorCode, Message, MessageId, Outcome, Stored, Timestamp};
use wharf_queue::{
    Change, DeadLetter, Destination, Effect, Entry, KvChange, KvPart, KvRead, Publish, QueueId, QueuePolicy,
    Record, Refusal, Resolve, Stamped, State,
};

use crate::shard::{Shard, brief, message, name};

/// A shard with queues `q` and `small`, which has room for one message, and a dead letter that died on its way to `q`.
fn with_dead_letter() -> Shard {
    let mut shard = Shard::with_queues(&["q", "dead-letters"]);
    shard.create("small", QueuePolicy { max_messages: 1, ..QueuePolicy::default() });
    let id = shard.id("q");
    shard.send(Publish::from(Entry { message: message("broken"), destinations: vec![died_on_way_to(id)] }));
    shard
}

fn died_on_way_to(queue: QueueId) -> Destination {
    let death = Death {
        queue: String::new(),
        cause: DeathCause::Stage,
        reason: "not JSON".into(),
        stage: Some("p/json".into()),
        plugin: None,
        attempts: 0,
        first_at: Timestamp(0),
        last_at: Timestamp(0),
        original: MessageId { index: 0, entry: 0 },
    };
    Destination { queue, death: Some(Box::new(death)) }
}

fn letters(shard: &Shard) -> Vec<DeadLetter> {
    shard.state.dead_letters("dead-letters", 0, 99)
}

fn becoming(message: Message, destinations: Vec<Destination>) -> Option<Publish> {
    Some(Publish::from(Entry { message, destinations }))
}

fn resolve(shard: &mut Shard, of: &DeadLetter, becomes: Option<Publish>) -> Vec<Effect> {
    let resolve = Resolve { queue: name("dead-letters"), offset: of.offset, id: of.id, becomes };
    shard.apply(Record::Resolve(Box::new(resolve)))
}

#[track_caller]
fn refusal(effects: &[Effect]) -> &Refusal {
    let [Effect::Refused(refusal)] = effects else { panic!("it is refused: {effects:?}") };
    refusal
}

#[test]
fn a_letter_goes_as_what_it_became_comes_once_with_its_attempts() {
    let mut shard = with_dead_letter();
    shard.attach(1, "dead-letters", 1);
    shard.settle(1, 1, 1, Outcome::Nack { delay: None });
    shard.detach(1);
    let old = letters(&shard).remove(0);
    let to = vec![shard.id("q").into(), shard.id("small").into()];
    let effects = resolve(&mut shard, &old, becoming(message("mended"), to.clone()));

    let index = shard.state.applied();
    assert_eq!(effects, [Effect::Resolved(Stored { index, entries: 1 })]);
    assert_eq!(letters(&shard), []);
    let dead = shard.queue("dead-letters");
    assert_eq!((dead.redriven, dead.settled, dead.enqueued), (1, 1, 1), "I10");
    let got = shard.attach(2, "q", 9);
    assert_eq!(brief(&got), [(2, 0, 2)], "attempts only grow");
    assert_eq!(got[0].id, MessageId { index, entry: 0 });

    let again = resolve(&mut shard, &old, becoming(message("mended"), to));
    assert_eq!(refusal(&again).code, ErrorCode::NotFound, "once");
    assert_eq!((shard.queue("q").enqueued, shard.queue("small").enqueued), (1, 1));
}

#[test]
fn what_dies_again_is_a_letter_again_with_its_past_wherever_that_is() {
    let mut shard = with_dead_letter();
    let q = shard.id("q");
    for times in 1..=2 {
        let old = letters(&shard).remove(0);
        resolve(&mut shard, &old, becoming(message("broken"), vec![died_on_way_to(q)]));
        let new = letters(&shard).remove(0);
        assert_ne!(new.id, old.id);
        assert_eq!((new.past.redriven, new.past.deaths.len()), (times, times as usize));
        assert_eq!(new.past.deaths.last(), Some(&old.death));
        assert_eq!((new.death.queue.as_str(), new.death.original), ("q", new.id));
    }

    // And in a queue, where it is refused.
    let old = letters(&shard).remove(0);
    resolve(&mut shard, &old, becoming(message("mended"), vec![q.into()]));
    shard.attach(1, "q", 1);
    shard.settle(1, 1, 1, Outcome::DeadLetter { reason: "not mine".into() });
    let new = letters(&shard).remove(0);
    assert_eq!((new.past.redriven, new.past.deaths.len()), (3, 3));
    assert_eq!((new.death.reason.as_str(), new.death.attempts), ("not mine", 1));
}

#[test]
fn what_has_no_room_or_no_queue_leaves_the_letter_where_it_lies() {
    let mut shard = with_dead_letter();
    shard.publish(&["small"], message("first"));
    let before = letters(&shard);
    let both = vec![shard.id("q").into(), shard.id("small").into()];
    let full = resolve(&mut shard, &before[0], becoming(message("mended"), both));
    assert_eq!(refusal(&full).code, ErrorCode::Unavailable);
    let nowhere = vec![QueueId(77).into()];
    let gone = resolve(&mut shard, &before[0], becoming(message("mended"), nowhere));
    assert_eq!(refusal(&gone).code, ErrorCode::Conflict);
    assert_eq!((letters(&shard), shard.queue("q").enqueued), (before.clone(), 0));

    shard.attach(1, "dead-letters", 1);
    let q = vec![shard.id("q").into()];
    let held = resolve(&mut shard, &before[0], becoming(message("mended"), q));
    assert!(refusal(&held).reason.contains("holds"), "{held:?}");
    let held = resolve(&mut shard, &before[0], None);
    assert!(refusal(&held).reason.contains("holds"), "{held:?}");
    assert_eq!((shard.queue("dead-letters").leased, shard.queue("q").enqueued), (1, 0));
}

#[test]
fn a_discarded_letter_is_gone_and_counted_as_purged() {
    let mut shard = with_dead_letter();
    let old = letters(&shard).remove(0);
    let other = DeadLetter { offset: old.offset + 1, ..old.clone() };
    assert_eq!(refusal(&resolve(&mut shard, &other, None)).code, ErrorCode::NotFound);
    let other = DeadLetter { id: MessageId { entry: 9, ..old.id }, ..old.clone() };
    assert_eq!(refusal(&resolve(&mut shard, &other, None)).code, ErrorCode::NotFound);

    let effects = resolve(&mut shard, &old, None);
    let stored = Stored { index: shard.state.applied(), entries: 0 };
    assert_eq!(effects, [Effect::Resolved(stored)]);
    let dead = shard.queue("dead-letters");
    assert_eq!((dead.dead, dead.purged, dead.redriven, dead.bytes), (0, 1, 0, 0));
    assert!(shard.state.oldest_live_index() > old.id.index, "its body may go");

    // A message that lives is no letter.
    shard.publish(&["q"], message("alive"));
    let alive = shard.state.browse("q", 0, 1).remove(0);
    let record = Resolve { queue: name("q"), offset: alive.offset, id: alive.id, becomes: None };
    let refused = shard.apply(Record::Resolve(Box::new(record)));
    assert_eq!((refusal(&refused).code, shard.queue("q").ready), (ErrorCode::NotFound, 1));
}

#[test]
fn what_its_pipelines_remember_changes_with_it_or_not_at_all() {
    let mut shard = with_dead_letter();
    let pipeline = Change::ApplyPipeline {
        name: name("p"),
        spec: "".into(),
        ingress: None,
        by: "tests".into(),
        note: String::new(),
        delivery: Vec::new(),
    };
    shard.change(pipeline).expect("applied");
    let kept = |value: &str| wharf_protocol::Kept { value: value.to_owned().into(), expires: None };
    let part = |seen: Option<&str>, left: &str| KvPart {
        reads: vec![KvRead {
            pipeline: name("p"),
            key: "n".into(),
            seen: seen.map(|value| wharf_queue::kv_digest(&kept(value))),
        }],
        changes: vec![KvChange { pipeline: name("p"), key: "n".into(), kept: Some(kept(left)) }],
        ..KvPart::default()
    };
    let old = letters(&shard).remove(0);
    let dropped = |part| Some(Publish { kv: Some(Box::new(part)), ..Publish::default() });
    let stale = resolve(&mut shard, &old, dropped(part(Some("another"), "1")));
    assert!(wharf_queue::is_stale_rejection(&wharf_protocol::Rejection {
        code: refusal(&stale).code,
        stage: None,
        reason: refusal(&stale).reason.clone(),
        retry_after_ms: None,
    }));
    assert_eq!((letters(&shard).len(), shard.state.kv().get(&name("p"), "n")), (1, None));

    resolve(&mut shard, &old, dropped(part(None, "1")));
    assert_eq!(shard.state.kv().get(&name("p"), "n"), Some(kept("1")));
    let dead = shard.queue("dead-letters");
    assert_eq!(
        (dead.redriven, dead.purged),
        (1, 0),
        "its pipelines dropped it: it went on its way all the same"
    );
}

#[test]
fn a_resolve_is_read_back_as_it_was_written_and_holds_its_messages() {
    let id = MessageId { index: 7, entry: 2 };
    let q = QueueId(3);
    let entries = vec![
        Entry { message: message("one"), destinations: vec![q.into(), died_on_way_to(q)] },
        Entry { message: message("two"), destinations: vec![] },
    ];
    let publish = Publish { topology: 5, entries, ..Publish::default() };
    for becomes in [None, Some(Publish::default()), Some(publish)] {
        let held = becomes.as_ref().is_some_and(|publish| !publish.entries.is_empty());
        let bytes = becomes.is_some().then_some(if held { 6 } else { 0 });
        let resolve = Resolve { queue: name("dead-letters"), offset: 9, id, becomes };
        let stamped = Stamped { at: Timestamp(5), record: Record::Resolve(Box::new(resolve)) };
        let mut encoded = bytes::BytesMut::new();
        stamped.encode(&mut encoded);
        let read = Stamped::decode(encoded.freeze()).expect("decodes");
        assert_eq!(read, stamped);
        assert_eq!(read.record.message(1), held.then_some(&message("two")));
        assert_eq!((read.record.message(2), read.record.payload_bytes()), (None, bytes));
    }
}

#[test]
fn the_past_of_a_message_that_lives_again_survives_a_snapshot() {
    let mut shard = with_dead_letter();
    let old = letters(&shard).remove(0);
    let q = shard.id("q");
    resolve(&mut shard, &old, becoming(message("mended"), vec![q.into()]));
    let mut restored = State::restore(&shard.state.snapshot()).expect("restored");
    assert_eq!(restored.hash(), shard.state.hash());
    let expire = QueuePolicy { ttl_ms: 1, dead_letter_expired: true, ..QueuePolicy::default() };
    let change = Change::SetPolicy { name: name("q"), policy: expire, was: None };
    let at = Timestamp(shard.now().0 + 10);
    let stamped = Stamped { at, record: Record::Topology(change) };
    restored.apply(shard.state.applied() + 1, &stamped, &mut Vec::new());
    let dead = restored.dead_letters("dead-letters", 0, 9).remove(0);
    assert_eq!((dead.death.cause, dead.past.redriven), (DeathCause::Expired, 1));
    assert_eq!(dead.past.deaths, [old.death]);
}
