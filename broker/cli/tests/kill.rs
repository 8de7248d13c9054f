//! The binary under load, killed at random times: a fast share of `wharf-checker kill`.

use std::path::PathBuf;

use wharf_checker::kill::{Options, run};

/// Found at first: clients of a broker that was killed waited half a minute before they looked for the next one.
#[test]
fn killed_again_and_again_under_load_it_keeps_every_promise() {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_wharf"));

    let report = run(&Options { binary, cycles: 10, seed: 1 }).expect("it runs");

    println!("{report}");
    assert!(report.violations.is_empty(), "{report}");
    assert!(
        report.tally.ok > 5 * (report.tally.failed + report.tally.unknown),
        "it proves nothing: {report}"
    );
}
