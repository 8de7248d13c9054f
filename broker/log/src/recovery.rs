//! Opening a log: the newest good snapshot, the records after it, and a decision about how it ends.
//!
//! A crash leaves the last segment with a tail of which any part may be missing: it was never confirmed, and
//! it is cut. Anything else that does not read is damage to what was confirmed, and the log refuses to open.
//! What was confirmed is known without guessing: whatever a later segment, a snapshot's name, a footer or the
//! head of a later record says was durable.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{self, DiskFile};
use crate::engine::{Damage, Failure, Index};
use crate::folder::{Folder, Listing};
use crate::places::Active;
use crate::record::{Seed, linked};
use crate::scan::{Scan, traces};
use crate::seeded::{self, Fault};
use crate::segment::{self, FORMAT, Footer, HEADER_BYTES, Header, Sealed, Trailer};
use crate::snapshot;
use crate::sparse;

/// What a log hands to its owner while it is opened, in this order: at most one snapshot, then records.
#[derive(Debug)]
pub enum Replay<'a> {
    /// The state folded from the records `1..=at`.
    Snapshot {
        /// The last record it covers.
        at: Index,
        /// As it was written.
        bytes: &'a [u8],
    },
    /// The next record after the snapshot, or after the record before.
    Record {
        /// Its index.
        index: Index,
        /// Its body: a slice of a block of up to a mebibyte that was read together.
        body: Bytes,
    },
}

/// What the owner found wrong with what was replayed.
pub type ReplayError = Box<dyn std::error::Error + Send + Sync>;

/// Why a log does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The options cannot be met.
    #[error("{0}")]
    Options(String),
    /// Another process has the log open.
    #[error("{} is in use by another process; stop that one first", .0.display())]
    InUse(PathBuf),
    /// The folder holds no log.
    #[error("{} holds no log: it has no file `identity`", .0.display())]
    NoLog(PathBuf),
    /// The folder was written by a version of the broker that lays it out otherwise.
    #[error("{} says format {found}, and this version reads format {FORMAT}; use the version that wrote it", path.display())]
    Format {
        /// The file that says so.
        path: PathBuf,
        /// The format it names.
        found: u32,
    },
    /// It cannot be told which log the folder's files belong to.
    #[error("{} is missing or damaged, and no segment tells which log this is; restore it from a copy", .0.display())]
    NoIdentity(PathBuf),
    /// What was durable does not read.
    #[error("{0}; restore the file from a copy, or move the folder away to begin an empty log")]
    Damaged(Damage),
    /// The disk refused.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The owner refused what was replayed.
    #[error("cannot replay record {index}")]
    Replay {
        /// The record, or the last one that the snapshot covers.
        index: Index,
        /// The owner's reason.
        source: ReplayError,
    },
}

/// A log as it stands after recovery: everything in it is durable.
pub(crate) struct Recovered {
    pub(crate) sealed: VecDeque<Sealed>,
    /// `None` when the last segment is sealed, or there is none.
    pub(crate) active: Option<Active>,
    pub(crate) next: Index,
    pub(crate) chain: u64,
    /// The id of the next segment.
    pub(crate) next_id: u64,
    /// Durable snapshots, oldest first.
    pub(crate) snapshots: Vec<Index>,
    /// The numbers of usable spares.
    pub(crate) spares: Vec<u64>,
}

/// How the walk through the records ended.
struct End {
    next: Index,
    chain: u64,
}

/// The owner's callback.
type Owner<'a> = dyn FnMut(Replay<'_>) -> Result<(), ReplayError> + 'a;

/// Reads and mends the log in `folder`.
pub(crate) fn recover(
    folder: &Folder,
    segment_bytes: u32,
    spares_max: usize,
    owner: &mut Owner<'_>,
) -> Result<Recovered, OpenError> {
    let listing = folder.list()?;
    let mut recovery =
        Recovery { folder, newest: listing.snapshots.last().copied().unwrap_or(0), covered: 0 };
    let damaged_snapshots = recovery.restore(&listing, owner)?;
    let (mut segments, superseded) = recovery.headers(&listing, segment_bytes)?;
    recovery.check_begin(&segments)?;

    let last = segments.pop();
    let mut end = End { next: 1, chain: 0 };
    for at in 0..segments.len() {
        let next = segments.get(at + 1).or(last.as_ref()).expect("the last segment is apart").header;
        end = recovery.sealed(&segments[at], &next, owner)?;
    }
    let next_id = last.as_ref().map_or(1, |last| last.header.id + 1);
    let mut sealed = VecDeque::from(segments);
    let mut active = None;
    if let Some(last) = last {
        let (after, kept) = recovery.last(last.clone(), owner)?;
        end = after;
        match kept {
            Some(kept) => active = Some(kept),
            None => sealed.push_back(last),
        }
    }

    let snapshots = recovery.set_aside(&listing, &damaged_snapshots)?;
    let spares = recovery.tidy(superseded, segment_bytes, spares_max)?;
    Ok(Recovered { sealed, active, next: end.next, chain: end.chain, next_id, snapshots, spares })
}

