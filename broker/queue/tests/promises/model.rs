//! The state machine against its reference and against its own history: `tests/model`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use wharf_model::{RECORDS_AT_FIRST, Tally, check};

const CASES: u64 = 2_000;
const COMMANDS: usize = 60;

#[test]
fn the_state_does_what_the_model_does() {
    let (next, all) = (AtomicU64::new(0), Mutex::new(Tally::default()));
    let work = || {
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < CASES) {
            let tally = check(seed, COMMANDS).unwrap_or_else(|disagreement| panic!("{disagreement}"));
            *all.lock().expect("nobody panicked") += tally;
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });

    // Commands that never meet prove nothing.
    let tally = all.into_inner().expect("nobody panicked");
    assert_eq!(tally.ok + tally.refused, CASES * (COMMANDS + RECORDS_AT_FIRST) as u64, "{tally:?}");
    assert!(tally.refused < tally.ok / 2, "most records do what they say: {tally:?}");
    let met = [
        tally.delivered,
        tally.redelivered,
        tally.acked,
        tally.dead_lettered,
        tally.expired,
        tally.dropped,
        tally.redriven,
        tally.resolved,
        tally.moved,
        tally.rejected,
        tally.renewed,
        tally.cancelled,
        tally.appended,
        tally.committed,
        tally.passed,
        tally.given_up,
        tally.assigned,
    ];
    assert!(met.into_iter().all(|count| count > 50), "all of it happens: {tally:?}");
}
