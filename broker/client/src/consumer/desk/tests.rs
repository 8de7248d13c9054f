use wharf_protocol::frame::{Decoder, FRAME_BYTES_DEFAULT};

use super::*;

fn written(desk: &Desk) -> Vec<Frame> {
    let mut decoder = Decoder::new(FRAME_BYTES_DEFAULT);
    desk.take(decoder.buffer());
    std::iter::from_fn(|| decoder.next_frame().expect("frames")).collect()
}

fn new(prefetch: u32, limit: Option<u64>) -> Desk {
    Desk::new(&ConsumeOptions { prefetch, limit, ..ConsumeOptions::default() })
}

fn held(tag: u64) -> Held {
    Held { tag, bytes: 100 }
}

fn credit(messages: u32) -> Frame {
    Frame::Credit { messages, bytes: 0 }
}

fn now(settle: &mut Settle) -> Poll<Result<(), SettleError>> {
    let mut cx = Context::from_waker(Waker::noop());
    std::pin::Pin::new(settle).poll(&mut cx)
}

use std::future::Future as _;

#[test]
fn neighbours_with_one_outcome_are_one_range() {
    let desk = new(1000, None);
    for tag in 1..=5 {
        desk.settle(0, held(tag), Extent::One, Outcome::Ack);
    }
    desk.settle(0, held(7), Extent::One, Outcome::Ack);
    desk.settle(0, held(8), Extent::One, Outcome::Nack { delay: None });
    let range = |first, last, outcome| Settlement { first, last, outcome };
    let settlements = vec![
        range(1, 5, Outcome::Ack),
        range(7, 7, Outcome::Ack),
        range(8, 8, Outcome::Nack { delay: None }),
    ];
    assert_eq!(written(&desk), [Frame::Settle { number: 1, settlements }]);
    assert_eq!(written(&desk), []);
}

#[test]
fn credit_is_given_back_in_steps_by_what_is_settled_or_dropped() {
    let desk = new(8, None);
    desk.settle(0, held(1), Extent::One, Outcome::Ack);
    assert!(!written(&desk).contains(&credit(1)));
    desk.forget(0, held(1));
    assert_eq!(written(&desk), [credit(2)]);
    desk.forget(17, held(1));
    desk.forget(17, held(1));
    assert_eq!(written(&desk), [], "of another subscription");
}

#[test]
fn no_more_is_asked_for_than_is_wanted() {
    let desk = new(8, Some(3));
    assert_eq!(desk.first_credit(), 3);
    for tag in 1..=3 {
        assert!(desk.is_wanting());
        desk.got_one();
        desk.forget(0, held(1));
        desk.settle(0, held(tag), Extent::One, Outcome::Ack);
    }
    assert!(!desk.is_wanting());
    assert!(!written(&desk).iter().any(|frame| matches!(frame, Frame::Credit { .. })));

    let desk = new(2, Some(3));
    assert_eq!(desk.first_credit(), 2);
    desk.forget(0, held(1));
    desk.forget(0, held(1));
    assert_eq!(written(&desk), [credit(1)]);
}

/// A consumer with a limit waited for ever for the last few messages: their credit made no full step.
#[test]
fn the_last_credit_is_given_though_it_makes_no_step() {
    let desk = new(8, Some(11));
    assert_eq!(desk.first_credit(), 8);
    desk.forget(0, held(1));
    desk.forget(0, held(1));
    assert_eq!(written(&desk), [credit(2)]);
    desk.forget(0, held(1));
    assert_eq!(written(&desk), [credit(1)]);
}

#[test]
fn an_answer_tells_the_stale_from_the_settled() {
    let desk = new(100, None);
    let (mut one, mut two) = (
        desk.settle(0, held(1), Extent::One, Outcome::Ack),
        desk.settle(0, held(2), Extent::One, Outcome::Ack),
    );
    written(&desk);
    assert_eq!(now(&mut one), Poll::Pending);
    desk.settled(Settled { number: 1, stale: vec![2] }).expect("the next");
    assert_eq!(now(&mut one), Poll::Ready(Ok(())));
    assert_eq!(now(&mut two), Poll::Ready(Err(SettleError::Stale)));
    assert!(desk.settled(Settled { number: 1, stale: vec![] }).is_err());
}

