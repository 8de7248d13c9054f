//! Random use of the log against a model that is a vector.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;
use wharf_log::{Batch, Durability, LocalLog, LogEngine, Options, ReadError};

use crate::harness::*;

#[derive(Debug, Clone)]
enum Step {
    Append {
        sizes: Vec<usize>,
        durability: Durability,
    },
    /// To a share of the records, in percent.
    Trim(u64),
    Snapshot(u64),
    /// Of every so many records, one stays live.
    Compact(u64),
    Reopen {
        segment_bytes: u32,
    },
    Read(Vec<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    let sizes = prop::collection::vec(prop_oneof![4 => 0..100usize, 1 => 100..340usize], 0..12);
    let durability =
        prop_oneof![1 => Just(Durability::Memory), 1 => Just(Durability::Os), 3 => Just(Durability::Fsync)];
    prop_oneof![
        6 => (sizes, durability).prop_map(|(sizes, durability)| Step::Append { sizes, durability }),
        2 => (0..=110u64).prop_map(Step::Trim),
        2 => (0..=100u64).prop_map(Step::Snapshot),
        2 => (1..30u64).prop_map(Step::Compact),
        2 => prop_oneof![Just(600), Just(1024), Just(2048)].prop_map(|segment_bytes| Step::Reopen { segment_bytes }),
        3 => prop::collection::vec(0..=105u64, 0..20).prop_map(Step::Read),
    ]
}

/// All that was ever appended, and which snapshots are kept.
#[derive(Default)]
struct Model {
    bodies: Vec<Bytes>,
    snapshots: Vec<u64>,
    first: u64,
    /// Records that nothing refers to any more: they may be there, or not.
    dead: BTreeSet<u64>,
}

impl Model {
    fn last(&self) -> u64 {
        self.bodies.len() as u64
    }

    fn share(&self, percent: u64) -> u64 {
        self.last() * percent / 100
    }

    fn body(&self, index: u64) -> &Bytes {
        &self.bodies[index as usize - 1]
    }

    fn check_read(&self, log: &LocalLog, index: u64) {
        let mut out = Vec::new();
        match log.reader().read(&[index], &mut out) {
            Ok(()) => assert_eq!(&out[0], self.body(index)),
            Err(ReadError::Compacted { .. }) => assert!(self.dead.contains(&index)),
            Err(ReadError::Trimmed { first, .. }) => assert!(index < first && first == self.first),
            Err(ReadError::Unknown { next, .. }) => assert!(index > self.last() && next == self.last() + 1),
            Err(other) => panic!("{other}"),
        }
    }

    fn check_open(&self, opened: &Opened) {
        let snapshot = self.snapshots.last().copied();
        assert_eq!(opened.snapshot, snapshot.map(|at| (at, at.to_le_bytes().to_vec())));
        let from = snapshot.unwrap_or(0);
        let expected: Vec<_> =
            (from + 1..=self.last()).map(|index| (index, self.body(index).clone())).collect();
        assert_eq!(opened.records, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_log_does_what_a_vector_does(steps in prop::collection::vec(step(), 1..40)) {
        let dir = scratch();
        let mut model = Model { first: 1, ..Model::default() };
        let mut log = try_open(dir.path(), Options { segment_bytes: 600, ..small() }).unwrap().log;
        for step in steps {
            match step {
                Step::Append { sizes, durability } => {
                    let from = model.last() + 1;
                    let bodies: Vec<Bytes> = sizes.iter().enumerate()
                        .map(|(at, size)| vec![(from as usize * 31 + at) as u8; *size].into())
                        .collect();
                    let mut batch = Batch::new();
                    batch.extend(bodies.iter().cloned());
                    let written = log.append(from, &mut batch, durability).unwrap();
                    model.bodies.extend(bodies);
                    assert_eq!(written, from..model.last() + 1);
                    assert!(batch.is_empty());
                }
                Step::Trim(percent) => {
                    let below = model.share(percent);
                    let first = log.trim(below).unwrap();
                    let fallback = model.snapshots.iter().rev().nth(1).copied().unwrap_or(0);
                    assert!(first >= model.first && first <= model.first.max(below.min(fallback + 1)));
                    model.first = first;
                }
                Step::Snapshot(percent) => {
                    let at = model.share(percent);
                    log.write_snapshot(at, &at.to_le_bytes()).unwrap();
                    if at > model.snapshots.last().copied().unwrap_or(0) {
                        model.snapshots.push(at);
                    }
                }
                Step::Compact(every) => {
                    model.dead.extend((1..=model.last()).filter(|index| index % every != 0));
                    let reclaimed = compact(&mut log, |index| !model.dead.contains(&index)).unwrap();
                    assert!(reclaimed.bytes_after <= reclaimed.bytes_before);
                }
                Step::Reopen { segment_bytes } => {
                    drop(log);
                    let opened = try_open(dir.path(), Options { segment_bytes, ..small() }).unwrap();
                    model.check_open(&opened);
                    log = opened.log;
                }
                Step::Read(percents) => {
                    for percent in percents {
                        model.check_read(&log, model.share(percent));
                    }
                }
            }
            assert_eq!((log.next(), log.stats().first), (model.last() + 1, model.first));
        }
        for index in 0..=model.last() + 1 {
            model.check_read(&log, index);
        }
        let kept: Vec<u64> = (model.first..=model.last()).filter(|index| !model.dead.contains(index)).collect();
        let mut out = Vec::new();
        log.reader().read(&kept, &mut out).unwrap();
        assert!(out.iter().eq(kept.iter().map(|index| model.body(*index))));
    }
}
