//! Frames there and back, and everything that is not one.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::{
    Committed, Death, DeathCause, ErrorCode, MessageId, Outcome, Part, PipelineVersion, ProducerId, Receipt,
    Rejection, Settlement, Stored, Timestamp, TransactionReceipt,
};

fn any_code() -> impl Strategy<Value = ErrorCode> {
    (1u16..=13).prop_map(|number| ErrorCode::try_from(number).expect("a code"))
}

fn any_message() -> impl Strategy<Value = Message> {
    ("[a-z]{1,8}(\\.[a-z0-9]{0,8}){0,3}", vec(any::<u8>(), 0..3000), option::of(vec(any::<u8>(), 0..20)))
        .prop_map(|(topic, payload, key)| {
            let mut message = Message::new(topic.parse().expect("a topic"), payload);
            message.key = key.map(Bytes::from);
            message
        })
}

fn any_receipt() -> impl Strategy<Value = Receipt> {
    let stored = || (any::<u64>(), any::<u16>()).prop_map(|(index, entries)| Stored { index, entries });
    let rejection = (any_code(), option::of(".{0,20}"), ".{0,80}", any::<Option<u32>>())
        .prop_map(|(code, stage, reason, retry_after_ms)| Rejection { code, stage, reason, retry_after_ms });
    prop_oneof![
        stored().prop_map(Receipt::Stored),
        option::of(stored()).prop_map(Receipt::Duplicate),
        rejection.prop_map(Receipt::Rejected),
    ]
}

fn any_settlement() -> impl Strategy<Value = Settlement> {
    let outcome = prop_oneof![
        Just(Outcome::Ack),
        option::of(0..u64::MAX - 1)
            .prop_map(|delay| Outcome::Nack { delay: delay.map(Duration::from_millis) }),
        ".{0,200}".prop_map(|reason| Outcome::DeadLetter { reason }),
    ];
    (any::<u64>(), any::<u64>(), outcome).prop_map(|(a, b, outcome)| Settlement {
        first: a.min(b),
        last: a.max(b),
        outcome,
    })
}

fn any_transact() -> impl Strategy<Value = Transact> {
    let settle = (any::<u64>(), any_settlement())
        .prop_map(|(consumer, settlement)| ConsumerSettlement { consumer, settlement });
    (any::<u64>(), vec(any_message(), 0..4), vec(settle, 0..4), any::<bool>()).prop_map(
        |(sequence, messages, settles, tell_versions)| Transact {
            sequence,
            messages,
            settles,
            tell_versions,
        },
    )
}

fn any_transacted() -> impl Strategy<Value = Transacted> {
    let stored = || (any::<u64>(), any::<u16>()).prop_map(|(index, entries)| Stored { index, entries });
    let committed = (stored(), vec(any::<u32>(), 0..3), vec(any::<u32>(), 0..3))
        .prop_map(|(stored, duplicates, unrouted)| Committed { stored, duplicates, unrouted });
    let part = prop_oneof![
        Just(Part::Whole),
        any::<u32>().prop_map(Part::Message),
        any::<u32>().prop_map(Part::Settlement),
        any::<u32>().prop_map(Part::Cursor),
    ];
    let refused = (part, any_code(), ".{0,80}").prop_map(|(part, code, reason)| {
        let rejection = Rejection { code, stage: None, reason, retry_after_ms: None };
        TransactionReceipt::Refused { part, rejection }
    });
    let receipt = prop_oneof![
        committed.prop_map(TransactionReceipt::Committed),
        option::of(stored()).prop_map(TransactionReceipt::Duplicate),
        refused,
    ];
    (any::<u64>(), receipt, vec(any_version(), 0..3)).prop_map(|(sequence, receipt, versions)| Transacted {
        sequence,
        receipt,
        versions,
    })
}

fn any_death() -> impl Strategy<Value = Death> {
    (".{1,20}", ".{0,80}", option::of(".{0,20}"), any::<[u64; 3]>(), any::<(u32, u16)>()).prop_map(
        |(queue, reason, stage, [first, last, index], (attempts, entry))| Death {
            queue,
            cause: DeathCause::StageFault,
            reason,
            plugin: stage.clone(),
            stage,
            attempts,
            first_at: Timestamp(first),
            last_at: Timestamp(last),
            original: MessageId { index, entry },
        },
    )
}

fn any_delivery() -> impl Strategy<Value = Delivery> {
    (any::<[u64; 4]>(), any::<(u32, u16, bool)>(), option::of(any_death()), any_message()).prop_map(
        |([tag, index, offset, stored_at], (attempt, entry, redelivered), death, message)| Delivery {
            tag,
            id: MessageId { index, entry },
            offset,
            attempt,
            redelivered,
            stored_at: Timestamp(stored_at),
            partition: entry.rotate_left(3),
            death: death.map(Box::new),
            message,
        },
    )
}

