//! Consumers with credit in bytes, with renewed leases, alone, or as the one that is served.

use bytes::Bytes;
use wharf_protocol::{DeathCause, ErrorCode, Message, Timestamp};
use wharf_queue::{Attach, Change, ConsumerId, Effect, QueuePolicy, Record, Refused};

use crate::shard::{Shard, brief, deliveries, message, name};

fn attach(consumer: u64, credit_bytes: u64) -> Record {
    let queue = name("q");
    Record::Attach(Attach {
        consumer: ConsumerId(consumer),
        queue,
        credit: 9,
        credit_bytes,
        ..Attach::default()
    })
}

fn credit(consumer: u64, bytes: u64) -> Record {
    Record::Credit { consumer: ConsumerId(consumer), add: 0, bytes }
}

/// 100 bytes with its head and topic.
fn hundred() -> Message {
    Message { payload: Bytes::from(vec![0; 58]), ..message("") }
}

#[test]
fn a_consumer_gets_messages_while_it_has_bytes_left() {
    let mut shard = Shard::with_queues(&["q"]);
    for _ in 0..5 {
        shard.publish(&["q"], hundred());
    }
    assert_eq!(deliveries(shard.apply(attach(1, 150))).len(), 2, "the second goes past what is left");
    shard.ack(1, 1);
    assert_eq!(shard.queue("q").ready, 3, "an ack gives nothing back");
    assert_eq!(deliveries(shard.apply(credit(1, 50))).len(), 0, "that is made up for first");
    assert_eq!(deliveries(shard.apply(credit(1, 1))).len(), 1);
    assert_eq!(deliveries(shard.apply(attach(2, 0))).len(), 2, "0 is unbounded");
}

#[test]
fn a_renewed_lease_starts_anew_and_the_others_go_on() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.attach(1, "q", 3);
    for _ in 0..3 {
        shard.publish(&["q"], message("m"));
    }
    shard.wait(20_000);
    let effects = shard.apply(Record::Renew { consumer: ConsumerId(1), tags: vec![(1, 1), (3, 4)] });
    assert_eq!(effects, [Effect::Renewed { consumer: ConsumerId(1), renewed: 2, stale: vec![4] }]);

    shard.attach(2, "q", 9);
    shard.wait(10_000);
    assert_eq!(brief(&deliveries(shard.tick())), [(2, 1, 2)], "the one that was not renewed");
    shard.wait(19_999);
    assert_eq!(deliveries(shard.tick()), []);
    shard.wait(1);
    assert_eq!(brief(&deliveries(shard.tick())), [(2, 0, 2), (2, 2, 2)]);
    let stale = shard.apply(Record::Renew { consumer: ConsumerId(1), tags: vec![(1, 1)] });
    assert_eq!(stale, [Effect::Renewed { consumer: ConsumerId(1), renewed: 0, stale: vec![1] }], "too late");
}

#[test]
fn what_a_pipeline_gives_up_on_the_way_out_is_a_dead_letter_of_its_stage() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.attach(1, "q", 3);
    for _ in 0..3 {
        shard.publish(&["q"], message("m"));
    }
    let refused = |tag| Refused {
        tag,
        cause: DeathCause::Stage,
        reason: "no total".into(),
        stage: "check/schema".into(),
        plugin: "ab12".into(),
    };
    let refuse = |tags: &[u64]| Record::Refuse {
        consumer: ConsumerId(1),
        refused: tags.iter().copied().map(refused).collect(),
    };
    let effects = shard.apply(refuse(&[1, 3, 9]));
    let told = Effect::Settled { consumer: ConsumerId(1), accepted: 2, stale: vec![9] };
    assert!(effects.contains(&told), "{effects:?}");
    let queue = shard.queue("q");
    assert_eq!((queue.leased, queue.dead_lettered, queue.ready), (1, 2, 0));
    let letters = shard.state.dead_letters("dead-letters", 0, 9);
    let death = &letters[0].death;
    assert_eq!(
        (death.queue.as_str(), death.cause, death.reason.as_str()),
        ("q", DeathCause::Stage, "no total")
    );
    assert_eq!((death.stage.as_deref(), death.plugin.as_deref()), (Some("check/schema"), Some("ab12")));

    let again = Effect::Settled { consumer: ConsumerId(1), accepted: 0, stale: vec![1] };
    assert!(shard.apply(refuse(&[1])).contains(&again), "a lease that is over settles nothing");
    let stranger = Record::Refuse { consumer: ConsumerId(7), refused: vec![refused(2)] };
    let nobody = Effect::Settled { consumer: ConsumerId(7), accepted: 0, stale: vec![2] };
    assert!(shard.apply(stranger).contains(&nobody));
}

