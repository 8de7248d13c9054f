//! The log's folder: whose it is, which log it holds, and the names of its files.
//!
//! `identity` is written once: "WHARFLOG" | format u32 | zeros u32 | identity u64 | zeros u32 | CRC32C u32.
//! Its format is that of all files in the folder: whoever changes one of them changes this number too.
//! Its lock, held while the log is open, keeps a second process out.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::engine::{Failure, Index};
use crate::record::{u32_at, u64_at};
use crate::recovery::OpenError;
use crate::seeded::{self, Fault};
use crate::segment::{FORMAT, Header};

const MAGIC: &[u8; 8] = b"WHARFLOG";
const IDENTITY_BYTES: usize = 32;

/// A folder that this process owns, until it is dropped.
pub(crate) struct Folder {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    /// A random number that tells this log's files from every other log's.
    pub(crate) identity: u64,
    _lock: Arc<dyn DiskFile>,
}

/// What is in a folder. Each list ascends.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) segments: Vec<u64>,
    /// The first ids that sparse segments stand for.
    pub(crate) sparse: Vec<u64>,
    /// Numbers and lengths.
    pub(crate) spares: Vec<(u64, u64)>,
    pub(crate) snapshots: Vec<Index>,
    /// Files that were being written when a crash came.
    pub(crate) unfinished: Vec<PathBuf>,
}

impl Folder {
    /// Takes ownership of `dir`, made if it does not exist.
    pub(crate) fn claim(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, OpenError> {
        let failed = |doing| move |source| Failure::new(doing, dir, source);
        disk.create_dir(dir).map_err(failed("create"))?;
        let path = dir.join("identity");
        let file = match disk.create(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => disk.open(&path),
            other => other,
        };
        let file = file.map_err(|source| Failure::new("open", &path, source))?;
        if !file.try_lock().map_err(|source| Failure::new("lock", &path, source))? {
            return Err(OpenError::InUse(dir.to_owned()));
        }
        let identity = match read_identity(&*file).map_err(|source| Failure::new("read", &path, source))? {
            Some((FORMAT, identity)) => identity,
            Some((found, _)) => return Err(OpenError::Format { path, found }),
            None => {
                let identity = surviving_identity(&*disk, dir)?;
                write_identity(&*disk, dir, &*file, identity)
                    .map_err(|source| Failure::new("write", &path, source))?;
                identity
            }
        };
        Ok(Self { disk, dir: dir.to_owned(), identity, _lock: file })
    }

    /// Takes ownership of `dir` and changes nothing in it; tells whether its identity was lost.
    pub(crate) fn inspect(disk: Arc<dyn Disk>, dir: &Path) -> Result<(Self, bool), OpenError> {
        let path = dir.join("identity");
        let file = match disk.open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(OpenError::NoLog(dir.to_owned()));
            }
            other => other.map_err(|source| Failure::new("open", &path, source))?,
        };
        if !file.try_lock().map_err(|source| Failure::new("lock", &path, source))? {
            return Err(OpenError::InUse(dir.to_owned()));
        }
        let (identity, lost) =
            match read_identity(&*file).map_err(|source| Failure::new("read", &path, source))? {
                Some((FORMAT, identity)) => (identity, false),
                Some((found, _)) => return Err(OpenError::Format { path, found }),
                None => (surviving_identity(&*disk, dir)?, true),
            };
        Ok((Self { disk, dir: dir.to_owned(), identity, _lock: file }, lost))
    }

    pub(crate) fn list(&self) -> Result<Listing, Failure> {
        list(&*self.disk, &self.dir)
    }

    pub(crate) fn segment(&self, id: u64) -> PathBuf {
        self.dir.join(format!("{id:020}.segment"))
    }

    pub(crate) fn sparse(&self, first_id: u64) -> PathBuf {
        self.dir.join(format!("{first_id:020}.sparse"))
    }

    pub(crate) fn snapshot(&self, at: Index) -> PathBuf {
        self.dir.join(format!("{at:020}.snapshot"))
    }

    /// Makes the folder's names durable.
    pub(crate) fn sync(&self) -> Result<(), Failure> {
        if seeded::is(Fault::DirectoryFsyncSkipped) {
            return Ok(());
        }
        self.disk.sync_dir(&self.dir).map_err(|source| Failure::new("sync folder", &self.dir, source))
    }
}

fn list(disk: &dyn Disk, dir: &Path) -> Result<Listing, Failure> {
    let mut listing = Listing::default();
    let entries = disk.list(dir).map_err(|source| Failure::new("list", dir, source))?;
    for entry in entries {
        let Some((number, kind)) = entry.name.split_once('.') else { continue };
        let Ok(number) = number.parse() else { continue };
        match kind {
            "segment" => listing.segments.push(number),
            "sparse" => listing.sparse.push(number),
            "spare" => listing.spares.push((number, entry.bytes)),
            "snapshot" => listing.snapshots.push(number),
            _ if kind.ends_with("tmp") => listing.unfinished.push(dir.join(&entry.name)),
            _ => {}
        }
    }
    listing.segments.sort_unstable();
    listing.sparse.sort_unstable();
    listing.spares.sort_unstable();
    listing.snapshots.sort_unstable();
    Ok(listing)
}

/// The format of the folder and the log's identity; `None` when they do not read.
fn read_identity(file: &dyn DiskFile) -> std::io::Result<Option<(u32, u64)>> {
    let mut bytes = [0; IDENTITY_BYTES];
    let whole = file.read_at(0, &mut bytes)? == IDENTITY_BYTES && bytes[..8] == *MAGIC;
    let good = whole && crc32c::crc32c(&bytes[..28]) == u32_at(&bytes, 28);
    Ok(good.then(|| (u32_at(&bytes, 8), u64_at(&bytes, 16))))
}

/// The identity that the segments agree on, or a new one for a folder without any.
fn surviving_identity(disk: &dyn Disk, dir: &Path) -> Result<u64, OpenError> {
    let listing = list(disk, dir)?;
    let mut found = None;
    for id in &listing.segments {
        let path = dir.join(format!("{id:020}.segment"));
        let file = disk.open(&path).map_err(|source| Failure::new("open", &path, source))?;
        let header = Header::read_any(&*file).map_err(|source| Failure::new("read", &path, source))?;
        found = found.or(header.map(|header| header.identity));
    }
    match found {
        Some(identity) => {
            tracing::warn!(dir = %dir.display(), "the log's identity file was lost; restored from a segment");
            Ok(identity)
        }
        // The first start ended before the identity was durable; segments come after it.
        None if listing.segments.is_empty() && listing.snapshots.is_empty() => {
            Ok(RandomState::new().build_hasher().finish())
        }
        None => Err(OpenError::NoIdentity(dir.join("identity"))),
    }
}

fn write_identity(disk: &dyn Disk, dir: &Path, file: &dyn DiskFile, identity: u64) -> std::io::Result<()> {
    let mut out = [0; IDENTITY_BYTES];
    out[..8].copy_from_slice(MAGIC);
    out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    out[16..24].copy_from_slice(&identity.to_le_bytes());
    let crc = crc32c::crc32c(&out[..28]);
    out[28..].copy_from_slice(&crc.to_le_bytes());
    file.write_at(0, &out)?;
    file.sync()?;
    disk.sync_dir(dir)
}
