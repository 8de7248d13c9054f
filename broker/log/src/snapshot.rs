//! Snapshots: the state folded from records `1..=at`, in two generations.
//!
//! A snapshot is written beside, synced, renamed to its name, and the folder synced: a name that ends in
//! `.snapshot` was whole and durable once.
//!
//! ```text
//! byte 0          8        12       16         24   32       40      48           56        60       64
//!      | WHARFSNP | format | 0 u32  | identity | at | length | 0 u64 | xxh3-64    | 0 u32   | CRC32C | state
//!      |          | u32    |        | u64      | u64| u64    |       | of state   |         | of all before
//! ```

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::engine::{Failure, Index};
use crate::folder::Folder;
use crate::record::{u32_at, u64_at};
use crate::seeded::{self, Fault};
use crate::segment::FORMAT;

/// How many snapshots are kept: the newest, and one to fall back on.
pub(crate) const GENERATIONS: usize = 2;
const MAGIC: &[u8; 8] = b"WHARFSNP";
const HEADER_BYTES: usize = 64;
/// How much is written at a time, and synced together: a commit that comes meanwhile waits for no more.
const BLOCK_BYTES: usize = 1 << 20;

/// A snapshot that has its place in the log's order, and is yet to be written: on any thread.
pub struct Snapshot {
    pub(crate) folder: Arc<Folder>,
    pub(crate) at: Index,
}

/// A snapshot that was written, or was not; to be handed back to the log that began it.
#[derive(Debug)]
#[must_use = "the log counts on the snapshot only once it has this back"]
pub struct Written {
    pub(crate) at: Index,
    pub(crate) outcome: Result<(), Failure>,
}

impl Snapshot {
    /// The last record that it covers.
    pub fn at(&self) -> Index {
        self.at
    }

    /// Writes the state folded from the records `1..=at`, durably.
    pub fn write(self, state: &[u8]) -> Written {
        let path = self.folder.snapshot(self.at);
        let beside = path.with_extension("snapshot-tmp");
        let outcome = self.write_beside(&beside, state).and_then(|()| {
            let renamed = self.folder.disk.rename(&beside, &path);
            renamed.map_err(|source| Failure::new("rename", &beside, source))?;
            self.folder.sync()
        });
        Written { at: self.at, outcome }
    }

    fn write_beside(&self, path: &Path, state: &[u8]) -> Result<(), Failure> {
        let written = self.write_file(path, state);
        if written.is_err() {
            // It is removed at the next start if it cannot be now.
            drop(self.folder.disk.remove(path));
        }
        written
    }

    fn write_file(&self, path: &Path, state: &[u8]) -> Result<(), Failure> {
        match self.folder.disk.remove(path) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(Failure::new("remove", path, source));
            }
            _ => {}
        }
        let file = self.folder.disk.create(path).map_err(|source| Failure::new("create", path, source))?;
        let failed = |doing| move |source| Failure::new(doing, path, source);
        file.reserve((HEADER_BYTES + state.len()) as u64).map_err(failed("reserve room for"))?;
        file.write_at(0, &self.header(state)).map_err(failed("write"))?;
        for (block, at) in state.chunks(BLOCK_BYTES).zip((HEADER_BYTES as u64..).step_by(BLOCK_BYTES)) {
            file.write_at(at, block).map_err(failed("write"))?;
            if seeded::is(Fault::TrimBeforeSnapshot) {
                continue;
            }
            file.sync().map_err(failed("sync"))?;
        }
        Ok(())
    }

    fn header(&self, state: &[u8]) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        header[16..24].copy_from_slice(&self.folder.identity.to_le_bytes());
        header[24..32].copy_from_slice(&self.at.to_le_bytes());
        header[32..40].copy_from_slice(&(state.len() as u64).to_le_bytes());
        header[48..56].copy_from_slice(&xxh3_64(state).to_le_bytes());
        let crc = crc32c::crc32c(&header[..60]);
        header[60..].copy_from_slice(&crc.to_le_bytes());
        header
    }
}

/// The state in the snapshot at `at`; `None` when it is damaged.
pub(crate) fn read(folder: &Folder, at: Index) -> Result<Option<Bytes>, Failure> {
    let path = folder.snapshot(at);
    let failed = |doing| move |source| Failure::new(doing, folder.snapshot(at), source);
    let file = folder.disk.open(&path).map_err(failed("open"))?;
    let length = file.bytes().map_err(failed("measure"))?;
    let mut bytes = vec![0; length as usize];
    let read = file.read_at(0, &mut bytes).map_err(failed("read"))?;
    bytes.truncate(read);
    let Some((header, state)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let good = header[..8] == *MAGIC
        && crc32c::crc32c(&header[..60]) == u32_at(header, 60)
        && u32_at(header, 8) == FORMAT
        && u64_at(header, 16) == folder.identity
        && u64_at(header, 24) == at
        && u64_at(header, 32) == state.len() as u64
        && u64_at(header, 48) == xxh3_64(state);
    Ok(good.then(|| Bytes::from(bytes).slice(HEADER_BYTES..)))
}
