//! Files that hold what is expected.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Compares `payload` with the file, or writes it under `UPDATE_GOLDEN=1`.
#[track_caller]
pub(crate) fn compare(path: &Path, payload: &[u8]) {
    let file = package_folder().join(path);
    if to_be_updated() {
        let write = || {
            std::fs::create_dir_all(file.parent().unwrap_or(Path::new(".")))?;
            std::fs::write(&file, pretty(&file, payload))
        };
        if let Err(error) = write() {
            panic!("cannot write {}: {error}", file.display());
        }
        return;
    }
    let expected = match std::fs::read(&file) {
        Ok(expected) => expected,
        Err(error) => panic!("cannot read {}: {error}; UPDATE_GOLDEN=1 writes it", file.display()),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(&pretty(&file, bytes)).into_owned();
    let (expected, actual) = (text(&expected), text(payload));
    assert!(
        expected == actual,
        "not what {} holds; UPDATE_GOLDEN=1 accepts it\n--- is\n{actual}\n--- to be\n{expected}",
        file.display()
    );
}

/// JSON with its members in order and its lines broken, so that a diff of it can be read; others as they are.
fn pretty(file: &Path, bytes: &[u8]) -> Vec<u8> {
    let json = file.extension().is_some_and(|extension| extension == "json");
    let value: Option<Value> = json.then(|| serde_json::from_slice(bytes).ok()).flatten();
    match value {
        Some(value) => format!("{value:#}\n").into_bytes(),
        None => bytes.to_vec(),
    }
}

/// Whether what is expected is to be written, and not compared.
pub(crate) fn to_be_updated() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1")
}

/// Where the plugin's `Cargo.toml` is: cargo says it to the tests that it runs.
pub(crate) fn package_folder() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from)
}
