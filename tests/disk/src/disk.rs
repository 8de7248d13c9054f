//! The simulated disk: counts its operations, and fails where it is told to.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wharf_log::{Disk, DiskEntry, DiskFile};

use crate::contents::Contents;
use crate::names::Names;
use crate::random::Random;

/// What happens at the operation that fails. Whatever it is, the operation reports an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The power fails: nothing happens from this operation on. [`SimulatedDisk::cut_power`] ends it.
    Power,
    /// The device fails (EIO). At a sync, what was to become durable never will, though a later sync says so.
    Error,
    /// The disk is full (ENOSPC); a sync, a rename or a removal fails all the same.
    Full,
    /// A write does half of what it should (a short write), then the device fails.
    Short,
}

/// Which operation fails, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The number of the operation, counted from 1 at the moment the plan is made.
    pub at: u64,
    /// What happens there.
    pub fault: Fault,
    /// All later operations fail in the same way. Always so with [`Fault::Power`].
    pub lasting: bool,
}

/// A disk in memory. Clones are handles on the same disk.
///
/// Operations are the ones that change something: creating, renaming and removing files, writing, reserving,
/// syncing files and folders. Reading counts only after [`count_reads`](Self::count_reads).
#[derive(Clone, Default)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Clone, Default)]
struct State {
    names: Names,
    files: BTreeMap<u64, Contents>,
    /// Files that a handle of this life has locked.
    locked: Vec<u64>,
    operations: u64,
    plan: Option<Plan>,
    reads_count: bool,
    /// The first operation that failed by the plan.
    failed: Option<String>,
    /// Counts the ends of processes: a handle of an earlier life does nothing any more.
    life: u64,
}

impl SimulatedDisk {
    /// Counts operations from 0 again, and makes one of them fail.
    pub fn plan(&self, plan: Plan) {
        let mut state = self.lock();
        (state.operations, state.plan, state.failed) = (0, Some(plan), None);
    }

    /// Counts operations from 0 again, and lets none of them fail.
    pub fn heal(&self) {
        let mut state = self.lock();
        (state.operations, state.plan, state.failed) = (0, None, None);
    }

    /// Reads count as operations too, and can fail.
    pub fn count_reads(&self, count: bool) {
        self.lock().reads_count = count;
    }

    /// Operations since the disk was made, or since the last plan.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// The first operation that failed by the plan, in words: `sync /log/00000000000000000001.segment`.
    pub fn failed(&self) -> Option<String> {
        self.lock().failed.clone()
    }

    /// The machine loses its power and starts again: what was not synced is forgotten, but for a part that
    /// `seed` chooses. Handles from before do nothing any more; the plan is over.
    pub fn cut_power(&self, seed: u64) {
        let mut random = Random(seed);
        let mut state = self.lock();
        state.names.cut(&mut random);
        for contents in state.files.values_mut() {
            contents.cut(&mut random);
        }
        let named: Vec<u64> = state.names.now.values().copied().collect();
        state.files.retain(|file, _| named.contains(file));
        state.next_life();
    }

    /// The process dies and the machine does not: all that was written is there, durable or not. Handles from
    /// before do nothing any more; the plan is over.
    pub fn kill(&self) {
        self.lock().next_life();
    }

    /// A disk of its own with the same contents, for the next trial.
    pub fn copy(&self) -> Self {
        let mut state = self.lock().clone();
        state.next_life();
        Self(Arc::new(Mutex::new(state)))
    }

    /// All files, by name.
    pub fn files(&self) -> Vec<PathBuf> {
        self.lock().names.now.keys().cloned().collect()
    }

    /// The bytes of a file as they are now.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        Some(state.files[state.names.now.get(path)?].now.clone())
    }

    /// Changes a file where it lies, durably: flips, cuts, overwrites. False when there is no such file.
    pub fn harm(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.lock();
        let Some(file) = state.names.now.get(path).copied() else { return false };
        state.contents(file).harm(change);
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn operation(&self, doing: &'static str, path: &Path) -> Result<MutexGuard<'_, State>, Failed<'_>> {
        self.lock_for(doing, path, None)
    }

    /// Counts an operation, of a handle of life `life`; the fault when it is to fail.
    fn lock_for(
        &self,
        doing: &'static str,
        path: &Path,
        life: Option<u64>,
    ) -> Result<MutexGuard<'_, State>, Failed<'_>> {
        let mut state = self.lock();
        if life.is_some_and(|life| life != state.life) {
            return Err(Failed { fault: Fault::Power, state });
        }
        state.operations += 1;
        let Some(plan) = state.plan else { return Ok(state) };
        let lasting = plan.lasting || plan.fault == Fault::Power;
        if state.operations == plan.at || (lasting && state.operations > plan.at) {
            state.failed.get_or_insert_with(|| format!("{doing} {}", path.display()));
            return Err(Failed { fault: plan.fault, state });
        }
        Ok(state)
    }

    fn handle(&self, file: u64, path: &Path) -> Arc<dyn DiskFile> {
        let life = self.lock().life;
        Arc::new(OpenFile { disk: self.clone(), file, path: path.to_owned(), life, locked: false.into() })
    }
}

