//! Compaction: the live records of segments that are mostly dead, copied into one sparse segment.
//!
//! ```text
//!  7.segment      8.segment      9.segment            7.sparse             9.segment
//! [..a.....b...] [......c......] [ddddddddddd]  ──>  [a b c]              [ddddddddddd]
//!  7 and 8 become spares, or go
//! ```
//!
//! An index is a record's identity, so records keep theirs, and nothing that refers to them changes. Only
//! segments that two generations of snapshots cover are copied: they are never replayed again. In each pass a
//! segment is copied when less than half of it is live; small sparse segments are copied together with their
//! neighbours, so that a queue which pins a record here and there does not leave a file for each. After a pass
//! all segments that it looked at are at least half live, or smaller than a quarter segment beside ones that
//! are not.
//!
//! The owner plans a part of a pass ([`LogEngine::compaction`](crate::LogEngine::compaction)), any thread
//! carries it out ([`Compaction::run`]), and the owner hears of it
//! ([`LogEngine::compacted`](crate::LogEngine::compacted)). Readers go on meanwhile. At each moment a crash
//! finds either the old segments, or the whole sparse one with or without them: recovery keeps the sparse one.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::disk::DiskFile;
use crate::engine::{CompactError, Failure, Index, ReadError};
use crate::folder::Folder;
use crate::places::{Footed, Neighbour, Places, Run, Span};
use crate::record::{self, HEAD_BYTES};
use crate::seeded::{self, Fault};
use crate::segment::{Header, Sealed};
use crate::spares::Returns;
use crate::sparse::{ENTRY_BYTES, HEADER_BYTES, Sparse, Table};

/// The most records that a part of a pass looks at, unless a single segment has more: the owner hands over at
/// most so many indexes at a time.
pub(crate) const RECORDS_MAX: u64 = 1 << 20;
/// A sparse segment smaller than this share of a segment is copied together with its neighbours.
const SMALL_SHARE: u64 = 4;
/// How much is written at a time, and synced together: a commit that comes meanwhile waits for no more.
const BLOCK_BYTES: usize = 1 << 20;

/// A part of a pass, to be carried out on any thread.
pub struct Compaction {
    pub(crate) folder: Arc<Folder>,
    pub(crate) places: Arc<Places>,
    pub(crate) returns: Returns,
    /// The size of a segment: no sparse one becomes larger.
    pub(crate) segment_bytes: u64,
    pub(crate) window: Vec<Neighbour>,
    /// Ascending.
    pub(crate) live: Vec<Index>,
}

/// What came of a [`Compaction`]; to be handed back to the log that planned it.
#[derive(Debug)]
#[must_use = "the log neither trims these segments nor plans the next part before it has this back"]
pub struct Compacted {
    pub(crate) reclaimed: Reclaimed,
    pub(crate) outcome: Result<(), Stop>,
}

/// What a part of a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Segments that were copied.
    pub copied: usize,
    /// Sparse segments that stand for them now.
    pub made: usize,
    /// Live records in them.
    pub records: u64,
    /// The room that the old ones took, in bytes.
    pub bytes_before: u64,
    /// The room that the new ones take, in bytes.
    pub bytes_after: u64,
}

/// Why a part of a pass ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Nothing changed but what was reclaimed before.
    Unchanged(CompactError),
    /// A name may or may not be durable: the log must not go on.
    Unknown(Failure),
}

impl From<CompactError> for Stop {
    fn from(error: CompactError) -> Self {
        Self::Unchanged(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Unchanged(CompactError::Failed(failure))
    }
}

/// A segment with the places of its live records.
struct Source {
    found: Neighbour,
    footed: Arc<Footed>,
    live: Vec<Span>,
}

impl Compaction {
    /// The records that this part looks at.
    pub fn range(&self) -> Range<Index> {
        let first = self.window.first().map_or(0, |first| first.segment.header.base);
        first..self.window.last().map_or(first, |last| last.next)
    }

