//! Those that look for what is not theirs.

use crate::Beast;
use crate::Fate::{DeadLetters, NotUploaded};
use crate::wild::Wild;

pub(super) const HERD: &[Beast] = &[
    Beast::guest(
        "spy-environment",
        "spy-environment",
        "reads variables and arguments",
        DeadLetters(&["it saw 0 things"]),
    ),
    Beast::guest("spy-time", "spy-time", "reads the time past the broker", DeadLetters(&["it saw 0 s"])),
    Beast::guest(
        "spy-neighbour",
        "spy-neighbour",
        "reads the message behind its batch",
        DeadLetters(&["of a batch of 1"]),
    ),
    Beast::guest(
        "spy-memory",
        "spy-memory",
        "remembers one message at the next",
        DeadLetters(&["it remembered"]),
    )
    .stage("deadline-ms = 10000\nfresh = true"),
    Beast::guest(
        "ungranted",
        "use-clock",
        "uses what it was not granted",
        DeadLetters(&["add \"clock\" to the stage's grants"]),
    ),
    Beast::bytes("files", files, "opens a file", NotUploaded(&["wasi:filesystem/", "have no files"])),
    Beast::bytes("network", network, "opens a connection", NotUploaded(&["wasi:sockets/", "network"])),
    Beast::wild("http", http, "calls a web service", NotUploaded(&["wasi:http/outgoing-handler", "network"])),
    Beast::wild(
        "environs",
        environs,
        "asks for another broker's interface",
        NotUploaded(&["other:broker/queues"]),
    ),
];

fn files() -> Vec<u8> {
    std::fs::read(wharf_test_artifacts::GUEST_WITH_FILES).expect("it was compiled")
}

fn network() -> Vec<u8> {
    std::fs::read(wharf_test_artifacts::GUEST_WITH_NETWORK).expect("it was compiled")
}

fn http() -> Wild {
    Wild {
        world: "import wasi:http/outgoing-handler@0.2.6;",
        packages: "package wasi:http@0.2.6 { interface outgoing-handler { handle: func(); } }",
        imports: "(import \"wasi:http/outgoing-handler@0.2.6\" \"handle\" (func $handle))".to_owned(),
        validate: "(call $handle)".to_owned(),
        ..Wild::default()
    }
}

fn environs() -> Wild {
    Wild {
        world: "import other:broker/queues@1.0.0;",
        packages: "package other:broker@1.0.0 { interface queues { purge: func(); } }",
        imports: "(import \"other:broker/queues@1.0.0\" \"purge\" (func $purge))".to_owned(),
        validate: "(call $purge)".to_owned(),
        ..Wild::default()
    }
}