#[test]
fn a_lost_subscription_leaves_the_sent_unknown_and_the_rest_stale() {
    let desk = new(100, None);
    let mut sent = desk.settle(0, held(1), Extent::One, Outcome::Ack);
    written(&desk);
    let mut unsent = desk.settle(0, held(2), Extent::One, Outcome::Ack);
    desk.lose();
    assert_eq!(now(&mut sent), Poll::Ready(Err(SettleError::Unknown)));
    assert_eq!(now(&mut unsent), Poll::Ready(Err(SettleError::Stale)));
    assert_eq!(
        now(&mut desk.settle(0, held(3), Extent::One, Outcome::Ack)),
        Poll::Ready(Err(SettleError::Stale))
    );
    assert_eq!(written(&desk), []);
}

#[test]
fn bytes_are_given_back_as_they_are_settled_even_when_no_more_messages_are_wanted() {
    let options = ConsumeOptions { prefetch: 8, prefetch_bytes: 400, ..ConsumeOptions::default() };
    for limit in [None, Some(3)] {
        let desk = Desk::new(&ConsumeOptions { limit, ..options });
        desk.first_credit();
        let messages = u32::from(limit.is_none());
        desk.forget(0, Held { tag: 1, bytes: 99 });
        assert_eq!(written(&desk), [], "less than a quarter");
        desk.forget(0, Held { tag: 2, bytes: 1 });
        assert_eq!(written(&desk), [Frame::Credit { messages: 2 * messages, bytes: 100 }]);
    }
}

#[test]
fn what_is_settled_up_to_a_delivery_begins_after_what_is_settled_already() {
    let desk = new(1000, None);
    let range = |first, last| Settlement { first, last, outcome: Outcome::Ack };
    desk.settle(0, held(1), Extent::One, Outcome::Ack);
    desk.settle(0, held(4), Extent::UpTo, Outcome::Ack);
    desk.settle(0, held(6), Extent::One, Outcome::Ack);
    assert_eq!(written(&desk), [Frame::Settle { number: 1, settlements: vec![range(1, 4), range(6, 6)] }]);
    desk.settle(0, held(100_000), Extent::UpTo, Outcome::Ack);
    desk.settle(0, held(100_001), Extent::UpTo, Outcome::Ack);
    let far = 100_000 - UNSETTLED_SPAN_MAX + 1;
    assert_eq!(written(&desk), [Frame::Settle { number: 2, settlements: vec![range(far, 100_001)] }]);
}

#[test]
fn renewals_that_are_neighbours_travel_together_and_are_answered_one_by_one() {
    let desk = new(1000, None);
    let mut renewals: Vec<Settle> = [1, 2, 3, 7].map(|tag| desk.renew(0, tag)).into();
    assert_eq!(written(&desk), [Frame::Renew { number: 1, tags: vec![(1, 3), (7, 7)] }]);
    assert_eq!(now(&mut renewals[0]), Poll::Pending);
    desk.renewed(Settled { number: 1, stale: vec![2] }).expect("the next");
    assert_eq!(now(&mut renewals[0]), Poll::Ready(Ok(())));
    assert_eq!(now(&mut renewals[1]), Poll::Ready(Err(SettleError::Stale)));
    assert!(desk.renewed(Settled { number: 1, stale: vec![] }).is_err());

    let mut lost = desk.renew(0, 8);
    desk.lose();
    assert_eq!(now(&mut lost), Poll::Ready(Err(SettleError::Stale)));
    assert_eq!(now(&mut desk.renew(0, 8)), Poll::Ready(Err(SettleError::Stale)));
}

#[test]
fn what_is_held_is_renewed_by_itself_until_it_is_let_go() {
    let desk = Desk::new(&ConsumeOptions { renew: true, ..ConsumeOptions::default() });
    let delivery = |tag| Delivery {
        tag,
        id: wharf_protocol::MessageId { index: tag, entry: 0 },
        offset: tag,
        attempt: 1,
        redelivered: false,
        stored_at: wharf_protocol::Timestamp(0),
        death: None,
        partition: 0,
        message: wharf_protocol::Message::new("a".parse().expect("a topic"), "x"),
    };
    desk.deliver(&mut (1..=6).map(delivery).collect());
    desk.settle(0, held(2), Extent::One, Outcome::Ack);
    desk.forget(0, held(3));
    written(&desk);
    desk.renew_held();
    assert_eq!(written(&desk), [Frame::Renew { number: 1, tags: vec![(1, 1), (4, 6)] }]);
    desk.renewed(Settled { number: 1, stale: vec![5] }).expect("the next");

    desk.settle(0, held(4), Extent::UpTo, Outcome::Ack);
    written(&desk);
    desk.renew_held();
    assert_eq!(written(&desk), [Frame::Renew { number: 2, tags: vec![(6, 6)] }]);
    desk.lose();
    desk.renew_held();
    assert_eq!(written(&desk), []);
}