#[test]
fn leases_are_as_long_as_the_policy_says_when_they_begin() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.attach(1, "q", 9);
    shard.publish(&["q"], message("long"));
    let policy = QueuePolicy { lease_ms: 10, ..QueuePolicy::default() };
    shard.change(Change::SetPolicy { name: name("q"), policy, was: None }).expect("changed");
    shard.publish(&["q"], message("short"));
    assert_eq!(shard.state.next_timer(), Some(Timestamp(shard.now().0 + 10)));
    shard.wait(10);
    assert_eq!(brief(&deliveries(shard.tick())), [(1, 1, 2)]);
    assert_eq!(shard.ack(1, 1).accepted, 1);
}

#[test]
fn the_oldest_consumer_is_served_alone_until_it_leaves() {
    let mut shard = Shard::new();
    shard.create("q", QueuePolicy { single_active: true, lease_ms: 10, ..QueuePolicy::default() });
    shard.attach(7, "q", 2);
    shard.attach(3, "q", 9);
    for _ in 0..3 {
        shard.publish(&["q"], message("m"));
    }
    assert_eq!((shard.queue("q").active, shard.queue("q").leased), (Some(ConsumerId(7)), 2));
    shard.wait(10);
    shard.tick();
    assert_eq!((shard.queue("q").ready, shard.queue("q").leased), (3, 0), "a lapse is no failover");
    assert_eq!(brief(&shard.detach(7)), [(3, 0, 2), (3, 1, 2), (3, 2, 1)]);
    assert_eq!(shard.queue("q").active, Some(ConsumerId(3)));
}

#[test]
fn an_exclusive_queue_has_one_consumer_and_goes_with_it() {
    let mut shard = Shard::new();
    shard.create("q", QueuePolicy { exclusive: true, ..QueuePolicy::default() });
    shard.publish(&["q"], message("m"));
    shard.attach(1, "q", 1);
    let effects = shard.apply(attach(2, 0));
    assert!(matches!(&effects[..], [Effect::Refused(refusal)] if refusal.code == ErrorCode::Conflict));

    let left = shard.apply(Record::Detach { consumer: ConsumerId(1) });
    assert_eq!(left, [Effect::TopologyChanged]);
    assert!(shard.state.queue("q").is_none());
    assert_eq!(shard.state.next_timer(), None);
}

#[test]
fn a_restart_takes_exclusive_queues_with_their_consumers() {
    let mut shard = Shard::new();
    for queue in ["used", "unused"] {
        shard.create(queue, QueuePolicy { exclusive: true, ..QueuePolicy::default() });
    }
    shard.attach(1, "used", 1);
    assert_eq!(shard.apply(Record::Restart), [Effect::TopologyChanged]);
    assert_eq!((shard.state.queue("used").is_some(), shard.state.queue("unused").is_some()), (false, true));
}

#[test]
fn a_queue_goes_when_it_was_without_a_consumer_for_so_long() {
    let mut shard = Shard::new();
    shard.create("q", QueuePolicy { expires_ms: 1_000, ..QueuePolicy::default() });
    shard.publish(&["q"], message("m"));
    shard.wait(999);
    shard.attach(1, "q", 1);
    shard.wait(5_000);
    shard.tick();
    assert!(shard.state.queue("q").is_some(), "it is used");
    shard.detach(1);
    shard.wait(999);
    shard.tick();
    assert!(shard.state.queue("q").is_some());
    shard.wait(1);
    assert_eq!(shard.tick(), [Effect::TopologyChanged]);
    assert!(shard.state.queue("q").is_none());
}
