//! The names of files, now and after a power cut.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::random::Random;

/// Which file a name means.
type Table = BTreeMap<PathBuf, u64>;

/// Names, what is durable of them, and the changes in between.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    pub(crate) now: Table,
    durable: Table,
    /// Changes since their folder was synced, in order.
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Create(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Names {
    pub(crate) fn create(&mut self, path: &Path, file: u64) {
        self.change(Change::Create(path.to_owned(), file));
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path) {
        self.change(Change::Rename(from.to_owned(), to.to_owned()));
    }

    pub(crate) fn remove(&mut self, path: &Path) {
        self.change(Change::Remove(path.to_owned()));
    }

    /// Makes the changes in `dir` durable, and no others: that is all a sync of a folder promises.
    pub(crate) fn sync(&mut self, dir: &Path) {
        for change in self.pending.extract_if(.., |change| change.dir() == Some(dir)) {
            change.apply(&mut self.durable);
        }
    }

    /// What a machine finds after a power cut: a file system's journal keeps changes in order, so some first
    /// ones of those that were not synced are there, and the rest is not.
    pub(crate) fn cut(&mut self, random: &mut Random) {
        let kept = random.below(self.pending.len() as u64 + 1) as usize;
        for change in self.pending.drain(..).take(kept) {
            change.apply(&mut self.durable);
        }
        self.now = self.durable.clone();
    }

    fn change(&mut self, change: Change) {
        change.clone().apply(&mut self.now);
        self.pending.push(change);
    }
}

impl Change {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Create(path, _) | Self::Rename(_, path) | Self::Remove(path) => path.parent(),
        }
    }

    fn apply(self, names: &mut Table) {
        match self {
            Self::Create(path, file) => {
                names.insert(path, file);
            }
            Self::Rename(from, to) => {
                // Within one folder, so the change that made `from` is applied before this one.
                let file = names.remove(&from).expect("what is renamed has a name");
                names.insert(to, file);
            }
            Self::Remove(path) => {
                names.remove(&path);
            }
        }
    }
}
