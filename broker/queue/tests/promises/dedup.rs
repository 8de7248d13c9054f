//! One enqueue for each sequence of a producer, and for each message id in its window.

use wharf_protocol::{ErrorCode, ProducerId, Receipt, Session, Stored};
use wharf_queue::{Change, Deduplication, Effect, PRODUCER_IDLE_MAX, Record};

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

/// A message that was refused left a gap, and its resend after a lost connection was answered as a duplicate:
/// its publisher took it for stored.
#[test]
fn a_gap_is_allowed_and_what_was_skipped_is_refused_again() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.publish_with("q", session(1, 5), None);
    for skipped in 1..=4 {
        let Receipt::Rejected(rejection) = shard.publish_with("q", session(1, skipped), None) else {
            panic!("sequence {skipped} is stored nowhere");
        };
        assert_eq!(rejection.code, ErrorCode::Conflict);
    }
    index(&shard.publish_with("q", session(1, 9), None));
    assert!(matches!(shard.publish_with("q", session(1, 7), None), Receipt::Rejected(_)));
    assert!(matches!(shard.publish_with("q", session(1, 5), None), Receipt::Duplicate(Some(_))));
    assert_eq!(shard.queue("q").enqueued, 2);
}

fn claim(shard: &mut Shard) -> (u32, u64) {
    match shard.apply(Record::ClaimProducer(ProducerId(7)))[..] {
        [Effect::Claimed { epoch, last_sequence }] => (epoch, last_sequence),
        ref other => panic!("a claim is answered, not by {other:?}"),
    }
}

#[test]
fn a_claimed_producer_goes_on_where_its_last_life_stopped() {
    let mut shard = Shard::with_queues(&["q"]);
    assert_eq!(claim(&mut shard), (1, 0));
    let first = shard.publish_with("q", session(1, 1), None);
    shard.publish_with("q", session(1, 2), None);

    assert_eq!(claim(&mut shard), (2, 2));
    let again = Receipt::Duplicate(Some(Stored { index: index(&first), entries: 1 }));
    assert_eq!(shard.publish_with("q", session(2, 1), None), again, "stored by an earlier life");
    index(&shard.publish_with("q", session(2, 3), None));

    let Receipt::Rejected(zombie) = shard.publish_with("q", session(1, 4), None) else {
        panic!("an older life of the producer is refused");
    };
    assert_eq!(zombie.code, ErrorCode::Fenced);
    assert_eq!(claim(&mut shard), (3, 3));
    assert_eq!(shard.queue("q").enqueued, 3);
}

#[test]
fn the_window_of_message_ids_can_be_set() {
    let mut shard = Shard::with_queues(&["q"]);
    index(&shard.publish_with("q", None, Some(1)));
    let short = Deduplication { window_ms: 1_000, max: 2 };
    shard.change(Change::SetDeduplication(short)).expect("set");
    shard.wait(999);
    assert!(matches!(shard.publish_with("q", None, Some(1)), Receipt::Duplicate(_)));
    shard.wait(1);
    index(&shard.publish_with("q", None, Some(1)));

    index(&shard.publish_with("q", None, Some(2)));
    index(&shard.publish_with("q", None, Some(3)));
    index(&shard.publish_with("q", None, Some(1)));
    assert!(matches!(shard.publish_with("q", None, Some(3)), Receipt::Duplicate(_)));

    for nonsense in [Deduplication { window_ms: 0, max: 1 }, Deduplication { window_ms: 1, max: u64::MAX }] {
        let refused = shard.change(Change::SetDeduplication(nonsense)).expect_err("impossible");
        assert_eq!(refused.code, ErrorCode::Malformed);
    }
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
    let window = Deduplication::default().window_ms;
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
