//! Appending, and who may.

use wharf_log::{AppendError, Batch, Durability, Epoch, LogEngine, OpenError, Options};

use crate::harness::*;

#[test]
fn an_append_is_fenced_by_the_index_it_expects() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 3).unwrap();

    let mut batch = Batch::new();
    batch.extend([body(3)]);
    let conflict = log.append(3, &mut batch, Durability::Fsync);

    assert!(matches!(conflict, Err(AppendError::Conflict { expected: 3, next: 4 })), "{conflict:?}");
    assert_eq!(batch.len(), 1, "a refused batch is as it was");
    assert_eq!(log.claim().unwrap(), Epoch(4));
}

#[test]
fn one_batch_may_reach_over_several_segments() {
    let dir = scratch();
    let mut log = open(dir.path()).log;

    append(&mut log, 60).unwrap();

    assert!(log.stats().segments > 4, "{:?}", log.stats());
    drop(log);
    assert_records(&open(dir.path()).records, 1, 60);
}

#[test]
fn a_record_that_no_segment_can_hold_is_refused_and_the_largest_fits() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    let max = log.body_bytes_max();
    let mut batch = Batch::new();

    batch.push(|out| out.resize(out.len() + max + 1, 1));
    let refused = log.append(1, &mut batch, Durability::Fsync);
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    batch.clear();
    for _ in 0..3 {
        batch.push(|out| out.resize(out.len() + max, 2));
    }
    log.append(1, &mut batch, Durability::Fsync).unwrap();

    assert_eq!(log.stats().segments, 3);
    drop(log);
    assert_eq!(open(dir.path()).records.len(), 3);
}

#[test]
fn an_empty_body_and_an_empty_batch_are_fine() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    let mut batch = Batch::new();

    assert_eq!(log.append(1, &mut batch, Durability::Fsync).unwrap(), 1..1);
    batch.push(|_| {});
    assert_eq!(log.append(1, &mut batch, Durability::Memory).unwrap(), 1..2);
    log.sync().unwrap();

    assert_eq!((log.stats().durable, log.stats().syncs.count()), (1, 1));
    drop(log);
    assert_eq!(open(dir.path()).records, [(1, "".into())]);
}

#[test]
fn a_folder_has_one_owner_at_a_time() {
    let dir = scratch();
    let first = open(dir.path());

    let second = try_open(dir.path(), small());

    assert!(matches!(second, Err(OpenError::InUse(_))), "{second:?}");
    drop(first);
    open(dir.path());
}

#[test]
fn a_segment_size_that_cannot_work_is_refused() {
    let dir = scratch();
    let opened = try_open(dir.path(), Options { segment_bytes: 100, ..small() });
    assert!(matches!(opened, Err(OpenError::Options(_))), "{opened:?}");
}

#[test]
fn the_segment_size_may_change_between_starts() {
    let dir = scratch();
    append(&mut open(dir.path()).log, 20).unwrap();

    for segment_bytes in [4096, 512] {
        let mut opened = try_open(dir.path(), Options { segment_bytes, ..small() }).unwrap();
        append(&mut opened.log, 20).unwrap();
    }

    assert_records(&open(dir.path()).records, 1, 60);
}
