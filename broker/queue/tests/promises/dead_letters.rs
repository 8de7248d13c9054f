//! Messages that are given up: once, in the same record, with the reason; and sent on their way again.

use std::time::Duration;

use wharf_protocol::{Death, DeathCause, Message, MessageId, Outcome, Timestamp};
use wharf_queue::{Change, Destination, Effect, Entry, QueuePolicy, Record, Redrive, Selection};

use crate::shard::{Shard, brief, deliveries, message, name};

/// A shard whose queue `q` gives up after two failures, with a dead letter in it.
fn with_dead_letter() -> Shard {
    let mut shard = Shard::new();
    shard.create("q", QueuePolicy { max_attempts: 2, ..QueuePolicy::default() });
    shard.attach(1, "q", 10);
    shard.publish(&["q"], message("m"));
    shard.nack(1, 1, 0);
    shard.nack(1, 2, 0);
    shard
}

fn redrive(shard: &mut Shard, select: Selection, to: Option<&str>) -> Vec<Effect> {
    let to = to.map(name);
    shard.apply(Record::Redrive(Redrive { queue: name("dead-letters"), select, to, redriven_max: None }))
}

#[test]
fn after_the_last_attempt_a_message_dies_in_the_same_record() {
    let mut shard = Shard::new();
    shard.create("q", QueuePolicy { max_attempts: 2, ..QueuePolicy::default() });
    shard.attach(1, "q", 10);
    let first_at = shard.now();
    shard.publish(&["q"], message("m"));
    shard.wait(5);
    shard.nack(1, 1, 0);
    shard.wait(5);
    let last_at = shard.now();
    let settled = shard.nack(1, 2, 0);

    assert_eq!((settled.accepted, brief(&settled.delivered)), (1, vec![]));
    assert_eq!((shard.queue("q").dead_lettered, shard.queue("dead-letters").dead), (1, 1));
    let dead = shard.state.dead_letters("dead-letters", 0, 10);
    let original = MessageId { index: 3, entry: 0 };
    let expected = Death {
        queue: "q".into(),
        cause: DeathCause::MaxAttempts,
        reason: "failed 2 times, at last by a nack".into(),
        stage: None,
        plugin: None,
        attempts: 2,
        first_at,
        last_at,
        original,
    };
    assert_eq!((dead.len(), dead[0].id, &dead[0].death), (1, original, &expected));
    let got = shard.attach(2, "dead-letters", 1);
    assert_eq!((got[0].attempt, got[0].redelivered, got[0].id), (3, true, original), "attempts only grow");
    assert_eq!(got[0].death.as_deref(), Some(&expected));
}

#[test]
fn returns_do_not_count_towards_the_last_attempt() {
    let mut shard = Shard::new();
    shard.create("q", QueuePolicy { max_attempts: 2, ..QueuePolicy::default() });
    shard.publish(&["q"], message("m"));
    for consumer in 1..10 {
        shard.attach(consumer, "q", 1);
        shard.detach(consumer);
    }
    assert_eq!(brief(&shard.attach(10, "q", 1)), [(10, 0, 10)]);
}

#[test]
fn lapsed_leases_count_towards_the_last_attempt() {
    let mut shard = Shard::new();
    shard.create("q", QueuePolicy { max_attempts: 2, lease_ms: 10, ..QueuePolicy::default() });
    shard.attach(1, "q", 10);
    shard.publish(&["q"], message("m"));
    for _ in 0..2 {
        shard.wait(10);
        shard.tick();
    }
    let dead = shard.state.dead_letters("dead-letters", 0, 10);
    assert_eq!(dead[0].death.reason, "failed 2 times, at last by holding it past its lease");
}

#[test]
fn a_rejected_message_dies_with_the_consumers_reason_where_the_policy_says() {
    let mut shard = Shard::new();
    shard.create("q", QueuePolicy { dead_letter: Some(name("graves")), ..QueuePolicy::default() });
    shard.attach(1, "q", 10);
    shard.publish(&["q"], message("m"));
    shard.settle(1, 1, 1, Outcome::DeadLetter { reason: "no such customer".into() });

    let dead = shard.state.dead_letters("graves", 0, 10);
    assert_eq!(
        (dead[0].death.cause, dead[0].death.reason.as_str()),
        (DeathCause::Rejected, "no such customer")
    );
    assert!(shard.state.queue("dead-letters").is_none(), "made only when needed");
}

#[test]
fn a_reason_is_kept_as_far_as_a_person_reads_it() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.attach(1, "q", 1);
    shard.publish(&["q"], message("m"));
    shard.settle(1, 1, 1, Outcome::DeadLetter { reason: "é".repeat(100_000) + "x" });
    assert_eq!(shard.state.dead_letters("dead-letters", 0, 1)[0].death.reason, "é".repeat(512));
}

