//! A fast share of the checks; the long versions are commands (`docs/guarantees.md`).

use wharf_checker::{Plan, Report, crash, damage, faults, fuzz, golden, model};

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

#[test]
fn whichever_operation_fails_nothing_is_confirmed_wrongly() {
    let plan = Plan { last: 300, ..Plan::new(6 * 300, 1) };
    let report = faults::run(&plan).expect("it runs");
    println!("{report}");
    assert!(report.violations.is_empty(), "{report}");
}

#[test]
fn damage_is_detected_or_harmless() {
    assert_kept(&damage::run(&Plan { last: 1_000, ..Plan::new(2_000, 1) }).expect("it runs"));
}

#[test]
fn the_state_machine_does_what_its_model_does() {
    // 2,000 others are in the tests of wharf-queue.
    let report = model::run(&Plan::new(300, 100_000)).expect("it runs");
    assert!(report.violations.is_empty(), "{report}");
}

#[test]
fn folders_of_earlier_versions_are_what_they_were() {
    for folder in golden::folders().expect("they come with the source") {
        golden::check(&folder).expect("it opens");
    }
}

#[test]
fn no_decoder_panics_on_bytes_that_were_whole_once() {
    let report = fuzz::run(&Plan::new(30_000, 1)).expect("it runs");
    assert!(report.violations.is_empty(), "{report}");
}
