//! New projects for plugins: what `wharf plugin new` writes.
//!
//! ```text
//! NAME/
//!   Cargo.toml  README.md  .gitignore
//!   .cargo/config.toml   how it is compiled to Wasm: as the plugins that come with Wharf
//!   src/lib.rs           a small plugin of the kind
//!   tests/plugin.rs      its tests, natively and as a component
//!   .wharf/sdk  .wharf/wit   the SDK and the contract, as they are inside this binary
//! ```
//!
//! A project stands alone: nothing in it points outside of its folder.

mod language;

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use wharf_protocol::Name;

pub use language::{Language, write_project_in};

/// What the plugin will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Accepts messages, or rejects them with a reason.
    Validator,
    /// Lets messages pass, drops them, or sends them elsewhere.
    Router,
    /// Makes zero, one or many messages of one.
    Transformer,
    /// Sets headers.
    Enricher,
}

/// The SDK's sources and the contract, by their path in `.wharf`.
const TRAVELLING: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/travelling.rs"));

/// Writes a project into `folder`, which is made where it is not there.
///
/// # Errors
/// `AlreadyExists` where one of its files is there, which is left as it is; or the folder cannot be written.
pub fn write_project(folder: &Path, name: &Name, kind: Kind) -> io::Result<()> {
    let template = Template::new(name, kind);
    let sources = kind.sources();
    let files = [
        ("Cargo.toml", include_str!("../../template/Cargo.toml.in")),
        ("README.md", include_str!("../../template/README.md.in")),
        (".gitignore", include_str!("../../template/gitignore.in")),
        (".cargo/config.toml", include_str!("../../../.cargo/config.toml")),
        ("src/lib.rs", sources.plugin),
        ("tests/plugin.rs", sources.tests),
        (".wharf/sdk/Cargo.toml", include_str!("../../template/sdk.Cargo.toml.in")),
        (".wharf/sdk/macros/Cargo.toml", include_str!("../../template/macros.Cargo.toml.in")),
    ];
    let filled = files.map(|(path, text)| (folder.join(path), template.fill(text)));
    let travelling =
        TRAVELLING.iter().map(|(path, text)| (folder.join(".wharf").join(path), (*text).to_owned()));
    write_all(&filled.into_iter().chain(travelling).collect::<Vec<_>>())
}

/// Writes `files`, or none of them where one is there.
fn write_all(files: &[(PathBuf, String)]) -> io::Result<()> {
    if let Some((file, _)) = files.iter().find(|(file, _)| file.symlink_metadata().is_ok()) {
        let there = format!("{} is there already", file.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, there));
    }
    files.iter().try_for_each(|(file, text)| write(file, text))
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(named)?;
    }
    let mut new = OpenOptions::new().write(true).create_new(true).open(file).map_err(named)?;
    new.write_all(text.as_bytes()).map_err(named)
}

/// What differs between the kinds.
struct Sources {
    word: &'static str,
    /// What it exports, as the contract names it.
    interface: &'static str,
    plugin: &'static str,
    tests: &'static str,
    stage: &'static str,
}

impl Sources {
    /// The kind, as a sentence begins with it.
    fn with_article(&self) -> String {
        let article = if self.word.starts_with(['a', 'e', 'i', 'o', 'u']) { "An" } else { "A" };
        format!("{article} {}", self.word)
    }
}

macro_rules! sources {
    ($kind:literal, $interface:literal) => {
        Sources {
            word: $kind,
            interface: $interface,
            plugin: include_str!(concat!("../../template/", $kind, "/lib.rs.in")),
            tests: include_str!(concat!("../../template/", $kind, "/plugin.rs.in")),
            stage: include_str!(concat!("../../template/", $kind, "/stage.toml.in")),
        }
    };
}

impl Kind {
    fn sources(self) -> Sources {
        match self {
            Self::Validator => sources!("validator", "validate"),
            Self::Router => sources!("router", "route"),
            Self::Transformer => sources!("transformer", "transform"),
            Self::Enricher => sources!("enricher", "enrich"),
        }
    }
}

