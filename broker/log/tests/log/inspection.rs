//! Inspection agrees with what opening the log would find, and changes nothing.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use wharf_log::{Inspected, Inspection, LogEngine, OpenError, Remedy};

use crate::harness::*;

/// A sparse segment, dense ones, two snapshots, records that neither covers.
fn sample(dir: &Path) -> Copy {
    let mut log = open(dir).log;
    append(&mut log, 60).unwrap();
    for at in [50, 60] {
        log.write_snapshot(at, format!("state at {at}").as_bytes()).unwrap();
    }
    assert!(compact(&mut log, |index| index % 9 == 0).unwrap().made > 0);
    append(&mut log, 25).unwrap();
    append(&mut log, 2).unwrap();
    drop(log);
    Copy::of(dir)
}

fn inspect(dir: &Path) -> (Inspected, Vec<u64>) {
    let mut records = Vec::new();
    let inspection = Inspection::open(dir).unwrap();
    let found = inspection
        .verify(&mut |index, found| {
            assert_eq!(found, body(index));
            records.push(index);
        })
        .unwrap();
    (found, records)
}

#[test]
fn a_good_log_is_told_as_it_is_and_left_as_it_was() {
    let dir = scratch();
    let copy = sample(dir.path());

    let (found, records) = inspect(dir.path());

    assert_eq!((&found.findings, &found.torn, &found.leftovers), (&vec![], &None, &vec![]));
    assert_eq!(found.range(), 1..88);
    assert_eq!(
        found.snapshots.iter().map(|s| (s.at, s.bytes)).collect::<Vec<_>>(),
        [(50, Some(11)), (60, Some(11))]
    );
    let sparse = &found.segments[0];
    assert!(sparse.sparse && sparse.records.start == 1 && sparse.held < 7, "{sparse:?}");
    assert!(
        records
            .iter()
            .filter(|index| **index >= sparse.records.end)
            .eq(&(sparse.records.end..88).collect::<Vec<_>>())
    );
    assert_eq!(found.segments.iter().map(|segment| segment.held).sum::<u64>(), records.len() as u64);
    assert!(copy == Copy::of(dir.path()), "nothing is written");

    let inspection = Inspection::open(dir.path()).unwrap();
    let mut some = Vec::new();
    let each = &mut |index, found| {
        some.push((index, found));
        if index == 80 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    inspection.records(75..85, each).unwrap();
    assert_records(&some, 75, 80);
    assert_eq!(inspection.newest_snapshot().unwrap(), Some((60, "state at 60".into())));
}

#[test]
fn a_folder_in_use_and_a_folder_without_a_log_are_refused() {
    let dir = scratch();
    let none = Inspection::open(dir.path());
    assert!(matches!(none.err(), Some(OpenError::NoLog(_))));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "and none is made");

    let log = open(dir.path()).log;
    assert!(matches!(Inspection::open(dir.path()).err(), Some(OpenError::InUse(_))));

    drop(log);
    let inspection = Inspection::open(dir.path()).unwrap();
    assert!(matches!(try_open(dir.path(), small()), Err(OpenError::InUse(_))), "nor opened meanwhile");
    drop(inspection);
}

#[test]
fn any_flipped_byte_is_told_when_it_matters() {
    let dir = scratch();
    let copy = sample(dir.path());
    let kinds = ["segment", "sparse", "snapshot"];
    let mut paths: Vec<_> = kinds.iter().flat_map(|kind| files(dir.path(), kind)).collect();
    paths.push(dir.path().join("identity"));
    let (mut unused, mut mended, mut refused) = (0, 0, 0);

    for path in paths {
        for at in (0..fs::read(&path).unwrap().len()).step_by(5) {
            copy.restore(dir.path());
            let mut bytes = fs::read(&path).unwrap();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, bytes).unwrap();
            let place = format!("byte {at} of {}", path.display());

            let (found, records) = inspect(dir.path());
            let told = found.findings.iter().map(|finding| finding.remedy).collect::<Vec<_>>();
            for finding in &found.findings {
                assert_eq!(finding.damage.path, path, "{place}");
            }
            match try_open(dir.path(), small()) {
                Err(error) => {
                    assert!(told.contains(&Remedy::Restore), "{place}: {error}");
                    refused += 1;
                }
                Ok(opened) => {
                    let last = records.last().copied().unwrap_or(0);
                    assert_eq!(opened.log.next(), last + 1, "{place}");
                    assert!(last >= 85, "{place}: only the last batch cannot be told from a torn one");
                    let unreadable = records
                        .iter()
                        .any(|index| opened.log.reader().read(&[*index], &mut Vec::new()).is_err());
                    assert!(!unreadable, "{place}: what is told to be good is good");
                    match told[..] {
                        [] => unused += 1,
                        // Opened all the same: no record of it is replayed, but some may be asked for.
                        _ => mended += 1,
                    }
                }
            }
        }
    }
    assert!(unused > 100 && mended > 20 && refused > 200, "{unused} {mended} {refused}");
}

#[test]
fn a_torn_tail_is_no_damage() {
    let dir = scratch();
    sample(dir.path());
    let path = files(dir.path(), "segment").pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.windows(8).position(|window| window == 87u64.to_le_bytes()).unwrap();
    bytes[last + 30] ^= 1;
    fs::write(&path, bytes).unwrap();

    let (found, _) = inspect(dir.path());

    assert_eq!(found.findings, []);
    let torn = found.torn.expect("a torn tail");
    assert_eq!((&torn.path, torn.index, torn.offset), (&path, 87, last as u64 - 16));
}

#[test]
fn a_missing_segment_is_told_by_its_name() {
    let dir = scratch();
    sample(dir.path());
    let missing = files(dir.path(), "segment")[1].clone();
    fs::remove_file(&missing).unwrap();

    let (found, _) = inspect(dir.path());

    assert!(found.findings.iter().any(|finding| finding.damage.path == missing), "{:?}", found.findings);
}
