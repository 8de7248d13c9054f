//! Compaction: what is dead goes, what is live stays where it was, and little is left on the disk.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use wharf_log::{
    Batch, CompactError, Durability, Index, LocalLog, LogEngine, OpenError, Options, ReadError, Reclaimed,
};

use crate::harness::*;

/// Two snapshots at the end: all segments but the last are covered by both.
fn cover(log: &mut LocalLog) {
    let last = log.next() - 1;
    for at in [last - 1, last] {
        log.write_snapshot(at, b"state").unwrap();
    }
}

fn read(log: &LocalLog, index: Index) -> Result<Bytes, ReadError> {
    let mut out = Vec::new();
    log.reader().read(&[index], &mut out).map(|()| out.remove(0))
}

/// What the folder's files of these kinds take.
fn bytes(dir: &Path, kinds: &[&str]) -> u64 {
    let paths = kinds.iter().flat_map(|kind| files(dir, kind));
    paths.map(|path| fs::metadata(path).unwrap().len()).sum()
}

#[test]
fn live_records_keep_their_indexes_and_dead_ones_are_named() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 200).unwrap();
    cover(&mut log);
    let segments = log.stats().segments;

    let reclaimed = compact(&mut log, |index| index % 20 == 0).unwrap();

    assert!(reclaimed.copied >= segments - 2 && reclaimed.made <= 2, "{reclaimed:?}");
    assert_eq!(files(dir.path(), "sparse").len(), reclaimed.made);
    for _ in 0..2 {
        for index in 1..=180 {
            match read(&log, index) {
                Ok(found) => assert_eq!(found, body(index)),
                Err(ReadError::Compacted { index: named }) => assert!(index % 20 != 0 && named == index),
                Err(other) => panic!("{other}"),
            }
        }
        let mut out = Vec::new();
        log.reader().read(&[20, 40, 100, 180, 200], &mut out).unwrap();
        assert_eq!(out, [20, 40, 100, 180, 200].map(body));
        drop(log);
        log = open(dir.path()).log;
    }
}

#[test]
fn what_two_snapshots_do_not_cover_is_left_alone() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 60).unwrap();
    let none = Reclaimed::default();

    assert_eq!(compact(&mut log, |_| false).unwrap(), none, "no snapshot");
    log.write_snapshot(30, b"30").unwrap();
    assert_eq!(compact(&mut log, |_| false).unwrap(), none, "one snapshot, and none to fall back on");
    log.write_snapshot(60, b"60").unwrap();
    assert!(compact(&mut log, |_| false).unwrap().copied > 0);
    drop(log);
    fs::write(files(dir.path(), "snapshot").pop().unwrap(), "garbage").unwrap();

    let opened = open(dir.path());
    assert_eq!(opened.snapshot, Some((30, b"30".to_vec())));
    assert_records(&opened.records, 31, 60);
}

#[test]
fn segments_that_are_half_live_stay() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 100).unwrap();
    cover(&mut log);

    assert_eq!(compact(&mut log, |index| index % 10 < 8).unwrap(), Reclaimed::default());
}

#[test]
fn a_slow_queue_that_pins_one_record_in_each_segment_leaves_few_files() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    for _ in 0..100 {
        append(&mut log, 20).unwrap();
        cover(&mut log);
        compact(&mut log, |index| index % 40 == 7).unwrap();
    }

    // Each holds at least a quarter segment, but for one.
    let made = files(dir.path(), "sparse").len();
    assert!(made as u64 <= 1 + bytes(dir.path(), &["sparse"]) / 256, "{made} files");
    assert!(made < 40, "{made} files, of 220 segments");
    assert!(log.stats().segments <= made + 3, "{:?}", log.stats());
}

/// The bound that the log promises once a pass is over: four times what is live, two segments, the spares.
#[test]
fn the_disk_in_use_follows_what_is_live() {
    for (every, live_of_last) in [(1, 0), (2, 50), (5, 100), (37, 0), (1000, 20), (u64::MAX, 0)] {
        let dir = scratch();
        let mut log = open(dir.path()).log;
        for _ in 0..60 {
            append(&mut log, 25).unwrap();
            cover(&mut log);
            let last = log.next();
            let live = |index: Index| index.is_multiple_of(every) || index + live_of_last >= last;
            compact(&mut log, live).unwrap();

            let live: u64 =
                (1..last).filter(|index| live(*index)).map(|index| body(index).len() as u64 + 40).sum();
            let used = bytes(dir.path(), &["segment", "sparse"]);
            assert!(used <= 4 * live + 2 * 1024, "every {every}: {used} bytes for {live} live ones");
            assert!(bytes(dir.path(), &["spare", "spare-tmp", "tmp"]) <= 2 * 1024, "two spares");
        }
        let next = log.next();
        drop(log);
        assert_eq!(open(dir.path()).log.next(), next);
    }
}

#[test]
fn a_sparse_segment_is_rewritten_as_more_of_it_dies_and_goes_when_all_of_it_is_trimmed() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 400).unwrap();
    cover(&mut log);
    for every in [10, 30, 90, 360] {
        assert!(compact(&mut log, |index| index % every == 0).unwrap().copied > 0);
        assert_eq!(read(&log, 360).unwrap(), body(360));
        let again = compact(&mut log, |index| index % every == 0).unwrap();
        assert_eq!(again, Reclaimed::default(), "nothing is copied twice for nothing");
    }
    drop(log);
    let mut log = open(dir.path()).log;
    assert_eq!(read(&log, 360).unwrap(), body(360));

    let first = log.trim(400).unwrap();

    assert!(first > 360 && files(dir.path(), "sparse").is_empty());
    assert!(matches!(read(&log, 360), Err(ReadError::Trimmed { .. })));
}

