//! `wharf completions`.

use clap::{Args as ClapArgs, CommandFactory as _};
use clap_complete::Shell;

/// Prints the completions of a shell
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf completions bash > ~/.local/share/bash-completion/completions/wharf
  wharf completions zsh > ~/.zfunc/_wharf
  wharf completions fish > ~/.config/fish/completions/wharf.fish")]
pub(crate) struct Args {
    /// Which shell
    shell: Shell,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    // Into memory first: the generator panics when its output is closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::cli::Wharf::command(), "wharf", &mut script);
    crate::output::line(String::from_utf8_lossy(&script).trim_end())
}
