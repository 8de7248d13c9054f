//! `wharf plugin componentize FILE.wasm`: what compilers of other languages make, as a component of the contract.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args as ClapArgs;
use wharf_componentize::{ComponentizeError, componentize, release_borrows};

use crate::output;
use crate::units::show_bytes;

/// Makes a component of what other compilers make: the last step of a build in C or JavaScript
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf plugin componentize add_total.core.wasm -o add_total.wasm
  wharf plugin componentize made.wasm -o made.wasm

The file is a core module whose imports and exports have the contract's names, as clang links one; or a component that
componentize-qjs made, whose calls then let go of the batch before they answer. `wharf plugin build` does it by itself.")]
pub(super) struct Args {
    /// The module or component
    file: PathBuf,
    /// Where to write the component
    #[arg(short = 'o', long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let file = args.file.display();
    let made = std::fs::read(&args.file).with_context(|| format!("cannot read {file}"))?;
    let component = match componentize(&made) {
        Err(ComponentizeError::AlreadyComponent) => {
            release_borrows(&made).with_context(|| format!("{file} is left as it is"))?
        }
        component => component.with_context(|| format!("{file} is no plugin"))?,
    };
    replace(&args.out, &component)?;
    output::line(format_args!("{}  {}", args.out.display(), show_bytes(component.len() as u64)))
}

/// Writes all of a file or nothing, because a build tool takes half a file for a whole one.
fn replace(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // As of any file that a compiler writes; the user's mask is taken off.
    let everyones = Permissions::from_mode(0o666);
    let new = tempfile::Builder::new()
        .permissions(everyones)
        .tempfile_in(folder)
        .with_context(|| format!("cannot write in {}", folder.display()))?;
    std::fs::write(new.path(), bytes).with_context(|| format!("cannot write {}", new.path().display()))?;
    new.persist(file).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(())
}
