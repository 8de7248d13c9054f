//! A disk that fails: nothing is confirmed after a failed write, and all that was confirmed is there again.

use std::error::Error;
use std::path::Path;

use wharf_disk::{Fault, Plan, SimulatedDisk};
use wharf_log::{
    AppendError, CompactError, Index, LocalLog, LogEngine, Options, ReadError, SnapshotError, TrimError,
};

use crate::harness::*;

/// What a run on a failing disk came to.
pub(crate) struct Run {
    /// The last record that was confirmed.
    pub(crate) confirmed: u64,
    /// The last snapshot that was confirmed.
    pub(crate) snapshot: u64,
    /// The log refused to go on at some point.
    pub(crate) stopped: bool,
}

/// The records that stay needed in a run, whatever comes.
pub(crate) fn live(index: Index) -> bool {
    index >= OLDEST_LIVE && index % 11 == 2
}

/// The segments before its own can be trimmed.
const OLDEST_LIVE: Index = 13;

/// What is live and was confirmed is there, as it was written; and no other record reads as anything else.
#[track_caller]
pub(crate) fn assert_live_records(log: &LocalLog, place: &str) {
    for index in 1..log.next() {
        let mut out = Vec::new();
        match log.reader().read(&[index], &mut out) {
            Ok(()) => assert_eq!(out, [body(index)], "{place}"),
            Err(error) => {
                assert!(!live(index), "{place}: {error}");
                assert!(
                    matches!(error, ReadError::Trimmed { .. } | ReadError::Compacted { .. }),
                    "{place}: {error}"
                );
            }
        }
    }
}

/// Appends, snapshots, compacts and trims, whatever the disk answers, and checks that the log stays stopped.
pub(crate) fn run(dir: &Path, options: Options) -> Run {
    let mut run = Run { confirmed: 0, snapshot: 0, stopped: false };
    if let Ok(mut opened) = try_open(dir, options) {
        for round in 1..=12 {
            match append(&mut opened.log, 5) {
                Ok(()) => {
                    assert!(!run.stopped, "an append was confirmed after a failure");
                    run.confirmed = opened.log.next() - 1;
                }
                Err(AppendError::Full(_)) => assert!(!run.stopped),
                Err(AppendError::Failed(_)) => run.stopped = true,
                Err(other) => panic!("{other}"),
            }
            if round % 3 == 0 && run.confirmed > 0 {
                match opened.log.write_snapshot(run.confirmed, &run.confirmed.to_le_bytes()) {
                    Ok(()) => run.snapshot = run.confirmed,
                    Err(SnapshotError::Failed(_)) => {}
                    Err(SnapshotError::Stopped(_)) => run.stopped = true,
                    Err(other) => panic!("{other}"),
                }
                match compact(&mut opened.log, live) {
                    Ok(_) => assert!(!run.stopped),
                    Err(CompactError::Failed(_)) => {}
                    Err(CompactError::Stopped(_)) => run.stopped = true,
                    Err(CompactError::Unreadable(error)) => panic!("{error}"),
                }
                match opened.log.trim(OLDEST_LIVE) {
                    Ok(_) => assert!(!run.stopped),
                    Err(TrimError::Failed(_)) => run.stopped = true,
                }
            }
        }
    }
    run
}

/// Where logs lie on a simulated disk.
pub(crate) fn dir() -> &'static Path {
    Path::new("/log")
}

#[test]
fn whichever_operation_fails_all_that_was_confirmed_is_there_after_a_restart() {
    let (mut stopped, mut went_on) = (0, 0);
    for fault in [Fault::Error, Fault::Full, Fault::Short] {
        for lasting in [false, true] {
            for at in 1.. {
                let disk = SimulatedDisk::default();
                disk.plan(Plan { at, fault, lasting });
                let run = run(dir(), on(&disk));
                let Some(failed) = disk.failed() else {
                    assert!(at > 100, "the run does enough to fail at");
                    break;
                };
                if run.stopped {
                    stopped += 1
                } else {
                    went_on += 1
                }

                // A failed sync may mean that nothing since the last one is on the disk.
                if at % 2 == 0 {
                    disk.cut_power(at)
                } else {
                    disk.kill()
                }
                let mut opened = try_open(dir(), on(&disk)).unwrap();
                let (snapshot, state) = opened.snapshot.take().unwrap_or((0, 0u64.to_le_bytes().to_vec()));
                assert_eq!(state, snapshot.to_le_bytes());
                let last = opened.log.next() - 1;
                let place = format!("{fault:?} lasting={lasting} at operation {at}: {failed}");
                assert!(snapshot >= run.snapshot && last >= run.confirmed, "{place}");
                assert!(last <= run.confirmed + 5, "{place}: no more than the batch that failed");
                assert_records(&opened.records, snapshot + 1, last);
                assert_live_records(&opened.log, &place);
                append(&mut opened.log, 30).unwrap();
            }
        }
    }
    assert!(stopped > 100 && went_on > 50, "{stopped} {went_on}");
}

#[test]
fn a_failed_sync_is_final_and_later_appends_name_it() {
    let disk = SimulatedDisk::default();
    let mut log = try_open(dir(), on(&disk)).unwrap().log;
    append(&mut log, 1).unwrap();

    // A batch is one write and one sync.
    disk.plan(Plan { at: 2, fault: Fault::Error, lasting: false });
    for _ in 0..3 {
        let error = append(&mut log, 1).unwrap_err();
        let cause = error.source().unwrap().to_string();
        assert!(matches!(error, AppendError::Failed(_)) && cause.starts_with("cannot sync "), "{cause}");
        assert_eq!(error.source().unwrap().source().unwrap().to_string(), "the device failed");
    }

    assert_eq!(disk.operations(), 2, "never retried");
    assert!(log.reader().read(&[2], &mut Vec::new()).is_err(), "what was not confirmed is not served");
    log.reader().read(&[1], &mut Vec::new()).unwrap();
    assert!(log.write_snapshot(1, b"state").is_err() && log.trim(1).is_err() && log.claim().is_err());
}

#[test]
fn a_full_disk_is_met_before_anything_is_written_and_the_log_goes_on_when_there_is_room() {
    let disk = SimulatedDisk::default();
    let mut log = try_open(dir(), on(&disk)).unwrap().log;
    append(&mut log, 8).unwrap();
    assert_eq!(log.stats().segments, 1);

    disk.plan(Plan { at: 1, fault: Fault::Full, lasting: true });
    for _ in 0..3 {
        let full = append(&mut log, 30);
        assert!(matches!(full, Err(AppendError::Full(_))), "{full:?}");
        assert_eq!(log.next(), 9);
    }
    disk.heal();
    append(&mut log, 30).unwrap();

    drop(log);
    assert_records(&try_open(dir(), on(&disk)).unwrap().records, 1, 38);
}
