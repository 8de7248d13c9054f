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

    /// What a machine finds after a power cut. A file system with a journal keeps changes in order: some first
    /// ones are there and the rest is not. One without promises nothing: any of them may be there.
    pub(crate) fn cut(&mut self, random: &mut Random) {
        let journal = random.below(2) == 0;
        let first_ones = random.below(self.pending.len() as u64 + 1) as usize;
        for (at, change) in self.pending.drain(..).enumerate() {
            let kept = if journal { at < first_ones } else { random.below(2) == 0 };
            if kept {
                change.apply(&mut self.durable);
            }
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
                // Without the change that made `from` there is nothing to rename.
                if let Some(file) = names.remove(&from) {
                    names.insert(to, file);
                }
            }
            Self::Remove(path) => {
                names.remove(&path);
            }
        }
    }
}
