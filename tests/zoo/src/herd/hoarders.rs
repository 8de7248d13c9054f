//! Those that remember too much, and those that are remembered although they should not be.

use wharf_node::KvEntryView;
use wharf_protocol::{KV_CHANGES_MAX, KV_SPACE_BYTES_MAX};

use crate::Beast;
use crate::Fate::{DeadLetters, Passes, Rejected};
use crate::beast::grants;

const HURRIED: &str = concat!("deadline-ms = 50\n", grants!());

pub(super) const HERD: &[Beast] = &[
    Beast::granted("kv-keys", "kv-keys", "remembers 100,000 keys at once", Passes(1))
        .remembers(as_many_as_it_may),
    Beast::granted(
        "kv-counters",
        "kv-counters",
        "counts in 100,000 counters at once",
        DeadLetters(READ_TOO_MUCH),
    )
    .remembers(nothing),
    Beast::granted("kv-removes", "kv-removes", "forgets 100,000 keys that are not there", Passes(1))
        .remembers(nothing),
    Beast::granted("kv-reads", "kv-reads", "reads 100,000 keys", DeadLetters(READ_TOO_MUCH))
        .remembers(nothing),
    Beast::granted("kv-churn", "kv-churn", "changes one key 100,000 times", Passes(1)).remembers(the_last),
    Beast::granted(
        "kv-value-giant",
        "kv-value-giant",
        "remembers 4 MiB under one key",
        DeadLetters(&["it was told", "value-too-large"]),
    )
    .remembers(nothing),
    Beast::granted(
        "kv-crossing",
        "kv-crossing",
        "hands 16 MiB over to be remembered",
        DeadLetters(&["plugin-answer", "more than 8 MiB over at once"]),
    )
    .remembers(nothing),
    Beast::granted(
        "kv-key-giant",
        "kv-key-giant",
        "names a key with 4 MiB",
        DeadLetters(&["it was told", "bad-key"]),
    )
    .remembers(nothing),
    Beast::granted(
        "kv-key-empty",
        "kv-key-empty",
        "names a key nothing",
        DeadLetters(&["it was told", "bad-key"]),
    )
    .remembers(nothing),
    Beast::granted("kv-key-ansi", "kv-key-ansi", "names a key that rewrites a terminal", Passes(1))
        .remembers(one),
    Beast::granted(
        "kv-full",
        "kv-full",
        "fills its space, and wants more",
        DeadLetters(&["it was told", "full"]),
    )
    .fodder(9)
    .remembers(full),
    Beast::granted(
        "kv-overflow",
        "kv-overflow",
        "counts past the largest number",
        DeadLetters(&["it was told", "not-a-number"]),
    )
    .remembers(nothing),
    Beast::granted("kv-for-ever", "kv-for-ever", "remembers for 584 million years", Passes(1)).remembers(one),
    Beast::granted("kv-for-no-time", "kv-for-no-time", "remembers 100 keys for no time", Passes(1))
        .remembers(nothing),
    Beast::granted(
        "lookup-flood",
        "lookup-flood",
        "asks for 400 MB of a table at once",
        DeadLetters(&["plugin-answer", "at most 8388608 bytes"]),
    ),
    Beast::granted(
        "lookup-key-giant",
        "lookup-key-giant",
        "looks for a key of 16 MiB",
        DeadLetters(&["plugin-answer", "more than 8 MiB over at once"]),
    ),
    Beast::granted(
        "count-and-panic",
        "counted-panic",
        "counts a message and panics",
        DeadLetters(&["plugin-trap", "more than I can take"]),
    )
    .remembers(the_calm_ones),
    Beast::granted(
        "count-and-loop",
        "counted-loop",
        "counts a message and loops",
        DeadLetters(&["plugin-deadline", "took longer than 50 ms"]),
    )
    .stage(HURRIED)
    .remembers(the_calm_ones),
    Beast::granted(
        "count-and-hoard",
        "counted-hoard",
        "counts a message and takes all memory",
        DeadLetters(&["plugin-memory"]),
    )
    .remembers(the_calm_ones),
    Beast::granted(
        "count-and-exit",
        "counted-exit",
        "counts a message and ends",
        DeadLetters(&["it called exit"]),
    )
    .remembers(the_calm_ones),
    Beast::granted(
        "count-and-refuse",
        "counted-reject-json-deep",
        "counts a message and refuses it",
        DeadLetters(&["[[[["]),
    )
    .remembers(the_calm_ones),
    Beast::granted(
        "count-and-tell",
        "counted-reject-json-deep",
        "counts a message and sends it back",
        Rejected(&["[[[["]),
    )
    .remembers(the_calm_ones),
    Beast::granted(
        "count-and-retry",
        "counted-retry-forever",
        "counts a message that is to come again",
        Rejected(&["not in this life"]),
    )
    .remembers(the_calm_ones),
    Beast::granted(
        "count-then-refuse",
        "counted-calm",
        "counts a message that the next stage refuses",
        DeadLetters(&["[[[["]),
    )
    .stage(concat!(
        "deadline-ms = 10000\nname = \"counting\"\n",
        grants!(),
        "[[stage]]\nplugin = \"count-then-refuse\"\nkind = \"validator\"\non-failure = \"dead-letter\"\n",
        "config = { mode = \"reject-json-deep\" }\ndeadline-ms = 10000\n",
        grants!(),
    ))
    .remembers(the_calm_ones),
];

const READ_TOO_MUCH: &[&str] = &["plugin-answer", "more than 1024 keys"];

fn nothing(entries: &[KvEntryView]) {
    assert_eq!(entries, []);
}

fn one(entries: &[KvEntryView]) {
    assert_eq!(entries.len(), 1, "{entries:?}");
}

fn as_many_as_it_may(entries: &[KvEntryView]) {
    assert_eq!(entries.len(), KV_CHANGES_MAX);
}

fn the_last(entries: &[KvEntryView]) {
    assert_eq!(entries.iter().map(|entry| &entry.value[..]).collect::<Vec<_>>(), [b"99999"]);
}

/// As many values of 64 KiB as there is room for: with its key, each takes a little more.
fn full(entries: &[KvEntryView]) {
    let bytes: usize = entries.iter().map(|entry| entry.key.len() + entry.value.len()).sum();
    assert!(bytes as u64 <= KV_SPACE_BYTES_MAX, "{bytes} bytes are remembered");
    assert!(bytes > 60 << 20, "only {bytes} bytes are remembered");
}

/// Two messages of four came through: each counted once, and no other.
fn the_calm_ones(entries: &[KvEntryView]) {
    let entries: Vec<_> = entries.iter().map(|entry| (entry.key.as_str(), &entry.value[..])).collect();
    assert_eq!(entries, [("count", &b"2"[..])]);
}
