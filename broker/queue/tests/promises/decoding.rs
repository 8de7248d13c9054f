//! Records from bytes: as they were, or an error that says why.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use wharf_protocol::{ProducerId, Session, Timestamp};
use wharf_queue::{
    ConsumerId, DecodeRecordError, Destination, Entry, Publish, QueueId, Record, Stamped, State,
};

use crate::random::{Command, commands, record};

fn encoded(stamped: &Stamped) -> Bytes {
    let mut out = BytesMut::new();
    stamped.encode(&mut out);
    out.freeze()
}

fn stamped(command: &Command) -> Stamped {
    Stamped { at: Timestamp(5), record: record(&State::default(), command) }
}

proptest! {
    #[test]
    fn a_record_is_read_back_as_it_was_written(commands in commands(1..4)) {
        for command in &commands {
            let stamped = stamped(command);
            prop_assert_eq!(Stamped::decode(encoded(&stamped)).expect("decodes"), stamped);
        }
    }

    #[test]
    fn a_cut_or_changed_record_is_an_error_or_a_record_but_never_a_panic(
        commands in commands(1..2), cut in 0usize..400, at in 0usize..400, byte: u8,
    ) {
        let mut bytes = encoded(&stamped(&commands[0])).to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = Stamped::decode(Bytes::from(bytes.clone()));
        bytes.truncate(cut);
        let _ = Stamped::decode(bytes.into());
    }

    #[test]
    fn garbage_after_a_good_head_is_never_a_panic(kind in 0u8..10, rest: Vec<u8>) {
        let mut bytes = vec![1, kind, 3 * u8::from(kind == 0), 0, 9 * u8::from(kind == 0), 0, 0, 0];
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&rest);
        let _ = Stamped::decode(bytes.into());
    }
}

#[test]
fn the_head_of_a_record_is_checked() {
    let good = encoded(&Stamped { at: Timestamp(7), record: Record::Detach { consumer: ConsumerId(3) } });
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        Stamped::decode(bytes.into()).expect_err("refused")
    };
    assert!(matches!(changed(0, 2), DecodeRecordError::Version(2)));
    assert!(matches!(changed(1, 99), DecodeRecordError::Kind(99)));
    assert!(matches!(changed(2, 1), DecodeRecordError::Head));
    assert!(matches!(changed(6, 1), DecodeRecordError::Head));
    let longer = [&good[..], &[0]].concat();
    assert!(matches!(Stamped::decode(longer.into()), Err(DecodeRecordError::Trailing(1))));
}

/// Logs outlive brokers: these bytes are read by every later version.
#[test]
fn a_publish_is_laid_out_as_documented() {
    let session = Session { producer: ProducerId(0x0102), epoch: 3, sequence: 4 };
    let destinations = vec![Destination::from(QueueId(5))];
    let entry = Entry { message: crate::shard::message("body"), destinations };
    let publish = Publish {
        session: Some(session),
        dedup: Some(6),
        topology: 7,
        entries: vec![entry],
        ..Publish::default()
    };
    let bytes = encoded(&Stamped { at: Timestamp(8), record: Record::Publish(publish) });

    let mut expected = vec![1, 0, 3, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
    expected.extend_from_slice(&0x0102_u128.to_le_bytes());
    expected.extend_from_slice(&[3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend_from_slice(&6_u128.to_le_bytes());
    expected.extend_from_slice(&[46, 0, 0, 0, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[..expected.len()], expected);
    assert_eq!(bytes.len(), expected.len() + 46, "then the message: head, topic and payload");
}

#[test]
fn a_tower_of_nested_arrays_is_an_error() {
    let mut bytes = encoded(&Stamped { at: Timestamp(7), record: Record::Tick })[..16].to_vec();
    bytes[1] = 7;
    bytes.extend(std::iter::repeat_n(0x91, 100_000));
    assert!(matches!(Stamped::decode(bytes.into()), Err(DecodeRecordError::Field(_))));
}

#[test]
fn a_decoded_message_shares_the_records_bytes() {
    let mut shard = crate::shard::Shard::with_queues(&["q"]);
    let entry = wharf_queue::Entry {
        message: crate::shard::message("a payload to find"),
        destinations: vec![shard.id("q").into()],
    };
    let bytes = encoded(&Stamped { at: Timestamp(9), record: Record::Publish(entry.into()) });
    let range = bytes.as_ptr_range();
    let Record::Publish(publish) = Stamped::decode(bytes.clone()).expect("decodes").record else {
        panic!("a publish");
    };
    assert!(range.contains(&publish.entries[0].message.payload.as_ptr()));
    shard.tick();
}
