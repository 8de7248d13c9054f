//! Small logs, opened and filled in a line; and a disk that fails on request.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tempfile::TempDir;
use wharf_log::{
    AppendError, Batch, Disk, DiskEntry, DiskFile, Durability, FileSystem, Index, LocalLog, LogEngine,
    OpenError, Options, Replay,
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

/// A folder in memory where the system has one: these tests sync many thousand times.
pub(crate) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap()
}

pub(crate) fn try_open(dir: &Path, options: Options) -> Result<Opened, OpenError> {
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
pub(crate) struct Copy(Vec<(PathBuf, Vec<u8>)>);

impl Copy {
    pub(crate) fn of(dir: &Path) -> Self {
        let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        Self(paths.map(|path| (path.clone(), fs::read(&path).unwrap())).collect())
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

/// What happens at the operation that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The operation does nothing and reports an error of the device.
    Error,
    /// It does nothing and reports that the disk is full.
    Full,
    /// A write does half of what it should, then reports an error of the device.
    Half,
}

/// A disk whose operation number `at`, counted from 1, and with `stays` all later ones, fail.
#[derive(Debug)]
pub(crate) struct FaultyDisk {
    pub(crate) operations: AtomicU64,
    pub(crate) at: AtomicU64,
    pub(crate) fault: Fault,
    pub(crate) stays: bool,
}

struct FaultyFile {
    disk: Arc<FaultyDisk>,
    file: Arc<dyn DiskFile>,
}

/// A handle on a [`FaultyDisk`], as a log uses it.
#[derive(Debug, Clone)]
pub(crate) struct Faulty(pub(crate) Arc<FaultyDisk>);

impl Faulty {
    pub(crate) fn new(at: u64, fault: Fault, stays: bool) -> Self {
        let (operations, at) = (AtomicU64::new(0), AtomicU64::new(at));
        Self(Arc::new(FaultyDisk { operations, at, fault, stays }))
    }

    pub(crate) fn options(&self) -> Options {
        Options { disk: Arc::new(self.clone()), ..small() }
    }

    /// The operation so many from now fails.
    pub(crate) fn fail_in(&self, operations: u64) {
        let done = self.0.operations.load(Ordering::SeqCst);
        self.0.at.store(done + operations, Ordering::SeqCst);
    }

    pub(crate) fn heal(&self) {
        self.0.at.store(u64::MAX, Ordering::SeqCst);
    }

    fn wrap(&self, file: io::Result<Arc<dyn DiskFile>>) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(FaultyFile { disk: Arc::clone(&self.0), file: file? }))
    }
}

impl FaultyDisk {
    fn operation(&self) -> io::Result<()> {
        let this = self.operations.fetch_add(1, Ordering::SeqCst) + 1;
        let at = self.at.load(Ordering::SeqCst);
        match this == at || (self.stays && this > at) {
            true if self.fault == Fault::Full => Err(io::ErrorKind::StorageFull.into()),
            true => Err(io::Error::other("the device failed")),
            false => Ok(()),
        }
    }
}

impl Disk for Faulty {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        FileSystem.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DiskEntry>> {
        FileSystem.list(dir)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.wrap(FileSystem.open(path))
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.0.operation()?;
        self.wrap(FileSystem.create(path))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.operation()?;
        FileSystem.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.operation()?;
        FileSystem.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.operation()?;
        FileSystem.sync_dir(dir)
    }
}

impl DiskFile for FaultyFile {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.disk.operation() {
            if self.disk.fault == Fault::Half {
                self.file.write_at(offset, &bytes[..bytes.len() / 2])?;
            }
            return Err(error);
        }
        self.file.write_at(offset, bytes)
    }
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.disk.operation()?;
        self.file.reserve(bytes)
    }
    fn sync(&self) -> io::Result<()> {
        self.disk.operation()?;
        self.file.sync()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}

impl fmt::Debug for FaultyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyFile")
    }
}
