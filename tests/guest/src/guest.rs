//! The component itself.

#![expect(dropping_copy_types, reason = "what the host said is nobody's, whatever its type")]
#![expect(unsafe_code, reason = "generated: the exports of a component")]
#![allow(missing_docs, unreachable_pub, clippy::use_self, reason = "generated")]

use std::cell::{Cell, RefCell};
use std::hint::black_box;

#[cfg(not(any(feature = "remember", feature = "reading")))]
wit_bindgen::generate!({
    path: ["../../wit", "wit"],
    world: "wharf:guest/every-kind",
    generate_all,
});

// The same, with all that a stage grants by name.
#[cfg(feature = "remember")]
wit_bindgen::generate!({
    path: ["../../wit", "wit"],
    world: "wharf:guest/granted",
    generate_all,
});

// The same, and it says of each stage what it reads there.
#[cfg(feature = "reading")]
wit_bindgen::generate!({
    path: ["../../wit", "wit"],
    world: "wharf:guest/reading",
    generate_all,
});

#[cfg(feature = "reading")]
#[path = "reading.rs"]
mod reading;

#[cfg(feature = "remember")]
#[path = "remember.rs"]
mod remember;

use exports::wharf::plugin::{enrich, lifecycle, route, transform, validate};
use wharf::plugin::emit::{Body, Emitter, Output};
use wharf::plugin::types::{Batch, Failure, Problem, View};
use wharf::plugin::{clock, log, metrics, random};

struct Guest;
export!(Guest);

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static HOARD: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl lifecycle::Guest for Guest {
    fn describe() -> lifecycle::Description {
        touch_the_forbidden();
        lifecycle::Description {
            summary: "Misbehaves as its messages ask".to_owned(),
            reads: lifecycle::Reads {
                topic: false,
                key: false,
                payload: !cfg!(feature = "headers-only"),
                headers: vec!["behave".to_owned()],
            },
            config_schema: None,
        }
    }

    fn init(stage: lifecycle::Stage, config: String) -> Result<(), Problem> {
        if config.contains("\"refuse\"") {
            let message = format!("stage {} was told to refuse", stage.name);
            return Err(Problem { code: "bad-config".to_owned(), message, path: Some("/refuse".to_owned()) });
        }
        if config.contains("\"trap\"") {
            panic!("told to trap in init");
        }
        #[cfg(feature = "reading")]
        reading::configure(config);
        Ok(())
    }
}

impl validate::Guest for Guest {
    fn validate(messages: View, all: &Batch) -> Vec<validate::Verdict> {
        let verdict = |i: u32| match behave(&messages, all, i) {
            Ok(()) => validate::Verdict::Accept,
            Err(failure) => validate::Verdict::Fail(failure),
        };
        let mut verdicts: Vec<_> = (0..all.len()).map(verdict).collect();
        if wants(&messages, "verdicts-missing") {
            verdicts.pop();
        }
        verdicts
    }
}

impl route::Guest for Guest {
    fn route(messages: View, all: &Batch) -> Vec<route::Verdict> {
        let verdict = |i: u32| match (behaviour(&messages, i as usize), behave(&messages, all, i)) {
            (_, Err(failure)) => route::Verdict::Fail(failure),
            #[cfg(feature = "remember")]
            (asked, _) if asked.starts_with("once ") => match remember::first_time(asked) {
                true => route::Verdict::Pass,
                false => route::Verdict::Drop,
            },
            ("drop", _) => route::Verdict::Drop,
            ("first", _) => route::Verdict::To(vec![0]),
            ("both", _) => route::Verdict::To(vec![0, 1]),
            ("nowhere", _) => route::Verdict::To(Vec::new()),
            ("unknown-output", _) => route::Verdict::To(vec![99]),
            ("outputs-many", _) => route::Verdict::To(vec![0; 1000]),
            _ => route::Verdict::Pass,
        };
        (0..all.len()).map(verdict).collect()
    }
}

