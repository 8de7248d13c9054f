//! Files of any bytes: a log says what is wrong with them, and never panics or serves what was not written.
//!
//! What once went wrong is kept in `proptest-regressions` and tried first.

use std::fs;

use proptest::prelude::*;
use wharf_log::{Inspection, LogEngine, OpenError};

use crate::harness::*;

/// What is done to a file.
#[derive(Debug, Clone)]
enum Harm {
    /// It ends, at a share of its length in thousandths.
    Cut(usize),
    /// Bytes from a share of its length on are others.
    Overwrite(usize, Vec<u8>),
    /// A part is copied to another place, as a disk does that writes to the wrong one.
    Misplace { from: usize, to: usize, bytes: usize },
    /// It becomes longer.
    Grow(Vec<u8>),
    /// It goes.
    Remove,
    /// It is another of the folder's files.
    Swap(usize),
}

fn harm() -> impl Strategy<Value = Harm> {
    let share = || 0..1_000usize;
    let bytes = || prop::collection::vec(any::<u8>(), 1..200);
    prop_oneof![
        share().prop_map(Harm::Cut),
        (share(), bytes()).prop_map(|(at, bytes)| Harm::Overwrite(at, bytes)),
        (share(), share(), 1..300usize).prop_map(|(from, to, bytes)| Harm::Misplace { from, to, bytes }),
        bytes().prop_map(Harm::Grow),
        Just(Harm::Remove),
        (0..20usize).prop_map(Harm::Swap),
    ]
}

fn do_harm(harm: &Harm, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
    let place = |share: usize, length: usize| share * length / 1_000;
    match harm {
        Harm::Cut(at) => bytes.truncate(place(*at, bytes.len())),
        Harm::Overwrite(at, with) => {
            let at = place(*at, bytes.len());
            let end = (at + with.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&with[..end - at]);
        }
        Harm::Misplace { from, to, bytes: length } => {
            let (from, to) = (place(*from, bytes.len()), place(*to, bytes.len()));
            let length = (*length).min(bytes.len() - from.max(to));
            bytes.copy_within(from..from + length, to);
        }
        Harm::Grow(more) => bytes.extend_from_slice(more),
        Harm::Remove => bytes.clear(),
        Harm::Swap(other) => *bytes = others[other % others.len()].clone(),
    }
}

/// Records 1 to 95: a sparse segment, dense ones, two snapshots, a spare; and the last batch that may be torn.
fn sample() -> (tempfile::TempDir, Copy) {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, 60).unwrap();
    for at in [50, 60] {
        log.write_snapshot(at, format!("state at {at}").as_bytes()).unwrap();
    }
    compact(&mut log, |index| index % 9 == 0).unwrap();
    append(&mut log, 30).unwrap();
    append(&mut log, 5).unwrap();
    drop(log);
    let copy = Copy::of(dir.path());
    (dir, copy)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn harmed_files_are_refused_or_harmless(harms in prop::collection::vec((any::<prop::sample::Index>(), harm()), 1..4)) {
        let (dir, copy) = sample();
        let others: Vec<Vec<u8>> = copy.files().map(|(_, bytes)| bytes.clone()).collect();
        for (file, harm) in &harms {
            let (path, _) = copy.files().nth(file.index(others.len())).unwrap();
            let mut bytes = fs::read(path).unwrap_or_default();
            do_harm(harm, &mut bytes, &others);
            match harm {
                Harm::Remove => drop(fs::remove_file(path)),
                _ => fs::write(path, bytes).unwrap(),
            }
        }

        // It tells what it finds, and every record that it hands over is as it was written.
        if let Ok(inspection) = Inspection::open(dir.path()) {
            inspection.verify(&mut |index, found| assert_eq!(found, body(index))).unwrap();
        }
        match try_open(dir.path(), small()) {
            Ok(opened) => {
                let covered = opened.snapshot.as_ref().map_or(0, |(at, _)| *at);
                if let Some((at, state)) = &opened.snapshot {
                    prop_assert_eq!(state, &format!("state at {at}").into_bytes());
                }
                let last = opened.log.next() - 1;
                prop_assert!(opened.records.iter().map(|(index, _)| *index).eq(covered + 1..=last));
                for (index, found) in &opened.records {
                    prop_assert_eq!(found, &body(*index));
                }
                for index in 1..=last {
                    let mut out = Vec::new();
                    if opened.log.reader().read(&[index], &mut out).is_ok() {
                        prop_assert_eq!(out, [body(index)]);
                    }
                }
            }
            Err(OpenError::Damaged(_) | OpenError::NoIdentity(_) | OpenError::Format { .. }) => {}
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
