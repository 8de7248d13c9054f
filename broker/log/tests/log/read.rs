//! Reading records back while others are appended and trimmed.

use std::sync::atomic::{AtomicU64, Ordering};

use wharf_log::{LogEngine, Options, ReadError};

use crate::harness::*;

#[test]
fn records_are_read_in_any_order_from_any_segment() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 60).unwrap();
    let reader = log.reader();

    for indexes in [(1..=60).collect(), (1..=60).rev().collect(), vec![5, 5, 50, 1, 60, 59, 2, 3], vec![]] {
        let mut out = Vec::new();
        reader.read(&indexes, &mut out).unwrap();
        assert_eq!(out, indexes.iter().map(|index| body(*index)).collect::<Vec<_>>());
    }
    for unknown in [0, 61, u64::MAX] {
        let read = reader.read(&[unknown], &mut Vec::new());
        assert!(matches!(read, Err(ReadError::Unknown { .. } | ReadError::Trimmed { .. })), "{read:?}");
    }
}

#[test]
fn few_places_are_kept_in_memory_and_all_are_found() {
    let dir = scratch();
    append(&mut open(dir.path()).log, 200).unwrap();
    let log = try_open(dir.path(), Options { places_bytes_max: 1, ..small() }).unwrap().log;
    let reader = log.reader();

    for index in (1..=200).chain((1..=200).rev()) {
        let mut out = Vec::new();
        reader.read(&[index], &mut out).unwrap();
        assert_eq!(out, [body(index)]);
    }
}

#[test]
fn readers_see_right_records_or_a_clear_error_while_segments_are_recycled_under_them() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 10).unwrap();
    let (written, stop) = (AtomicU64::new(10), AtomicU64::new(0));
    let (read, trimmed) = (AtomicU64::new(0), AtomicU64::new(0));

    std::thread::scope(|scope| {
        for step in [1, 3] {
            let reader = log.reader();
            let (written, stop, read, trimmed) = (&written, &stop, &read, &trimmed);
            scope.spawn(move || {
                let mut seed = step; // a small linear congruential generator
                while stop.load(Ordering::Acquire) == 0 {
                    let last = written.load(Ordering::Acquire);
                    seed = (seed * 48_271 + step) % 2_147_483_647;
                    let from = last.saturating_sub(seed % 80).max(1);
                    let indexes: Vec<_> = (from..=last).step_by(step as usize).collect();
                    let mut out = Vec::new();
                    match reader.read(&indexes, &mut out) {
                        Ok(()) => {
                            assert_eq!(out.len(), indexes.len());
                            read.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(ReadError::Trimmed { .. }) => {
                            trimmed.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(other) => panic!("{other}"),
                    }
                    for (index, found) in indexes.iter().zip(out) {
                        assert_eq!(found, body(*index));
                    }
                }
            });
        }
        for round in 0.. {
            append(&mut log, 7).unwrap();
            let last = log.next() - 1;
            written.store(last, Ordering::Release);
            log.write_snapshot(last, b"state").unwrap();
            log.trim(last.saturating_sub(20)).unwrap();
            let met = read.load(Ordering::Relaxed) > 200 && trimmed.load(Ordering::Relaxed) > 50;
            if (round > 300 && met) || round > 20_000 {
                break;
            }
        }
        stop.store(1, Ordering::Release);
    });

    assert!(read.into_inner() > 200 && trimmed.into_inner() > 50);
}
