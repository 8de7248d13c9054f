//! Projects in other languages than Rust.
//!
//! ```text
//! NAME/
//!   plugin.c             a small plugin of the kind: the same one in every language
//!   wharf.c  wharf.h …   what it stands on
//!   Makefile             makes NAME.wasm
//!   cases/               messages, and what becomes of them: the same in every language
//!   README.md  .gitignore
//!   wit/deps/wharf       the contract
//!   wit/plugin.wit       what of it the plugin uses
//! ```
//!
//! A module of C says by its imports what it uses, so there is no `plugin.wit`. What makes components of JavaScript and
//! Python imports all that a world names, used or not; so each project has a world of its own.

use std::io;
use std::path::Path;

use wharf_protocol::Name;

use crate::{Kind, TRAVELLING, package_name, write_all};

/// What a plugin is written in, beside Rust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// C, compiled by clang.
    C,
    /// JavaScript, run by QuickJS.
    JavaScript,
    /// Python, run by CPython.
    Python,
}

/// A file of a project: its path, and its text with blanks.
type File = (&'static str, &'static str);

macro_rules! files {
    ($folder:literal: $($file:literal),+ $(,)?) => {
        &[$(($file, include_str!(concat!("../../template/", $folder, "/", $file, ".in")))),+]
    };
}

/// A plugin's source, for each kind.
macro_rules! plugin {
    ($kind:expr, $folder:literal, $extension:literal) => {
        match $kind {
            Kind::Validator => {
                include_str!(concat!("../../template/", $folder, "/validator.", $extension, ".in"))
            }
            Kind::Router => include_str!(concat!("../../template/", $folder, "/router.", $extension, ".in")),
            Kind::Transformer => {
                include_str!(concat!("../../template/", $folder, "/transformer.", $extension, ".in"))
            }
            Kind::Enricher => {
                include_str!(concat!("../../template/", $folder, "/enricher.", $extension, ".in"))
            }
        }
    };
}

impl Language {
    /// What is the same for all kinds.
    fn files(self) -> &'static [File] {
        match self {
            Self::C => files!("c": "Makefile", "README.md", "wharf.h", "wharf.c", "granted.c", "text.c"),
            Self::JavaScript => files!(
                "js": "package.json", "README.md", "build.sh", "wharf.js", "wharf.d.ts", "jsconfig.json",
                "wharf/absence.js", "wharf/bytes.js", "wharf/clock.js", "wharf/contract.d.ts", "wharf/kv.js",
                "wharf/log.js", "wharf/lookup.js", "wharf/metrics.js", "wharf/problem.js", "wharf/random.js",
                "wharf/schema.js", "wharf/secrets.js"
            ),
            Self::Python => files!(
                "python": "requirements.txt", "README.md", "build.sh", "wharf/__init__.py", "wharf/clock.py",
                "wharf/kv.py", "wharf/log.py", "wharf/lookup.py", "wharf/metrics.py", "wharf/random.py",
                "wharf/schema.py", "wharf/secrets.py"
            ),
        }
    }

    fn plugin(self, kind: Kind) -> File {
        match self {
            Self::C => ("plugin.c", plugin!(kind, "c", "c")),
            Self::JavaScript => ("plugin.js", plugin!(kind, "js", "js")),
            Self::Python => ("plugin.py", plugin!(kind, "python", "py")),
        }
    }

    /// Whether a project has a world of its own.
    fn has_world(self) -> bool {
        match self {
            Self::C => false,
            Self::JavaScript | Self::Python => true,
        }
    }

    fn ignored(self) -> &'static str {
        match self {
            Self::C => include_str!("../../template/c/gitignore.in"),
            Self::JavaScript => include_str!("../../template/js/gitignore.in"),
            Self::Python => include_str!("../../template/python/gitignore.in"),
        }
    }
}

/// The messages that a plugin of the kind is tested with.
fn cases(kind: Kind) -> &'static [File] {
    match kind {
        Kind::Validator => files!(
            "cases/validator": "stage.json", "short/payload.txt", "short/expected.json", "long/payload.txt",
            "long/expected.json"
        ),
        Kind::Router => files!(
            "cases/router": "stage.json", "europe/payload.txt", "europe/message.json", "europe/expected.json",
            "nowhere/payload.txt", "nowhere/expected.json", "unknown/payload.txt", "unknown/message.json",
            "unknown/expected.json"
        ),
        Kind::Transformer => files!(
            "cases/transformer": "lines/payload.txt", "lines/message.json", "lines/expected.json",
            "empty-lines/payload.txt", "empty-lines/stage.json", "empty-lines/expected.json",
            "not-text/message.json", "not-text/expected.json"
        ),
        Kind::Enricher => files!(
            "cases/enricher": "acme/message.json", "acme/expected.json", "known/message.json",
            "known/expected.json", "nobody/message.json", "nobody/expected.json"
        ),
    }
}

/// Writes a project into `folder`, which is made where it is not there.
///
/// # Errors
/// `AlreadyExists` where one of its files is there, which is left as it is; or the folder cannot be written.
pub fn write_project_in(language: Language, folder: &Path, name: &Name, kind: Kind) -> io::Result<()> {
    let name = package_name(name);
    let sources = kind.sources();
    let source = language.plugin(kind);
    let fill = |text: &str| {
        let text = text.replace("{{stage}}", sources.stage.trim_end()).replace("{{source}}", source.0);
        text.replace("{{interface}}", sources.interface)
            .replace("{{A kind}}", &sources.with_article())
            .replace("{{kind}}", sources.word)
            .replace("{{name}}", &name)
    };
    let world = ("wit/plugin.wit", include_str!("../../template/plugin.wit.in"));
    let world = language.has_world().then_some(world);
    let ignored = (".gitignore", language.ignored());
    let filled = language.files().iter().copied().chain([source]).chain(world).chain([ignored]);
    let filled = filled.map(|(path, text)| (folder.join(path), fill(text)));
    let cases = cases(kind).iter().map(|(path, text)| (folder.join("cases").join(path), (*text).to_owned()));
    let contract = TRAVELLING.iter().find(|(path, _)| *path == "wit/wharf.wit");
    let (_, contract) = contract.expect("the contract is inside this binary");
    let contract = (folder.join("wit/deps/wharf/wharf.wit"), (*contract).to_owned());
    write_all(&filled.chain(cases).chain([contract]).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_blank_is_left_and_nothing_is_overwritten() {
        for language in [Language::C, Language::JavaScript, Language::Python] {
            for kind in [Kind::Validator, Kind::Router, Kind::Transformer, Kind::Enricher] {
                let folder = tempfile::tempdir().expect("a folder");
                let name = "strip-pii".parse().expect("a name");
                write_project_in(language, folder.path(), &name, kind).expect("written");
                for (file, _) in language.files().iter().copied().chain([language.plugin(kind)]) {
                    let text = std::fs::read_to_string(folder.path().join(file)).expect("it is there");
                    assert!(!text.contains("{{"), "{file}: {text}");
                    assert!(!text.contains("A enricher"), "{file}: {text}");
                }
                assert!(folder.path().join("cases").is_dir());
                assert!(folder.path().join("wit/deps/wharf/wharf.wit").is_file());
                assert_eq!(folder.path().join("wit/plugin.wit").is_file(), language != Language::C);
                assert!(!folder.path().join(".wharf").exists());

                let error =
                    write_project_in(language, folder.path(), &name, kind).expect_err("it is refused");
                assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            }
        }
    }
}
