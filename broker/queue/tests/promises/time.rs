//! Delays, times to live, leases and retries: never early, whatever the clock does.

use std::time::Duration;

use wharf_protocol::{Message, Outcome, Timestamp};
use wharf_queue::{QueuePolicy, Record, Stamped, State};

use crate::shard::{Shard, brief, deliveries, message};

fn milliseconds(n: u64) -> Option<Duration> {
    Some(Duration::from_millis(n))
}

#[test]
fn a_delayed_message_is_not_delivered_before_its_time() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.attach(1, "q", 10);
    let stored_at = shard.now();
    shard.publish(&["q"], Message { delay: milliseconds(500), ..message("late") });
    assert_eq!(shard.state.next_timer(), Some(Timestamp(stored_at.0 + 500)));

    shard.wait(499);
    assert_eq!(brief(&deliveries(shard.publish(&["q"], message("plain")).1)), [(1, 1, 1)]);
    shard.wait(1);
    let got = deliveries(shard.tick());
    assert_eq!(brief(&got), [(1, 0, 1)]);
    assert_eq!(got[0].stored_at, stored_at);
}

#[test]
fn an_expired_message_is_settled_and_never_delivered() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.publish(&["q"], Message { ttl: milliseconds(500), ..message("m") });
    shard.wait(499);
    shard.tick();
    assert_eq!(shard.queue("q").ready, 1, "not early");
    shard.wait(1);

    assert_eq!(shard.attach(1, "q", 1), []);
    assert_eq!((shard.queue("q").expired, shard.queue("q").settled), (1, 1));
}

#[test]
fn a_message_that_expires_in_a_consumers_hands_may_be_acked_but_does_not_come_back() {
    let mut shard = Shard::with_queues(&["q"]);
    for _ in 0..2 {
        shard.publish(&["q"], Message { ttl: milliseconds(500), ..message("m") });
    }
    shard.attach(1, "q", 2);
    shard.wait(1_000);
    shard.tick();

    assert_eq!(shard.ack(1, 1).accepted, 1);
    assert_eq!(shard.nack(1, 2, 0).accepted, 1);
    assert_eq!((shard.queue("q").acked, shard.queue("q").expired), (1, 1));
}

#[test]
fn a_lease_lapses_at_its_deadline_and_counts_as_a_failure() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.attach(1, "q", 10);
    shard.publish(&["q"], message("first"));
    shard.wait(10_000);
    shard.publish(&["q"], message("second"));

    shard.wait(19_999);
    assert_eq!(deliveries(shard.tick()), []);
    shard.wait(1);
    assert_eq!(brief(&deliveries(shard.tick())), [(1, 0, 2)], "the other lease has 10 s to go");
    assert_eq!(shard.ack(1, 1).stale, [1], "its lease is over");
    assert_eq!(shard.ack(1, 3).accepted, 1, "under the new lease's tag");
    assert_eq!(shard.queue("q").failed, 1);
}

#[test]
fn a_nack_with_a_delay_waits_that_long() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.attach(1, "q", 10);
    shard.publish(&["q"], message("m"));

    assert_eq!(shard.nack(1, 1, 5_000).delivered, []);
    assert_eq!(shard.queue("q").delayed, 1);
    shard.wait(4_999);
    assert_eq!(shard.tick(), []);
    shard.wait(1);
    assert_eq!(brief(&deliveries(shard.tick())), [(1, 0, 2)]);
    assert_eq!(brief(&shard.nack(1, 2, 0).delivered), [(1, 0, 3)], "no delay: at once");
}

#[test]
fn a_nack_without_a_delay_backs_off_by_the_queues_policy() {
    let mut shard = Shard::new();
    shard.create("q", QueuePolicy { retry_min_ms: 100, retry_max_ms: 400, ..QueuePolicy::default() });
    shard.attach(1, "q", 10);
    shard.publish(&["q"], message("m"));

    for (tag, base) in [(1, 100), (2, 200), (3, 400), (4, 400)] {
        assert_eq!(shard.settle(1, tag, tag, Outcome::Nack { delay: None }).delivered, []);
        let due = shard.queue("q").delayed == 1 && shard.state.next_timer().is_some();
        assert!(due, "it waits");
        let until = shard.state.next_timer().expect("armed").since(shard.now()).as_millis();
        assert!((base..=base + base / 4).contains(&until), "{until} ms after nack {tag}");
        shard.wait(500);
        assert_eq!(brief(&deliveries(shard.tick())), [(1, 0, u32::try_from(tag).expect("small") + 1)]);
    }
}

#[test]
fn a_clock_that_stands_still_expires_nothing() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.publish(&["q"], Message { ttl: milliseconds(1), ..message("m") });
    for _ in 0..100 {
        shard.tick();
    }
    assert_eq!(shard.queue("q").ready, 1);
}

#[test]
#[should_panic(expected = "stamped before the one before it")]
fn a_stamp_that_goes_back_is_a_broken_log() {
    let mut state = State::default();
    state.apply(1, &Stamped { at: Timestamp(5), record: Record::Tick }, &mut Vec::new());
    state.apply(2, &Stamped { at: Timestamp(4), record: Record::Tick }, &mut Vec::new());
}
