//! Looking at a log without opening it: everything is read and checked, nothing is written or mended.
//!
//! ```no_run
//! use wharf_log::Inspection;
//!
//! let inspection = Inspection::open(std::path::Path::new("wharf-data/shard-0"))?;
//! let found = inspection.verify(&mut |index, body| println!("record {index}: {} bytes", body.len()))?;
//! for finding in &found.findings {
//!     println!("{}: {}", finding.damage, finding.remedy);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, DiskFile, FileSystem};
use crate::engine::{Damage, Failure, Index};
use crate::folder::{Folder, Listing};
use crate::recovery::OpenError;
use crate::scan::{Scan, traces};
use crate::segment::{HEADER_BYTES, Header, Sealed, Trailer};
use crate::snapshot;
use crate::sparse::{self, Table};

/// A log's folder, held so that nobody opens the log meanwhile.
pub struct Inspection {
    folder: Folder,
    listing: Listing,
    identity_lost: bool,
}

/// What is in a folder.
#[derive(Debug, Default)]
pub struct Inspected {
    /// Dense and sparse ones, by their records.
    pub segments: Vec<SegmentFound>,
    /// Oldest first.
    pub snapshots: Vec<SnapshotFound>,
    /// Prepared files, ready to become segments.
    pub spares: usize,
    /// The room that they take, in bytes.
    pub spare_bytes: u64,
    /// Files that the next start removes: unfinished ones, and segments that a sparse one stands for.
    pub leftovers: Vec<PathBuf>,
    /// What a crash tore off the end; it was never confirmed, and the next start cuts it.
    pub torn: Option<Torn>,
    /// All that is wrong.
    pub findings: Vec<Finding>,
}

/// A segment, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFound {
    /// Its file.
    pub path: PathBuf,
    /// The records that it stands for; what of them it holds, if it is sparse, are those that were live.
    pub records: Range<Index>,
    /// How many records it holds.
    pub held: u64,
    /// The bytes of their bodies.
    pub body_bytes: u64,
    /// The room that it takes, in bytes.
    pub bytes: u64,
    /// Its live records were copied from segments that were mostly dead.
    pub sparse: bool,
}

/// A snapshot, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFound {
    /// Its file.
    pub path: PathBuf,
    /// The last record that it covers.
    pub at: Index,
    /// The length of the state in it; `None` when it is damaged.
    pub bytes: Option<u64>,
}

/// A tail that a crash tore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// The file.
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// The record that it would begin with.
    pub index: Index,
}

/// Something that is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What and where.
    pub damage: Damage,
    /// What to do.
    pub remedy: Remedy,
}

/// What to do about damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing: it follows from the rest.
    MadeAgain,
    /// Nothing now: the older snapshot and the log after it are used.
    OlderSnapshot,
    /// The log does not open, or the record does not read.
    Restore,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MadeAgain => "nothing is lost: the next start makes it again",
            Self::OlderSnapshot => {
                "nothing is lost: the next start uses the older snapshot and the records after it"
            }
            Self::Restore => "restore the file from a copy, or move the folder away to begin an empty log",
        })
    }
}

/// What is told of each record.
type Each<'a> = dyn FnMut(Index, Bytes) + 'a;

