//! Bytes that were whole once, changed at random: decoders answer with a value or an error, and never panic.
//!
//! | target | what is changed | what reads it |
//! |---|---|---|
//! | frames | one of every kind of frame (`broker/protocol/fuzz/seeds`) | the frame decoder |
//! | records | what a run left in its log | the record's decoder, and what it gives is written and read again |
//! | snapshots | the state after such a run | the state's restore |
//!
//! Configuration files are fuzzed where they are read (`broker/cli/src/commands/serve/config/fuzz.rs`), bodies of the admin
//! API against its router (`broker/admin/tests/fuzz.rs`).
//!
//! This needs no other compiler than the broker does; with the nightly one, `broker/protocol/fuzz` looks for frames by
//! coverage.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use wharf_disk::Random;
use wharf_log::{LocalLog, Replay};
use wharf_protocol::frame::{Decoder, FRAME_BYTES_DEFAULT};
use wharf_queue::{Stamped, State};

use crate::report::{Case, Report, Violation};
use crate::spread::{self, Plan, Trial};
use crate::world::{FOLDER, World, log_options};

/// Steps of the run whose records and state are changed.
const STEPS: u64 = 60;

/// Whole inputs of each target.
struct Corpus {
    frames: Vec<Vec<u8>>,
    records: Vec<Vec<u8>>,
    snapshots: Vec<Vec<u8>>,
}

/// Runs the check; cases are executions, shared by three targets.
///
/// # Errors
/// When the seeds are not where the source is.
pub fn run(plan: &Plan) -> Result<Report> {
    let begun = Instant::now();
    let corpus = Corpus::gather(plan.seed)?;
    let corpus = &corpus;
    let execute = |case| async move { execute(corpus, case) };
    let mut report = spread::run(plan, Report::new("fuzz", "executions"), execute)?;
    report.took = begun.elapsed();
    Ok(report)
}

impl Corpus {
    fn gather(seed: u64) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../broker/protocol/fuzz/seeds");
        let mut frames = Vec::new();
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            frames.push(std::fs::read(entry?.path())?);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let disk = runtime.block_on(async {
            let mut world = World::new(seed);
            world.open().await?;
            world.work(STEPS).await;
            // As it is: in good order it would leave a snapshot and no records after it.
            let disk = world.disk.copy();
            world.end().await;
            anyhow::Ok(disk)
        })?;
        let (mut state, mut effects) = (State::default(), Vec::new());
        let (mut records, mut snapshots) = (Vec::new(), Vec::new());
        LocalLog::open(Path::new(FOLDER), log_options(&disk), &mut |replay| {
            match replay {
                Replay::Snapshot { bytes, .. } => {
                    state = State::restore(bytes)?;
                    snapshots.push(bytes.to_vec());
                }
                Replay::Record { index, body } => {
                    records.push(body.to_vec());
                    state.apply(index, &Stamped::decode(body)?, &mut effects);
                }
            }
            Ok(())
        })?;
        snapshots.push(state.snapshot());
        Ok(Self { frames, records, snapshots })
    }
}

fn execute(corpus: &Corpus, Case { seed, at }: Case) -> Trial {
    let mut random = Random(seed << 32 ^ at);
    let (name, whole, read): (&str, _, fn(Vec<u8>) -> bool) = match at % 3 {
        0 => ("frames", &corpus.frames, frames),
        1 => ("records", &corpus.records, record),
        _ => ("snapshots", &corpus.snapshots, snapshot),
    };
    let input = change(whole, &mut random);
    let mut trial = Trial::default();
    match catch_unwind(AssertUnwindSafe(|| read(input.clone()))) {
        Ok(true) => trial.tally.ok = 1,
        Ok(false) => trial.tally.failed = 1,
        Err(_) => trial.violations.push(Violation::new("panic", format!("{name}: {}", hex(&input)))),
    }
    trial.figures.push((name, 1));
    trial
}

/// One of the whole inputs, changed as chance has it from `seed`: for decoders that live elsewhere.
///
/// # Panics
/// When there are none.
pub fn input(whole: &[Vec<u8>], seed: u64) -> Vec<u8> {
    change(whole, &mut Random(seed))
}

/// One of the whole inputs with a few changes: bits, bytes, lengths, pieces of another.
fn change(whole: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let pick = |random: &mut Random| whole[random.below(whole.len() as u64) as usize].clone();
    let mut input = pick(random);
    for _ in 0..1 + random.below(4) {
        let length = input.len().max(1) as u64;
        let at = random.below(length) as usize;
        match random.below(6) {
            0 | 1 if !input.is_empty() => input[at] ^= 1 << random.below(8),
            2 if !input.is_empty() => input[at] = [0, 0xff, 0x7f, 0x80, 0xdd, 0xc1][random.below(6) as usize],
            3 => input.truncate(at),
            4 => input.insert(at.min(input.len()), random.number() as u8),
            _ => {
                let other = pick(random);
                let from = random.below(other.len().max(1) as u64) as usize;
                input.truncate(at);
                input.extend_from_slice(&other[from.min(other.len())..]);
            }
        }
    }
    input
}

fn frames(input: Vec<u8>) -> bool {
    let mut decoder = Decoder::new(FRAME_BYTES_DEFAULT);
    decoder.buffer().put_slice(&input);
    loop {
        match decoder.next_frame() {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

fn record(input: Vec<u8>) -> bool {
    let Ok(read) = Stamped::decode(Bytes::from(input)) else { return false };
    let mut again = BytesMut::new();
    read.encode(&mut again);
    let again = Stamped::decode(again.freeze()).expect("what was read is written so that it can be read");
    assert_eq!(again, read, "it is written as it was read");
    true
}

fn snapshot(input: Vec<u8>) -> bool {
    State::restore(&input).is_ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(200).map(|byte| format!("{byte:02x}")).collect()
}