#[test]
fn a_message_that_a_stage_gave_up_is_stored_as_a_dead_letter() {
    let mut shard = Shard::with_queues(&["q", "r"]);
    let death = Death {
        queue: String::new(),
        cause: DeathCause::Stage,
        reason: "not XML".into(),
        stage: Some("orders/xml".into()),
        plugin: Some("ab".into()),
        attempts: 0,
        first_at: Timestamp(0),
        last_at: Timestamp(0),
        original: MessageId { index: 0, entry: 0 },
    };
    let dead = Destination { queue: shard.id("q"), death: Some(Box::new(death)) };
    let destinations = vec![dead, shard.id("r").into()];
    shard.send(Entry { message: message("m"), destinations }.into());

    assert_eq!((shard.queue("q").enqueued, shard.queue("r").ready), (0, 1));
    let letter = &shard.state.dead_letters("dead-letters", 0, 10)[0];
    assert_eq!((letter.death.queue.as_str(), letter.death.reason.as_str()), ("q", "not XML"));
    assert_eq!(letter.death.original, letter.id);
    assert_eq!((letter.death.first_at, letter.death.last_at), (shard.now(), shard.now()));
}

#[test]
fn an_expired_message_dies_where_the_policy_says_so() {
    let mut shard = Shard::new();
    shard.create("q", QueuePolicy { dead_letter_expired: true, ..QueuePolicy::default() });
    shard.publish(&["q"], Message { ttl: Some(Duration::from_millis(5)), ..message("m") });
    shard.wait(5);
    shard.tick();
    let dead = shard.state.dead_letters("dead-letters", 0, 10);
    assert_eq!(dead[0].death.cause, DeathCause::Expired);
    shard.wait(1_000_000);
    shard.tick();
    assert_eq!(shard.queue("dead-letters").ready, 1, "the dead have no time to live");
}

#[test]
fn a_dead_letter_stays_where_it_lies_however_often_it_fails() {
    let mut shard = with_dead_letter();
    shard.attach(2, "dead-letters", 100);
    for tag in 1..=30 {
        let outcome = match tag % 2 {
            0 => Outcome::Nack { delay: None },
            _ => Outcome::DeadLetter { reason: "really".into() },
        };
        assert_eq!(shard.settle(2, tag, tag, outcome).delivered, [], "not in a tight loop");
        shard.wait(100_000);
        assert_eq!(brief(&deliveries(shard.tick())), [(2, 0, 3 + u32::try_from(tag).expect("small"))]);
    }
    let dead = shard.state.dead_letters("dead-letters", 0, 10);
    assert_eq!((dead.len(), dead[0].death.reason.as_str()), (1, "failed 2 times, at last by a nack"));
    assert_eq!(shard.queue("dead-letters").enqueued, 1);
}

#[test]
fn a_message_published_to_the_dead_letter_queue_dies_in_place() {
    let mut shard = Shard::with_queues(&["dead-letters"]);
    shard.attach(1, "dead-letters", 10);
    shard.publish(&["dead-letters"], message("m"));
    shard.settle(1, 1, 1, Outcome::DeadLetter { reason: "why is it here".into() });
    assert_eq!((shard.queue("dead-letters").enqueued, shard.queue("dead-letters").dead), (1, 1));
}

#[test]
fn a_redriven_letter_goes_back_to_its_queue_with_a_fresh_count_of_failures() {
    let mut shard = with_dead_letter();
    let effects = redrive(&mut shard, Selection::Oldest(10), None);

    assert_eq!(effects[0], Effect::Redriven { moved: 1, kept: 0 });
    let got = deliveries(effects);
    assert_eq!(brief(&got), [(1, 1, 3)]);
    assert_eq!(got[0].death, None);
    assert_eq!(brief(&shard.nack(1, 3, 0).delivered), [(1, 1, 4)], "one failure of two");
    shard.nack(1, 4, 0);
    assert_eq!(shard.queue("dead-letters").dead, 1, "and dead again");
}

#[test]
fn letters_are_redriven_by_id_or_to_another_queue_and_stay_when_they_cannot_go() {
    let mut shard = with_dead_letter();
    let id = shard.state.dead_letters("dead-letters", 0, 1)[0].id;
    let nobody = MessageId { index: 999, entry: 0 };
    let none = redrive(&mut shard, Selection::Ids(vec![nobody]), None);
    assert_eq!(none, [Effect::Redriven { moved: 0, kept: 1 }]);

    shard.change(Change::DeleteQueue { name: name("q") }).expect("deleted");
    let gone = redrive(&mut shard, Selection::Ids(vec![id]), None);
    assert_eq!(gone, [Effect::Redriven { moved: 0, kept: 1 }], "its queue is gone");

    shard.create("other", QueuePolicy::default());
    shard.attach(5, "dead-letters", 1);
    let held = redrive(&mut shard, Selection::Oldest(1), Some("other"));
    assert_eq!(held, [Effect::Redriven { moved: 0, kept: 1 }], "a consumer holds it");
    shard.detach(5);
    let moved = redrive(&mut shard, Selection::Ids(vec![id]), Some("other"));
    assert_eq!(moved, [Effect::Redriven { moved: 1, kept: 0 }]);
    assert_eq!((shard.queue("other").ready, shard.queue("dead-letters").redriven), (1, 1));
    assert!(matches!(&redrive(&mut shard, Selection::Oldest(1), Some("nowhere"))[..], [Effect::Refused(_)]));
}