impl Inspection {
    /// Takes the folder `dir`; it is free again when this is dropped.
    ///
    /// # Errors
    /// [`OpenError::InUse`] while a broker runs, [`OpenError::NoLog`] when there is none.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(FileSystem), dir)
    }

    /// [Takes](Self::open) a folder of another disk.
    ///
    /// # Errors
    /// As that.
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, OpenError> {
        let (folder, identity_lost) = Folder::inspect(disk, dir)?;
        let listing = folder.list()?;
        Ok(Self { folder, listing, identity_lost })
    }

    /// The number that tells this log's files from every other log's.
    pub fn identity(&self) -> u64 {
        self.folder.identity
    }

    /// Reads and checks every byte that counts, and hands over each good record.
    ///
    /// # Errors
    /// The disk refused; damage is what this returns.
    pub fn verify(&self, each: &mut Each<'_>) -> Result<Inspected, Failure> {
        let mut found = Inspected { leftovers: self.listing.unfinished.clone(), ..Inspected::default() };
        if self.identity_lost {
            let what = "it does not read; the segments say which log this is";
            found.wrong(self.folder.dir.join("identity"), 0, 0, what, Remedy::MadeAgain);
        }
        self.snapshots(&mut found)?;
        let newest = self.listing.snapshots.last().copied().unwrap_or(0);
        let covered = found.snapshots.iter().rev().find(|snapshot| snapshot.bytes.is_some());
        let covered = covered.map_or(0, |snapshot| snapshot.at);
        let segments = self.headers(&mut found)?;
        if segments.first().is_some_and(|first| first.header.base > covered + 1) {
            let (path, first) = (segments[0].path.clone(), segments[0].header.base);
            let what = format!("records {} to {} are missing before it", covered + 1, first - 1);
            found.wrong(path, 0, covered + 1, what, Remedy::Restore);
        }
        for (at, segment) in segments.iter().enumerate() {
            match segments.get(at + 1) {
                Some(next) if next.header.id == segment.last_id() + 1 => {
                    self.sealed(segment, (next.header.base, next.header.chain), each, &mut found)?;
                }
                // The one between is told already.
                Some(_) => self.sealed(segment, self.own_end(segment)?, each, &mut found)?,
                None => self.last(segment, newest, each, &mut found)?,
            }
        }
        for &(_, bytes) in &self.listing.spares {
            found.spares += 1;
            found.spare_bytes += bytes;
        }
        Ok(found)
    }

    /// Hands over the records of `range` that read, in order, until it is told to stop. Damage is passed over:
    /// [`verify`](Self::verify) tells of it.
    ///
    /// # Errors
    /// The disk refused.
    pub fn records(
        &self,
        range: Range<Index>,
        each: &mut dyn FnMut(Index, Bytes) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        let segments = self.headers(&mut Inspected::default())?;
        for (at, segment) in segments.iter().enumerate() {
            let after = segments.get(at + 1).map_or(Index::MAX, |next| next.header.base);
            if after <= range.start || segment.header.base >= range.end {
                continue;
            }
            let file = self.open_file(&segment.path)?;
            let mut scan = Scan::new(&*file, segment);
            while let Some((index, body)) = scan.next().map_err(segment.failure("read"))? {
                if index >= range.end || (index >= range.start && each(index, body).is_break()) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The newest snapshot that reads: the last record that it covers, and the state.
    ///
    /// # Errors
    /// The disk refused.
    pub fn newest_snapshot(&self) -> Result<Option<(Index, Bytes)>, Failure> {
        for &at in self.listing.snapshots.iter().rev() {
            if let Some(state) = snapshot::read(&self.folder, at)? {
                return Ok(Some((at, state)));
            }
        }
        Ok(None)
    }

    fn snapshots(&self, found: &mut Inspected) -> Result<(), Failure> {
        for &at in &self.listing.snapshots {
            let path = self.folder.snapshot(at);
            let bytes = snapshot::read(&self.folder, at)?.map(|state| state.len() as u64);
            if bytes.is_none() {
                let what = "the snapshot's checksums do not fit";
                found.wrong(path.clone(), 0, at, what, Remedy::OlderSnapshot);
            }
            found.snapshots.push(SnapshotFound { path, at, bytes });
        }
        if !found.snapshots.is_empty() && found.snapshots.iter().all(|snapshot| snapshot.bytes.is_none()) {
            found.findings.iter_mut().for_each(|finding| finding.remedy = Remedy::Restore);
        }
        Ok(())
    }

    /// The segments whose headers read, in order, without those that a sparse one stands for.
    fn headers(&self, found: &mut Inspected) -> Result<Vec<Sealed>, Failure> {
        let mut segments: Vec<Sealed> = Vec::new();
        for &id in &self.listing.sparse {
            let path = self.folder.sparse(id);
            let sealed = sparse::sealed(&*self.open_file(&path)?, self.folder.identity, &path);
            match sealed.map_err(|source| Failure::new("read", &path, source))? {
                Some(sparse) if segments.last().is_some_and(|last| last.last_id() >= sparse.last_id()) => {
                    found.leftovers.push(path);
                }
                Some(sparse) => segments.push(sparse),
                None => found.wrong(path, 0, 0, "its header does not read", Remedy::Restore),
            }
        }
        let sparse = segments.clone();
        for &id in &self.listing.segments {
            let path = self.folder.segment(id);
            if sparse.iter().any(|sparse| (sparse.header.id..=sparse.last_id()).contains(&id)) {
                found.leftovers.push(path);
                continue;
            }
            let file = self.open_file(&path)?;
            let failed = |source| Failure::new("read", &path, source);
            match Header::read(&*file, self.folder.identity, id).map_err(failed)? {
                Some(header) => segments.push(Sealed::dense(header, path)),
                None => {
                    let unbegun = Sealed::dense(self.header_of(id), path.clone());
                    let traces = traces(&*file, unbegun.seed(), HEADER_BYTES, 0..).map_err(failed)?;
                    let last = self.listing.segments.last() == Some(&id);
                    if last && traces.end.is_none() {
                        found.leftovers.push(path);
                    } else {
                        found.wrong(path, 0, 0, "its header does not read", Remedy::Restore);
                    }
                }
            }
        }
        segments.sort_by_key(|segment| segment.header.id);
        for pair in segments.windows(2) {
            if pair[0].last_id() + 1 != pair[1].header.id {
                let missing = self.folder.segment(pair[0].last_id() + 1);
                if !found.findings.iter().any(|finding| finding.damage.path == missing) {
                    let what = "the segment is missing";
                    found.wrong(missing, 0, pair[0].header.base, what, Remedy::Restore);
                }
            }
        }
        Ok(segments)
    }

    /// Where a segment itself says that it ends: the index after it, and the last chain.
    fn own_end(&self, segment: &Sealed) -> Result<(Index, u64), Failure> {
        if let Some(sparse) = &segment.sparse {
            return Ok((sparse.next, sparse.chain_after));
        }
        let file = self.open_file(&segment.path)?;
        let trailer = Trailer::read(&*file, &segment.header).map_err(segment.failure("read"))?;
        Ok(trailer.map_or((0, 0), |trailer| (trailer.next(), trailer.chain)))
    }

    /// What the header of a dense segment would be like, for its seed.
    fn header_of(&self, id: u64) -> Header {
        Header { identity: self.folder.identity, id, size: 0, base: 0, chain: 0 }
    }

    /// Walks a segment that another one follows: all of it must read, and lead to that one, whose first index and
    /// chain before it are `next`.
    fn sealed(
        &self,
        segment: &Sealed,
        next: (Index, u64),
        each: &mut Each<'_>,
        found: &mut Inspected,
    ) -> Result<(), Failure> {
        let file = self.open_file(&segment.path)?;
        let (scan, body_bytes) = walk(&*file, segment, each)?;
        let (ends, footer) = match &segment.sparse {
            Some(sparse) => {
                let ends = (scan.offset, scan.chain) == (sparse.end.into(), sparse.chain_inside)
                    && (sparse.next, sparse.chain_after) == next;
                let table = Table::stored(&*file, segment, sparse).map_err(segment.failure("read"))?;
                let fits = |table: Table| table.indexes == scan.indexes && table.offsets == scan.offsets;
                (ends, table.is_some_and(fits))
            }
            None => {
                let trailer = Trailer::read(&*file, &segment.header).map_err(segment.failure("read"))?;
                let offsets = match &trailer {
                    Some(trailer) => {
                        trailer.offsets(&*file, &segment.header).map_err(segment.failure("read"))?
                    }
                    None => None,
                };
                let fits = |offsets: Vec<u32>| offsets[..offsets.len() - 1] == scan.offsets;
                ((scan.next, scan.chain) == next, offsets.is_some_and(fits))
            }
        };
        if !ends {
            let what = "it does not read from here on, or does not lead to the segment after it";
            found.wrong(segment.path.clone(), scan.offset, scan.next, what, Remedy::Restore);
        } else if !footer {
            let at = u64::from(segment.header.size);
            found.wrong(segment.path.clone(), at, scan.next, "its footer does not read", Remedy::MadeAgain);
        }
        found.segment(segment, next.0.max(scan.next), &scan, body_bytes);
        Ok(())
    }

    /// Walks the last segment: it may end in what a crash tore.
    fn last(
        &self,
        segment: &Sealed,
        newest: Index,
        each: &mut Each<'_>,
        found: &mut Inspected,
    ) -> Result<(), Failure> {
        let file = self.open_file(&segment.path)?;
        let (scan, body_bytes) = walk(&*file, segment, each)?;
        let trailer = Trailer::read(&*file, &segment.header).map_err(segment.failure("read"))?;
        let left = traces(&*file, segment.seed(), scan.offset, scan.next..);
        let left = left.map_err(segment.failure("read"))?;
        let durable = trailer.map_or(0, |trailer| trailer.durable).max(left.durable).max(newest);
        let path = segment.path.clone();
        if let Some(sparse) = &segment.sparse {
            found.wrong(path, 0, sparse.next, "the segments after it are missing", Remedy::Restore);
        } else if scan.next <= durable {
            let what = format!("it does not read, and records up to {durable} were durable");
            found.wrong(path, scan.offset, scan.next, what, Remedy::Restore);
        } else if left.end.is_some() {
            found.torn = Some(Torn { path, offset: scan.offset, index: scan.next });
        }
        found.segment(segment, scan.next, &scan, body_bytes);
        Ok(())
    }

    fn open_file(&self, path: &Path) -> Result<Arc<dyn DiskFile>, Failure> {
        self.folder.disk.open(path).map_err(|source| Failure::new("open", path, source))
    }
}

impl Inspected {
    /// The records that the log has, or had, and the one after them.
    pub fn range(&self) -> Range<Index> {
        let first = self.segments.first().map_or(1, |first| first.records.start);
        first..self.segments.last().map_or(first, |last| last.records.end)
    }

    fn wrong(&mut self, path: PathBuf, offset: u64, index: Index, what: impl Into<String>, remedy: Remedy) {
        let damage = Damage { path, offset, index, what: what.into() };
        self.findings.push(Finding { damage, remedy });
    }

    fn segment(&mut self, segment: &Sealed, next: Index, scan: &Scan<'_>, body_bytes: u64) {
        self.segments.push(SegmentFound {
            path: segment.path.clone(),
            records: segment.header.base..next,
            held: scan.offsets.len() as u64,
            body_bytes,
            bytes: segment.header.size.into(),
            sparse: segment.sparse.is_some(),
        });
    }
}

/// Walks as far as the segment reads. Returns where that is, and the bytes of the bodies.
fn walk<'f>(
    file: &'f dyn DiskFile,
    segment: &Sealed,
    each: &mut Each<'_>,
) -> Result<(Scan<'f>, u64), Failure> {
    let mut scan = Scan::new(file, segment);
    let mut body_bytes = 0;
    while let Some((index, body)) = scan.next().map_err(segment.failure("read"))? {
        body_bytes += body.len() as u64;
        each(index, body);
    }
    Ok((scan, body_bytes))
}
