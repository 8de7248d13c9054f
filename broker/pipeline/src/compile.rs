//! From a component to machine code: in a child process with limits on memory and time, because a component
//! of a few megabytes can keep a compiler busy for minutes, and that is no bug of the compiler's.
//!
//! ```text
//! to the child    u32 length · settings as JSON · the component, to the end
//! from the child  u8 outcome, 0: code, 1: an error's text · that, to the end
//! ```
//!
//! The child is a bulkhead and not a trust boundary: what it answers is machine code that this process runs.

use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, nice, setrlimit};
use serde::{Deserialize, Serialize};
use wasmtime::component::Component;

use crate::Limits;
use crate::engine::settings;
use crate::text::printable;

/// The hidden subcommand that a child is started with.
pub const COMPILE_SUBCOMMAND: &str = "compile-plugin";

const OUTCOME_CODE: u8 = 0;
const OUTCOME_ERROR: u8 = 1;

/// How much less the system favours the compiling process than the broker.
const COMPILE_NICE: i32 = 10;

/// How many bytes of an error's text are read.
const ERROR_BYTES_MAX: usize = 4096;

/// Who compiles components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// This process: for tests and harnesses.
    InProcess,
    /// A child, started as `EXE compile-plugin`, whose `main` calls [`compile_plugin_main`].
    Child(PathBuf),
}

/// Why a component is not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It is not valid, or uses what is not supported.
    #[error("{0}")]
    Invalid(String),
    /// The compiling process took too long.
    #[error("compiling took longer than {} s; a plugin of this size may need a higher limit", .0.as_secs())]
    Timeout(Duration),
    /// More machine code than allowed.
    #[error("its machine code has more than {0} bytes")]
    TooLarge(usize),
    /// The compiling process ended without an answer: most likely it ran out of the memory it may have.
    #[error("the compiling process ended early ({0}); most likely it needs more memory than it may have")]
    Died(String),
    /// The compiling process does not start.
    #[error("the compiling process {} does not start", exe.display())]
    Start {
        /// What was to be started.
        exe: PathBuf,
        /// Why it did not.
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Settings {
    limits: Limits,
    fuel: bool,
}

impl Compiler {
    pub(crate) fn compile(
        &self,
        engine: &wasmtime::Engine,
        limits: &Limits,
        fuel: bool,
        wasm: &[u8],
    ) -> Result<Vec<u8>, CompileError> {
        let code = match self {
            Self::InProcess => engine.precompile_component(wasm).map_err(invalid)?,
            Self::Child(exe) => compile_in_child(exe, limits, fuel, wasm)?,
        };
        if code.len() > limits.compiled_bytes {
            return Err(CompileError::TooLarge(limits.compiled_bytes));
        }
        Ok(code)
    }
}

/// What compiled code is kept under: it is good for this component, this wasmtime and these settings.
pub(crate) fn cache_key(engine: &wasmtime::Engine, digest: &str) -> String {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{digest}-{:016x}", hasher.finish())
}

/// The digest of the component that a key is of.
pub(crate) fn digest_of(key: &str) -> &str {
    key.split('-').next().unwrap_or(key)
}

/// A component of code that was just compiled.
#[expect(unsafe_code, reason = "the code is of our own making")]
pub(crate) fn deserialize(engine: &wasmtime::Engine, code: &[u8]) -> Result<Component, CompileError> {
    // SAFETY: `code` comes from our compiler.
    unsafe { Component::deserialize(engine, code) }.map_err(invalid)
}

/// A component of the code in `file`, which stays where it is: only what is used of it comes into memory.
#[expect(unsafe_code, reason = "the code is of our own making, and its seal is good")]
pub(crate) fn map(engine: &wasmtime::Engine, file: &Path) -> Result<Component, CompileError> {
    // SAFETY: `file` comes from our compiler through a cache that only this broker can seal, and is never written again.
    unsafe { Component::deserialize_file(engine, file) }.map_err(invalid)
}

fn invalid(error: wasmtime::Error) -> CompileError {
    CompileError::Invalid(printable(&format!("{error:#}"), ERROR_BYTES_MAX))
}

fn compile_in_child(exe: &Path, limits: &Limits, fuel: bool, wasm: &[u8]) -> Result<Vec<u8>, CompileError> {
    let start = |source| CompileError::Start { exe: exe.to_owned(), source };
    let mut child = Command::new(exe)
        .arg(COMPILE_SUBCOMMAND)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(start)?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(start(io::Error::other("it has no pipes")));
    };
    let settings = serde_json::to_vec(&Settings { limits: limits.clone(), fuel })
        .map_err(|error| start(error.into()))?;
    let (answered, answer) = mpsc::sync_channel(1);
    let answer_bytes_max = limits.compiled_bytes + 1;
    let deadline = Duration::from_millis(limits.compile_ms);

    thread::scope(|scope| {
        scope.spawn(move || {
            // A child that dies early closes the pipe; what it answered says more than this error would.
            let length = u32::try_from(settings.len()).unwrap_or(u32::MAX);
            let _ = input
                .write_all(&length.to_le_bytes())
                .and_then(|()| input.write_all(&settings))
                .and_then(|()| input.write_all(wasm));
        });
        scope.spawn(move || {
            let mut bytes = Vec::new();
            let read = output.take(answer_bytes_max as u64 + 1).read_to_end(&mut bytes);
            let _ = answered.send(read.map(|_| bytes));
        });
        let answer = answer.recv_timeout(deadline);
        let complete = matches!(&answer, Ok(Ok(bytes)) if bytes.len() <= answer_bytes_max);
        let status = stop(&mut child, complete);
        match answer {
            Ok(Ok(bytes)) => read_answer(bytes, limits, &status),
            Ok(Err(error)) => Err(CompileError::Died(error.to_string())),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(CompileError::Timeout(deadline))
            }
        }
    })
}

