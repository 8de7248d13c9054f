//! Those that aim at the compiler. Each must be decided about within the limits of the compiling process, and none
//! may cost the broker more than that.

use std::fmt::Write as _;

use crate::Beast;
use crate::Fate::{Decided, NotUploaded};
use crate::wild::Wild;

pub(super) const HERD: &[Beast] = &[
    Beast::wild("compile-functions", functions, "brings 20,000 functions", Decided),
    Beast::wild("compile-long", long, "brings one function of 20,000 stores", Decided),
    Beast::wild("compile-deep", deep, "nests 5,000 blocks", Decided),
    Beast::wild("compile-table", branch_table, "branches 10,000 ways", Decided),
    Beast::wild("compile-locals", locals, "has 49,000 locals in use at once", Decided),
    Beast::wild("compile-exports", imports, "has types without end", Decided),
    Beast::bytes("compile-types", types, "has a type of 2^100 fields", NotUploaded(&["does not compile"])),
    Beast::bytes("compile-nested", nested, "nests components", NotUploaded(&[])),
];

fn with(fields: String) -> Wild {
    Wild { fields, ..Wild::default() }
}

fn functions() -> Wild {
    with("(func (param i32) (result i32) (i32.add (local.get 0) (i32.const 7))) ".repeat(20_000))
}

fn long() -> Wild {
    with(format!(
        "(func (param i32) {})",
        "(i32.store (local.get 0) (i32.load (i32.const 64))) ".repeat(20_000)
    ))
}

fn deep() -> Wild {
    with(format!(
        "(func (param i32) {} {})",
        "block local.get 0 br_if 0 ".repeat(5_000),
        "end ".repeat(5_000)
    ))
}

fn branch_table() -> Wild {
    let (blocks, ways): (String, String) =
        ((0..1000).map(|_| "block ").collect(), (0..10_000).map(|n| format!("{} ", n % 1000)).collect());
    with(format!("(func (param i32) {blocks} local.get 0 br_table {ways} {})", "end ".repeat(1000)))
}

fn locals() -> Wild {
    let (mut locals, mut body) = (String::new(), String::new());
    for n in 0..49_000 {
        let _ = write!(locals, "(local i64) ");
        let _ = write!(
            body,
            "(local.set {n} (i64.mul (local.get {}) (local.get {})))",
            (n * 7) % 49_000,
            (n * 13) % 49_000
        );
    }
    with(format!("(func {locals} {body} {body})"))
}

fn imports() -> Wild {
    let types: String =
        (0..20_000).map(|n| format!("(type (func (param {}))) ", "i32 ".repeat(n % 10))).collect();
    with(types)
}

fn types() -> Vec<u8> {
    let mut text = String::from("(component (type $t0 (tuple u8 u8))");
    for n in 1..100 {
        let _ = write!(text, "(type $t{n} (tuple $t{0} $t{0}))", n - 1);
    }
    text.push_str("(import \"f\" (func (param \"x\" $t99))))");
    wat::parse_str(&text).expect("the text is a component")
}

fn nested() -> Vec<u8> {
    let depth = 2_000;
    let mut wasm = b"\0asm\x0d\0\x01\0".to_vec();
    for _ in 0..depth {
        let mut outer = b"\0asm\x0d\0\x01\0\x04".to_vec();
        let mut size = wasm.len();
        while size >= 0x80 {
            outer.push((size & 0x7f) as u8 | 0x80);
            size >>= 7;
        }
        outer.push(size as u8);
        outer.extend_from_slice(&wasm);
        wasm = outer;
    }
    wasm
}
