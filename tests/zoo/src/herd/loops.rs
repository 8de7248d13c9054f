//! Those that never come back, or as late as they dare.

use crate::Beast;
use crate::Fate::{DeadLetters, NotApplied, NotUploaded, Passes, Rejected};
use crate::wild::Wild;

const LATE: &[&str] = &["plugin-deadline", "took longer than 50 ms"];
const LATE_START: &[&str] = &["took longer than 2000 ms"];

pub(super) const HERD: &[Beast] = &[
    Beast::guest("loop-plain", "loop", "loops on a message", DeadLetters(LATE)).hurried(),
    Beast::guest("loop-told", "loop", "loops, and its publisher is to be told", Rejected(LATE)).hurried(),
    Beast::guest("loop-host", "loop-host", "calls the host for ever", DeadLetters(LATE)).hurried(),
    Beast::guest("loop-alloc", "loop-alloc", "allocates and frees for ever", DeadLetters(LATE)).hurried(),
    Beast::guest("loop-fill", "loop-fill", "fills memory in bulk for ever", DeadLetters(LATE)).hurried(),
    Beast::guest("loop-format", "loop-format", "formats numbers for ever", DeadLetters(LATE)).hurried(),
    Beast::guest("loop-drop", "loop-drop", "loops when it drops a value", DeadLetters(LATE)).hurried(),
    Beast::guest("loop-transform", "loop", "loops as a transformer", DeadLetters(LATE))
        .hurried()
        .kind("transformer"),
    Beast::guest("loop-route", "loop", "loops as a router", DeadLetters(LATE)).hurried().kind("router"),
    Beast::guest("loop-enrich", "loop", "loops as an enricher", DeadLetters(LATE)).hurried().kind("enricher"),
    Beast::guest(
        "loop-in-init",
        "init-loop",
        "loops when it is given its configuration",
        NotApplied(LATE_START),
    ),
    Beast::guest("loop-in-company", "loop-in-company", "loops when it is given several messages", Passes(1))
        .hurried(),
    Beast::guest("short-calls", "short-calls", "stays below its deadline, again and again", Passes(1)),
    Beast::guest("short-calls-share", "short-calls", "stays below its deadline, and has a share", Passes(1))
        .pipeline("cpu = \"25%\""),
    Beast::guest("sleep", "sleep", "sleeps for an hour", DeadLetters(&["it tried to sleep"])),
    Beast::wild("loop-in-describe", in_describe, "loops when it is asked who it is", NotUploaded(LATE_START)),
    Beast::wild("loop-in-start", in_start, "loops before it is asked anything", NotUploaded(LATE_START)),
    Beast::wild(
        "loop-in-realloc",
        in_realloc,
        "loops where the host lays its arguments",
        NotApplied(LATE_START),
    ),
    Beast::wild("loop-late-realloc", in_late_realloc, "loops there once it is trusted", DeadLetters(LATE))
        .hurried(),
    Beast::wild("loop-after", after, "loops when the host is done with its answer", DeadLetters(LATE))
        .hurried(),
    Beast::wild("loop-bulk", bulk, "copies its memory onto itself for ever", DeadLetters(LATE)).hurried(),
    Beast::wild("loop-calls", calls, "calls itself in circles by a table", DeadLetters(LATE)).hurried(),
];

/// A function that tells whether the host's bytes of this call have `bait` in them.
pub(super) const HAS_BAIT: &str = r#"
  (func $has_bait (result i32) (local $at i32)
    (local.set $at (i32.const 16384))
    (loop $next
      (if (i32.eq (i32.load (local.get $at)) (i32.const 0x74696162)) (then (return (i32.const 1))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (global.get $bump))))
    (i32.const 0))"#;

/// A validator that reads payloads and does this when one is bait.
pub(super) fn provoked(instructions: &str) -> Wild {
    Wild {
        fields: HAS_BAIT.to_owned(),
        // `reads.payload`, in the description.
        describe: "(i32.store8 (i32.const 1034) (i32.const 1))".to_owned(),
        validate: format!("(if (call $has_bait) (then {instructions}))"),
        ..Wild::default()
    }
}

fn in_describe() -> Wild {
    Wild { describe: "(loop $for_ever (br $for_ever))".to_owned(), ..Wild::default() }
}

fn in_start() -> Wild {
    let fields = "(func $start (loop $for_ever (br $for_ever))) (start $start)";
    Wild { fields: fields.to_owned(), ..Wild::default() }
}

fn in_realloc() -> Wild {
    Wild { realloc: "(loop $for_ever (br $for_ever))".to_owned(), ..Wild::default() }
}

fn in_late_realloc() -> Wild {
    // A batch with bait has more bytes than one without; what init is given is allocated before.
    let big =
        "(i32.and (i32.eq (local.get $align) (i32.const 1)) (i32.gt_u (local.get $size) (i32.const 40)))";
    Wild {
        fields: format!("{HAS_BAIT} (global $trusted (mut i32) (i32.const 0))"),
        init: "(global.set $trusted (i32.const 1))".to_owned(),
        realloc: format!("(if (i32.and (global.get $trusted) {big}) (then (loop $for_ever (br $for_ever))))"),
        ..provoked("")
    }
}

fn after() -> Wild {
    let tame = provoked("(global.set $provoked (i32.const 1))");
    let post = r#"(global $provoked (mut i32) (i32.const 0))
      (func (export "cabi_post_wharf:plugin/validate@0.1.0#validate") (param i32)
        (if (global.get $provoked) (then (loop $for_ever (br $for_ever)))))"#;
    Wild { fields: format!("{} {post}", tame.fields), ..tame }
}

fn bulk() -> Wild {
    provoked(
        "(loop $for_ever (memory.copy (i32.const 65536) (i32.const 65537) (i32.const 4000000)) (br $for_ever))",
    )
}

fn calls() -> Wild {
    let tame = provoked("(call_indirect (i32.const 0))");
    let circle = r#"(table 2 funcref) (elem (i32.const 0) $there $back)
      (func $there (loop $for_ever (call_indirect (i32.const 1)) (br $for_ever)))
      (func $back)"#;
    Wild { fields: format!("{} {circle}", tame.fields), ..tame }
}
