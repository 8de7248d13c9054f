//! What was durable and has changed since: found, named, never served.

use std::fs;

use bytes::Bytes;
use wharf_log::{Batch, Durability, LogEngine, OpenError, ReadError};

use crate::harness::*;

/// Four segments, snapshots after the first and second; the last batch is records 39 and 40.
fn sample(dir: &std::path::Path) -> Copy {
    let mut log = open(dir).log;
    for batch in 1..=20 {
        append(&mut log, 2).unwrap();
        if batch == 5 || batch == 10 {
            let at = batch * 2;
            log.write_snapshot(at, format!("state at {at}").as_bytes()).unwrap();
        }
    }
    drop(log);
    Copy::of(dir)
}

#[test]
fn any_flipped_byte_is_harmless_or_found_and_never_served() {
    let dir = scratch();
    let copy = sample(dir.path());
    let paths: Vec<_> = ["segment", "snapshot"].iter().flat_map(|kind| files(dir.path(), kind)).collect();
    let paths = [paths, vec![dir.path().join("identity")]].concat();
    let (mut harmless, mut cut, mut found) = (0, 0, 0);

    for path in paths {
        for at in 0..fs::read(&path).unwrap().len() {
            copy.restore(dir.path());
            let mut bytes = fs::read(&path).unwrap();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, bytes).unwrap();
            let place = format!("byte {at} of {}", path.display());

            match try_open(dir.path(), small()) {
                Err(OpenError::Damaged(_)) => found += 1,
                Err(other) => panic!("{place}: {other}"),
                Ok(opened) => {
                    let (at, state) = opened.snapshot.expect("one of two snapshots is good");
                    assert_eq!(state, format!("state at {at}").as_bytes(), "{place}");
                    let last = opened.log.next() - 1;
                    assert!(last >= 38, "{place}: only the last batch cannot be told from a torn one");
                    assert_records(&opened.records, at + 1, last);
                    if last == 40 {
                        harmless += 1
                    } else {
                        cut += 1
                    };
                    let reader = opened.log.reader();
                    for index in 1..=last {
                        let mut out = Vec::new();
                        match reader.read(&[index], &mut out) {
                            Ok(()) => assert_eq!(out, [body(index)], "{place}"),
                            Err(ReadError::Damaged(damage)) => assert_eq!(damage.index, index, "{place}"),
                            Err(other) => panic!("{place}: {other}"),
                        }
                    }
                }
            }
        }
    }
    // The trial itself is sound only if all three were met.
    assert!(harmless > 500 && cut > 100 && found > 500, "{harmless} {cut} {found}");
}

#[test]
fn damage_in_the_middle_is_refused_and_named() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 2).unwrap();
    append(&mut log, 2).unwrap();
    append(&mut log, 2).unwrap();
    drop(log);
    let path = files(dir.path(), "segment")[0].clone();
    let mut bytes = fs::read(&path).unwrap();
    let third = bytes.windows(8).position(|window| window == 3u64.to_le_bytes()).unwrap();
    bytes[third + 30] ^= 1;
    fs::write(&path, &bytes).unwrap();

    let refused = try_open(dir.path(), small()).unwrap_err();

    let OpenError::Damaged(damage) = &refused else { panic!("{refused}") };
    assert_eq!((&damage.path, damage.index, damage.offset), (&path, 3, third as u64 - 16));
    let text = refused.to_string();
    assert!(text.contains("records up to 4 were durable") && text.contains("restore the file"), "{text}");
    assert_eq!(fs::read(&path).unwrap(), bytes, "a damaged log is left as it was found");
}

#[test]
fn a_missing_segment_is_refused() {
    let dir = scratch();
    let copy = sample(dir.path());
    let segments = files(dir.path(), "segment");

    for missing in &segments[1..segments.len() - 1] {
        copy.restore(dir.path());
        fs::remove_file(missing).unwrap();
        let refused = try_open(dir.path(), small()).unwrap_err();
        assert!(refused.to_string().contains("the segment is missing"), "{refused}");
    }
    copy.restore(dir.path());
    for segment in &segments {
        fs::remove_file(segment).unwrap();
    }
    let refused = try_open(dir.path(), small()).unwrap_err();
    assert!(refused.to_string().contains("the segments are missing"), "{refused}");
}

#[test]
fn a_header_that_is_lost_while_its_records_are_there_is_damage_not_a_fresh_segment() {
    let dir = scratch();
    sample(dir.path());
    let last = files(dir.path(), "segment").pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes[..64].fill(0);
    fs::write(&last, bytes).unwrap();

    let refused = try_open(dir.path(), small()).unwrap_err();

    assert!(refused.to_string().contains("its header does not read"), "{refused}");
}

#[test]
fn a_lost_footer_is_made_again() {
    let dir = scratch();
    append(&mut open(dir.path()).log, 40).unwrap();
    let first = &files(dir.path(), "segment")[0];
    let good = fs::read(first).unwrap();
    let mut bytes = good.clone();
    bytes[1024 - 64..].fill(0);
    fs::write(first, bytes).unwrap();

    assert_records(&open(dir.path()).records, 1, 40);

    // All but what was durable when it was written, which is now more.
    let mended = fs::read(first).unwrap();
    assert_eq!(mended[..1024 - 32], good[..1024 - 32]);
}

#[test]
fn a_folder_of_another_format_is_refused_untouched() {
    let dir = scratch();
    sample(dir.path());
    let path = dir.path().join("identity");
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 3;
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();

    let refused = try_open(dir.path(), small()).unwrap_err();

    assert!(matches!(refused, OpenError::Format { found: 3, .. }), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_segment_of_another_history_of_the_same_log_is_refused() {
    let dir = scratch();
    append(&mut open(dir.path()).log, 2).unwrap();
    let common = Copy::of(dir.path());
    let history = |byte: u8| {
        common.restore(dir.path());
        let mut batch = Batch::new();
        batch.extend((0..40).map(|_| Bytes::from(vec![byte; 60])));
        open(dir.path()).log.append(3, &mut batch, Durability::Fsync).unwrap();
        fs::read(&files(dir.path(), "segment")[1]).unwrap()
    };
    let restored_by_mistake = history(1);
    history(2);
    fs::write(&files(dir.path(), "segment")[1], restored_by_mistake).unwrap();

    let refused = try_open(dir.path(), small());

    assert!(matches!(refused, Err(OpenError::Damaged(_))), "{refused:?}");
}

#[test]
fn files_of_another_log_are_not_taken_for_ours() {
    let (ours, theirs) = (scratch(), scratch());
    sample(ours.path());
    sample(theirs.path());
    let (mine, other) = (files(ours.path(), "segment"), files(theirs.path(), "segment"));
    fs::copy(&other[1], &mine[1]).unwrap();

    let refused = try_open(ours.path(), small()).unwrap_err();

    assert!(matches!(refused, OpenError::Damaged(_)), "{refused}");
}
