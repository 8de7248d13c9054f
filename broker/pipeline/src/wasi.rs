//! The few interfaces of WASI that a language's standard library imports whether it needs them or not:
//! linked, and empty. No environment, no arguments, clocks that stand still, random bits that repeat, output
//! that goes to the plugin's log. Everything else is refused when a plugin is loaded.

mod io;

use std::time::Duration;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::p2::{DynPollable, bindings};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView};
use wasmtime_wasi::{Deterministic, HostWallClock, WasiCtx};

use self::io::Io;
use crate::Fault;
use crate::host::{Breach, Host};
use crate::logbook::Logbook;

/// The interfaces that are linked.
pub(crate) const ALLOWED: [&str; 17] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// How many bytes of repeating "random" a call may ask for.
const RANDOM_BYTES_MAX: u64 = 4096;

struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// What one instance gets: nothing.
pub(crate) fn nothing(logbook: &Logbook) -> WasiCtx {
    WasiCtx::builder()
        .stdout(logbook.stdout())
        .stderr(logbook.stderr())
        .allow_blocking_current_thread(true)
        .secure_random(repeating())
        .insecure_random(repeating())
        .insecure_random_seed(0)
        .max_random_size(RANDOM_BYTES_MAX)
        .wall_clock(StandingStill)
        .build()
}

pub(crate) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    use bindings::{cli, clocks, random, sync};

    wasmtime_wasi::p2::bindings::io::error::add_to_linker::<_, Table>(linker, |host| &mut host.table)?;
    sync::io::poll::add_to_linker::<_, Io<'static>>(linker, |host| Io(&mut host.table))?;
    sync::io::streams::add_to_linker::<_, Io<'static>>(linker, |host| Io(&mut host.table))?;
    cli::environment::add_to_linker::<_, WasiCli>(linker, WasiCliView::cli)?;
    cli::exit::add_to_linker::<_, WasiCli>(linker, WasiCliView::cli)?;
    cli::stdin::add_to_linker::<_, WasiCli>(linker, WasiCliView::cli)?;
    cli::stdout::add_to_linker::<_, WasiCli>(linker, WasiCliView::cli)?;
    cli::stderr::add_to_linker::<_, WasiCli>(linker, WasiCliView::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(linker, WasiCliView::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(linker, WasiCliView::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, WasiCliView::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, WasiCliView::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, WasiCliView::cli)?;
    random::random::add_to_linker::<_, WasiRandom>(linker, WasiRandomView::random)?;
    random::insecure_seed::add_to_linker::<_, WasiRandom>(linker, WasiRandomView::random)?;
    clocks::wall_clock::add_to_linker::<_, WasiClocks>(linker, WasiClocksView::clocks)?;
    link_monotonic_clock(linker)
}

/// By hand, because a pollable that waits for a time would hold the thread, which no deadline interrupts.
fn link_monotonic_clock(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut clock = linker.instance("wasi:clocks/monotonic-clock@0.2.6")?;
    clock.func_wrap("now", |_, ()| Ok((0_u64,)))?;
    clock.func_wrap("resolution", |_, ()| Ok((1_u64,)))?;
    for name in ["subscribe-instant", "subscribe-duration"] {
        clock.func_wrap(name, |_, (_,): (u64,)| -> wasmtime::Result<(Resource<DynPollable>,)> {
            Err(Breach::error(Fault::Grant, "it tried to sleep, and a plugin cannot wait"))
        })?;
    }
    Ok(())
}

fn repeating() -> Deterministic {
    Deterministic::new(vec![0x9e, 0x37, 0x79, 0xb9, 0x7f, 0x4a, 0x7c, 0x15])
}

struct StandingStill;

impl HostWallClock for StandingStill {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}
