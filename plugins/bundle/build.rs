//! Compiles the plugins to components, with cargo.
//!
//! The nested build has a target folder of its own, `plugins` in the outer one: the outer cargo holds the lock on the
//! outer folder, and dev, release, test and clippy runs share what is compiled. The components are copied from there
//! to `OUT_DIR`, where no other build replaces them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

/// In order. What each is, and says of itself, is read from its sources: see `said`.
const PLUGINS: [&str; 26] = [
    "avro-check",
    "avro-to-json",
    "cbor-to-json",
    "cel",
    "cloudevents",
    "csv-to-json",
    "dedupe",
    "enrich",
    "jq",
    "json-schema",
    "json-to-avro",
    "json-to-cbor",
    "json-to-csv",
    "json-to-msgpack",
    "json-to-protobuf",
    "json-to-xml",
    "merge-batch",
    "msgpack-to-json",
    "protobuf-check",
    "protobuf-to-json",
    "redact",
    "route-by",
    "split",
    "template",
    "xml-check",
    "xml-to-json",
];
/// What several of them share.
const SHARED: [&str; 4] = ["avro-value", "json-value", "proto-value", "xml-document"];
const TARGET: &str = "wasm32-wasip2";
const PROFILE: &str = "plugin";

/// What a component is made of; folders are searched by cargo.
const INPUTS: [&str; 6] =
    [".cargo/config.toml", "Cargo.toml", "Cargo.lock", "wit", "plugin-sdk/Cargo.toml", "plugin-sdk/src"];

/// Set for the host's build, and wrong for this one.
const HOST_ONLY: [&str; 6] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_BUILD_DIR",
    // Under `cargo clippy` it names clippy's driver, which compiles nothing.
    "RUSTC_WORKSPACE_WRAPPER",
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = package.ancestors().nth(2).ok_or("the package lies in plugins/bundle")?;
    let out = PathBuf::from(variable("OUT_DIR")?);
    rerun_when_inputs_change(root);
    check_target(root)?;

    let nested = target_folder(&out).join("plugins");
    build(root, &nested)?;
    let components = nested.join(TARGET).join(PROFILE);
    let mut list = String::from("&[\n");
    for name in PLUGINS {
        let file = format!("{}.wasm", name.replace('-', "_"));
        fs::copy(components.join(&file), out.join(&file))
            .map_err(|error| format!("cannot copy {}: {error}", components.join(&file).display()))?;
        let wasm = format!("include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{file}\"))");
        let version = "env!(\"CARGO_PKG_VERSION\")";
        let (kind, summary) = said(&root.join("plugins").join(name).join("src/lib.rs"))?;
        writeln!(
            list,
            "    Bundled {{ name: {name:?}, version: {version}, kind: {kind:?}, summary: {summary:?}, wasm: {wasm} }},"
        )
        .map_err(|error| error.to_string())?;
    }
    list.push_str("]\n");
    fs::write(out.join("bundled.rs"), list)
        .map_err(|error| format!("cannot write the list of plugins: {error}"))
}

/// A plugin's kind and summary, from the two lines of its source that say them. A test compares them with what the
/// component says.
fn said(source: &Path) -> Result<(String, String), String> {
    println!("cargo::rerun-if-changed={}", source.display());
    let text =
        fs::read_to_string(source).map_err(|error| format!("cannot read {}: {error}", source.display()))?;
    let between = |begin: &str, end: &str| {
        let found = text.split_once(begin).and_then(|(_, rest)| rest.split_once(end));
        found
            .map(|(what, _)| what.to_owned())
            .ok_or_else(|| format!("{} has no `{begin}…{end}`", source.display()))
    };
    let export = between("wharf_plugin::export!(", ");")?;
    let kind = export.rsplit(' ').next().unwrap_or_default().to_owned();
    Ok((kind, between("const SUMMARY: &'static str = \"", "\";")?))
}

fn rerun_when_inputs_change(root: &Path) {
    println!("cargo::rerun-if-changed=build.rs");
    for input in INPUTS {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    for name in PLUGINS.iter().chain(&SHARED) {
        for input in ["Cargo.toml", "src"] {
            println!("cargo::rerun-if-changed={}", root.join("plugins").join(name).join(input).display());
        }
    }
}

/// Says in one sentence what a missing target would make cargo say in pages.
fn check_target(root: &Path) -> Result<(), String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let print =
        Command::new(rustc).current_dir(root).args(["--print=target-libdir", "--target", TARGET]).output();
    let folder = print.map_err(|error| format!("cannot ask rustc about {TARGET}: {error}"))?;
    let folder = PathBuf::from(String::from_utf8_lossy(&folder.stdout).trim());
    if folder.is_dir() {
        return Ok(());
    }
    Err(format!(
        "the plugins that come with Wharf are compiled for {TARGET}, which is not installed: run `rustup target add {TARGET}`"
    ))
}

fn build(root: &Path, target: &Path) -> Result<(), String> {
    let mut cargo = Command::new(variable("CARGO")?);
    cargo.current_dir(root).args(["build", "--lib", "--target", TARGET, "--profile", PROFILE]);
    // With the version: a plugin may be named like a crate that it is made with.
    let version = env::var("CARGO_PKG_VERSION").map_err(|error| error.to_string())?;
    for name in PLUGINS {
        cargo.args(["--package", &format!("{name}@{version}")]);
    }
    for name in HOST_ONLY {
        cargo.env_remove(name);
    }
    cargo.env("CARGO_TARGET_DIR", target);
    let status =
        cargo.status().map_err(|error| format!("cannot run cargo to compile the plugins: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!(
        "the plugins that come with Wharf do not compile for {TARGET} ({status}); cargo's words stand below"
    ))
}

/// The outer target folder: cargo marks it with a file. Without one, this build keeps to itself.
fn target_folder(out: &Path) -> &Path {
    out.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file()).unwrap_or(out)
}

fn variable(name: &str) -> Result<std::ffi::OsString, String> {
    env::var_os(name).ok_or_else(|| format!("cargo sets {name} for a build script"))
}
