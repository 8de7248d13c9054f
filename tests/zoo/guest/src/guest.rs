//! One misdeed a mode. `{"mode": "…"}` chooses it, and every message whose payload begins with `bait` provokes it;
//! all others are passed, so that a test can see whether they were spared.

#![expect(dropping_copy_types, reason = "what the host said is nobody's, whatever its type")]
#![expect(unsafe_code, reason = "generated: the exports of a component")]
#![allow(missing_docs, unreachable_pub, clippy::use_self, reason = "generated")]

use std::cell::{Cell, RefCell};
use std::hint::black_box;

#[cfg(not(feature = "remember"))]
wit_bindgen::generate!({
    path: ["../../../wit", "../../guest/wit"],
    world: "wharf:guest/every-kind",
    generate_all,
});

// The same, with all that a stage grants by name.
#[cfg(feature = "remember")]
wit_bindgen::generate!({
    path: ["../../../wit", "../../guest/wit"],
    world: "wharf:guest/granted",
    generate_all,
});

#[cfg(feature = "remember")]
mod remember;

use exports::wharf::plugin::{enrich, lifecycle, route, transform, validate};
use wharf::plugin::emit::{Body, Emitter, Output};
use wharf::plugin::types::{Batch, Failure, Problem, View};
use wharf::plugin::{clock, log, metrics, random};

struct Guest;
export!(Guest);

thread_local! {
    static MODE: RefCell<String> = const { RefCell::new(String::new()) };
    static HOARD: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static SEEN: Cell<u64> = const { Cell::new(0) };
}

const MIB: usize = 1 << 20;

impl lifecycle::Guest for Guest {
    fn describe() -> lifecycle::Description {
        lifecycle::Description {
            summary: "An animal of the zoo".to_owned(),
            reads: lifecycle::Reads { topic: false, key: false, payload: true, headers: Vec::new() },
            config_schema: None,
        }
    }