struct Recovery<'a> {
    folder: &'a Folder,
    /// The last record that any snapshot covered, readable or not: all up to it was durable.
    newest: Index,
    /// The last record that the restored snapshot covers.
    covered: Index,
}

impl Recovery<'_> {
    /// Hands over the newest snapshot that reads. Returns those that do not.
    fn restore(&mut self, listing: &Listing, owner: &mut Owner<'_>) -> Result<Vec<Index>, OpenError> {
        let mut damaged = Vec::new();
        for &at in listing.snapshots.iter().rev() {
            let Some(bytes) = snapshot::read(self.folder, at)? else {
                let path = self.folder.snapshot(at);
                tracing::warn!(path = %path.display(), "a snapshot is damaged; an older one is used");
                damaged.push(at);
                continue;
            };
            self.covered = at;
            let replayed = owner(Replay::Snapshot { at, bytes: &bytes });
            replayed.map_err(|source| OpenError::Replay { index: at, source })?;
            break;
        }
        Ok(damaged)
    }

    /// The headers of all segments, and the files that a sparse segment stands for. A last segment whose header
    /// was never durable holds nothing, and goes.
    fn headers(
        &self,
        listing: &Listing,
        segment_bytes: u32,
    ) -> Result<(Vec<Sealed>, Vec<PathBuf>), OpenError> {
        let (sparse, mut superseded) = self.sparse_headers(listing)?;
        let mut sparse = sparse.into_iter().peekable();
        let mut segments: Vec<Sealed> = Vec::new();
        for (at, &id) in listing.segments.iter().enumerate() {
            let path = self.folder.segment(id);
            while let Some(earlier) = sparse.next_if(|sparse| sparse.header.id <= id) {
                self.follow(&mut segments, earlier)?;
            }
            if segments.last().is_some_and(|last| last.sparse.is_some() && last.last_id() >= id) {
                superseded.push(path);
                continue;
            }
            let next = segments.last().map_or(self.covered + 1, |last| last.header.base);
            let file = self.open(&path)?;
            let header = Header::read(&*file, self.folder.identity, id);
            match header.map_err(|source| Failure::new("read", &path, source))? {
                Some(header) => self.follow(&mut segments, Sealed::dense(header, path))?,
                None if at + 1 == listing.segments.len() => {
                    self.follows(&segments, id)?;
                    self.never_begun(&*file, id, path, segment_bytes, segments.is_empty())?;
                }
                None => return Err(damaged(path, 0, next, "its header does not read")),
            }
        }
        for rest in sparse {
            self.follow(&mut segments, rest)?;
        }
        // Only what two snapshots cover is ever copied, and they cover records after it.
        if let Some(Sealed { sparse: Some(sparse), path, .. }) = segments.last() {
            return Err(damaged(path.clone(), 0, sparse.next, "the segments after it are missing"));
        }
        Ok((segments, superseded))
    }

    /// The headers of the sparse segments, and the files of those that a wider one stands for.
    fn sparse_headers(&self, listing: &Listing) -> Result<(Vec<Sealed>, Vec<PathBuf>), OpenError> {
        let (mut kept, mut superseded): (Vec<Sealed>, _) = (Vec::new(), Vec::new());
        for &id in &listing.sparse {
            let path = self.folder.sparse(id);
            let file = self.open(&path)?;
            let found = sparse::sealed(&*file, self.folder.identity, &path);
            match found.map_err(|source| Failure::new("read", &path, source))? {
                Some(found) if found.header.id == id => match kept.last() {
                    Some(last) if found.last_id() <= last.last_id() => superseded.push(path),
                    _ => kept.push(found),
                },
                _ => return Err(damaged(path, 0, self.covered + 1, "its header does not read")),
            }
        }
        Ok((kept, superseded))
    }

    /// Adds `segment`, which is the one after the last, or the first.
    fn follow(&self, segments: &mut Vec<Sealed>, segment: Sealed) -> Result<(), OpenError> {
        self.follows(segments, segment.header.id)?;
        segments.push(segment);
        Ok(())
    }

    fn follows(&self, segments: &[Sealed], id: u64) -> Result<(), OpenError> {
        match segments.last() {
            Some(last) if last.last_id() + 1 != id => {
                let missing = self.folder.segment(id - 1);
                Err(damaged(missing, 0, last.header.base, "the segment is missing"))
            }
            _ => Ok(()),
        }
    }

    /// Puts a segment without a header among the spares, once it is sure that it holds no record.
    fn never_begun(
        &self,
        file: &dyn DiskFile,
        id: u64,
        path: PathBuf,
        segment_bytes: u32,
        only: bool,
    ) -> Result<(), OpenError> {
        let failed = |doing| {
            let path = path.clone();
            move |source| Failure::new(doing, path, source)
        };
        let seed = Seed::new(self.folder.identity, id);
        let found = traces(file, seed, HEADER_BYTES, 0..).map_err(failed("read"))?;
        if found.end.is_some() || (only && self.newest > 0) {
            let what = "its header does not read, and it holds records";
            return Err(damaged(path, 0, self.covered + 1, what));
        }
        let bytes = file.bytes().map_err(failed("measure"))?;
        let disk = &self.folder.disk;
        if bytes == u64::from(segment_bytes) {
            let number = self.folder.list()?.spares.last().map_or(1, |(last, _)| last + 1);
            let spare = self.folder.dir.join(format!("{number:020}.spare"));
            disk.rename(&path, &spare).map_err(failed("rename"))?;
        } else {
            disk.remove(&path).map_err(failed("remove"))?;
        }
        Ok(self.folder.sync()?)
    }

    /// The segments begin where the snapshot ends, or before.
    fn check_begin(&self, segments: &[Sealed]) -> Result<(), OpenError> {
        match segments.first() {
            Some(first) if first.header.base > self.covered + 1 => {
                let what = format!(
                    "the log begins here, but the newest snapshot that reads covers records up to {} only",
                    self.covered
                );
                Err(damaged(first.path.clone(), 0, self.covered + 1, what))
            }
            None if self.newest > 0 => {
                let what = "the segments are missing, and there are snapshots of them";
                Err(damaged(self.folder.dir.clone(), 0, self.newest, what))
            }
            _ => Ok(()),
        }
    }

    /// Replays a segment that another one follows; all of it must read. Mends its footer.
    fn sealed(&self, segment: &Sealed, next: &Header, owner: &mut Owner<'_>) -> Result<End, OpenError> {
        let end = End { next: next.base, chain: next.chain };
        if let Some(sparse) = &segment.sparse {
            if sparse.next != end.next || !linked(sparse.chain_after, end.chain) {
                let what = "it does not fit the segment after it";
                return Err(damaged(segment.path.clone(), 0, segment.header.base, what));
            }
            if end.next > self.covered + 1 {
                let what = format!(
                    "records were given up here, and the newest snapshot that reads covers records up to {} only",
                    self.covered
                );
                return Err(damaged(segment.path.clone(), 0, self.covered + 1, what));
            }
            return Ok(end);
        }
        let file = self.open(&segment.path)?;
        let trailer = Trailer::read(&*file, &segment.header).map_err(segment.failure("read"))?;
        let fits = |trailer: &Trailer| trailer.next() == next.base && linked(trailer.chain, next.chain);
        let trailer = trailer.filter(fits);
        if trailer.is_some() && end.next <= self.covered + 1 {
            return Ok(end);
        }
        let scan = self.replay(&*file, segment, owner)?;
        if scan.next != next.base || !linked(scan.chain, next.chain) {
            let what = "it does not read, and a later segment says that it did";
            return Err(damaged(segment.path.clone(), scan.offset, scan.next, what));
        }
        if trailer.is_none() {
            tracing::warn!(path = %segment.path.display(), "a segment's footer was lost; it is made again");
            let Scan { offsets, offset, next, chain, .. } = scan;
            let footer = Footer { offsets: &offsets, end: offset, durable: next - 1, chain };
            file.reserve(segment.header.size.into()).map_err(segment.failure("reserve room for"))?;
            footer.write(&*file, &segment.header).map_err(segment.failure("write"))?;
            file.sync().map_err(segment.failure("sync"))?;
        }
        Ok(end)
    }

    /// Replays the last segment and cuts what a crash tore. It is the active one, unless it is sealed.
    fn last(&self, segment: Sealed, owner: &mut Owner<'_>) -> Result<(End, Option<Active>), OpenError> {
        let file = self.open(&segment.path)?;
        let trailer = Trailer::read(&*file, &segment.header).map_err(segment.failure("read"))?;
        if let Some(trailer) = trailer
            && trailer.next() <= self.covered + 1
            && trailer.next() > self.newest
        {
            return Ok((End { next: trailer.next(), chain: trailer.chain }, None));
        }
        let Scan { offsets, offset, next, chain, .. } = self.replay(&*file, &segment, owner)?;
        let complete = trailer.is_some_and(|trailer| trailer.next() == next && linked(trailer.chain, chain));
        let found = if complete {
            Default::default()
        } else {
            traces(&*file, segment.header.seed(), offset, next..).map_err(segment.failure("read"))?
        };
        let durable = trailer.map_or(0, |trailer| trailer.durable).max(found.durable).max(self.newest);
        if next <= durable && !seeded::is(Fault::DamageTakenForTorn) {
            let what = format!("it does not read, and records up to {durable} were durable");
            return Err(damaged(segment.path, offset, next, what));
        }
        let end = End { next, chain };
        if complete {
            file.sync().map_err(segment.failure("sync"))?;
            return Ok((end, None));
        }

        if let Some(torn) = found.end {
            let path = segment.path.display();
            tracing::info!(%path, offset, index = next, "the tail that a crash tore is cut");
            disk::zero(&*file, offset, torn).map_err(segment.failure("cut"))?;
        }
        file.reserve(segment.header.size.into()).map_err(segment.failure("reserve room for"))?;
        if trailer.is_some() {
            segment::unseal(&*file, &segment.header).map_err(segment.failure("cut"))?;
        }
        // What was read may be in the system's memory only, written by a process that is no more.
        file.sync().map_err(segment.failure("sync"))?;
        Ok((end, Some(Active { segment, file, offsets, end: offset as u32 })))
    }

    /// Hands over a segment's records that no snapshot covers, as far as it reads.
    fn replay<'f>(
        &self,
        file: &'f dyn DiskFile,
        segment: &Sealed,
        owner: &mut Owner<'_>,
    ) -> Result<Scan<'f>, OpenError> {
        let mut scan = Scan::new(file, segment);
        while let Some((index, body)) = scan.next().map_err(segment.failure("read"))? {
            if index > self.covered {
                let replayed = owner(Replay::Record { index, body });
                replayed.map_err(|source| OpenError::Replay { index, source })?;
            }
        }
        Ok(scan)
    }

    /// Renames damaged snapshots, so that they are not taken for good ones. Returns the others.
    fn set_aside(&self, listing: &Listing, damaged: &[Index]) -> Result<Vec<Index>, OpenError> {
        for at in damaged {
            let path = self.folder.snapshot(*at);
            let aside = path.with_extension("snapshot-damaged");
            let renamed = self.folder.disk.rename(&path, &aside);
            renamed.map_err(|source| Failure::new("rename", path, source))?;
        }
        if !damaged.is_empty() {
            self.folder.sync()?;
        }
        Ok(listing.snapshots.iter().copied().filter(|at| !damaged.contains(at)).collect())
    }

    /// Removes what an earlier life left unfinished or copied already, and spares of no use. Returns the numbers
    /// of the others.
    fn tidy(
        &self,
        superseded: Vec<PathBuf>,
        segment_bytes: u32,
        spares_max: usize,
    ) -> Result<Vec<u64>, OpenError> {
        if !superseded.is_empty() {
            // The name of what stands for them may be in the system's memory only.
            self.folder.sync()?;
        }
        let listing = self.folder.list()?;
        let usable = |(_, bytes): &(u64, u64)| *bytes == u64::from(segment_bytes);
        let mut spares: Vec<u64> =
            listing.spares.iter().filter(|s| usable(s)).map(|(number, _)| *number).collect();
        spares.truncate(spares_max);
        let useless = listing.spares.iter().filter(|(number, _)| !spares.contains(number));
        let useless = useless.map(|(number, _)| self.folder.dir.join(format!("{number:020}.spare")));
        for path in useless.chain(listing.unfinished).chain(superseded) {
            self.folder.disk.remove(&path).map_err(|source| Failure::new("remove", path, source))?;
        }
        Ok(spares)
    }

    fn open(&self, path: &std::path::Path) -> Result<Arc<dyn DiskFile>, Failure> {
        self.folder.disk.open(path).map_err(|source| Failure::new("open", path, source))
    }
}

fn damaged(path: PathBuf, offset: u64, index: Index, what: impl Into<String>) -> OpenError {
    OpenError::Damaged(Damage { path, offset, index, what: what.into() })
}
