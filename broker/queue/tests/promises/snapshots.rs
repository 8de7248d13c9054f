//! Snapshots: small, checked, and never a panic.

use proptest::prelude::*;
use wharf_protocol::Timestamp;
use wharf_queue::{RestoreError, Stamped, State};
use xxhash_rust::xxh3::xxh3_64;

use crate::random::{Command, commands, create, record};
use crate::shard::{Shard, message};

/// The snapshot with a checksum that fits again.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let body = bytes.len() - 8;
    let checksum = xxh3_64(&bytes[..body]);
    bytes[body..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[test]
fn a_waiting_message_takes_a_few_bytes_of_a_snapshot() {
    let mut shard = Shard::with_queues(&["q"]);
    let empty = shard.state.snapshot().len();
    for _ in 0..200 {
        shard.wait(3);
        shard.publish(&["q"], message("m"));
    }
    let each = (shard.state.snapshot().len() - empty) / 200;
    assert!(each <= 5, "{each} bytes a message");
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let mut shard = Shard::with_queues(&["q"]);
    shard.publish(&["q"], message("m"));
    let good = shard.state.snapshot();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        assert!(matches!(State::restore(&bytes), Err(RestoreError::Checksum(_))), "byte {at}");
        assert!(matches!(State::restore(&good[..at]), Err(RestoreError::Checksum(_))), "cut at {at}");
    }
    let mut newer = good;
    newer[0] = u8::MAX;
    assert!(matches!(State::restore(&resealed(newer)), Err(RestoreError::Version(u8::MAX))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// A writer that is wrong, rather than a disk: the checksum fits, the content does not.
    #[test]
    fn a_snapshot_that_contradicts_itself_is_an_error_and_one_that_does_not_goes_on(
        before in commands(20..60), after in commands(1..10),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..3),
    ) {
        let mut state = State::default();
        for queue in 0..3 {
            let stamped = Stamped { at: Timestamp(0), record: create(queue) };
            state.apply(state.applied() + 1, &stamped, &mut Vec::new());
        }
        go_on(&mut state, &before);
        let mut bytes = state.snapshot();
        for (at, byte) in changes {
            let at = at.index(bytes.len() - 8);
            bytes[at] = byte;
        }
        let Ok(mut changed) = State::restore(&resealed(bytes)) else { return Ok(()) };
        if changed.applied() > u64::from(u32::MAX) || changed.now().0 > u64::from(u32::MAX) {
            return Ok(());
        }
        go_on(&mut changed, &after);
    }
}

fn go_on(state: &mut State, commands: &[Command]) {
    for command in commands {
        let stamped = Stamped { at: Timestamp(state.now().0 + command.wait), record: record(state, command) };
        state.apply(state.applied() + 1, &stamped, &mut Vec::new());
    }
}
