//! Those that answer what was not asked, and those that break in storms.

use wharf_protocol::Delivery;

use crate::Beast;
use crate::Fate::{DeadLetters, NotApplied, Passes};
use crate::herd::loops::provoked;
use crate::wild::Wild;

pub(super) const HERD: &[Beast] = &[
    Beast::guest(
        "verdicts-few",
        "verdicts-few",
        "leaves a verdict out",
        DeadLetters(&["0 verdicts for 1 messages"]),
    ),
    Beast::guest("verdicts-none", "verdicts-none", "gives none", DeadLetters(&["0 verdicts for 1 messages"])),
    Beast::guest(
        "verdicts-many",
        "verdicts-many",
        "gives 100,000",
        DeadLetters(&["100000 verdicts for 1 messages"]),
    ),
    Beast::guest(
        "route-unknown",
        "route-unknown",
        "routes where nothing is",
        DeadLetters(&["output 65535 of 0 declared"]),
    )
    .kind("router"),
    Beast::guest(
        "route-nowhere",
        "route-nowhere",
        "routes to no output",
        DeadLetters(&["to drop it, say drop"]),
    )
    .kind("router"),
    Beast::guest(
        "emit-outside",
        "emit-outside",
        "makes a message of bytes that are not there",
        DeadLetters(&["bad-range"]),
    )
    .kind("transformer"),
    Beast::guest(
        "emit-to-unknown",
        "emit-to-unknown",
        "sends where nothing is",
        DeadLetters(&["no-such-output"]),
    )
    .kind("transformer"),
    Beast::guest(
        "emit-for-stranger",
        "emit-for-stranger",
        "makes a message of one that is not there",
        DeadLetters(&["of no message"]),
    )
    .kind("transformer"),
    Beast::guest(
        "emit-and-keep",
        "emit-and-keep",
        "keeps a message and emits it too",
        DeadLetters(&["kept or dropped"]),
    )
    .kind("transformer"),
    Beast::guest(
        "outside",
        "outside",
        "reads a message that is not in its batch",
        DeadLetters(&["4294967295 of a batch"]),
    ),
    Beast::wild(
        "handle-kept",
        handle_kept,
        "keeps the handle to its batch",
        DeadLetters(&["plugin-answer", "did not let go of"]),
    ),
    Beast::wild("handle-forged", handle_forged, "makes a handle up", DeadLetters(&["plugin-", "handle"])),
    Beast::guest("panic", "panic", "panics", DeadLetters(&["plugin-trap", "more than I can take"])),
    Beast::guest(
        "panic-giant",
        "panic-giant",
        "panics with 5 MiB to say",
        DeadLetters(&["plugin-trap", "why?"]),
    ),
    Beast::guest(
        "panic-ansi",
        "panic-ansi",
        "panics in colours",
        DeadLetters(&["plugin-trap", "all is well"]),
    ),
    Beast::guest("panic-in-init", "init-panic", "panics when it is configured", NotApplied(&["plugin-trap"])),
    Beast::guest(
        "panic-in-company",
        "panic-in-company",
        "panics when it is given several messages",
        Passes(1),
    ),
    Beast::guest("exit", "exit", "ends the process", DeadLetters(&["it called exit"])),
    Beast::guest("floats", "floats", "makes numbers whose bits nobody settled", Passes(1))
        .kind("enricher")
        .check(canonical),
];

fn handle_kept() -> Wild {
    // It answers as ever, without the call that lets go.
    provoked(
        "(i32.store (i32.const 1152) (i32.const 4096)) (i32.store (i32.const 1156) (local.get $count)) \
         (global.set $bump (i32.const 16384)) (return (i32.const 1152))",
    )
}

fn handle_forged() -> Wild {
    provoked("(call $drop_batch (i32.const 123456))")
}

/// The one pattern of bits that a number which is none may have here.
fn canonical(delivery: &Delivery) {
    assert_eq!(delivery.message.headers.text("nan"), Some(0x7ff8_0000_0000_0000_u64.to_string().as_str()));
}
