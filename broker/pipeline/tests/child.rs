//! Compiling in a child process: this binary starts itself as the child, so it has a `main` of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wharf_pipeline::{COMPILE_SUBCOMMAND, CompileError, Compiler, Engine, EngineConfig, Limits, LoadError};

type Test = fn(&Path);

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(COMPILE_SUBCOMMAND) {
        return wharf_pipeline::compile_plugin_main();
    }
    let tests: [(&str, Test); 6] = [
        ("a_child_compiles_what_this_process_runs_and_the_cache_keeps_it", compiles_and_keeps),
        ("metered_code_is_compiled_once_beside_the_other", meters_beside),
        ("a_component_that_is_not_valid_is_refused_with_the_childs_words", refuses_with_words),
        ("a_child_that_hangs_is_killed", kills_what_hangs),
        ("a_child_that_dies_or_babbles_is_an_error", survives_death_and_babble),
        ("a_child_without_memory_is_an_error", survives_lack_of_memory),
    ];
    for (name, test) in tests {
        let folder = tempfile::tempdir().expect("a folder");
        test(folder.path());
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

fn guest() -> Bytes {
    fs::read(wharf_test_artifacts::GUEST).expect("the component was built").into()
}

fn engine(compiler: Compiler, cache: Option<PathBuf>, limits: Limits) -> Engine {
    let config = EngineConfig { limits, threads: 1, instances: 4, cache, compiler, fuel: false };
    Engine::new(config).expect("an engine")
}

fn own() -> Compiler {
    Compiler::Child(std::env::current_exe().expect("this binary has a path"))
}

/// A program that a shell runs.
fn script(folder: &Path, body: &str) -> Compiler {
    let path = folder.join("compiler");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("a file");
    Compiler::Child(path)
}

fn error(compiler: Compiler, limits: Limits, wasm: &Bytes) -> CompileError {
    match engine(compiler, None, limits).load(wasm) {
        Err(LoadError::Compile(error)) => error,
        other => panic!("it must not compile: {other:?}"),
    }
}

fn compiles_and_keeps(folder: &Path) {
    let cache = folder.join("cache");
    let first = engine(own(), Some(cache.clone()), Limits::default()).load(&guest()).expect("it loads");

    // Whoever finds it in the cache starts no compiler.
    let absent = Compiler::Child(folder.join("no such program"));
    let start = Instant::now();
    let again = engine(absent.clone(), Some(cache.clone()), Limits::default());
    let started = start.elapsed();
    let start = Instant::now();
    let second = again.load(&guest()).expect("it loads");
    println!("engine started in {started:?}, cached plugin loaded in {:?}", start.elapsed());
    assert_eq!(first.digest(), second.digest());

    let not_cached = engine(absent, None, Limits::default()).load(&guest());
    assert!(matches!(not_cached, Err(LoadError::Compile(CompileError::Start { .. }))), "{not_cached:?}");
}

fn meters_beside(folder: &Path) {
    let cache = folder.join("cache");
    let files = || fs::read_dir(&cache).map_or(0, |entries| entries.filter_map(Result::ok).count());
    let engine = |compiler| engine(compiler, Some(cache.clone()), Limits::default());
    let live = engine(own());
    live.load(&guest()).expect("it loads");
    let with_one = files();
    let metered = live.metered().expect("it starts");
    assert_eq!(files(), with_one, "nothing is compiled before somebody asks");
    assert!(metered.is_metered() && !live.is_metered());
    metered.load(&guest()).expect("it loads");
    assert_eq!(files(), with_one + 1, "code of its own, in the same cache");

    let absent = engine(Compiler::Child(folder.join("no such program")));
    for engine in [&absent, &absent.metered().expect("it starts")] {
        engine.load(&guest()).expect("both are in the cache");
    }
    let digest = live.load(&guest()).expect("it loads").digest().to_owned();
    live.forget_compiled(&[digest].into());
    assert_eq!(files(), with_one + 1, "what is used is kept in both ways");
    live.forget_compiled(&Default::default());
    assert_eq!(files(), with_one - 1, "and what is not is dropped in both");
}

fn refuses_with_words(_: &Path) {
    let wasm = guest();
    let CompileError::Invalid(text) = error(own(), Limits::default(), &wasm.slice(..wasm.len() / 2)) else {
        panic!("half a component is not valid");
    };
    assert!(text.contains("out of bounds"), "{text}");
}

fn kills_what_hangs(folder: &Path) {
    let limits = Limits { compile_ms: 200, ..Limits::default() };
    let start = Instant::now();
    let error = error(script(folder, "exec sleep 1000"), limits, &guest());
    assert!(matches!(error, CompileError::Timeout(limit) if limit == Duration::from_millis(200)), "{error}");
    assert!(start.elapsed() < Duration::from_secs(60));
}

fn survives_death_and_babble(folder: &Path) {
    let died = error(script(folder, "exit 7"), Limits::default(), &guest());
    assert!(matches!(&died, CompileError::Died(status) if status.contains('7')), "{died}");
    let limits = Limits { compiled_bytes: 10_000, ..Limits::default() };
    let babble = error(script(folder, "exec tr '\\0' x < /dev/zero"), limits, &guest());
    assert!(matches!(babble, CompileError::TooLarge(10_000)), "{babble}");
}

fn survives_lack_of_memory(_: &Path) {
    let limits = Limits { compile_memory_bytes: 1 << 20, ..Limits::default() };
    let error = error(own(), limits, &guest());
    assert!(matches!(error, CompileError::Died(_) | CompileError::Invalid(_)), "{error}");
}