    /// Carries it out. Takes as long as reading and writing the live records takes.
    pub fn run(self) -> Compacted {
        let mut reclaimed = Reclaimed::default();
        let outcome = self.copy_all(&mut reclaimed);
        Compacted { reclaimed, outcome }
    }

    fn copy_all(&self, reclaimed: &mut Reclaimed) -> Result<(), Stop> {
        let mut group = Group::default();
        let mut live = &self.live[..];
        for found in &self.window {
            let (mine, rest) = live.split_at(live.partition_point(|index| *index < found.next));
            live = rest;
            let source = self.source(found, mine)?;
            if !group.takes(&source, self.segment_bytes) {
                self.copy(&std::mem::take(&mut group), reclaimed)?;
            }
            if self.wants(&source) {
                group.add(source);
            } else {
                self.copy(&std::mem::take(&mut group), reclaimed)?;
            }
        }
        self.copy(&group, reclaimed)
    }

    fn source(&self, found: &Neighbour, live: &[Index]) -> Result<Source, CompactError> {
        let footed = self.places.open(found)?;
        let spans = footed.spans(found, live);
        match live.get(spans.len()) {
            // Somebody refers to a record that nobody referred to when its segment was last copied.
            Some(&index) => Err(CompactError::Unreadable(ReadError::Compacted { index })),
            None => Ok(Source { found: found.clone(), footed, live: spans }),
        }
    }

    /// It is mostly dead, or small enough to be copied for having fewer files.
    fn wants(&self, source: &Source) -> bool {
        source.mostly_dead() || source.small(self.segment_bytes)
    }

    /// Makes the sparse segment that stands for `group`, and gives the old ones up.
    fn copy(&self, group: &Group, reclaimed: &mut Reclaimed) -> Result<(), Stop> {
        if !group.worth_it() {
            return Ok(());
        }
        let first = &group.sources[0].found.segment;
        let path = self.folder.sparse(first.header.id);
        let beside = path.with_extension("sparse-tmp");
        let written = self.write(group, &beside);
        let (header, sparse) = written.inspect_err(|_| {
            // It is removed at the next start if it cannot be now.
            drop(self.folder.disk.remove(&beside));
        })?;
        let renamed = self.folder.disk.rename(&beside, &path);
        renamed.map_err(|source| Stop::Unknown(Failure::new("rename", &beside, source)))?;
        self.folder.sync().map_err(Stop::Unknown)?;

        let made = Sealed { header, sparse: Some(sparse), path };
        self.places.replace(made.clone());
        let old = group.sources.iter().map(|source| source.found.segment.clone());
        let old: Vec<Sealed> = old.filter(|segment| segment.path != made.path).collect();
        self.returns.take(&old).map_err(Stop::Unknown)?;

        reclaimed.copied += group.sources.len();
        reclaimed.made += 1;
        reclaimed.records += u64::from(sparse.records);
        reclaimed.bytes_before += group.sources.iter().map(Source::bytes).sum::<u64>();
        reclaimed.bytes_after += u64::from(header.size);
        Ok(())
    }

    /// Writes the file at `path`, durably.
    fn write(&self, group: &Group, path: &Path) -> Result<(Header, Sparse), CompactError> {
        match self.folder.disk.remove(path) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(Failure::new("remove", path, source).into());
            }
            _ => {}
        }
        let failed = |doing| move |source| Failure::new(doing, path, source);
        let file = self.folder.disk.create(path).map_err(failed("create"))?;
        file.reserve(group.live_bytes).map_err(failed("reserve room for"))?;
        let mut copy = Copy::new(&*file, group);
        for source in &group.sources {
            let run = Run {
                segment: source.found.segment.clone(),
                file: Arc::clone(&source.footed.file),
                spans: source.live.clone(),
            };
            let mut outcome = Ok(());
            run.read(&mut |head, body| {
                if outcome.is_ok() {
                    outcome = copy.add(head.index, head.durable, &body);
                }
            })?;
            outcome.map_err(failed("write records to"))?;
        }
        let written = copy.finish().map_err(failed("write records to"))?;
        assert_eq!(u64::from(written.0.size), group.live_bytes, "what was reserved is what was written");
        Ok(written)
    }
}

