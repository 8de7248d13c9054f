//! One enqueue for each sequence of a producer, and for each message id in its window.

use wharf_protocol::{ErrorCode, ProducerId, Receipt, Session, Stored};
use wharf_queue::{MESSAGE_ID_WINDOW, PRODUCER_IDLE_MAX};

use crate::shard::Shard;

fn session(epoch: u32, sequence: u64) -> Option<Session> {
    Some(Session { producer: ProducerId(7), epoch, sequence })
}

fn index(receipt: &Receipt) -> u64 {
    match receipt {
        Receipt::Stored(Stored { index, .. }) => *index,
        other => panic!("stored, not {other:?}"),
    }
}

#[test]
fn a_resent_sequence_is_stored_once_and_told_where() {
    let mut shard = Shard::with_queues(&["q"]);
    let first = shard.publish_with("q", session(1, 1), None);
    let second = shard.publish_with("q", session(1, 2), None);

    for (sequence, original) in [(1, &first), (2, &second)] {
        let again = shard.publish_with("q", session(1, sequence), None);
        let stored = Stored { index: index(original), entries: 1 };
        assert_eq!(again, Receipt::Duplicate(Some(stored)));
    }
    assert_eq!(shard.queue("q").enqueued, 2);
}

#[test]
fn a_gap_is_allowed_and_what_was_skipped_stays_skipped() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.publish_with("q", session(1, 5), None);
    assert_eq!(shard.publish_with("q", session(1, 4), None), Receipt::Duplicate(None));
    index(&shard.publish_with("q", session(1, 9), None));
}

#[test]
fn a_newer_epoch_fences_the_older() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.publish_with("q", session(1, 8), None);
    index(&shard.publish_with("q", session(2, 1), None));

    let Receipt::Rejected(rejection) = shard.publish_with("q", session(1, 9), None) else {
        panic!("an older life of the producer is refused");
    };
    assert_eq!(rejection.code, ErrorCode::Fenced);
    assert_eq!(shard.queue("q").enqueued, 2);
}

#[test]
fn a_sequence_of_zero_is_malformed() {
    let mut shard = Shard::with_queues(&["q"]);
    let receipt = shard.publish_with("q", session(1, 0), None);
    assert!(matches!(receipt, Receipt::Rejected(rejection) if rejection.code == ErrorCode::Malformed));
}

#[test]
fn a_producer_is_forgotten_after_a_week_without_a_message() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.publish_with("q", session(1, 1), None);
    let week = u64::try_from(PRODUCER_IDLE_MAX.as_millis()).expect("small");
    shard.wait(week - 1);
    assert_eq!(shard.publish_with("q", session(1, 1), None), Receipt::Duplicate(None));
    shard.wait(week + 3_600_000);
    index(&shard.publish_with("q", session(1, 1), None));
}

#[test]
fn a_message_id_is_stored_once_in_its_window() {
    let mut shard = Shard::with_queues(&["q"]);
    let first = shard.publish_with("q", None, Some(42));
    let window = u64::try_from(MESSAGE_ID_WINDOW.as_millis()).expect("small");
    shard.wait(window - 1);
    let stored = Stored { index: index(&first), entries: 1 };
    assert_eq!(shard.publish_with("q", None, Some(42)), Receipt::Duplicate(Some(stored)));
    index(&shard.publish_with("q", None, Some(43)));

    shard.wait(1);
    index(&shard.publish_with("q", None, Some(42)));
    assert_eq!(shard.queue("q").enqueued, 3);
}

#[test]
fn a_message_id_under_a_new_sequence_is_still_a_duplicate_and_so_is_that_sequence() {
    let mut shard = Shard::with_queues(&["q"]);
    let first = shard.publish_with("q", session(1, 1), Some(42));
    let original = Receipt::Duplicate(Some(Stored { index: index(&first), entries: 1 }));
    assert_eq!(shard.publish_with("q", session(1, 2), Some(42)), original);
    assert_eq!(shard.publish_with("q", session(1, 2), None), original);
}
