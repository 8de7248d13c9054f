//! Small logs, opened and filled in a line.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;
use wharf_disk::SimulatedDisk;
use wharf_log::{
    AppendError, Batch, CompactError, Durability, Index, LocalLog, LogEngine, OpenError, Options, Reclaimed,
    Replay,
};

/// A log, and what was replayed when it was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) log: LocalLog,
    pub(crate) snapshot: Option<(Index, Vec<u8>)>,
    pub(crate) records: Vec<(Index, Bytes)>,
}

/// Segments of a kibibyte, and no thread that makes a test's operations come in another order.
pub(crate) fn small() -> Options {
    Options { segment_bytes: 1024, spares_max: 2, prepare_ahead: false, ..Options::default() }
}

/// The same on a disk that does as it is told.
pub(crate) fn on(disk: &SimulatedDisk) -> Options {
    Options { disk: Arc::new(disk.clone()), ..small() }
}

/// A folder in memory where the system has one: these tests sync many thousand times.
pub(crate) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap()
}

pub(crate) fn try_open(dir: &Path, options: Options) -> Result<Opened, OpenError> {
    #[cfg(feature = "seeded-faults")]
    crate::seeded::plant_as_asked();
    let (mut snapshot, mut records) = (None, Vec::new());
    let log = LocalLog::open(dir, options, &mut |replay| {
        match replay {
            Replay::Snapshot { at, bytes } => snapshot = Some((at, bytes.to_vec())),
            Replay::Record { index, body } => records.push((index, body)),
        }
        Ok(())
    })?;
    Ok(Opened { log, snapshot, records })
}

pub(crate) fn open(dir: &Path) -> Opened {
    try_open(dir, small()).unwrap()
}

/// A body that is different for each index, in content and length.
pub(crate) fn body(index: Index) -> Bytes {
    let length = 20 + (index as usize * 37) % 90;
    (0..length).map(|at| (index as usize * 7 + at) as u8).collect()
}

/// Appends `count` records with their [`body`], as one batch.
pub(crate) fn append(log: &mut LocalLog, count: u64) -> Result<(), AppendError> {
    let next = log.next();
    let mut batch = Batch::new();
    batch.extend((next..next + count).map(body));
    let written = log.append(next, &mut batch, Durability::Fsync)?;
    assert_eq!(written, next..next + count);
    Ok(())
}

/// Carries out a whole pass of compaction, with the records that `live` says are.
pub(crate) fn compact(log: &mut LocalLog, live: impl Fn(Index) -> bool) -> Result<Reclaimed, CompactError> {
    let mut sum = Reclaimed::default();
    loop {
        let part = log.compaction(&mut |range| range.filter(|index| live(*index)).collect());
        let Some(part) = part.map_err(stopped)? else { return Ok(sum) };
        let Reclaimed { copied, made, records, bytes_before, bytes_after } = log.compacted(part.run())?;
        sum.copied += copied;
        sum.made += made;
        sum.records += records;
        sum.bytes_before += bytes_before;
        sum.bytes_after += bytes_after;
    }
}

fn stopped(error: AppendError) -> CompactError {
    let AppendError::Failed(failure) = error else { panic!("{error}") };
    CompactError::Stopped(failure)
}

/// These are the records from `first` to `last`, with their bodies.
#[track_caller]
pub(crate) fn assert_records(records: &[(Index, Bytes)], first: Index, last: Index) {
    let expected: Vec<_> = (first..=last).map(|index| (index, body(index))).collect();
    assert_eq!(records, expected);
}

pub(crate) fn files(dir: &Path, kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|found| found == kind)).collect();
    paths.sort();
    paths
}

/// The files of a folder, to be put back before each trial.
#[derive(PartialEq)]
pub(crate) struct Copy(Vec<(PathBuf, Vec<u8>)>);

impl Copy {
    pub(crate) fn of(dir: &Path) -> Self {
        let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = paths.map(|path| (path.clone(), fs::read(&path).unwrap())).collect();
        files.sort();
        Self(files)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = (&PathBuf, &Vec<u8>)> {
        self.0.iter().map(|(path, bytes)| (path, bytes))
    }

    pub(crate) fn restore(&self, dir: &Path) {
        for entry in fs::read_dir(dir).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for (path, bytes) in &self.0 {
            fs::write(path, bytes).unwrap();
        }
    }
}
