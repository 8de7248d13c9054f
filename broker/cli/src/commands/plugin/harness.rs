//! `wharf plugin harness FILE`: the broker's engine for the tests of a plugin.
//!
//! A request a line comes in, its answer a line goes out, until the input ends ([`wharf_pipeline::harness`]).

use std::io::{stdin, stdout};
use std::path::Path;

use anyhow::Context as _;
use bytes::Bytes;
use wharf_pipeline::harness::Harness;

/// Answers the requests on standard input with the component in `file`.
pub(super) fn run(file: &Path) -> anyhow::Result<()> {
    let wasm = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Harness::open(&Bytes::from(wasm))?.serve(stdin().lock(), stdout().lock())?;
    Ok(())
}