/// Neighbours that become one sparse segment.
#[derive(Default)]
struct Group {
    sources: Vec<Source>,
    /// What the live records take in a sparse segment, its header included.
    live_bytes: u64,
}

impl Group {
    /// There is room for the live records of `source`.
    fn takes(&self, source: &Source, bytes_max: u64) -> bool {
        self.sources.is_empty() || self.live_bytes + source.live_bytes() <= bytes_max
    }

    fn add(&mut self, source: Source) {
        let header = if self.sources.is_empty() { HEADER_BYTES } else { 0 };
        self.live_bytes += header + source.live_bytes();
        self.sources.push(source);
    }

    /// Copying it gives room back, or leaves fewer files.
    fn worth_it(&self) -> bool {
        self.sources.len() > 1 || self.sources.iter().any(Source::mostly_dead)
    }
}

impl Source {
    /// The room that it takes.
    fn bytes(&self) -> u64 {
        self.found.segment.header.size.into()
    }

    /// The room that its live records take in a sparse segment.
    fn live_bytes(&self) -> u64 {
        self.live.iter().map(|span| u64::from(span.end - span.start) + ENTRY_BYTES).sum()
    }

    fn mostly_dead(&self) -> bool {
        let header = self.found.segment.sparse.map_or(0, |_| HEADER_BYTES);
        2 * (self.live_bytes() + header) < self.bytes()
    }

    fn small(&self, segment_bytes: u64) -> bool {
        self.found.segment.sparse.is_some() && self.bytes() < segment_bytes / SMALL_SHARE
    }
}

/// A sparse segment being written.
struct Copy<'a> {
    file: &'a dyn DiskFile,
    header: Header,
    sparse: Sparse,
    table: Table,
    /// Records not written yet, and where they begin in the file.
    block: Vec<u8>,
    written: u64,
}

impl<'a> Copy<'a> {
    fn new(file: &'a dyn DiskFile, group: &Group) -> Self {
        let (first, last) = (&group.sources[0].found, &group.sources[group.sources.len() - 1].found);
        let editions = group.sources.iter().map(|source| source.found.segment.edition());
        let header = first.segment.header;
        let sparse = Sparse {
            last_id: last.segment.last_id(),
            edition: editions.max().unwrap_or(0) + 1,
            next: last.next,
            chain_after: last.chain_after,
            chain_inside: header.chain,
            end: HEADER_BYTES as u32,
            ..Sparse::default()
        };
        let (table, block) = (Table::default(), Vec::with_capacity(BLOCK_BYTES));
        Self { file, header, sparse, table, block, written: HEADER_BYTES }
    }

    fn add(&mut self, index: Index, durable: Index, body: &[u8]) -> std::io::Result<()> {
        let stored = record::stored_bytes(body.len());
        if !self.block.is_empty() && self.block.len() + stored > BLOCK_BYTES {
            self.flush()?;
        }
        let start = self.block.len();
        self.block.resize(start + HEAD_BYTES, 0);
        self.block.extend_from_slice(body);
        self.block.resize(start + stored, 0);
        let (chain, seed) = (self.sparse.chain_inside, self.sparse.seed(&self.header));
        let record = &mut self.block[start..];
        self.sparse.chain_inside = record::seal(record, body.len(), index, durable, chain, seed);
        self.table.indexes.push(index);
        self.table.offsets.push(self.sparse.end);
        self.sparse.end += stored as u32;
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.write_at(self.written, &self.block)?;
        if !seeded::is(Fault::SparseNotSynced) {
            self.file.sync()?;
        }
        self.written += self.block.len() as u64;
        self.block.clear();
        Ok(())
    }

    fn finish(mut self) -> std::io::Result<(Header, Sparse)> {
        self.flush()?;
        let written = self.sparse.write(self.file, self.header, &self.table)?;
        if !seeded::is(Fault::SparseNotSynced) {
            self.file.sync()?;
        }
        Ok(written)
    }
}
