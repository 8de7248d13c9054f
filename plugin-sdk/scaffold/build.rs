//! Lists the SDK's sources and the contract, so that they travel inside the binary.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    let mut list = String::from("&[\n");
    for (from, to) in [("../src", "sdk/src"), ("../macros/src", "sdk/macros/src"), ("../../wit", "wit")] {
        println!("cargo::rerun-if-changed={from}");
        add(&package.join(from), to, &mut list)?;
    }
    list.push_str("]\n");
    fs::write(out.join("travelling.rs"), list)
}

fn add(folder: &Path, to: &str, list: &mut String) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let to = format!("{to}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            add(&entry.path(), &to, list)?;
        } else {
            writeln!(list, "    ({to:?}, include_str!({:?})),", entry.path()).map_err(io::Error::other)?;
        }
    }
    Ok(())
}
