//! What is written compiles to a component, and its logic passes its tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use wharf_scaffold::{Kind, write_project};

const KINDS: [(&str, Kind); 4] = [
    ("a-validator", Kind::Validator),
    ("a-router", Kind::Router),
    ("a-transformer", Kind::Transformer),
    ("an-enricher", Kind::Enricher),
];

#[test]
fn projects_of_all_kinds_compile_to_components_and_their_logic_passes() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = target_folder().join("scaffold");
    for (name, kind) in KINDS {
        let project = folder.path().join(name);
        write_project(&project, &name.parse().expect("a name"), kind).expect("the project is written");
        // The versions that the workspace was tested with, and none that would have to be fetched.
        fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock"), project.join("Cargo.lock"))
            .expect("the workspace has a lock file");

        cargo(&project, &target, &["build", "--release", "--target", "wasm32-wasip2"]);
        let component = target.join("wasm32-wasip2/release").join(format!("{}.wasm", name.replace('-', "_")));
        let bytes = fs::read(&component).expect("there is a component");
        assert_eq!(bytes[..8], *b"\0asm\x0d\0\x01\0", "a component and not a module");

        // The component's half needs the `wharf` binary, and is tested beside it.
        cargo(&project, &target, &["test"]);
    }
}

fn cargo(project: &Path, target: &Path, arguments: &[&str]) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(project).args(arguments).env("CARGO_TARGET_DIR", target).env("WHARF_HARNESS", "native");
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn target_folder() -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    test.ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").is_file())
        .expect("cargo marks it")
        .to_path_buf()
}
