//! Where the component comes from: `WHARF_PLUGIN_WASM`, or a build of this package.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

use crate::harness::golden::package_folder;

/// The component, built once in each test process.
#[track_caller]
pub(crate) fn component() -> &'static Path {
    static COMPONENT: LazyLock<Result<PathBuf, String>> =
        LazyLock::new(|| match std::env::var_os("WHARF_PLUGIN_WASM") {
            Some(file) => Ok(file.into()),
            None => build(),
        });
    match &*COMPONENT {
        Ok(file) => file,
        Err(error) => panic!("{error}"),
    }
}

fn build() -> Result<PathBuf, String> {
    let profile = if cfg!(feature = "harness-engine") { "plugin" } else { "release" };
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args([
            "build",
            "--quiet",
            "--lib",
            "--target=wasm32-wasip2",
            "--message-format=json-render-diagnostics",
        ])
        .arg(format!("--profile={profile}"))
        .current_dir(package_folder())
        .stderr(Stdio::inherit());
    // What is set for the host's build is wrong for this one.
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"] {
        command.env_remove(name);
    }
    if let Some(target) = target_folder() {
        command.env("CARGO_TARGET_DIR", target.join("plugins"));
    }
    let built =
        command.output().map_err(|error| format!("cannot run cargo to build the component: {error}"))?;
    if !built.status.success() {
        return Err("the component does not build; cargo's words stand above. If the target is missing: \
                    rustup target add wasm32-wasip2"
            .into());
    }
    let messages = String::from_utf8_lossy(&built.stdout);
    let files =
        messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).flat_map(|message| {
            let files = message["filenames"].as_array().cloned().unwrap_or_default();
            files.into_iter().filter_map(|file| file.as_str().map(PathBuf::from))
        });
    let mut components = files.filter(|file| file.extension().is_some_and(|extension| extension == "wasm"));
    components.next_back().ok_or_else(|| {
        "the package makes no component: its Cargo.toml needs [lib] crate-type = [\"cdylib\", \"rlib\"]"
            .into()
    })
}

/// The folder that cargo built this test in: it marks it with a file.
fn target_folder() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    test.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file()).map(Path::to_path_buf)
}
