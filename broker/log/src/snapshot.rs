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

/// Writes a snapshot, durably.
pub(crate) fn write(folder: &Folder, at: Index, state: &[u8]) -> Result<(), Failure> {
    let path = folder.snapshot(at);
    let beside = path.with_extension("snapshot-tmp");
    let written = write_file(folder, &beside, at, state);
    if let Err(failure) = written {
        // It is removed at the next start if it cannot be now.
        drop(folder.disk.remove(&beside));
        return Err(failure);
    }
    folder.disk.rename(&beside, &path).map_err(|source| Failure::new("rename", &beside, source))?;
    folder.sync()
}

fn write_file(folder: &Folder, path: &Path, at: Index, state: &[u8]) -> Result<(), Failure> {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    header[16..24].copy_from_slice(&folder.identity.to_le_bytes());
    header[24..32].copy_from_slice(&at.to_le_bytes());
    header[32..40].copy_from_slice(&(state.len() as u64).to_le_bytes());
    header[48..56].copy_from_slice(&xxh3_64(state).to_le_bytes());
    let crc = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());

    match folder.disk.remove(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            return Err(Failure::new("remove", path, source));
        }
        _ => {}
    }
    let file = folder.disk.create(path).map_err(|source| Failure::new("create", path, source))?;
    let failed = |doing| move |source| Failure::new(doing, path, source);
    file.reserve((HEADER_BYTES + state.len()) as u64).map_err(failed("reserve room for"))?;
    file.write_at(0, &header).map_err(failed("write"))?;
    file.write_at(HEADER_BYTES as u64, state).map_err(failed("write"))?;
    if seeded::is(Fault::TrimBeforeSnapshot) {
        return Ok(());
    }
    file.sync().map_err(failed("sync"))
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
