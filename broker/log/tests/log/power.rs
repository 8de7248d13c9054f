//! Power cuts: a disk that forgets what was not synced, names included, and tears what it keeps.

use wharf_disk::{Fault, Plan, SimulatedDisk};
use wharf_log::LogEngine;

use crate::faults::{Run, assert_live_records, dir, run};
use crate::harness::*;

#[track_caller]
fn check(disk: &SimulatedDisk, run: &Run, place: &str) {
    let opened = match try_open(dir(), on(disk)) {
        Ok(opened) => opened,
        Err(error) => panic!("{place}: {error}"),
    };
    let snapshot = opened.snapshot.as_ref().map_or(0, |(at, _)| *at);
    let last = opened.log.next() - 1;
    assert!(snapshot >= run.snapshot, "{place}: snapshot {snapshot}, confirmed {}", run.snapshot);
    assert!(last >= run.confirmed, "{place}: {last} records, confirmed {}", run.confirmed);
    assert!(last <= run.confirmed + 5, "{place}: {last} records, confirmed {}", run.confirmed);
    assert_records(&opened.records, snapshot + 1, last);
    assert_live_records(&opened.log, place);
    drop(opened);

    // What was replayed may have been acted upon: it is as durable as what was confirmed.
    disk.cut_power(last);
    let mut opened = try_open(dir(), on(disk)).unwrap();
    assert_eq!(opened.log.next(), last + 1, "{place}: what was replayed is there again");
    assert_live_records(&opened.log, place);
    append(&mut opened.log, 20).unwrap();
}

#[test]
fn whenever_the_power_fails_all_that_was_confirmed_is_there_after_a_restart() {
    let power_fails = |at| Plan { at, fault: Fault::Power, lasting: true };
    let mut crashes = 0;
    for seed in 0..24 {
        for at in 1.. {
            let disk = SimulatedDisk::default();
            disk.plan(power_fails(at));
            let run = run(dir(), on(&disk));
            let Some(failed) = disk.failed() else {
                assert!(at > 100, "the run does enough to fail at");
                break;
            };
            crashes += 1;
            let place = format!("seed {seed}, operation {at}: {failed}");
            // Or it is the process alone that dies, and the system still has what was not synced.
            let power = seed % 3 != 0;
            let end = |salt: u64| if power { disk.cut_power(seed * salt + at) } else { disk.kill() };
            end(1_000_003);

            // Again while the log is opened, then a last time when it may finish.
            disk.plan(power_fails(1 + (seed + at) % 12));
            drop(try_open(dir(), on(&disk)));
            end(7_000_003);
            check(&disk, &run, &place);

            disk.cut_power(seed);
            let opened = try_open(dir(), on(&disk)).unwrap();
            assert!(opened.log.next() > run.confirmed + 20, "{place}: what was confirmed after the restart");
        }
    }
    assert!(crashes > 2_000, "{crashes}");
}
