//! Files ready to become segments, so that rolling to the next one writes no zeros and meets no full disk.
//!
//! The best spare is a segment that was given up: syncing writes into it changes no metadata, which takes half as
//! long. Where there is none, a thread of its own prepares one once the active segment is half full. It fills it with
//! zeros, to the same effect, when the active segment was synced often enough to be worth the writing; a log that
//! grows by large batches is not, and would write everything twice: its spares are only reserved. So is one that is
//! needed before the thread has it.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::disk::{self, Disk};
use crate::engine::Failure;
use crate::segment::Sealed;

/// A segment that is synced less often than once for so many bytes is not worth filling with zeros: a sync of as many
/// takes two thirds of a millisecond, of which zeros save a tenth, and writing them takes half a one.
const ZEROED_BYTES_A_SYNC: u64 = 128 * 1024;

/// The pool, and the thread that fills it. Dropping it ends and joins the thread.
pub(crate) struct Spares {
    pool: Arc<Pool>,
    thread: Option<JoinHandle<()>>,
}

struct Pool {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u32,
    /// The most spares that are kept.
    spares_max: usize,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    ready: VecDeque<PathBuf>,
    /// The number that the next spare's name gets.
    next: u64,
    /// The thread is asked for one more spare, prepared so.
    wanted: Option<Preparation>,
    /// Files that the thread is to remove.
    doomed: Vec<PathBuf>,
    /// There is a thread.
    thread: bool,
    /// It is to end, or has.
    stop: bool,
}

/// How a spare is prepared that no segment was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preparation {
    /// It has its room on the disk.
    Reserved,
    /// It has been written, with zeros.
    Zeroed,
}

impl Preparation {
    /// For the segment after one of `bytes` bytes, written and synced so often: writing zeros takes the disk as long
    /// as writing the records does, and pays when that is done in small pieces.
    pub(crate) fn after(bytes: u64, syncs: u64) -> Self {
        if syncs.saturating_mul(ZEROED_BYTES_A_SYNC) >= bytes { Self::Zeroed } else { Self::Reserved }
    }
}

impl Spares {
    /// A pool of the spares `found` (numbers); with a thread when `ahead`.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        segment_bytes: u32,
        spares_max: usize,
        ahead: bool,
        found: &[u64],
    ) -> Self {
        let ready = found.iter().map(|number| spare_path(dir, *number)).collect();
        let next = found.last().map_or(1, |last| last + 1);
        let pool = Arc::new(Pool {
            disk,
            dir: dir.to_owned(),
            segment_bytes,
            spares_max,
            state: Mutex::new(State { ready, next, ..State::default() }),
            wake: Condvar::new(),
        });
        let thread = ahead.then(|| {
            let pool = Arc::clone(&pool);
            std::thread::Builder::new().name("wharf-log-spares".into()).spawn(move || pool.run())
        });
        // Without the thread every spare is reserved when it is needed: slower syncs, nothing else.
        let thread = thread.and_then(|spawned| {
            spawned.inspect_err(|error| tracing::warn!(%error, "no thread to prepare segments ahead")).ok()
        });
        pool.lock().thread = thread.is_some();
        Self { pool, thread }
    }

    /// A file to rename to a segment.
    pub(crate) fn take(&self) -> Result<PathBuf, Failure> {
        let mut state = self.pool.lock();
        match state.ready.pop_front() {
            Some(path) => Ok(path),
            None => {
                let number = state.next_number();
                drop(state);
                self.pool.prepare(number, Preparation::Reserved)
            }
        }
    }

    /// Asks the thread for a spare, prepared so, unless there is one.
    pub(crate) fn want(&self, preparation: Preparation) {
        let mut state = self.pool.lock();
        if self.thread.is_some() && state.ready.is_empty() && state.wanted.is_none() {
            state.wanted = Some(preparation);
            self.pool.wake.notify_one();
        }
    }

    /// What gives segments back: usable from other threads, and after the pool is gone.
    pub(crate) fn returns(&self) -> Returns {
        Returns(Arc::clone(&self.pool))
    }

    pub(crate) fn len(&self) -> usize {
        self.pool.lock().ready.len()
    }
}

