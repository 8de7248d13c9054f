//! Those that want room: memory, tables, stack.

use crate::Beast;
use crate::Fate::{DeadLetters, NotApplied, NotUploaded, Passes};
use crate::herd::loops::provoked;
use crate::wild::Wild;

const STUFFED: &[&str] = &["plugin-memory", "more than its 64 MiB"];

pub(super) const HERD: &[Beast] = &[
    Beast::guest("hoard", "hoard", "takes memory until there is none", DeadLetters(STUFFED)),
    Beast::guest("hoard-in-init", "init-hoard", "does so when it is configured", NotApplied(STUFFED)),
    Beast::guest("swell", "swell", "keeps a little more with each message", Passes(1)),
    Beast::guest("recurse", "recurse", "calls itself until the stack ends", DeadLetters(&["plugin-stack"])),
    Beast::guest(
        "recurse-locals",
        "recurse-locals",
        "does so with a stack of its own",
        DeadLetters(&["deep recursion ends like this"]),
    ),
    Beast::wild("frames", frames, "calls itself with a thousand locals", DeadLetters(&["plugin-stack"])),
    Beast::wild("grow-to-the-limit", to_the_limit, "takes all the memory it may, and keeps quiet", Passes(1)),
    Beast::wild("grow-in-start", in_start, "takes all the memory it may before it is asked", Passes(1)),
    Beast::wild("born-huge", born_huge, "asks for 4 GiB to begin with", NotUploaded(&["memory", "limit"])),
    Beast::wild(
        "many-memories",
        many_memories,
        "brings thirty memories",
        NotUploaded(&["memories", "limit"]),
    ),
    Beast::wild("many-tables", many_tables, "brings a hundred tables", NotUploaded(&["tables", "limit"])),
    Beast::wild("table-huge", table_huge, "asks for a table of a million", NotUploaded(&["table", "limit"])),
    Beast::wild("table-growing", table_growing, "grows its table until it may not", Passes(1)),
    Beast::wild("much-data", much_data, "carries twenty megabytes of data", Passes(1)),
];

fn frames() -> Wild {
    let tame = provoked("(call $deeper)");
    let locals = "(local i64) ".repeat(1000);
    let deeper = format!("(func $deeper {locals} (call $deeper) (i64.store (i32.const 0) (local.get 999)))");
    Wild { fields: format!("{} {deeper}", tame.fields), ..tame }
}

const ALL_THERE_IS: &str = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))";

fn to_the_limit() -> Wild {
    provoked(ALL_THERE_IS)
}

fn in_start() -> Wild {
    Wild { fields: format!("(func $start {ALL_THERE_IS}) (start $start)"), ..Wild::default() }
}

fn born_huge() -> Wild {
    Wild { memory: "(memory (export \"memory\") 65536)".to_owned(), ..Wild::default() }
}

fn many_memories() -> Wild {
    Wild { fields: "(memory 1) ".repeat(30), ..Wild::default() }
}

fn many_tables() -> Wild {
    Wild { fields: "(table 1 funcref) ".repeat(100), ..Wild::default() }
}

fn table_huge() -> Wild {
    Wild { fields: "(table 1000000 funcref)".to_owned(), ..Wild::default() }
}

fn table_growing() -> Wild {
    let more =
        "(loop $more (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 100)) (i32.const -1))))";
    let tame = provoked(more);
    Wild { fields: format!("{} (table $t 0 funcref)", tame.fields), ..tame }
}

fn much_data() -> Wild {
    Wild {
        memory: "(memory (export \"memory\") 512)".to_owned(),
        fields: format!("(data (i32.const 8388608) \"{}\")", "wharf".repeat(4 << 20)),
        ..Wild::default()
    }
}
