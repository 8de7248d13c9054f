//! Snapshots: two generations, and what may be trimmed.

use std::fs;

use wharf_log::{LogEngine, OpenError, ReadError, SnapshotError};

use crate::harness::*;

#[test]
fn recovery_begins_at_the_newest_snapshot() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 40).unwrap();
    log.write_snapshot(30, b"state").unwrap();
    drop(log);

    let opened = open(dir.path());

    assert_eq!(opened.snapshot, Some((30, b"state".to_vec())));
    assert_records(&opened.records, 31, 40);
    assert_eq!(opened.log.snapshot_at(), 30);
}

#[test]
fn segments_that_the_snapshot_covers_are_not_read() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 40).unwrap();
    log.write_snapshot(40, b"state").unwrap();
    drop(log);
    // If they were walked, this would be found and refused.
    let first = &files(dir.path(), "segment")[0];
    let mut bytes = fs::read(first).unwrap();
    bytes[64..512].fill(0);
    fs::write(first, bytes).unwrap();

    let opened = open(dir.path());

    assert_eq!(opened.log.next(), 41);
    let read = opened.log.reader().read(&[1], &mut Vec::new());
    assert!(matches!(read, Err(ReadError::Damaged(_))), "{read:?}");
}

#[test]
fn a_damaged_snapshot_is_set_aside_and_the_older_one_used() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 60).unwrap();
    for at in [10, 20, 40] {
        log.write_snapshot(at, format!("{at}").as_bytes()).unwrap();
    }
    assert_eq!(files(dir.path(), "snapshot").len(), 2);
    // What the older generation needs after it is kept.
    assert!(log.trim(60).unwrap() <= 21);
    drop(log);
    let newest = files(dir.path(), "snapshot").pop().unwrap();
    fs::write(&newest, "garbage").unwrap();

    for _ in 0..2 {
        let opened = open(dir.path());
        assert_eq!(opened.snapshot, Some((20, b"20".to_vec())));
        assert_records(&opened.records, 21, 60);
    }

    assert_eq!(files(dir.path(), "snapshot-damaged").len(), 1);
}

#[test]
fn without_any_good_snapshot_a_trimmed_log_is_refused_and_a_whole_one_replayed() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 60).unwrap();
    log.write_snapshot(30, b"30").unwrap();
    drop(log);
    fs::write(&files(dir.path(), "snapshot")[0], "garbage").unwrap();
    let mut opened = open(dir.path());
    assert_records(&opened.records, 1, 60);

    for at in [30, 60] {
        opened.log.write_snapshot(at, b"state").unwrap();
    }
    assert!(opened.log.trim(60).unwrap() > 1);
    drop(opened);
    for path in files(dir.path(), "snapshot") {
        fs::write(path, "garbage").unwrap();
    }

    let refused = try_open(dir.path(), small()).unwrap_err();
    assert!(matches!(&refused, OpenError::Damaged(damage) if damage.index == 1), "{refused}");
}

#[test]
fn records_below_a_snapshot_that_are_gone_are_damage_not_a_torn_tail() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 5).unwrap();
    log.write_snapshot(5, b"state").unwrap();
    drop(log);
    let path = &files(dir.path(), "segment")[0];
    let mut bytes = fs::read(path).unwrap();
    bytes[64..].fill(0);
    fs::write(path, bytes).unwrap();

    let refused = try_open(dir.path(), small()).unwrap_err();

    assert!(refused.to_string().contains("records up to 5 were durable"), "{refused}");
}

#[test]
fn a_snapshot_of_records_that_do_not_exist_is_refused_and_an_old_one_changes_nothing() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 5).unwrap();

    let ahead = log.write_snapshot(6, b"state");
    assert!(matches!(ahead, Err(SnapshotError::Ahead { at: 6, next: 6 })), "{ahead:?}");
    log.write_snapshot(5, b"five").unwrap();
    log.write_snapshot(4, b"four").unwrap();

    drop(log);
    assert_eq!(open(dir.path()).snapshot, Some((5, b"five".to_vec())));
}
