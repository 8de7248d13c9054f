//! Power cuts: a disk that forgets what was not synced, names included, and tears what it keeps.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use wharf_log::{Disk, DiskEntry, DiskFile, LogEngine, Options};

use crate::faults::{Run, run};
use crate::harness::*;

/// The unit that a disk writes whole.
const SECTOR_BYTES: usize = 512;

/// A disk in memory, whose power fails at a given operation.
#[derive(Debug, Clone, Default)]
struct ForgetfulDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    names: Names,
    durable_names: Names,
    /// Changes of names since the folder was synced, in order.
    renamed: Vec<Change>,
    files: BTreeMap<u64, Contents>,
    operations: u64,
    /// The operation at which the power fails; none when 0.
    fails_at: u64,
}

type Names = BTreeMap<PathBuf, u64>;

#[derive(Debug, Clone)]
enum Change {
    Create(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Debug, Default)]
struct Contents {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// What was written since the last sync, by sectors.
    written: Vec<(usize, Vec<u8>)>,
}

struct OpenFile {
    disk: ForgetfulDisk,
    id: u64,
}

impl ForgetfulDisk {
    fn options(&self, fails_at: u64) -> Options {
        let mut state = self.lock();
        (state.operations, state.fails_at) = (0, fails_at);
        Options { disk: Arc::new(self.clone()), ..small() }
    }

    /// Forgets what was not synced, but for a part that `seed` chooses.
    fn reboot(&self, seed: u64) {
        let mut random = Random(seed);
        let mut state = self.lock();
        let mut names = std::mem::take(&mut state.durable_names);
        // A file system's journal keeps changes of names in order: some first ones of them are kept.
        let kept = random.below(state.renamed.len() as u64 + 1) as usize;
        for change in state.renamed.drain(..).take(kept) {
            change.apply(&mut names);
        }
        (state.names, state.durable_names) = (names.clone(), names);
        for contents in state.files.values_mut() {
            let mut bytes = std::mem::take(&mut contents.durable);
            for (at, sector) in std::mem::take(&mut contents.written) {
                if random.below(2) == 0 {
                    bytes.resize(bytes.len().max(at + sector.len()), 0);
                    bytes[at..at + sector.len()].copy_from_slice(&sector);
                }
            }
            (contents.now, contents.durable) = (bytes.clone(), bytes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn operation(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        state.operations += 1;
        if state.fails_at != 0 && state.operations >= state.fails_at {
            return Err(io::Error::other("the power failed"));
        }
        Ok(state)
    }

    fn handle(&self, id: u64) -> Arc<dyn DiskFile> {
        Arc::new(OpenFile { disk: self.clone(), id })
    }
}

impl State {
    fn change(&mut self, change: Change) {
        change.clone().apply(&mut self.names);
        self.renamed.push(change);
    }
}

impl Change {
    fn apply(self, names: &mut Names) {
        match self {
            Self::Create(path, id) => {
                names.insert(path, id);
            }
            Self::Rename(from, to) => {
                let id = names.remove(&from).unwrap();
                names.insert(to, id);
            }
            Self::Remove(path) => {
                names.remove(&path);
            }
        }
    }
}

impl Disk for ForgetfulDisk {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DiskEntry>> {
        let state = self.lock();
        let names = state.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        let entry = |(path, id): (&PathBuf, &u64)| DiskEntry {
            name: path.file_name().unwrap().to_str().unwrap().to_owned(),
            bytes: state.files[id].now.len() as u64,
        };
        Ok(names.map(entry).collect())
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let id = self.lock().names.get(path).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(id))
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.operation()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = state.files.len() as u64;
        state.files.insert(id, Contents::default());
        state.change(Change::Create(path.to_owned(), id));
        drop(state);
        Ok(self.handle(id))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operation()?.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change(Change::Remove(path.to_owned()));
        Ok(())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        state.durable_names = state.names.clone();
        state.renamed.clear();
        Ok(())
    }
}

impl OpenFile {
    fn contents<T>(
        &self,
        mut state: MutexGuard<'_, State>,
        f: impl FnOnce(&mut Contents) -> T,
    ) -> io::Result<T> {
        Ok(f(state.files.get_mut(&self.id).unwrap()))
    }
}

impl DiskFile for OpenFile {
    fn bytes(&self) -> io::Result<u64> {
        self.contents(self.disk.lock(), |contents| contents.now.len() as u64)
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.contents(self.disk.lock(), |contents| {
            let rest = contents.now.get(offset as usize..).unwrap_or(&[]);
            let read = rest.len().min(buffer.len());
            buffer[..read].copy_from_slice(&rest[..read]);
            read
        })
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.contents(self.disk.operation()?, |Contents { now, written, .. }| {
            let (mut at, mut rest) = (offset as usize, bytes);
            now.resize(now.len().max(at + rest.len()), 0);
            now[at..at + rest.len()].copy_from_slice(rest);
            while !rest.is_empty() {
                let (sector, after) = rest.split_at(rest.len().min(SECTOR_BYTES - at % SECTOR_BYTES));
                written.push((at, sector.to_vec()));
                (at, rest) = (at + sector.len(), after);
            }
        })
    }
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.contents(self.disk.operation()?, |contents| {
            let from = contents.now.len();
            if from < bytes as usize {
                contents.now.resize(bytes as usize, 0);
                contents.written.push((from, vec![0; bytes as usize - from]));
            }
        })
    }
    fn sync(&self) -> io::Result<()> {
        self.contents(self.disk.operation()?, |contents| {
            contents.durable = contents.now.clone();
            contents.written.clear();
        })
    }
    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }
}