fn any_control() -> impl Strategy<Value = Frame> {
    let text = || ".{0,60}";
    prop_oneof![
        (vec(any::<u16>(), 0..4), text(), option::of(text()))
            .prop_map(|(versions, client, token)| Frame::Hello(Hello { versions, client, token })),
        (text(), any::<u16>(), any::<[u32; 4]>()).prop_map(|(server, version, [a, b, c, d])| {
            let limits = Limits { frame_bytes_max: a, unconfirmed_max: b, credit_max: c, streams_max: d };
            Frame::Welcome(Welcome { server, version, limits })
        }),
        any::<u64>().prop_map(Frame::Ping),
        any::<u64>().prop_map(Frame::Pong),
        text().prop_map(|reason| Frame::Goodbye(Goodbye { reason })),
        (any_code(), text()).prop_map(|(code, reason)| Frame::Error(Refusal { code, reason })),
        (any_code(), text()).prop_map(|(code, reason)| Frame::Cancelled(Cancelled { code, reason })),
    ]
}

fn any_opening() -> impl Strategy<Value = Frame> {
    prop_oneof![
        (option::of(any::<(u128, u32)>()), any::<bool>()).prop_map(|(session, tell_versions)| {
            let session =
                session.map(|(producer, epoch)| ProducerSession { producer: ProducerId(producer), epoch });
            let producer = session.is_none().then(|| "importer-7".parse().expect("a name"));
            Frame::OpenPublisher(OpenPublisher { session, producer, tell_versions })
        }),
        any::<Option<u64>>().prop_map(|last_sequence| Frame::Opened(Opened { last_sequence, session: None })),
        ("[a-z]{1,20}", any::<u32>(), any::<u64>(), any::<[bool; 2]>()).prop_map(
            |(queue, credit, credit_bytes, [auto_settle, until_empty])| {
                let queue = queue.parse().expect("a name");
                let durable = until_empty
                    .then(|| Durable { pattern: "a.#".parse().expect("a pattern"), expires_ms: 7 });
                Frame::Subscribe(Subscribe { queue, credit, auto_settle, until_empty, credit_bytes, durable })
            }
        ),
        any::<(u64, u64)>()
            .prop_map(|(consumer, lease_ms)| Frame::Subscribed(Subscribed { consumer, lease_ms })),
        any::<Option<u32>>().prop_map(|datagrams| {
            Frame::SubscribeTopic(SubscribeTopic { pattern: "a.*.#".parse().expect("a pattern"), datagrams })
        }),
        any::<bool>().prop_map(|datagrams| Frame::Tapped(Tapped { datagrams })),
        any_transact().prop_map(Frame::Transact),
        any_transacted().prop_map(Frame::Transacted),
        (any::<u64>(), vec(any_message(), 0..4))
            .prop_map(|(sequence, messages)| Frame::PublishAll { sequence, messages }),
        (any::<u128>(), any::<u32>()).prop_map(|(producer, epoch)| {
            let session = ProducerSession { producer: ProducerId(producer), epoch };
            Frame::OpenTransactor(OpenTransactor { session })
        }),
        Just(Frame::Empty),
    ]
}

fn any_version() -> impl Strategy<Value = PipelineVersion> {
    ("[a-z]{1,9}", any::<u32>())
        .prop_map(|(name, number)| PipelineVersion { pipeline: name.parse().expect("a name"), number })
}

fn any_confirmation() -> impl Strategy<Value = Confirmation> {
    (0..u64::MAX / 2, 1..u32::MAX, any_receipt(), vec(any_version(), 0..3))
        .prop_map(|(first, count, receipt, versions)| Confirmation { first, count, receipt, versions })
}

fn any_frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        any_control(),
        any_opening(),
        (any::<u64>(), any_message()).prop_map(|(sequence, message)| Frame::Publish { sequence, message }),
        vec(any_confirmation(), 0..10).prop_map(Frame::Confirm),
        any_delivery().prop_map(Frame::Deliver),
        any::<(u32, u64)>().prop_map(|(messages, bytes)| Frame::Credit { messages, bytes }),
        (any::<u64>(), vec((0..u64::MAX / 2, 0..u64::MAX / 2), 0..10)).prop_map(|(number, tags)| {
            let tags = tags.into_iter().map(|(first, more)| (first, first + more)).collect();
            Frame::Renew { number, tags }
        }),
        (any::<u64>(), vec(any::<u64>(), 0..10))
            .prop_map(|(number, stale)| Frame::Renewed(Settled { number, stale })),
        (any::<u64>(), vec(any_settlement(), 0..10))
            .prop_map(|(number, settlements)| Frame::Settle { number, settlements }),
        (any::<u64>(), vec(any::<u64>(), 0..10))
            .prop_map(|(number, stale)| Frame::Settled(Settled { number, stale })),
        any_message().prop_map(Frame::Tap),
        (any::<u64>(), any_message()).prop_map(|(number, message)| Frame::TapNumbered { number, message }),
    ]
}

