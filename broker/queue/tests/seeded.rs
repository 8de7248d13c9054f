//! Each fault planted in the state machine is found by comparing it with its model.

use wharf_model::check;
use wharf_queue::seeded::{Fault, plant};

/// In how many cases of 40 commands a fault has to show.
const CASES: u64 = 2_000;

/// One test: a fault is planted for the whole process.
#[test]
fn the_model_finds_every_planted_fault_and_none_where_none_is() {
    for fault in Fault::ALL {
        plant(Some(fault));
        let found = (0..CASES).find_map(|seed| check(seed, 40).err());
        let found = found.unwrap_or_else(|| panic!("{} was not found in {CASES} cases", fault.name()));
        let what = found.what.lines().next().unwrap_or_default();
        println!("{}: case {}, {} records: {what}", fault.name(), found.seed, found.records.len());
    }
    plant(None);
    for seed in 0..20 {
        check(seed, 40).expect("nothing is wrong");
    }
}