/// Waits for the child's end, which is near when its answer is complete, and brought about when it is not.
fn stop(child: &mut Child, complete: bool) -> String {
    if !complete {
        let _ = child.kill();
    }
    child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
}

fn read_answer(mut bytes: Vec<u8>, limits: &Limits, status: &str) -> Result<Vec<u8>, CompileError> {
    match bytes.first() {
        _ if bytes.len() > limits.compiled_bytes + 1 => Err(CompileError::TooLarge(limits.compiled_bytes)),
        Some(&OUTCOME_CODE) => {
            bytes.remove(0);
            Ok(bytes)
        }
        Some(&OUTCOME_ERROR) => {
            let text = &bytes[1..bytes.len().min(ERROR_BYTES_MAX)];
            Err(CompileError::Invalid(printable(&String::from_utf8_lossy(text), ERROR_BYTES_MAX)))
        }
        _ => Err(CompileError::Died(status.to_owned())),
    }
}

/// The `main` of the hidden subcommand [`COMPILE_SUBCOMMAND`]: a component on standard input, machine code on
/// standard output. Takes away its own right to more memory and time before it reads a byte of the component.
pub fn compile_plugin_main() -> ExitCode {
    let (outcome, bytes) = match compile_standard_input() {
        Ok(code) => (OUTCOME_CODE, code),
        Err(error) => (OUTCOME_ERROR, error.to_string().into_bytes()),
    };
    let mut output = io::stdout().lock();
    let written =
        output.write_all(&[outcome]).and_then(|()| output.write_all(&bytes)).and_then(|()| output.flush());
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn compile_standard_input() -> Result<Vec<u8>, CompileError> {
    let failed = |error: io::Error| CompileError::Invalid(error.to_string());
    let mut input = io::stdin().lock();
    let mut length = [0; 4];
    input.read_exact(&mut length).map_err(failed)?;
    let mut settings_json = Vec::new();
    input.by_ref().take(u32::from_le_bytes(length).into()).read_to_end(&mut settings_json).map_err(failed)?;
    let Settings { limits, fuel } =
        serde_json::from_slice(&settings_json).map_err(|error| failed(error.into()))?;
    confine(&limits).map_err(failed)?;

    let mut wasm = Vec::new();
    input.take(limits.component_bytes as u64 + 1).read_to_end(&mut wasm).map_err(failed)?;
    let engine = wasmtime::Engine::new(&settings(&limits, fuel)).map_err(invalid)?;
    engine.precompile_component(&wasm).map_err(invalid)
}

fn confine(limits: &Limits) -> io::Result<()> {
    let seconds = limits.compile_ms.div_ceil(1000);
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let both = |value| Rlimit { current: Some(value), maximum: Some(value) };
    setrlimit(Resource::As, both(limits.compile_memory_bytes))?;
    setrlimit(Resource::Cpu, both(seconds * threads))?;
    setrlimit(Resource::Core, both(0))?;
    // The broker's messages come first. Refused, it is no worse than it was.
    let _ = nice(COMPILE_NICE);
    Ok(())
}