/// Takes segments that are given up: into the pool while there is room, else they are removed.
pub(crate) struct Returns(Arc<Pool>);

impl Returns {
    /// Takes `segments`.
    ///
    /// When this returns, the folder no longer has them under their names, durably: were a later one given up
    /// first, a crash could leave a gap that reads as a lost segment.
    pub(crate) fn take(&self, segments: &[Sealed]) -> Result<(), Failure> {
        let pool = &self.0;
        let mut state = pool.lock();
        let (mut kept, mut doomed) = (Vec::new(), Vec::new());
        for segment in segments {
            let room = state.ready.len() + kept.len() < pool.spares_max;
            let keep = room && segment.sparse.is_none() && segment.header.size == pool.segment_bytes;
            let spare = spare_path(&pool.dir, state.next_number());
            let to = if keep { spare } else { spare.with_extension("tmp") };
            let renamed = pool.disk.rename(&segment.path, &to);
            renamed.map_err(segment.failure("give up"))?;
            if keep { kept.push(to) } else { doomed.push(to) }
        }
        let synced = pool.disk.sync_dir(&pool.dir);
        synced.map_err(|source| Failure::new("sync folder", &pool.dir, source))?;
        state.ready.extend(kept);
        if state.thread && !state.stop {
            state.doomed.extend(doomed);
            pool.wake.notify_one();
        } else {
            drop(state);
            doomed.iter().for_each(|path| pool.remove(path));
        }
        Ok(())
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        self.pool.lock().stop = true;
        self.pool.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by the panic hook.
            drop(thread.join());
        }
    }
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        while !state.stop {
            if let Some(path) = state.doomed.pop() {
                drop(state);
                self.remove(&path);
                state = self.lock();
            } else if let Some(preparation) = state.wanted {
                let number = state.next_number();
                drop(state);
                let prepared = self.prepare(number, preparation);
                state = self.lock();
                state.wanted = None;
                match prepared {
                    Ok(path) => state.ready.push_back(path),
                    // The append that needs the spare tries again, and reports what it meets.
                    Err(failure) => tracing::warn!(%failure, error = %failure.source, "no spare segment"),
                }
            } else {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Makes a spare beside and renames it: a file called `.spare` is whole.
    fn prepare(&self, number: u64, preparation: Preparation) -> Result<PathBuf, Failure> {
        let path = spare_path(&self.dir, number);
        let beside = path.with_extension("tmp");
        match self.fill(&beside, preparation).and_then(|()| self.disk.rename(&beside, &path)) {
            Ok(()) => Ok(path),
            Err(source) => {
                self.remove(&beside);
                Err(Failure::new("prepare segment", path, source))
            }
        }
    }

    fn fill(&self, path: &Path, preparation: Preparation) -> io::Result<()> {
        let file = self.disk.create(path)?;
        file.reserve(self.segment_bytes.into())?;
        if preparation == Preparation::Zeroed {
            disk::zero(&*file, 0, self.segment_bytes.into())?;
        }
        file.sync()
    }

    fn remove(&self, path: &Path) {
        match self.disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                // It is removed at the next start.
                tracing::debug!(path = %path.display(), %error, "cannot remove an old file");
            }
            _ => {}
        }
    }
}

fn spare_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.spare"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_for_segments_that_are_synced_often() {
        let half = 32 << 20;
        assert_eq!(Preparation::after(half, 32), Preparation::Reserved, "a sync a megabyte");
        assert_eq!(Preparation::after(half, 255), Preparation::Reserved);
        assert_eq!(Preparation::after(half, 256), Preparation::Zeroed);
        assert_eq!(Preparation::after(half, 8_000), Preparation::Zeroed, "a sync a page");
    }
}
