//! Faults of our own are found: each is planted in a process of its own, in which the tests then fail.

use std::env;
use std::process::Command;

use wharf_log::seeded::{Fault, plant};

/// Names the fault that the process is to run with.
const VARIABLE: &str = "WHARF_SEEDED_FAULT";

/// Plants the fault that the environment names.
pub(crate) fn plant_as_asked() {
    if let Ok(name) = env::var(VARIABLE) {
        plant(Fault::ALL.into_iter().find(|fault| fault.name() == name));
    }
}

fn passes(fault: &str) -> bool {
    let tests = ["power::", "faults::", "damage::"];
    let run = Command::new(env::current_exe().unwrap()).args(tests).env(VARIABLE, fault).output();
    run.unwrap().status.success()
}

#[test]
fn each_planted_fault_is_found() {
    if env::var_os(VARIABLE).is_some() {
        return;
    }
    assert!(passes("none"));
    for fault in Fault::ALL {
        assert!(!passes(fault.name()), "{} was not found", fault.name());
    }
}