#[test]
fn a_record_that_is_needed_after_it_was_given_up_is_reported_not_forgotten() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 400).unwrap();
    cover(&mut log);
    compact(&mut log, |index| index % 10 == 0).unwrap();

    let needed = compact(&mut log, |index| index == 355);

    let index = match needed {
        Err(CompactError::Unreadable(ReadError::Compacted { index })) => index,
        other => panic!("{other:?}"),
    };
    assert_eq!(index, 355);
    assert_eq!(read(&log, 350).unwrap(), body(350), "and nothing else was given up");
}

#[test]
fn damage_in_a_live_record_keeps_its_segment_and_is_named() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 100).unwrap();
    cover(&mut log);
    let path = files(dir.path(), "segment")[1].clone();
    let mut harmed = fs::read(&path).unwrap();
    harmed[64 + 45] ^= 1;
    fs::write(&path, &harmed).unwrap();
    let index = u64::from_le_bytes(harmed[64 + 16..64 + 24].try_into().unwrap());

    let refused = compact(&mut log, |live| live == index);

    let Err(CompactError::Unreadable(ReadError::Damaged(damage))) = refused else { panic!("{refused:?}") };
    assert_eq!((damage.index, &damage.path), (index, &path));
    assert_eq!(fs::read(&path).unwrap(), harmed);
    append(&mut log, 10).unwrap();
}

#[test]
fn any_flipped_byte_of_a_sparse_segment_is_found_or_harmless() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 100).unwrap();
    cover(&mut log);
    compact(&mut log, |index| index % 9 == 0).unwrap();
    drop(log);
    let copy = Copy::of(dir.path());
    let path = files(dir.path(), "sparse")[0].clone();
    let (mut refused, mut mended, mut found) = (0, 0, 0);

    for at in 0..fs::read(&path).unwrap().len() {
        copy.restore(dir.path());
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, bytes).unwrap();
        match try_open(dir.path(), small()) {
            Err(OpenError::Damaged(damage)) => {
                assert_eq!(damage.path, path, "byte {at}");
                refused += 1;
            }
            Err(other) => panic!("byte {at}: {other}"),
            Ok(opened) => {
                let mut damaged = 0;
                for index in (1..=80).filter(|index| index % 9 == 0) {
                    match read(&opened.log, index) {
                        Ok(bytes) => assert_eq!(bytes, body(index), "byte {at}"),
                        Err(ReadError::Damaged(_)) => damaged += 1,
                        Err(other) => panic!("byte {at}: {other}"),
                    }
                }
                if damaged == 0 { mended += 1 } else { found += 1 }
            }
        }
    }
    assert!(refused == 128 && mended > 50 && found > 200, "{refused} {mended} {found}");
}

#[test]
fn segments_that_a_crash_left_beside_their_copy_go_at_the_next_start() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 100).unwrap();
    cover(&mut log);
    let before = Copy::of(dir.path());
    compact(&mut log, |index| index % 9 == 0).unwrap();
    drop(log);
    let (segments, sparse) = (files(dir.path(), "segment"), files(dir.path(), "sparse"));

    let copies: Vec<_> = sparse.iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    before.restore(dir.path());
    for (path, bytes) in copies {
        fs::write(path, bytes).unwrap();
    }
    assert!(files(dir.path(), "segment").len() > segments.len() + 5);
    let log = open(dir.path()).log;

    assert_eq!((files(dir.path(), "segment"), files(dir.path(), "sparse")), (segments, sparse));
    assert_eq!(read(&log, 18).unwrap(), body(18));
    assert!(matches!(read(&log, 19), Err(ReadError::Compacted { .. })));
}

#[test]
fn a_trim_waits_for_the_part_that_is_under_way() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 100).unwrap();
    cover(&mut log);

    let part = log.compaction(&mut |range| range.filter(|index| index % 9 == 0).collect()).unwrap().unwrap();
    assert!(log.compaction(&mut |_| Vec::new()).unwrap().is_none(), "one part at a time");
    assert_eq!(log.trim(100).unwrap(), 1);
    append(&mut log, 10).unwrap();
    log.compacted(part.run()).unwrap();

    assert!(log.trim(100).unwrap() > 72);
}

#[test]
fn a_part_finishes_although_its_log_was_closed_meanwhile() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 100).unwrap();
    cover(&mut log);
    let part = log.compaction(&mut |range| range.filter(|index| index % 9 == 0).collect()).unwrap().unwrap();
    drop(log);

    let in_use = try_open(dir.path(), small());
    assert!(matches!(in_use, Err(OpenError::InUse(_))), "who writes in a folder owns it");
    drop(part.run());

    let log = open(dir.path()).log;
    assert_eq!(read(&log, 18).unwrap(), body(18));
    assert_eq!(log.next(), 101);
}

#[test]
fn readers_find_live_records_while_they_are_copied_again_and_again() {
    let dir = scratch();
    let mut log = try_open(dir.path(), Options { places_bytes_max: 64, ..small() }).unwrap().log;
    append(&mut log, 300).unwrap();
    let reader = log.reader();

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut rounds = 0;
                    while !done.load(Ordering::Relaxed) {
                        let mut out = Vec::new();
                        reader.read(&[60, 120, 180, 240, 300], &mut out).unwrap();
                        assert_eq!(out, [60, 120, 180, 240, 300].map(body));
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        for round in 1..200 {
            let mut batch = Batch::new();
            batch.extend((0..10).map(|_| Bytes::from(vec![round as u8; 60])));
            log.append(log.next(), &mut batch, Durability::Os).unwrap();
            cover(&mut log);
            compact(&mut log, |index| index % 60 == 0 && index <= 300).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(reading.into_iter().all(|thread| thread.join().unwrap() > 0));
    });
}