/// A small generator, so that a seed names a trial (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

#[track_caller]
fn check(disk: &ForgetfulDisk, dir: &Path, run: &Run, place: &str) {
    let opened = match try_open(dir, disk.options(0)) {
        Ok(opened) => opened,
        Err(error) => panic!("{place}: {error}"),
    };
    let snapshot = opened.snapshot.as_ref().map_or(0, |(at, _)| *at);
    let last = opened.log.next() - 1;
    assert!(snapshot >= run.snapshot, "{place}: snapshot {snapshot}, confirmed {}", run.snapshot);
    assert!(last >= run.confirmed, "{place}: {last} records, confirmed {}", run.confirmed);
    assert!(last <= run.confirmed + 5, "{place}: {last} records, confirmed {}", run.confirmed);
    assert_records(&opened.records, snapshot + 1, last);
    drop(opened);

    // What was replayed may have been acted upon: it is as durable as what was confirmed.
    disk.reboot(last);
    let mut opened = try_open(dir, disk.options(0)).unwrap();
    assert_eq!(opened.log.next(), last + 1, "{place}: what was replayed is there again");
    append(&mut opened.log, 20).unwrap();
}

#[test]
fn whenever_the_power_fails_all_that_was_confirmed_is_there_after_a_restart() {
    let dir = Path::new("/log");
    let mut crashes = 0;
    for seed in 0..24 {
        for at in 1.. {
            let disk = ForgetfulDisk::default();
            let run = run(dir, disk.options(at));
            if disk.lock().operations < at {
                assert!(at > 100, "the run does enough to fail at");
                break;
            }
            crashes += 1;
            let place = format!("seed {seed}, operation {at}");
            // Or it is the process alone that dies, and the system still has what was not synced.
            let power = seed % 3 != 0;
            if power {
                disk.reboot(seed * 1_000_003 + at);
            }

            // Again while the log is opened, then a last time when it may finish.
            let again = 1 + (seed + at) % 12;
            drop(try_open(dir, disk.options(again)));
            if power {
                disk.reboot(seed * 7_000_003 + at);
            }
            check(&disk, dir, &run, &place);

            disk.reboot(seed);
            let opened = try_open(dir, disk.options(0)).unwrap();
            assert!(opened.log.next() > run.confirmed + 20, "{place}: what was confirmed after the restart");
        }
    }
    assert!(crashes > 2_000, "{crashes}");
}