impl State {
    fn contents(&mut self, file: u64) -> &mut Contents {
        // A removed file whose handle is still open has contents; after a power cut its handle does nothing.
        self.files.entry(file).or_default()
    }

    fn next_life(&mut self) {
        self.locked.clear();
        self.life += 1;
        (self.operations, self.plan, self.failed) = (0, None, None);
    }
}

/// An operation that failed, with the state as it is, for what it does all the same.
struct Failed<'a> {
    fault: Fault,
    state: MutexGuard<'a, State>,
}

impl From<Failed<'_>> for io::Error {
    fn from(failed: Failed<'_>) -> Self {
        match failed.fault {
            Fault::Power => Self::other("the power failed"),
            Fault::Full => io::ErrorKind::StorageFull.into(),
            Fault::Error | Fault::Short => Self::other("the device failed"),
        }
    }
}

impl Disk for SimulatedDisk {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        // Folders are where their files are.
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DiskEntry>> {
        let state = self.lock();
        let names = state.names.now.iter().filter(|(path, _)| path.parent() == Some(dir));
        let entry = |(path, file): (&PathBuf, &u64)| {
            let name = path.file_name()?.to_str()?.to_owned();
            Some(DiskEntry { name, bytes: state.files.get(file).map_or(0, |c| c.now.len() as u64) })
        };
        Ok(names.filter_map(entry).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.lock().names.now.get(path).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(file, path))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.operation("create", path)?;
        if state.names.now.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.files.last_key_value().map_or(1, |(last, _)| last + 1);
        state.files.insert(file, Contents::default());
        state.names.create(path, file);
        drop(state);
        Ok(self.handle(file, path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.operation("rename", from)?;
        if !state.names.now.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.names.rename(from, to);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.operation("remove", path)?;
        if !state.names.now.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.names.remove(path);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.operation("sync folder", dir)?.names.sync(dir);
        Ok(())
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("SimulatedDisk")
            .field("files", &state.names.now.len())
            .field("operations", &state.operations)
            .field("plan", &state.plan)
            .finish_non_exhaustive()
    }
}

/// A handle on a file: it follows the file, whatever its name is now.
struct OpenFile {
    disk: SimulatedDisk,
    file: u64,
    path: PathBuf,
    life: u64,
    locked: AtomicBool,
}

impl OpenFile {
    fn operation(&self, doing: &'static str) -> Result<MutexGuard<'_, State>, Failed<'_>> {
        self.disk.lock_for(doing, &self.path, Some(self.life))
    }
}

impl DiskFile for OpenFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.disk.lock().contents(self.file).now.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.lock();
        if state.reads_count {
            drop(state);
            state = self.operation("read")?;
        }
        Ok(state.contents(self.file).read(offset, buffer))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match self.operation("write") {
            Ok(mut state) => {
                state.contents(self.file).write(offset, bytes);
                Ok(())
            }
            Err(mut failed) => {
                if failed.fault == Fault::Short {
                    failed.state.contents(self.file).write(offset, &bytes[..bytes.len() / 2]);
                }
                Err(failed.into())
            }
        }
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.operation("reserve")?.contents(self.file).reserve(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        match self.operation("sync") {
            Ok(mut state) => {
                state.contents(self.file).sync();
                Ok(())
            }
            Err(mut failed) => {
                if failed.fault != Fault::Power {
                    failed.state.contents(self.file).sync_failed();
                }
                Err(failed.into())
            }
        }
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.disk.lock();
        if state.locked.contains(&self.file) {
            return Ok(false);
        }
        state.locked.push(self.file);
        self.locked.store(true, Ordering::SeqCst);
        Ok(true)
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let mut state = self.disk.lock();
        if self.life == state.life && self.locked.load(Ordering::SeqCst) {
            state.locked.retain(|file| *file != self.file);
        }
    }
}
