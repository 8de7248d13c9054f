//! The bytes of one file, now and after a power cut.

use crate::random::Random;

/// The unit that a disk writes whole.
const SECTOR_BYTES: usize = 512;

/// Bytes, what is durable of them, and what was written in between.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contents {
    pub(crate) now: Vec<u8>,
    durable: Vec<u8>,
    /// What was written since the last sync, by sectors, in order.
    written: Vec<(usize, Vec<u8>)>,
}

impl Contents {
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let rest = usize::try_from(offset).ok().and_then(|at| self.now.get(at..)).unwrap_or(&[]);
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        read
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let (mut at, mut rest) = (offset as usize, bytes);
        overwrite(&mut self.now, at, bytes);
        while !rest.is_empty() {
            let (sector, after) = rest.split_at(rest.len().min(SECTOR_BYTES - at % SECTOR_BYTES));
            self.written.push((at, sector.to_vec()));
            (at, rest) = (at + sector.len(), after);
        }
    }

    pub(crate) fn reserve(&mut self, bytes: u64) {
        let (from, to) = (self.now.len(), bytes as usize);
        if from < to {
            self.now.resize(to, 0);
            self.written.push((from, vec![0; to - from]));
        }
    }

    pub(crate) fn sync(&mut self) {
        for (at, sector) in self.written.drain(..) {
            overwrite(&mut self.durable, at, &sector);
        }
    }

    /// A sync that failed: the system takes what was written for clean, and never writes it. The next sync
    /// succeeds and makes nothing of it durable, which is what catches a sync that is tried again.
    pub(crate) fn sync_failed(&mut self) {
        self.written.clear();
    }

    /// What a machine finds after a power cut: of what was not synced, the sectors that chance kept.
    pub(crate) fn cut(&mut self, random: &mut Random) {
        for (at, sector) in self.written.drain(..) {
            if random.below(2) == 0 {
                overwrite(&mut self.durable, at, &sector);
            }
        }
        self.now = self.durable.clone();
    }

    /// Damage: the bytes are changed where they lie, durably.
    pub(crate) fn harm(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.now);
        self.durable = self.now.clone();
        self.written.clear();
    }
}

fn overwrite(bytes: &mut Vec<u8>, at: usize, with: &[u8]) {
    bytes.resize(bytes.len().max(at + with.len()), 0);
    bytes[at..at + with.len()].copy_from_slice(with);
}
