//! Compiles the components that tests load, with a cargo of its own.
//!
//! They go into one folder under the outer target directory, shared by all profiles: the outer cargo holds
//! the lock of its own folders, and a second copy for each profile would only cost time.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-wasip2";

/// Constant, package, features.
const COMPONENTS: [(&str, &str, &str); 8] = [
    ("GUEST", "wharf-test-guest", ""),
    ("GUEST_HEADERS_ONLY", "wharf-test-guest", "headers-only"),
    ("GUEST_WITH_FILES", "wharf-test-guest", "files"),
    ("GUEST_WITH_NETWORK", "wharf-test-guest", "network"),
    ("GUEST_WITH_MEMORY", "wharf-test-guest", "remember"),
    ("GUEST_WITH_READING", "wharf-test-guest", "reading"),
    ("ZOO", "wharf-zoo-guest", ""),
    ("ZOO_WITH_MEMORY", "wharf-zoo-guest", "remember"),
];

fn main() {
    for input in
        [".cargo/config.toml", "wit", "tests/guest", "tests/zoo/guest", "Cargo.lock", "rust-toolchain.toml"]
    {
        println!("cargo::rerun-if-changed=../../{input}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let target = guests_folder(&out);
    let mut constants = String::new();
    for (constant, package, features) in COMPONENTS {
        let built = build(package, features, &target);
        // A copy by name: the same package with other features is built over it.
        let kept = out.join(format!("{}.wasm", constant.to_lowercase()));
        fs::copy(&built, &kept).expect("the component is there once it is built");
        let doc =
            format!("/// The path of `{package}` with the features {features:?}, compiled to a component.");
        writeln!(constants, "{doc}\npub const {constant}: &str = {kept:?};").expect("a string takes text");
    }
    fs::write(out.join("components.rs"), constants).expect("OUT_DIR can be written");
}

/// `target/guests`, beside `target/debug` and `target/release`.
fn guests_folder(out: &Path) -> PathBuf {
    let build = out.ancestors().find(|folder| folder.file_name() == Some(OsStr::new("build")));
    let target = build.and_then(|build| build.parent()?.parent());
    target.unwrap_or(out).join("guests")
}

fn build(package: &str, features: &str, target: &Path) -> PathBuf {
    let cargo = env::var_os("CARGO").expect("cargo sets CARGO");
    let status = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--profile=plugin",
            "--target",
            TARGET,
            "-p",
            package,
            "--features",
            features,
        ])
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_BUILD_BUILD_DIR", target)
        // Set for the host, and wrong for Wasm.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        // Set by `cargo clippy`, which does not build.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .status()
        .expect("cargo starts");
    assert!(
        status.success(),
        "{package} did not build for {TARGET}; if the target is missing, run: rustup target add {TARGET}"
    );
    target.join(TARGET).join("plugin").join(format!("{}.wasm", package.replace('-', "_")))
}
