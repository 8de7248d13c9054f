//! What an animal tries that is granted what its pipeline remembers, and what an operator lends by name.

use super::wharf::plugin::types::{Batch, Failure};
use super::wharf::plugin::{kv, lookup, schema, secrets};
use super::{MIB, problem};

/// What another pipeline remembers, under every name by which somebody might hope to reach it.
const NOT_MINE: [&str; 8] = [
    "password",
    "vault/password",
    "/vault/password",
    "../vault/password",
    "vault:password",
    "vault\0password",
    "\0vault\0password",
    "*",
];

/// `counted-MODE` counts every message and then does as `MODE`: what is left of the count shows which messages
/// changed what is remembered.
pub fn count(mode: &str) -> &str {
    let Some(mode) = mode.strip_prefix("counted-") else { return mode };
    drop(kv::add("count", 1, None));
    mode
}

/// Fills 8 MiB of what is remembered, where the message is there for that.
pub fn fill(payload: &[u8]) {
    let Some(which) = payload.strip_prefix(b"fodder ") else { return };
    let which = String::from_utf8_lossy(which);
    (0..128).for_each(|n| drop(kv::set(&format!("{which}-{n}"), &[b'x'; 64 * 1024], None)));
}

pub fn misbehave(mode: &str, i: u32, all: &Batch) -> Result<(), Failure> {
    match mode {
        "keep" => drop(kv::set("password", &all.payload(i), None)),
        "spy-kv" => {
            let seen = NOT_MINE.iter().filter(|key| !matches!(kv::get(key), Ok(None))).count();
            return Err(Failure::Reject(problem(&format!("it saw {seen} values"))));
        }
        "overwrite-kv" => NOT_MINE.iter().for_each(|key| drop(kv::set(key, b"mine", None))),
        "spy-lookup" => drop(lookup::get("vault", "apple")),
        "spy-lookup-many" => drop(lookup::get_many("vault", &["apple".to_owned()])),
        "spy-lookup-version" => drop(lookup::version("vault")),
        "spy-schema" => drop(schema::get("vault")),
        "spy-secret" => drop(secrets::get("vault")),
        "spy-secret-path" => drop(secrets::get("lent/../vault")),
        "spy-secret-both" => drop(secrets::get("lent,secrets:vault")),
        "spy-secret-giant" => drop(secrets::get(&"vault".repeat(MIB))),
        "spy-secret-ansi" => drop(secrets::get("\u{1b}[2J\u{202e}vault\r\nINFO all is well\u{7}")),
        "lookup-flood" => drop(lookup::get_many("lent", &vec!["big".to_owned(); 100_000])),
        "lookup-key-giant" => drop(lookup::get("lent", &"k".repeat(16 * MIB))),
        "kv-keys" => (0..100_000).for_each(|n| drop(kv::set(&format!("k{n}"), b"x", None))),
        "kv-removes" => (0..100_000).for_each(|n| drop(kv::remove(&format!("k{n}")))),
        "kv-reads" => (0..100_000).for_each(|n| drop(kv::get(&format!("{n}").repeat(80)))),
        "kv-counters" => (0..100_000).for_each(|n| drop(kv::add(&format!("c{n}"), 0, None))),
        "kv-churn" => (0..100_000).for_each(|n| drop(kv::set("one", format!("{n}").as_bytes(), None))),
        "kv-value-giant" => return told(kv::set("giant", &vec![b'x'; 4 * MIB], None)),
        "kv-crossing" => return told(kv::set("giant", &vec![b'x'; 16 * MIB], None)),
        "kv-key-giant" => return told(kv::set(&"k".repeat(4 * MIB), b"x", None)),
        "kv-key-empty" => return told(kv::set("", b"x", None)),
        "kv-key-ansi" => drop(kv::set("\u{1b}[2J\r\nforged", b"\x1b]0;owned\x07", None)),
        "kv-full" => return told(kv::set("one more", &[b'x'; 64 * 1024], None)),
        "kv-overflow" => return told((0..2).try_for_each(|_| kv::add("much", i64::MAX, None).map(drop))),
        "kv-for-ever" => drop(kv::set("for ever", b"x", Some(u64::MAX))),
        "kv-for-no-time" => (0..100).for_each(|n| drop(kv::set(&format!("k{n}"), b"x", Some(0)))),
        _ => {}
    }
    Ok(())
}

/// Refuses the message with what the host said.
fn told(said: Result<(), kv::Error>) -> Result<(), Failure> {
    said.map_err(|error| Failure::Reject(problem(&format!("it was told {error:?}"))))
}
