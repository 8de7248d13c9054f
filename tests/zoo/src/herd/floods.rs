//! Those that say too much: outputs, headers, log lines, counters, calls.

use wharf_protocol::Delivery;

use crate::Beast;
use crate::Fate::{DeadLetters, NotApplied, Passes, Rejected};

/// Everything that may be granted, so that a flood is stopped by its bound and not at the door.
const ALL_GRANTS: &str =
    "deadline-ms = 10000\ngrants = [\"log\", \"config\", \"metrics\", \"clock\", \"random\"]";

pub(super) const HERD: &[Beast] = &[
    Beast::guest("emit-giant", "emit-giant", "makes 5 MiB of one message", DeadLetters(&["too-large"]))
        .kind("transformer"),
    Beast::guest(
        "emit-over-crossing",
        "emit-over-crossing",
        "hands 16 MiB over at once",
        DeadLetters(&["plugin-answer", "more than 8 MiB over at once"]),
    )
    .kind("transformer"),
    Beast::guest(
        "emit-over-message",
        "emit-over-message",
        "makes a message larger than any may be",
        Rejected(&["2097", "over the limit"]),
    )
    .kind("transformer"),
    Beast::guest("emit-many", "emit-many", "makes 100,000 messages of one", DeadLetters(&["too-many"]))
        .kind("transformer"),
    Beast::guest("emit-split", "emit-split", "makes as many as it may", Passes(16)).kind("transformer"),
    Beast::guest("header-giant", "header-giant", "sets a header of 4 MiB", DeadLetters(&["too large"]))
        .kind("enricher"),
    Beast::guest(
        "header-name-giant",
        "header-name-giant",
        "names a header with 4 MiB",
        DeadLetters(&["too large"]),
    )
    .kind("enricher"),
    Beast::guest(
        "header-name-empty",
        "header-name-empty",
        "names a header nothing",
        DeadLetters(&["is empty"]),
    )
    .kind("enricher"),
    Beast::guest(
        "header-name-control",
        "header-name-control",
        "names a header with control characters",
        DeadLetters(&["control characters"]),
    )
    .kind("enricher"),
    Beast::guest("headers-many", "headers-many", "sets 50,000 headers", DeadLetters(&["50000 headers"]))
        .kind("enricher"),
    Beast::guest("header-json-deep", "header-json-deep", "nests 30,000 arrays in a header", Passes(1))
        .kind("enricher")
        .check(carries_its_header),
    Beast::guest(
        "route-many",
        "route-many",
        "routes to 65,536 outputs",
        DeadLetters(&["65536 outputs; at most 16"]),
    )
    .kind("router"),
    Beast::guest("route-circle", "route-circle", "routes back to where it came from", Rejected(&["a loop?"]))
        .kind("router")
        .stage("deadline-ms = 10000\noutputs = { again = \"topic:route-circle\" }"),
    Beast::guest(
        "route-multiply",
        "route-multiply",
        "routes sixteen copies back, and again, and again",
        Rejected(&["pipelines made more than"]),
    )
    .kind("router")
    .stage("deadline-ms = 10000\noutputs = { again = \"topic:route-multiply\" }"),
    Beast::guest("reject-giant", "reject-giant", "gives a reason of 4 MiB", DeadLetters(&["zoo: xxxx"])),
    Beast::guest(
        "reject-ansi",
        "reject-ansi",
        "gives a reason that rewrites a terminal",
        DeadLetters(&["stored"]),
    ),
    Beast::guest("reject-told-ansi", "reject-ansi", "does so to its publisher", Rejected(&["stored"])),
    Beast::guest(
        "reject-code-giant",
        "reject-code-giant",
        "gives a code of 2 MiB",
        DeadLetters(&["see the code"]),
    ),
    Beast::guest(
        "reject-json-deep",
        "reject-json-deep",
        "gives a reason like a deep JSON",
        DeadLetters(&["[[[["]),
    ),
    Beast::guest(
        "retry-forever",
        "retry-forever",
        "asks to be tried again in 49 days",
        Rejected(&["not in this life"]),
    ),
    Beast::guest(
        "refuse-ansi",
        "init-refuse-ansi",
        "refuses its configuration in colours",
        NotApplied(&["all is well"]),
    ),
    Beast::guest("refuse-giant", "init-refuse-giant", "refuses it in 3 MiB", NotApplied(&["no no no"])),
    Beast::guest("log-flood", "log-flood", "writes 200,000 lines to the log", Passes(1)),
    Beast::guest("log-giant", "log-giant", "writes lines of 4 MiB", Passes(1)),
    Beast::guest("log-ansi", "log-ansi", "forges lines of the log", Passes(1)),
    Beast::guest("stdout-flood", "stdout-flood", "prints 20,000 lines", Passes(1)),
    Beast::guest("counters-flood", "counters-flood", "names 100,000 counters", Passes(1)),
    Beast::guest(
        "counter-giant",
        "counter-giant",
        "names a counter with 4 MiB",
        DeadLetters(&["it named a counter"]),
    ),
    Beast::guest("counter-forged", "counter-forged", "forges a metric", DeadLetters(&["it named a counter"])),
    Beast::guest("random-flood", "random-flood", "takes 200,000 random numbers", Passes(1)).stage(ALL_GRANTS),
    Beast::guest("host-flood", "host-flood", "asks for the time 200,000 times", Passes(1)).stage(ALL_GRANTS),
    Beast::guest("payload-flood", "payload-flood", "asks for its message 2,000 times", Passes(1)),
];

fn carries_its_header(delivery: &Delivery) {
    assert_eq!(delivery.message.headers.get("deep").map(<[u8]>::len), Some(30_000));
}