    fn init(stage: lifecycle::Stage, config: String) -> Result<(), Problem> {
        let mode = config.split("\"mode\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("");
        MODE.set(mode.to_owned());
        match mode {
            "init-loop" => spin(),
            "init-panic" => panic!("no mood to begin as {}", stage.name),
            "init-hoard" => hoard(),
            "init-refuse-ansi" => Err(problem("\u{1b}[2J\u{1b}[1;31mall is well\u{7}\r\nroot# ")),
            "init-refuse-giant" => Err(problem(&"no ".repeat(MIB))),
            #[cfg(feature = "remember")]
            "init-kv" => Err(problem(&format!("it saw {:?}", wharf::plugin::kv::get("password")))),
            #[cfg(feature = "remember")]
            "init-secret" => Err(problem(&format!("it saw {:?}", wharf::plugin::secrets::get("vault")))),
            _ => Ok(()),
        }
    }
}

impl validate::Guest for Guest {
    fn validate(messages: View, all: &Batch) -> Vec<validate::Verdict> {
        let mut verdicts: Vec<_> = each(&messages, all)
            .map(|done| done.map_or_else(validate::Verdict::Fail, |()| validate::Verdict::Accept))
            .collect();
        if provoked(&messages) {
            match mode().as_str() {
                "verdicts-few" => drop(verdicts.pop()),
                "verdicts-none" => verdicts.clear(),
                "verdicts-many" => verdicts.resize_with(100_000, || validate::Verdict::Accept),
                _ => {}
            }
        }
        verdicts
    }
}

impl route::Guest for Guest {
    fn route(messages: View, all: &Batch) -> Vec<route::Verdict> {
        let mode = mode();
        let verdict = |i: usize| match mode.as_str() {
            _ if !is_bait(&messages, i) => route::Verdict::Pass,
            "route-unknown" => route::Verdict::To(vec![65_535]),
            "route-nowhere" => route::Verdict::To(Vec::new()),
            "route-many" => route::Verdict::To(vec![0; 65_536]),
            "route-circle" => route::Verdict::To(vec![0]),
            "route-multiply" => route::Verdict::To(vec![0; 16]),
            _ => misbehave(&mode, i as u32, all).map_or_else(route::Verdict::Fail, |()| route::Verdict::Pass),
        };
        (0..messages.slots.len()).map(verdict).collect()
    }
}

impl transform::Guest for Guest {
    fn transform(messages: View, all: &Batch, out: &Emitter) -> Vec<transform::Verdict> {
        let mode = mode();
        let verdict = |i: usize| match is_bait(&messages, i) {
            true => emit_badly(&mode, i as u32, all, out),
            false => transform::Verdict::Keep,
        };
        (0..messages.slots.len()).map(verdict).collect()
    }
}

impl enrich::Guest for Guest {
    fn enrich(messages: View, all: &Batch) -> Vec<enrich::Verdict> {
        let mode = mode();
        let set = |name: String, value: Vec<u8>| enrich::Verdict::Set(vec![(name, value)]);
        let verdict = |i: usize| match mode.as_str() {
            _ if !is_bait(&messages, i) => enrich::Verdict::Unchanged,
            "header-giant" => set("giant".to_owned(), vec![b'x'; 4 * MIB]),
            "header-name-giant" => set("n".repeat(4 * MIB), Vec::new()),
            "header-name-empty" => set(String::new(), Vec::new()),
            "header-name-control" => set("a\r\nb\u{1b}[2J".to_owned(), b"x".to_vec()),
            "headers-many" => {
                enrich::Verdict::Set((0..50_000).map(|n| (format!("h{n}"), b"x".to_vec())).collect())
            }
            "header-json-deep" => set("deep".to_owned(), "[".repeat(30_000).into_bytes()),
            "floats" => set("nan".to_owned(), nan_bits().to_string().into_bytes()),
            "randoms" => set("bits".to_owned(), random::next(i as u32).to_string().into_bytes()),
            _ => misbehave(&mode, i as u32, all)
                .map_or_else(enrich::Verdict::Fail, |()| enrich::Verdict::Unchanged),
        };
        (0..messages.slots.len()).map(verdict).collect()
    }
}

fn emit_badly(mode: &str, i: u32, all: &Batch, out: &Emitter) -> transform::Verdict {
    let output =
        |body| Output { parent: i, to: None, body, set_headers: Vec::new(), remove_headers: Vec::new() };
    // What the host says of an output is ignored: it must not count on being heeded.
    let emit = |output: &Output| drop(out.emit(output));
    match mode {
        "emit-giant" => emit(&output(Body::Bytes(vec![b'x'; 5 * MIB]))),
        "emit-over-crossing" => emit(&output(Body::Bytes(vec![b'x'; 16 * MIB]))),
        "emit-over-message" => emit(&output(Body::Bytes(vec![b'x'; 2 * MIB]))),
        "emit-many" => (0..100_000).for_each(|_| emit(&output(Body::Same))),
        "emit-split" => (0..16).for_each(|_| emit(&output(Body::Same))),
        "emit-outside" => emit(&output(Body::Part((1, u64::MAX)))),
        "emit-to-unknown" => emit(&Output { to: Some(7), ..output(Body::Same) }),
        "emit-for-stranger" => emit(&Output { parent: u32::MAX, ..output(Body::Same) }),
        "emit-and-keep" => {
            emit(&output(Body::Same));
            return transform::Verdict::Keep;
        }
        _ => {
            let done = misbehave(mode, i, all);
            return done.map_or_else(transform::Verdict::Fail, |()| transform::Verdict::Keep);
        }
    }
    transform::Verdict::Emitted
}

/// What any kind can do to its host.
fn misbehave(mode: &str, i: u32, all: &Batch) -> Result<(), Failure> {
    match mode {
        "loop" => spin(),
        "loop-host" => loop {
            black_box(all.len());
        },
        "loop-alloc" => loop {
            black_box(vec![0_u8; 64 * 1024]);
        },
        "loop-fill" => {
            let mut area = vec![0_u8; 32 * MIB];
            loop {
                black_box(&mut area).fill(black_box(7));
            }
        }
        "loop-format" => loop {
            black_box(format!("{:?}", black_box(&[1.5_f64; 64])));
        },
        "loop-drop" => drop(Endless),
        "short-calls" => spend(2_000_000),
        "recurse" => drop(black_box(recurse(u64::from(i)))),
        "recurse-locals" => drop(black_box(recurse_with_locals(u64::from(i)))),
        "hoard" => hoard(),
        "swell" => HOARD.with_borrow_mut(|hoard| hoard.push(black_box(vec![1; 24 * MIB]))),
        "panic" => panic!("message {i} is more than I can take"),
        "panic-giant" => panic!("{}", "why? ".repeat(MIB)),
        "panic-ansi" => panic!("\u{1b}[2J\u{1b}]0;owned\u{7}\r\n2026-01-01 INFO all is well"),
        "panic-in-company" if all.len() > 1 => panic!("I work alone"),
        "loop-in-company" if all.len() > 1 => spin(),
        "panic-in-company" | "loop-in-company" => {}
        "exit" => std::process::exit(0),
        "sleep" => std::thread::sleep(std::time::Duration::from_secs(3600)),
        "reject-giant" => return Err(Failure::Reject(problem(&"x".repeat(4 * MIB)))),
        "reject-ansi" => {
            return Err(Failure::Reject(problem("\u{1b}[1A\u{1b}[2Kstored\u{202e}\r\nERROR forged")));
        }
        "reject-code-giant" => {
            return Err(Failure::Reject(Problem { code: "c\n".repeat(MIB), ..problem("see the code") }));
        }
        "reject-json-deep" => return Err(Failure::Reject(problem(&"[".repeat(MIB)))),
        "retry-forever" => return Err(Failure::Retry((problem("not in this life"), Some(u32::MAX)))),
        "log-flood" => (0..200_000).for_each(|n| log::log(log::Level::Error, &format!("help {n}"))),
        "log-giant" => (0..50).for_each(|_| log::log(log::Level::Error, &"a".repeat(4 * MIB))),
        "log-ansi" => log::log(log::Level::Error, "\u{1b}[2Jfine\r\n2026-01-01 INFO forged \u{7}"),
        "stdout-flood" => (0..20_000).for_each(|n| println!("{n}")),
        "counters-flood" => (0..100_000).for_each(|n| metrics::add(&format!("c{n}"), u64::MAX)),
        "counter-giant" => metrics::add(&"c".repeat(4 * MIB), 1),
        "counter-forged" => metrics::add("a\"} 1\nwharf_alarm 1\n#", 1),
        "random-flood" => (0..200_000).for_each(|_| drop(random::next(i))),
        "host-flood" => (0..200_000).for_each(|_| drop(clock::now())),
        "payload-flood" => (0..2_000).for_each(|_| drop(black_box(all.payload(i)))),
        "outside" => drop(all.payload(u32::MAX)),
        "spy-neighbour" => drop(all.payload(all.len())),
        "spy-environment" => {
            let seen = std::env::vars().count() + std::env::args().count();
            return Err(Failure::Reject(problem(&format!("it saw {seen} things"))));
        }
        "spy-time" => {
            let year = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            return Err(Failure::Reject(problem(&format!("it saw {} s", year.as_secs()))));
        }
        "spy-memory" => {
            let seen = SEEN.replace(SEEN.get() + 1);
            return Err(Failure::Reject(problem(&format!("it remembered {seen} messages"))));
        }
        "use-clock" => drop(clock::now()),
        #[cfg(feature = "remember")]
        _ => return remember::misbehave(mode, i, all),
        #[cfg(not(feature = "remember"))]
        _ => {}
    }
    Ok(())
}

fn each(messages: &View, all: &Batch) -> impl Iterator<Item = Result<(), Failure>> {
    let mode = mode();
    (0..messages.slots.len()).map(move |i| {
        #[cfg(feature = "remember")]
        remember::fill(payload(messages, i));
        #[cfg(feature = "remember")]
        let mode = remember::count(&mode);
        #[cfg(not(feature = "remember"))]
        let mode = &mode;
        match is_bait(messages, i) {
            true => misbehave(mode, i as u32, all),
            false => Ok(()),
        }
    })
}

fn spin() -> ! {
    loop {
        black_box(0);
    }
}

/// So many rounds of work: below any deadline, and not little.
fn spend(rounds: u64) {
    (0..rounds).for_each(|n| drop(black_box(n)));
}

fn hoard() -> ! {
    loop {
        HOARD.with_borrow_mut(|hoard| hoard.push(black_box(vec![1; MIB])));
    }
}

struct Endless;

impl Drop for Endless {
    fn drop(&mut self) {
        spin();
    }
}

/// On the engine's stack, and not on the guest's own: nothing here needs an address.
#[inline(never)]
fn recurse(n: u64) -> u64 {
    if n == u64::MAX { 0 } else { recurse(n + 1).wrapping_mul(3) ^ n }
}

/// On the guest's own stack, which lies in its memory.
#[inline(never)]
fn recurse_with_locals(n: u64) -> u64 {
    let here = black_box([n; 64]);
    if black_box(true) { recurse_with_locals(n + 1) + here[(n % 64) as usize] } else { n }
}

/// The bits of a number that is none, after operations whose bits the specification leaves open.
fn nan_bits() -> u64 {
    let zero = black_box(0.0_f64);
    let odd = f64::from_bits(0x7ff4_dead_beef_0001);
    (black_box(zero / zero) + black_box(odd) * black_box(-1.0)).to_bits()
}

fn problem(message: &str) -> Problem {
    Problem { code: "zoo".to_owned(), message: message.to_owned(), path: None }
}

fn mode() -> String {
    MODE.with_borrow(Clone::clone)
}

fn provoked(messages: &View) -> bool {
    (0..messages.slots.len()).any(|i| is_bait(messages, i))
}

fn is_bait(messages: &View, i: usize) -> bool {
    payload(messages, i).starts_with(b"bait")
}

fn payload(messages: &View, i: usize) -> &[u8] {
    let span = messages.slots[i].payload;
    let start = span.start as usize;
    &messages.bytes[start..start + span.length as usize]
}