impl transform::Guest for Guest {
    fn transform(messages: View, all: &Batch, out: &Emitter) -> Vec<transform::Verdict> {
        let verdict = |i: u32| match behave(&messages, all, i) {
            Ok(()) => emit_as_asked(&messages, i, out),
            Err(failure) => transform::Verdict::Fail(failure),
        };
        (0..all.len()).map(verdict).collect()
    }
}

impl enrich::Guest for Guest {
    fn enrich(messages: View, all: &Batch) -> Vec<enrich::Verdict> {
        let verdict = |i: u32| match (behaviour(&messages, i as usize), behave(&messages, all, i)) {
            (_, Err(failure)) => enrich::Verdict::Fail(failure),
            #[cfg(feature = "remember")]
            (asked, _) if asked.contains(' ') => {
                let said = remember::ask(asked);
                if asked.ends_with("and panic") {
                    panic!("asked to, after {said}");
                }
                if asked.ends_with("and reject") {
                    let (code, path) = ("asked".to_owned(), None);
                    enrich::Verdict::Fail(Failure::Reject(Problem { code, message: said, path }))
                } else {
                    enrich::Verdict::Set(vec![("said".to_owned(), said.into_bytes())])
                }
            }
            ("set", _) => enrich::Verdict::Set(vec![("added".to_owned(), b"yes".to_vec())]),
            ("headers-large", _) => enrich::Verdict::Set(vec![("added".to_owned(), vec![0; 100_000])]),
            ("clock", _) => {
                enrich::Verdict::Set(vec![("now".to_owned(), clock::now().to_string().into_bytes())])
            }
            ("random", _) => {
                let bits = format!("{:016x}{:016x}", random::next(i), random::next(i));
                enrich::Verdict::Set(vec![("bits".to_owned(), bits.into_bytes())])
            }
            ("calls", _) => {
                let calls = CALLS.get().to_string();
                enrich::Verdict::Set(vec![("calls".to_owned(), calls.into_bytes())])
            }
            _ => enrich::Verdict::Unchanged,
        };
        let verdicts = (0..all.len()).map(verdict).collect();
        CALLS.set(CALLS.get() + 1);
        verdicts
    }
}

fn emit_as_asked(messages: &View, i: u32, out: &Emitter) -> transform::Verdict {
    let output =
        |body| Output { parent: i, to: None, body, set_headers: Vec::new(), remove_headers: Vec::new() };
    // Refusals are ignored on purpose: the host must not count on the plugin to mind them.
    let emit = |output: &Output| drop(out.emit(output));
    match behaviour(messages, i as usize) {
        "identity" => emit(&output(Body::Bytes(payload(messages, i as usize).to_vec()))),
        "same" => emit(&output(Body::Same)),
        "first-byte" => emit(&output(Body::Part((0, 1)))),
        "headers" => emit(&Output {
            set_headers: vec![("added".to_owned(), b"yes".to_vec())],
            remove_headers: vec!["behave".to_owned()],
            ..output(Body::Same)
        }),
        "two" => {
            emit(&output(Body::Bytes(b"one".to_vec())));
            emit(&output(Body::Bytes(b"two".to_vec())));
        }
        "first" => emit(&Output { to: Some(0), ..output(Body::Same) }),
        "bad-range" => emit(&output(Body::Part((u64::MAX, 2)))),
        "unknown-output" => emit(&Output { to: Some(99), ..output(Body::Same) }),
        "unknown-parent" => emit(&Output { parent: 10_000, ..output(Body::Same) }),
        "outputs-many" => (0..1000).for_each(|_| emit(&output(Body::Same))),
        "output-large" => emit(&output(Body::Bytes(vec![b'x'; 5 << 20]))),
        "output-huge" => emit(&output(Body::Bytes(vec![b'x'; 20 << 20]))),
        "kept-and-emitted" => {
            emit(&output(Body::Same));
            return transform::Verdict::Keep;
        }
        "drop" => return transform::Verdict::Drop,
        _ => return transform::Verdict::Keep,
    }
    transform::Verdict::Emitted
}

