//! What a crash may leave behind: files that end anywhere, and batches of which any part is missing.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use wharf_log::{Batch, Durability, LogEngine};

use crate::harness::*;

/// A log of several segments, and where each record ends: segment (by position) and offset.
fn sample(dir: &Path) -> (Copy, Vec<(usize, usize)>) {
    let mut log = open(dir).log;
    for _ in 0..14 {
        append(&mut log, 2).unwrap();
    }
    drop(log);
    let mut ends = Vec::new();
    for (at, path) in files(dir, "segment").iter().enumerate() {
        let bytes = fs::read(path).unwrap();
        let mut offset = 64;
        while ends.len() < 28 {
            // The layout as drawn in `record.rs`: body length at 8, index at 16.
            let length = u32::from_le_bytes(bytes[offset + 8..offset + 12].try_into().unwrap()) as usize;
            let index = u64::from_le_bytes(bytes[offset + 16..offset + 24].try_into().unwrap());
            if index != ends.len() as u64 + 1 {
                break;
            }
            // Padding is not part of the promise: a record is there once its body is.
            ends.push((at, offset + 40 + length));
            offset += (40 + length).next_multiple_of(8);
        }
    }
    assert_eq!(ends.len(), 28);
    (Copy::of(dir), ends)
}

#[derive(Debug, Clone, Copy)]
enum Rest {
    Gone,
    Zeros,
    Noise,
}

/// Leaves the first `cut` bytes of the segment at position `at`, and no later segment.
fn cut(dir: &Path, at: usize, cut: usize, rest: Rest) {
    let paths = files(dir, "segment");
    for later in &paths[at + 1..] {
        fs::remove_file(later).unwrap();
    }
    let mut bytes = fs::read(&paths[at]).unwrap();
    match rest {
        Rest::Gone => bytes.truncate(cut),
        Rest::Zeros => bytes[cut..].fill(0),
        Rest::Noise => bytes[cut..].iter_mut().for_each(|byte| *byte = !*byte),
    }
    fs::write(&paths[at], bytes).unwrap();
}

#[test]
fn a_log_cut_at_any_byte_keeps_what_was_before_the_cut_and_goes_on() {
    let dir = scratch();
    let (copy, ends) = sample(dir.path());
    let segments = files(dir.path(), "segment").len();
    assert!(segments >= 3);

    for rest in [Rest::Gone, Rest::Zeros, Rest::Noise] {
        for (at, offset) in (0..segments).flat_map(|at| (0..1024).map(move |offset| (at, offset))) {
            copy.restore(dir.path());
            cut(dir.path(), at, offset, rest);
            let whole = ends.iter().filter(|end| **end <= (at, offset)).count() as u64;

            let mut opened = open(dir.path());
            assert_records(&opened.records, 1, whole);
            for segment in files(dir.path(), "segment") {
                assert_eq!(fs::metadata(segment).unwrap().len(), 1024, "room is reserved again");
            }
            append(&mut opened.log, 3).unwrap();
            drop(opened);

            let again = open(dir.path());
            assert_records(&again.records, 1, whole + 3);
        }
    }
}

#[test]
fn a_torn_batch_is_cut_even_when_its_second_half_survived_and_never_returns() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 2).unwrap();
    append(&mut log, 4).unwrap();
    drop(log);
    let path = &files(dir.path(), "segment")[0];
    let mut bytes = fs::read(path).unwrap();
    let third = bytes.windows(8).position(|window| window == 3u64.to_le_bytes()).unwrap();
    bytes[third + 30] ^= 1;
    fs::write(path, bytes).unwrap();

    let mut opened = open(dir.path());
    assert_records(&opened.records, 1, 2);
    // The very bytes that were torn: record 4 after it would fit again, were it still there.
    append(&mut opened.log, 1).unwrap();
    drop(opened);

    assert_records(&open(dir.path()).records, 1, 3);
}

#[test]
fn a_footer_that_survived_without_its_records_is_forgotten() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 4).unwrap();
    let mut batch = Batch::new();
    batch.extend((0..30).map(|_| Bytes::from_static(b"torn")));
    log.append(5, &mut batch, Durability::Fsync).unwrap();
    drop(log);
    // The power went after the first segment's footer reached the disk, and before its records did.
    let segments = files(dir.path(), "segment");
    for later in &segments[1..] {
        fs::remove_file(later).unwrap();
    }
    let mut bytes = fs::read(&segments[0]).unwrap();
    let fifth = bytes.windows(8).position(|window| window == 5u64.to_le_bytes()).unwrap();
    bytes[fifth - 16..fifth + 24].fill(0);
    fs::write(&segments[0], &bytes).unwrap();
    let in_footer = u32::from_le_bytes(bytes[1024 - 52..1024 - 48].try_into().unwrap());

    // As many records as the footer counts, but others; a snapshot then makes its word count.
    let mut opened = open(dir.path());
    assert_records(&opened.records, 1, 4);
    batch.extend((4..in_footer).map(|_| Bytes::from_static(b"")));
    let written = opened.log.append(5, &mut batch, Durability::Fsync).unwrap();
    opened.log.write_snapshot(written.end - 1, b"state").unwrap();
    assert_eq!(opened.log.stats().segments, 1);
    drop(opened);

    let mut opened = open(dir.path());
    append(&mut opened.log, 1).unwrap();
    let mut out = Vec::new();
    opened.log.reader().read(&[written.end - 1, written.end], &mut out).unwrap();
    assert_eq!(out, [Bytes::new(), body(written.end)]);
}

#[test]
fn a_crash_before_the_next_segment_has_a_header_loses_nothing() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 30).unwrap();
    drop(log);
    let copy = Copy::of(dir.path());
    let last = files(dir.path(), "segment").len() as u64;
    let next = dir.path().join(format!("{:020}.segment", last + 1));

    // A file of zeros; one that was recycled, with an old header and old records; one of no length.
    let recycled = fs::read(&files(dir.path(), "segment")[0]).unwrap();
    for left in [vec![0; 1024], recycled, Vec::new()] {
        copy.restore(dir.path());
        fs::write(&next, left).unwrap();

        let mut opened = open(dir.path());
        assert_records(&opened.records, 1, 30);
        append(&mut opened.log, 30).unwrap();
        drop(opened);

        assert_records(&open(dir.path()).records, 1, 60);
    }
}

#[test]
fn unfinished_files_are_removed() {
    let dir = scratch();
    append(&mut open(dir.path()).log, 2).unwrap();
    for name in ["00000000000000000009.tmp", "00000000000000000002.snapshot-tmp"] {
        fs::write(dir.path().join(name), "half").unwrap();
    }

    let opened = open(dir.path());

    assert_records(&opened.records, 1, 2);
    assert_eq!(opened.log.stats().spares, 0);
    assert!(files(dir.path(), "tmp").is_empty() && files(dir.path(), "snapshot-tmp").is_empty());
}
