//! A fast share of the checks; the long versions are commands (`docs/guarantees.md`).

use wharf_checker::{Plan, Report, crash};

#[track_caller]
fn assert_kept(report: &Report) {
    println!("{report}");
    assert!(report.violations.is_empty(), "{report}");
    let tally = report.tally;
    assert!(
        tally.ok > 5 * (tally.failed + tally.unknown),
        "a run in which much fails proves nothing: {report}"
    );
}

/// Found at first: a consumer that settles on delivery got a message again after a power cut, because the record
/// that caused the delivery waited for the next sync.
#[test]
fn whenever_it_crashes_every_promise_is_kept() {
    assert_kept(&crash::run(&Plan::new(5_000, 1)).expect("it runs"));
}