/// What every kind can be asked for.
fn behave(messages: &View, all: &Batch, i: u32) -> Result<(), Failure> {
    let problem = |message: &str| Problem {
        code: "asked".to_owned(),
        message: message.to_owned(),
        path: Some("line 1, column 1".to_owned()),
    };
    match behaviour(messages, i as usize) {
        "reject" => return Err(Failure::Reject(problem("it asked to be rejected"))),
        "reject-huge" => return Err(Failure::Reject(problem(&"x".repeat(1 << 20)))),
        "retry" => return Err(Failure::Retry((problem("not yet"), Some(250)))),
        "loop" => loop {
            black_box(i);
        },
        "panic" => panic!("message {i} asked for a panic"),
        "exit" => std::process::exit(3),
        "sleep" => std::thread::sleep(std::time::Duration::from_secs(3600)),
        "allocate" => loop {
            HOARD.with_borrow_mut(|hoard| hoard.push(black_box(vec![1; 1 << 20])));
        },
        "recurse" => drop(black_box(recurse(u64::from(i)))),
        "recurse-with-locals" => drop(black_box(recurse_with_locals(u64::from(i)))),
        "log" => log::log(log::Level::Info, "a line"),
        "log-flood" => (0..100_000).for_each(|n| log::log(log::Level::Warn, &format!("line {n}"))),
        "log-long" => log::log(log::Level::Info, &"long ".repeat(100_000)),
        "log-forged" => log::log(log::Level::Info, "fine\n2026-01-01 ERROR \u{1b}[31mforged"),
        "stdout-flood" => (0..10_000).for_each(|n| println!("line {n}")),
        "count" => metrics::add("asked", 2),
        "count-flood" => (0..1000).for_each(|n| metrics::add(&format!("counter-{n}"), 1)),
        "clock-check" => drop(clock::now()),
        "out-of-batch" => drop(all.payload(u32::MAX)),
        "environment" => {
            if std::env::vars().next().is_some() || std::env::args().next().is_some() {
                return Err(Failure::Reject(problem("there is an environment")));
            }
        }
        "handle" => {
            let seen =
                (all.topic(i), all.payload_length(i), all.header(i, "behave"), all.payload_range(i, 1, 2));
            if seen != ("a.b".to_owned(), 4, Some(b"handle".to_vec()), b"od".to_vec()) {
                return Err(Failure::Reject(problem(&format!("the handle shows {seen:?}"))));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Takes the engine's stack, and none of the guest's own: nothing here needs an address.
#[inline(never)]
fn recurse(n: u64) -> u64 {
    if n == u64::MAX { 0 } else { recurse(n + 1).wrapping_mul(3) ^ n }
}

/// Takes the guest's own stack, which lies in its memory.
#[inline(never)]
fn recurse_with_locals(n: u64) -> u64 {
    let here = black_box([n; 64]);
    if black_box(true) { recurse_with_locals(n + 1) + here[(n % 64) as usize] } else { n }
}

fn wants(messages: &View, what: &str) -> bool {
    (0..messages.headers.len()).any(|i| behaviour(messages, i) == what)
}

fn behaviour(messages: &View, i: usize) -> &str {
    let span = messages.headers[i];
    if span.length == u32::MAX {
        return "";
    }
    let start = span.start as usize;
    std::str::from_utf8(&messages.bytes[start..start + span.length as usize]).unwrap_or("")
}

fn payload(messages: &View, i: usize) -> &[u8] {
    let span = messages.slots[i].payload;
    &messages.bytes[span.start as usize..(span.start + span.length) as usize]
}

/// Drags in what no plugin gets; reached by no message, but the linker cannot know.
fn touch_the_forbidden() {
    #[cfg(feature = "files")]
    drop(black_box(std::fs::read(black_box("/etc/passwd"))));
    #[cfg(feature = "network")]
    drop(black_box(std::net::TcpStream::connect(black_box("127.0.0.1:1"))));
}
