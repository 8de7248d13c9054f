//! Those that want what another pipeline remembers, and what an operator lent or entrusted to others.

use wharf_node::KvEntryView;

use crate::Beast;
use crate::Fate::{DeadLetters, NotApplied, NotUploaded, Passes};
use crate::beast::grants;
use crate::wild::Wild;

pub(super) const HERD: &[Beast] = &[
    Beast::granted(
        "kv-of-another",
        "spy-kv",
        "reads what another pipeline remembers",
        DeadLetters(&["it saw 0 values"]),
    )
    .remembers(nothing),
    Beast::granted(
        "kv-over-another",
        "overwrite-kv",
        "writes over what another pipeline remembers",
        Passes(1),
    )
    .remembers(its_own),
    Beast::granted(
        "kv-ungranted",
        "spy-kv",
        "remembers without being granted it",
        NotApplied(&["uses kv; add \"kv\""]),
    )
    .stage("grants = [\"config\", \"lookup:lent\", \"schema:lent\", \"secrets:lent\"]"),
    Beast::granted(
        "kv-in-second-stage",
        "spy-kv",
        "remembers because a stage before it may",
        NotApplied(&["stage second", "uses kv; add \"kv\""]),
    )
    .stage(concat!(
        "name = \"first\"\n",
        grants!(),
        "[[stage]]\nplugin = \"kv-in-second-stage\"\nname = \"second\"\nkind = \"validator\"\n",
        "grants = [\"config\", \"lookup:lent\", \"schema:lent\", \"secrets:lent\"]",
    )),
    Beast::granted(
        "kv-on-delivery",
        "spy-kv",
        "remembers where nothing is stored",
        NotApplied(&["on delivery has no kv"]),
    )
    .pipeline("delivery = [\"quiet\"]"),
    Beast::granted(
        "kv-in-init",
        "init-kv",
        "remembers before any message",
        NotApplied(&["kv outside of a message"]),
    ),
    Beast::wild(
        "kv-in-describe",
        in_describe,
        "remembers before it has a pipeline",
        NotUploaded(&["it used kv"]),
    ),
    Beast::wild(
        "kv-of-all",
        of_all,
        "asks for a kv that takes the name of a pipeline",
        NotUploaded(&["wharf:plugin/kv@0.1.1", "get-of"]),
    ),
    Beast::granted(
        "lookup-of-another",
        "spy-lookup",
        "reads a table that it is not granted",
        DeadLetters(&["plugin-grant", "\"lookup:vault\""]),
    ),
    Beast::granted(
        "lookup-many-of-another",
        "spy-lookup-many",
        "reads many values of it",
        DeadLetters(&["plugin-grant", "\"lookup:vault\""]),
    ),
    Beast::granted(
        "lookup-version-of-another",
        "spy-lookup-version",
        "asks which version it is of",
        DeadLetters(&["plugin-grant", "\"lookup:vault\""]),
    ),
    Beast::granted(
        "schema-of-another",
        "spy-schema",
        "reads a schema that it is not granted",
        DeadLetters(&["plugin-grant", "\"schema:vault\""]),
    ),
    Beast::granted(
        "secret-of-another",
        "spy-secret",
        "reads a secret that it is not granted",
        DeadLetters(&["plugin-grant", "\"secrets:vault\""]),
    ),
    Beast::granted(
        "secret-by-path",
        "spy-secret-path",
        "climbs from its secret to another",
        DeadLetters(&["plugin-grant", "lent/../vault"]),
    ),
    Beast::granted(
        "secret-by-list",
        "spy-secret-both",
        "names two secrets at once",
        DeadLetters(&["plugin-grant", "lent,secrets:vault"]),
    ),
    Beast::granted(
        "secret-giant",
        "spy-secret-giant",
        "names a secret with 5 MiB",
        DeadLetters(&["plugin-grant", "vaultvault"]),
    ),
    Beast::granted(
        "secret-ansi",
        "spy-secret-ansi",
        "names a secret that rewrites a terminal",
        DeadLetters(&["plugin-grant", "all is well"]),
    ),
    Beast::granted(
        "secret-in-init",
        "init-secret",
        "reads it when it is configured",
        NotApplied(&["plugin-grant", "secrets:vault"]),
    ),
    Beast::granted(
        "secret-nobody",
        "spy-secret",
        "is granted a secret that there is not",
        NotApplied(&["no secret nobody", "secrets.toml"]),
    )
    .stage("grants = [\"config\", \"kv\", \"lookup:lent\", \"schema:lent\", \"secrets:nobody\"]"),
    Beast::granted("secret-all", "spy-secret", "is granted all secrets at once", NotApplied(&["secrets:a*"]))
        .stage("grants = [\"config\", \"kv\", \"lookup:lent\", \"schema:lent\", \"secrets:a*\"]"),
];

fn nothing(entries: &[KvEntryView]) {
    assert_eq!(entries, []);
}

/// Everything that it wrote is in its own space, under the names that it gave.
fn its_own(entries: &[KvEntryView]) {
    assert_eq!(entries.len(), 8, "{entries:?}");
    assert!(entries.iter().all(|entry| entry.value == "mine"), "{entries:?}");
}

fn in_describe() -> Wild {
    Wild {
        world: "import wharf:plugin/kv@0.1.1;",
        packages: "package wharf:plugin@0.1.1 { interface kv { \
                   enum error { bad-key, value-too-large, too-many-changes, full, not-a-number } \
                   remove: func(key: string) -> result<_, error>; } }",
        imports: "(import \"wharf:plugin/kv@0.1.1\" \"remove\" (func $remove (param i32 i32 i32)))"
            .to_owned(),
        describe: "(call $remove (i32.const 4096) (i32.const 8) (i32.const 8192))".to_owned(),
        ..Wild::default()
    }
}

fn of_all() -> Wild {
    Wild {
        world: "import wharf:plugin/kv@0.1.1;",
        packages: "package wharf:plugin@0.1.1 { interface kv { \
                   get-of: func(pipeline: string, key: string) -> list<u8>; } }",
        imports: "(import \"wharf:plugin/kv@0.1.1\" \"get-of\" (func $get_of (param i32 i32 i32 i32 i32)))"
            .to_owned(),
        validate: "(call $get_of (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8192))"
            .to_owned(),
        ..Wild::default()
    }
}
