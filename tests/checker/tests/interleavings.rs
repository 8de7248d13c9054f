//! A fast share of the interleavings, in a build of their own (`docs/guarantees.md`).

use wharf_checker::{Plan, interleave};

#[test]
fn in_every_order_records_are_right_and_no_delivery_is_lost_or_without_credit() {
    const ORDERS: u64 = 1_000;
    let report = interleave::run(&Plan::new(ORDERS, 1)).expect("it runs");
    println!("{report}");
    assert!(report.violations.is_empty(), "{report}");
    assert_eq!(report.cases, 4 * ORDERS, "two subjects, two schedulers");
}
