//! `wharf log stats`.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Context as _;
use clap::Args as ClapArgs;
use serde::Serialize;
use wharf_log::{Inspected, Inspection, Remedy};
use wharf_queue::{Stamped, State};

use super::{Data, open};
use crate::output::{self, Format, Output};
use crate::units::show_bytes;

/// Shows segments and snapshots, and what of them is live
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  wharf log stats
  wharf log stats --data /var/lib/wharf/shard-0
  wharf log stats -o json | jq '.[].segments[] | select(.live == 0)'")]
pub(super) struct Args {
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Log {
    log: String,
    identity: String,
    bytes: u64,
    spares: usize,
    spare_bytes: u64,
    leftovers: usize,
    damaged: usize,
    segments: Vec<Segment>,
    snapshots: Vec<Snapshot>,
}

#[derive(Serialize)]
struct Segment {
    file: String,
    sparse: bool,
    first: u64,
    next: u64,
    records: u64,
    /// Records that a queue or a stream refers to; none when the log is damaged.
    live: Option<u64>,
    body_bytes: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Snapshot {
    file: String,
    at: u64,
    /// The state's length; none when it is damaged.
    bytes: Option<u64>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let logs: Vec<Log> =
        args.data.logs()?.iter().map(|folder| look(folder)).collect::<anyhow::Result<_>>()?;
    if args.output.output == Format::Json {
        return output::json(&logs);
    }
    for log in &logs {
        output::line(format_args!(
            "{} (log {}): {}, {} of it in {} spares",
            log.log,
            log.identity,
            show_bytes(log.bytes + log.spare_bytes),
            show_bytes(log.spare_bytes),
            log.spares
        ))?;
        let cells = |segment: &Segment| {
            vec![
                segment.file.clone(),
                format!("{}..{}", segment.first, segment.next),
                segment.records.to_string(),
                segment.live.map_or("?".into(), |live| live.to_string()),
                show_bytes(segment.bytes),
            ]
        };
        output::list(args.output, &log.segments, &["SEGMENT", "RECORDS", "HELD", "LIVE", "SIZE"], cells)?;
        let cells = |snapshot: &Snapshot| {
            let bytes = snapshot.bytes.map_or("DAMAGED".into(), show_bytes);
            vec![snapshot.file.clone(), format!("1..{}", snapshot.at + 1), bytes]
        };
        output::list(args.output, &log.snapshots, &["SNAPSHOT", "RECORDS", "STATE"], cells)?;
        if log.damaged > 0 {
            output::note("the log is damaged: see `wharf log verify`");
        }
    }
    Ok(())
}

fn look(folder: &Path) -> anyhow::Result<Log> {
    let inspection = open(folder)?;
    let found = inspection.verify(&mut |_, _| ())?;
    let state = state(&inspection, &found)?;
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let segments = found.segments.iter().map(|segment| Segment {
        file: name(&segment.path),
        sparse: segment.sparse,
        first: segment.records.start,
        next: segment.records.end,
        records: segment.held,
        live: state.as_ref().map(|state| state.live_records(segment.records.clone()).len() as u64),
        body_bytes: segment.body_bytes,
        bytes: segment.bytes,
    });
    let snapshots = found.snapshots.iter();
    Ok(Log {
        log: folder.display().to_string(),
        identity: format!("{:016x}", inspection.identity()),
        bytes: found.segments.iter().map(|segment| segment.bytes).sum(),
        spares: found.spares,
        spare_bytes: found.spare_bytes,
        leftovers: found.leftovers.len(),
        damaged: found.findings.len(),
        segments: segments.collect(),
        snapshots: snapshots
            .map(|snapshot| Snapshot { file: name(&snapshot.path), at: snapshot.at, bytes: snapshot.bytes })
            .collect(),
    })
}

/// The state as of the last record; `None` when the log does not hold what it takes.
fn state(inspection: &Inspection, found: &Inspected) -> anyhow::Result<Option<State>> {
    if found.findings.iter().any(|finding| finding.remedy == Remedy::Restore) {
        return Ok(None);
    }
    let (covered, mut state) = match inspection.newest_snapshot()? {
        Some((at, bytes)) => (at, State::restore(&bytes).context("cannot restore the newest snapshot")?),
        None => (0, State::default()),
    };
    let mut effects = Vec::new();
    let mut unknown = None;
    inspection.records(covered + 1..u64::MAX, &mut |index, body| match Stamped::decode(body) {
        Ok(stamped) => {
            effects.clear();
            state.apply(index, &stamped, &mut effects);
            ControlFlow::Continue(())
        }
        Err(error) => {
            unknown = Some(anyhow::Error::new(error).context(format!("cannot decode record {index}")));
            ControlFlow::Break(())
        }
    })?;
    unknown.map_or(Ok(Some(state)), Err)
}
