//! Segments that are given up, and the lives they have after.

use std::fs;

use wharf_log::{LogEngine, Options, ReadError};

use crate::harness::*;

#[test]
fn a_trim_gives_up_whole_segments_and_only_what_two_snapshots_cover() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 60).unwrap();

    assert_eq!(log.trim(60).unwrap(), 1, "no snapshot");
    log.write_snapshot(40, b"state").unwrap();
    assert_eq!(log.trim(60).unwrap(), 1, "one snapshot, and none to fall back on");
    log.write_snapshot(60, b"state").unwrap();
    let first = log.trim(60).unwrap();

    assert!((20..=41).contains(&first), "{first}");
    let trimmed = log.reader().read(&[first - 1], &mut Vec::new());
    assert!(matches!(trimmed, Err(ReadError::Trimmed { .. })), "{trimmed:?}");
    let mut out = Vec::new();
    log.reader().read(&[first, 60], &mut out).unwrap();
    assert_eq!(out, [body(first), body(60)]);
    assert_eq!(log.trim(5).unwrap(), first, "never backwards");
}

#[test]
fn a_recycled_segment_serves_new_records_only() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    for round in 1..=20 {
        append(&mut log, 30).unwrap();
        log.write_snapshot(round * 30, b"state").unwrap();
        log.trim(round * 30 - 29).unwrap();
        assert!(log.stats().spares <= 2, "the pool is bounded");
        assert!(log.stats().segments <= 13, "{:?}", log.stats());

        drop(log);
        let opened = open(dir.path());
        assert_eq!(opened.snapshot, Some((round * 30, b"state".to_vec())));
        assert_eq!(opened.records, []);
        assert_eq!(opened.log.next(), round * 30 + 1);
        log = opened.log;
    }
    assert!(files(dir.path(), "tmp").is_empty());
}

#[test]
fn stale_records_of_an_earlier_life_are_never_replayed() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 40).unwrap();
    for at in [39, 40] {
        log.write_snapshot(at, b"state").unwrap();
    }
    log.trim(40).unwrap();
    let spares = files(dir.path(), "spare");
    assert!(!spares.is_empty() && fs::read(&spares[0]).unwrap()[64..].iter().any(|byte| *byte != 0));
    // The rest of the active segment, then one that is recycled, of which it fills a part only.
    append(&mut log, 14).unwrap();
    drop(log);

    assert_records(&open(dir.path()).records, 41, 54);
}

#[test]
fn the_next_segment_is_prepared_before_it_is_needed() {
    let dir = scratch();
    let mut log = try_open(dir.path(), Options { prepare_ahead: true, ..small() }).unwrap().log;
    append(&mut log, 6).unwrap();
    assert_eq!(log.stats().segments, 1);

    // Waits for the thread, not for a time: without it this never ends.
    while log.stats().spares == 0 {
        std::thread::yield_now();
    }

    append(&mut log, 6).unwrap();
    assert_eq!((log.stats().segments, log.stats().next), (2, 13));
}
