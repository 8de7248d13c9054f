//! Those that are no plugins, and those that only look like one.

use crate::Beast;
use crate::Fate::{Decided, NotUploaded};
use crate::wild::Wild;

pub(super) const HERD: &[Beast] = &[
    Beast::bytes("nothing", Vec::new, "is empty", NotUploaded(&["not WebAssembly"])),
    Beast::bytes("text", text, "is a script", NotUploaded(&["not WebAssembly"])),
    Beast::bytes(
        "executable",
        executable,
        "is a program for this machine",
        NotUploaded(&["not WebAssembly"]),
    ),
    Beast::bytes("module", module, "is a core module", NotUploaded(&["wasm32-wasip2"])),
    Beast::bytes(
        "preamble",
        preamble,
        "is a component with nothing in it",
        NotUploaded(&["no plugin", "exports nothing"]),
    ),
    Beast::bytes("truncated", truncated, "ends in the middle", NotUploaded(&["does not compile"])),
    Beast::bytes("garbled", garbled, "has every seventh byte changed", NotUploaded(&["does not compile"])),
    Beast::bytes(
        "newer",
        newer,
        "needs a newer contract",
        NotUploaded(&["wharf:plugin/", "@0.9.0", "upgrade the broker"]),
    ),
    Beast::bytes("renamed", renamed, "is of somebody else's world", NotUploaded(&["other:plugin/"])),
    Beast::bytes(
        "over-limit",
        over_limit,
        "is larger than any may be",
        NotUploaded(&["33554433 bytes", "33554432"]),
    ),
    Beast::bytes("false-names", false_names, "lies in its custom sections", Decided),
    Beast::bytes(
        "long-section",
        long_section,
        "says a section is longer than the file",
        NotUploaded(&["does not compile"]),
    ),
    Beast::wild("summary-giant", summary_giant, "describes itself in 3 MiB", NotUploaded(&["summary"])),
    Beast::wild(
        "summary-broken",
        summary_broken,
        "describes itself in what is no text",
        NotUploaded(&["describe itself"]),
    ),
    Beast::wild(
        "schema-outside",
        schema_outside,
        "points outside its memory",
        NotUploaded(&["describe itself"]),
    ),
    Beast::wild(
        "reads-many",
        reads_many,
        "wants 1,000 headers with each message",
        NotUploaded(&["1000 headers"]),
    ),
];

fn guest() -> Vec<u8> {
    std::fs::read(wharf_test_artifacts::ZOO).expect("it was compiled")
}

fn text() -> Vec<u8> {
    b"#!/bin/sh\nrm -rf \"$HOME\"\n".to_vec()
}

fn executable() -> Vec<u8> {
    let own = std::env::current_exe().and_then(std::fs::read).expect("this program has a file");
    own[..own.len().min(1 << 20)].to_vec()
}

fn module() -> Vec<u8> {
    b"\0asm\x01\0\0\0".to_vec()
}

fn preamble() -> Vec<u8> {
    b"\0asm\x0d\0\x01\0".to_vec()
}

fn truncated() -> Vec<u8> {
    let guest = guest();
    guest[..guest.len() / 2].to_vec()
}

fn garbled() -> Vec<u8> {
    let mut guest = guest();
    guest[8..].iter_mut().step_by(7).for_each(|byte| *byte = byte.wrapping_mul(31).wrapping_add(7));
    guest
}

fn newer() -> Vec<u8> {
    replaced("@0.1.1", "@0.9.0")
}

fn renamed() -> Vec<u8> {
    replaced("wharf:plugin/", "other:plugin/")
}

/// The guest with a text replaced by another of the same length: names lie in it as they are.
fn replaced(from: &str, to: &str) -> Vec<u8> {
    let mut wasm = guest();
    for at in 0..wasm.len() - from.len() {
        if wasm[at..].starts_with(from.as_bytes()) {
            wasm[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
    }
    wasm
}

fn over_limit() -> Vec<u8> {
    let mut guest = guest();
    guest.resize((32 << 20) + 1, 0);
    guest
}

/// A tame component with custom sections behind it: a name section of noise, and a contract that it is not made for.
fn false_names() -> Vec<u8> {
    let mut wasm = Wild::default().component();
    for (name, content) in
        [("name", &[0xff; 300][..]), ("component-type:lies", b"package wharf:plugin@9.9.9;")]
    {
        let mut section = vec![u8::try_from(name.len()).expect("short")];
        section.extend_from_slice(name.as_bytes());
        section.extend_from_slice(content);
        wasm.push(0);
        wasm.extend_from_slice(&leb128(section.len()));
        wasm.extend_from_slice(&section);
    }
    wasm
}

fn long_section() -> Vec<u8> {
    let mut wasm = Wild::default().component();
    wasm.extend_from_slice(&[0, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, b'x']);
    wasm
}

fn leb128(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn summary_giant() -> Wild {
    Wild {
        describe:
            "(memory.fill (i32.const 1000000) (i32.const 97) (i32.const 3000000))
            (i32.store (i32.const 1024) (i32.const 1000000)) (i32.store (i32.const 1028) (i32.const 3000000))"
                .to_owned(),
        ..Wild::default()
    }
}

fn summary_broken() -> Wild {
    Wild {
        describe: "(i32.store (i32.const 2048) (i32.const -1))
            (i32.store (i32.const 1024) (i32.const 2048)) (i32.store (i32.const 1028) (i32.const 4))"
            .to_owned(),
        ..Wild::default()
    }
}

fn schema_outside() -> Wild {
    Wild {
        describe: "(i32.store8 (i32.const 1044) (i32.const 1))
            (i32.store (i32.const 1048) (i32.const -16)) (i32.store (i32.const 1052) (i32.const 1000))"
            .to_owned(),
        ..Wild::default()
    }
}

fn reads_many() -> Wild {
    // 1,000 times the same list element: eight bytes of zeros each, the empty name.
    Wild {
        describe:
            "(i32.store (i32.const 1036) (i32.const 65536)) (i32.store (i32.const 1040) (i32.const 1000))"
                .to_owned(),
        ..Wild::default()
    }
}