/// The words that stand for the blanks in a template.
struct Template {
    blanks: [(&'static str, String); 8],
}

impl Template {
    fn new(name: &Name, kind: Kind) -> Self {
        let package = package_name(name);
        let sources = kind.sources();
        let blanks = [
            // Its own blanks are filled by those that follow.
            ("{{stage}}", sources.stage.trim_end().to_owned()),
            ("{{A kind}}", sources.with_article()),
            ("{{kind}}", sources.word.to_owned()),
            ("{{crate}}", package.replace('-', "_")),
            ("{{function}}", package.replace('-', "_").to_ascii_lowercase()),
            ("{{Type}}", type_name(&package.to_ascii_lowercase())),
            ("{{version}}", env!("CARGO_PKG_VERSION").to_owned()),
            ("{{name}}", package),
        ];
        Self { blanks }
    }

    fn fill(&self, text: &str) -> String {
        self.blanks.iter().fold(text.to_owned(), |text, (blank, word)| text.replace(blank, word))
    }
}

/// What cargo takes as the name of a package: letters, digits, `-` and `_`, and no digit first.
fn package_name(name: &Name) -> String {
    let mut package: String = name
        .as_str()
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() || character == '_' { character } else { '-' })
        .collect();
    if package.starts_with(|first: char| !first.is_ascii_alphabetic()) {
        package.insert_str(0, "plugin-");
    }
    package
}

/// `strip-pii` is `StripPii`.
fn type_name(package: &str) -> String {
    let words = package.split(['-', '_']).filter(|word| !word.is_empty());
    words.map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_packages_and_types() {
        let package = |name: &str| package_name(&name.parse().expect("a name"));
        assert_eq!(package("strip-pii"), "strip-pii");
        assert_eq!(package("7up.v2"), "plugin-7up-v2");
        assert_eq!(type_name("strip-pii_now"), "StripPiiNow");
    }

    #[test]
    fn no_blank_is_left() {
        for kind in [Kind::Validator, Kind::Router, Kind::Transformer, Kind::Enricher] {
            let folder = tempfile::tempdir().expect("a folder");
            write_project(folder.path(), &"strip-pii".parse().expect("a name"), kind).expect("written");
            for file in ["Cargo.toml", "README.md", "src/lib.rs", "tests/plugin.rs", ".wharf/sdk/Cargo.toml"]
            {
                let text = fs::read_to_string(folder.path().join(file)).expect("it is there");
                assert!(!text.contains("{{"), "{file}: {text}");
                assert!(!text.contains("A enricher"), "{file}: {text}");
            }
            assert!(folder.path().join(".cargo/config.toml").is_file());
            assert!(folder.path().join(".wharf/wit/wharf.wit").is_file());
            assert!(folder.path().join(".wharf/sdk/src/harness/wire.rs").is_file());
            assert!(folder.path().join(".wharf/sdk/macros/src/lib.rs").is_file());
        }
    }

    #[test]
    fn what_is_there_is_left_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let manifest = folder.path().join("Cargo.toml");
        fs::write(&manifest, "mine").expect("written");

        let name = "strip-pii".parse().expect("a name");
        let error = write_project(folder.path(), &name, Kind::Router).expect_err("it is refused");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("Cargo.toml"), "{error}");
        assert_eq!(fs::read_to_string(manifest).expect("it is there"), "mine");
        assert!(!folder.path().join("src").exists());
    }

    /// A project in another language got this one's `Cargo.toml`, and was taken for one in Rust.
    #[test]
    fn a_project_beside_another_is_not_begun() {
        let languages = [None, Some(Language::C), Some(Language::JavaScript), Some(Language::Python)];
        let name = "strip-pii".parse().expect("a name");
        let make = |language: Option<Language>, folder: &Path| match language {
            None => write_project(folder, &name, Kind::Router),
            Some(language) => write_project_in(language, folder, &name, Kind::Router),
        };
        for first in languages {
            for second in languages {
                let folder = tempfile::tempdir().expect("a folder");
                make(first, folder.path()).expect("written");
                let before = files_in(folder.path());
                let error = make(second, folder.path()).expect_err("it is refused");
                assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{first:?} {second:?}");
                assert_eq!(files_in(folder.path()), before, "{first:?} {second:?}");
            }
        }
    }

    fn files_in(folder: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                files.extend(files_in(&path));
            }
            files.push(path);
        }
        files.sort();
        files
    }
}