fn encoded(frames: &[Frame]) -> BytesMut {
    let mut out = BytesMut::new();
    for frame in frames {
        frame.encode(&mut out);
    }
    out
}

/// All frames of `bytes`, or the first error.
fn decoded(bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
    let mut decoder = Decoder::new(FRAME_BYTES_DEFAULT);
    decoder.buffer().put_slice(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame()? {
        frames.push(frame);
    }
    decoder.finish()?;
    Ok(frames)
}

/// A head with this length and kind, and a body.
fn frame_bytes(length: u32, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(&[kind, 0, 0, 0]);
    bytes.extend_from_slice(body);
    bytes
}

fn packed(kind: Kind, body: &[u8]) -> Result<Vec<Frame>, FrameError> {
    decoded(&frame_bytes(u32::try_from(body.len()).expect("small"), kind as u8, body))
}

proptest! {
    #[test]
    fn frames_are_read_back_whatever_pieces_they_come_in(
        frames in vec(any_frame(), 1..8), cuts in vec(1usize..500, 1..20),
    ) {
        let bytes = encoded(&frames);
        let mut decoder = Decoder::new(FRAME_BYTES_DEFAULT);
        let (mut read, mut rest) = (Vec::new(), &bytes[..]);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            decoder.buffer().put_slice(piece);
            rest = after;
            while let Some(frame) = decoder.next_frame().expect("well-formed") {
                read.push(frame);
            }
        }
        decoder.finish().expect("nothing is left over");
        prop_assert_eq!(read, frames);
    }

    #[test]
    fn a_frame_cut_short_is_waited_for_and_then_reported(frame in any_frame(), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(std::slice::from_ref(&frame));
        let cut = cut.index(bytes.len());
        match decoded(&bytes[..cut]) {
            Ok(frames) => prop_assert!(cut == 0 && frames.is_empty()),
            Err(error) => prop_assert!(matches!(error, FrameError::Truncated(n) if n == cut), "{}", error),
        }
    }

    #[test]
    fn a_changed_frame_is_an_error_or_a_frame_but_never_a_panic(
        frame in any_frame(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = encoded(&[frame]);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decoded(&bytes);
    }

    #[test]
    fn garbage_is_never_a_panic(bytes in vec(any::<u8>(), 0..400), kind in 0u8..0x40) {
        let _ = decoded(&bytes);
        let _ = decoded(&frame_bytes(u32::try_from(bytes.len()).expect("small"), kind, &bytes));
    }

    #[test]
    fn what_was_read_is_written_back_the_same(bytes in vec(any::<u8>(), 0..80), kind in 0x10u8..0x33) {
        let bytes = frame_bytes(u32::try_from(bytes.len()).expect("small"), kind, &bytes);
        if let Ok(frames) = decoded(&bytes) {
            prop_assert_eq!(decoded(&encoded(&frames)).expect("just written"), frames);
        }
    }
}

#[test]
fn a_payload_is_a_slice_of_what_was_read() {
    let payload = vec![7u8; 4096];
    let message = Message::new("a".parse().expect("a topic"), payload);
    let mut decoder = Decoder::new(FRAME_BYTES_DEFAULT);
    let start = decoder.buffer().as_ptr() as usize;
    encode_publish(1, &message, decoder.buffer());
    let end = start + decoder.buffer().len();
    let Ok(Some(Frame::Publish { message, .. })) = decoder.next_frame() else {
        panic!("a publish");
    };
    let at = message.payload.as_ptr() as usize;
    assert!(start < at && at + message.payload.len() == end, "the payload was copied");
}

#[test]
fn an_announced_length_over_the_bound_is_refused_before_its_body() {
    let error = decoded(&frame_bytes(u32::MAX, Kind::Publish as u8, &[])).expect_err("refused");
    assert!(matches!(error, FrameError::TooLong { length: 0xffff_ffff, max: FRAME_BYTES_DEFAULT, .. }));
    assert_eq!(error.code(), ErrorCode::TooLarge);
}

#[test]
fn no_room_is_made_for_a_body_that_has_not_come() {
    let mut decoder = Decoder::new(FRAME_BYTES_MAX);
    let length = u32::try_from(FRAME_BYTES_MAX).expect("fits");
    decoder.buffer().put_slice(&frame_bytes(length, Kind::Publish as u8, b"little"));
    assert!(decoder.next_frame().expect("a promising head").is_none());
    assert!(decoder.buffer().capacity() < 256 * 1024);
}

#[test]
fn a_head_that_means_nothing_is_refused() {
    assert!(matches!(decoded(&frame_bytes(0, 0x77, &[])), Err(FrameError::Kind(0x77))));
    let mut bytes = frame_bytes(0, Kind::Empty as u8, &[]);
    bytes[5] = 1;
    assert!(matches!(decoded(&bytes), Err(FrameError::Flags { flags: 1, .. })));
    bytes[5] = 0;
    bytes[7] = 1;
    assert!(matches!(decoded(&bytes), Err(FrameError::Reserved(0x100))));
}

#[test]
fn a_message_pack_bomb_is_refused() {
    // {"client": [[[[…
    let mut bomb = b"\x81\xa6client".to_vec();
    bomb.extend(std::iter::repeat_n(0x91, 100_000));
    assert!(matches!(packed(Kind::Hello, &bomb), Err(FrameError::Body { .. })));

    // A field that nobody knows is skipped, but not to any depth.
    let mut bomb = b"\x81\xa6secret".to_vec();
    bomb.extend(std::iter::repeat_n(0x91, 100_000));
    assert!(matches!(packed(Kind::Hello, &bomb), Err(FrameError::Body { .. })));
}

#[test]
fn credit_without_bytes_is_four_bytes_long_as_it_always_was() {
    let frame = Frame::Credit { messages: 7, bytes: 0 };
    assert_eq!(encoded(std::slice::from_ref(&frame)).len(), HEAD_BYTES + 4);
    assert_eq!(packed(Kind::Credit, &7_u32.to_le_bytes()).expect("credit"), [frame]);
    assert!(matches!(packed(Kind::Credit, &[0; 8]), Err(FrameError::Length { .. })));
    assert!(matches!(packed(Kind::Credit, &[1; 16]), Err(FrameError::Field { .. })));
}

#[test]
fn ranges_of_tags_that_run_backwards_are_refused() {
    let mut body = 1_u64.to_le_bytes().to_vec();
    body.extend([2_u64, 1].iter().flat_map(|tag| tag.to_le_bytes()));
    assert!(matches!(packed(Kind::Renew, &body), Err(FrameError::Field { .. })));
    assert!(matches!(packed(Kind::Renew, &body[..16]), Err(FrameError::Length { .. })));
}

#[test]
fn a_lie_about_a_length_in_a_body_is_refused() {
    let text_of_4_gib = b"\x83\xa8versions\x91\x01\xa6client\xdb\xff\xff\xff\xff";
    assert!(matches!(packed(Kind::Hello, text_of_4_gib), Err(FrameError::Body { .. })));
    let array_of_4_gi = b"\x83\xa8versions\xdd\xff\xff\xff\xff";
    assert!(matches!(packed(Kind::Hello, array_of_4_gi), Err(FrameError::Body { .. })));

    let mut rejection_of_much = vec![4, 0, 0, 0, 1, 0, 0, 0];
    rejection_of_much.extend_from_slice(&1u64.to_le_bytes());
    rejection_of_much.extend_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(packed(Kind::Confirm, &rejection_of_much), Err(FrameError::Length { .. })));
}

