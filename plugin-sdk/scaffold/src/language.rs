//! Projects in other languages than Rust.
//!
//! ```text
//! NAME/
//!   build.sh             makes NAME.wasm
//!   plugin.py            a small transformer
//!   wharf.py             what it stands on: messages by the contract's `batch` handle
//!   README.md  .gitignore  requirements.txt
//!   .wharf/wit           the contract
//! ```

use std::io;
use std::path::Path;

use wharf_protocol::Name;

use crate::{TRAVELLING, package_name, write};

/// What a plugin is written in, beside Rust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Python, run by CPython.
    Python,
}

macro_rules! files {
    ($language:literal: $($file:literal),+) => {
        &[$(($file, include_str!(concat!("../../template/", $language, "/", $file, ".in")))),+]
    };
}

impl Language {
    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Python => {
                files!("python": "requirements.txt", "README.md", "build.sh", "plugin.py", "wharf.py")
            }
        }
    }

    fn ignored(self) -> &'static str {
        match self {
            Self::Python => include_str!("../../template/python/gitignore.in"),
        }
    }
}

/// Writes a transformer's project into `folder`, which is made where it is not there.
///
/// # Errors
/// `AlreadyExists` where one of its files is there, which is left as it is; or the folder cannot be written.
pub fn write_project_in(language: Language, folder: &Path, name: &Name) -> io::Result<()> {
    let name = package_name(name);
    for (path, text) in language.files() {
        write(&folder.join(path), &text.replace("{{name}}", &name))?;
    }
    write(&folder.join(".gitignore"), language.ignored())?;
    for (path, text) in TRAVELLING.iter().filter(|(path, _)| path.starts_with("wit/")) {
        write(&folder.join(".wharf").join(path), text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_blank_is_left_and_nothing_is_overwritten() {
        for language in [Language::Python] {
            let folder = tempfile::tempdir().expect("a folder");
            let name = "strip-pii".parse().expect("a name");
            write_project_in(language, folder.path(), &name).expect("written");
            for (file, _) in language.files() {
                let text = std::fs::read_to_string(folder.path().join(file)).expect("it is there");
                assert!(!text.contains("{{"), "{file}: {text}");
            }
            assert!(folder.path().join(".wharf/wit/wharf.wit").is_file());
            assert!(!folder.path().join(".wharf/sdk").exists());

            let error = write_project_in(language, folder.path(), &name).expect_err("it is refused");
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        }
    }
}
