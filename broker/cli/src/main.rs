//! The `wharf` binary: a broker, and every command that speaks to one.
//!
//! What was typed becomes a [`cli::Wharf`]; each command is a file under `commands/`, named after its noun. The
//! binary composes the other rooms and decides nothing itself: what a queue, a plugin or a pipeline may be is
//! said by the broker, and this end shows the answer.
//!
//! Results go to standard output, notes and errors to standard error. The exit code is 0 when it was done, 1 when
//! it was not, 2 when the command itself was not understood.

mod admin;
mod cli;
mod commands;
mod connection;
mod orders;
mod output;
mod own_broker;
mod units;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::Wharf::parse().run() {
        Ok(code) => code,
        Err(error) if output::reader_left(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            ExitCode::FAILURE
        }
    }
}