#[test]
fn bytes_after_a_body_and_fields_given_twice_are_refused() {
    let goodbye = b"\x81\xa6reason\xa3bye";
    assert!(packed(Kind::Goodbye, goodbye).is_ok());
    assert!(matches!(packed(Kind::Goodbye, b"\x81\xa6reason\xa3bye\xc0"), Err(FrameError::Body { .. })));
    let twice = b"\x82\xa6reason\xa3bye\xa6reason\xa3bye";
    assert!(matches!(packed(Kind::Goodbye, twice), Err(FrameError::Body { .. })));
}

#[test]
fn a_field_of_a_later_version_is_skipped() {
    let goodbye = b"\x82\xa6reason\xa3bye\xa4more\x92\x01\x02";
    let expected = Frame::Goodbye(Goodbye { reason: "bye".into() });
    assert_eq!(packed(Kind::Goodbye, goodbye).expect("skipped"), [expected]);
}

#[test]
fn a_reason_over_its_bound_is_cut_at_a_whole_character() {
    let reason = "é".repeat(REASON_BYTES_MAX);
    let settlements = vec![Settlement { first: 1, last: 1, outcome: Outcome::DeadLetter { reason } }];
    let frames = decoded(&encoded(&[Frame::Settle { number: 1, settlements }])).expect("cut to fit");
    let [Frame::Settle { settlements, .. }] = &frames[..] else { panic!("a settle") };
    let Outcome::DeadLetter { reason } = &settlements[0].outcome else { panic!("a dead letter") };
    assert_eq!(reason.len(), REASON_BYTES_MAX);
}

#[test]
fn a_token_is_not_printed() {
    let hello = Hello { versions: vec![1], client: "test".into(), token: Some("sesame".into()) };
    assert!(!format!("{:?}", Frame::Hello(hello)).contains("sesame"));
}
